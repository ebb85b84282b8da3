"""Labels drawn as polygons (IDD)."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..errors import DataError

_LARGEST = 1 << 26  # pixels; a size beyond is damage, not a photo's


def rasterise(path: str | Path, names: Sequence[str]) -> np.ndarray:
    """Return the ids of a file of polygons: uint8 (H, W).

    Drawn as IDD's own tool does (`json2labelImg.py` of AutoNUE/public-code, with Pillow): in the
    file's order, so that later polygons hide earlier ones; deleted ones are left out; an unknown
    name that ends with 'group' is the name without; the rest is 'unlabeled'.

    Args:
        names: what is called what; the index is the id. Holds 'unlabeled'.

    Raises DataError: unreadable, not polygons of an image, or a name that doesn't exist.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        text = f'{path}: unreadable label file ({error}). Unpack it again'
        raise DataError(text, 'unreadable') from None
    try:
        found = json.loads(content)
        size = found['imgWidth'], found['imgHeight']
        objects = [
            (item['label'], [(float(x), float(y)) for x, y in item['polygon']])
            for item in found['objects']
            if not item.get('deleted')
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f'{path}: not a file of polygons ({type(error).__name__}: {error!s:.80}); expected '
            'JSON with imgWidth, imgHeight and objects of label and polygon. Unpack it again',
            'damaged',
        ) from None
    if not all(type(n) is int and n > 0 for n in size) or size[0] * size[1] > _LARGEST:
        text = f"{path}: imgWidth, imgHeight {size} are no photo's size. Unpack it again"
        raise DataError(text, 'damaged')
    image = Image.new('L', size, names.index('unlabeled'))
    pen = ImageDraw.Draw(image)
    for number, (label, corners) in enumerate(objects):
        name = label if label in names else str(label).removesuffix('group')
        if name not in names:
            raise DataError(
                f'{path}: polygon {number} is a {label!r:.60}, which does not exist in this label '
                "space. Check that this is the dataset's original label file",
                'ids',
            )
        if len(corners) < 2 or not np.isfinite(corners).all() or np.abs(corners).max() > 1e6:
            raise DataError(
                f'{path}: polygon {number} ({name}) has {len(corners)} corners or one far outside '
                'the image. Unpack it again',
                'damaged',
            )
        pen.polygon(corners, fill=names.index(name))
    return np.array(image)
