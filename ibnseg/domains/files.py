"""Label files, read into raw ids and into training classes."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .. import labels
from ..errors import DataError


def read_raw(path: str | Path, space: str) -> np.ndarray:
    """Read a label file into the dataset's own ids: uint8 (H, W).

    Ids are as `labels.space(space)` names them; where files hold colours or polygons, the index of
    the colour or of the polygon's name there.

    Raises DataError: unreadable, not in the encoding of the label space, or an id that it can't
    hold.
    """
    return _read(path, space)[0]


def read_labels(path: str | Path, space: str) -> np.ndarray:
    """Read a label file into training classes: uint8 (H, W), 255 where unmapped.

    Raises DataError as `read_raw`.
    """
    return _read(path, space)[1]


def _read(path: str | Path, space: str) -> tuple[np.ndarray, np.ndarray]:
    raw = _DECODERS[labels.space(space).encoding](path, space)
    classes = cv2.LUT(raw, _table(space))
    if (classes == _IMPOSSIBLE).any():
        raise _unknown(path, space, 'ids', raw[~labels.possible(space)[raw]])
    return raw, classes


_IMPOSSIBLE = 254


@cache
def _table(space: str) -> np.ndarray:
    """The class of each raw id: uint8 (256,), `_IMPOSSIBLE` where no such id exists."""
    return np.where(labels.possible(space), labels.lut(space), np.uint8(_IMPOSSIBLE))


def _unknown(
    path: str | Path, space: str, what: str, values: np.ndarray, show: Callable = str
) -> DataError:
    """Say which values, one a pixel, do not exist in a label space."""
    found, counts = np.unique(values, return_counts=True)
    shown = [f'{show(v)} ({n} px)' for v, n in zip(found[:5], counts[:5], strict=True)]
    return DataError(
        f'{path}: {what} {", ".join(shown)} do not exist in label space {space!r}. Check that this '
        "is the dataset's original label file, not one converted for another tool, scaled or "
        'saved as JPEG',
        'ids',
    )


def _unreadable(path: str | Path, why: object, kind: str = 'damaged') -> DataError:
    return DataError(f'{path}: unreadable label file ({why}). Unpack it again', kind)


def _open(path: str | Path, use: Callable[[Image.Image], object]) -> tuple[object, str]:
    """Return use(image) and the image's mode. Raises DataError where Pillow can't read it."""
    try:
        with Image.open(path) as image:
            return use(image), image.mode
    except Exception as error:  # Pillow raises OSError, ValueError and SyntaxError of bad files
        raise _unreadable(path, error) from None


def _index(path: str | Path, space: str) -> np.ndarray:
    raw, mode = _open(path, np.asarray)
    if raw.ndim != 2 or raw.dtype != np.uint8:
        raise DataError(
            f'{path}: label file of mode {mode}, shape {raw.shape}; expected one 8-bit channel of '
            f'{space} ids. A colour rendering is not a label file',
            'colour' if raw.ndim == 3 and raw.shape[2] > 2 else 'encoding',
        )
    return raw


def _red16(path: str | Path, space: str) -> np.ndarray:
    # Pillow cuts 16-bit RGB down to 8, so OpenCV reads it; its decoder would complain on stderr
    # of a damaged file, so Pillow checks the checksums before.
    _open(path, lambda image: image.verify())
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise _unreadable(path, 'its image data')
    if image.dtype != np.uint16 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(
            f'{path}: label file of {image.dtype}, shape {image.shape}; expected 16-bit RGB with '
            f'{space} ids in the red channel, as in GT/LABELS. Colours (GT/COLOR) and files '
            'converted for another tool are no label files',
            'colour' if image.dtype == np.uint8 and image.ndim == 3 else 'encoding',
        )
    red = image[..., 2]  # OpenCV's order is BGR
    if red.max() > 255:
        raise _unknown(path, space, 'ids', red[red > 255])
    return red.astype(np.uint8)


def _colour(path: str | Path, space: str) -> np.ndarray:
    colours = labels.space(space).colours
    rgb, mode = _open(path, lambda image: np.asarray(image.convert('RGB')))
    if mode not in ('RGB', 'P'):
        raise DataError(
            f'{path}: label file of mode {mode}; expected RGB with the {len(colours)} colours of '
            f'{space}',
            'encoding',
        )
    code = rgb @ np.array([1 << 16, 1 << 8, 1], np.int32)
    raw = _colour_table(colours)[code]
    if (raw == labels.IGNORE).any():
        unknown = code[raw == labels.IGNORE]
        raise _unknown(
            path, space, 'colours', unknown, lambda c: f'({c >> 16}, {c >> 8 & 255}, {c & 255})'
        )
    return raw


@cache
def _colour_table(colours: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """Index of each colour by its 24 bits, uint8 (2^24,); 255 for any other."""
    table = np.full(1 << 24, labels.IGNORE, np.uint8)
    for i, (red, green, blue) in enumerate(colours):
        table[red << 16 | green << 8 | blue] = i
    return table


_LARGEST = 1 << 26  # pixels; a size beyond is damage, not a photo's


def _polygons(path: str | Path, space: str) -> np.ndarray:
    """Draw polygons as IDD's own tool does (`json2labelImg.py` of AutoNUE/public-code).

    With Pillow, in the file's order: later polygons hide earlier ones. Deleted ones are left out;
    an unknown name that ends with 'group' is the name without; the rest is 'unlabeled'.
    """
    names = labels.space(space).names
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error, 'unreadable') from None
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


_DECODERS = {'index': _index, 'red16': _red16, 'colour': _colour, 'polygons': _polygons}
