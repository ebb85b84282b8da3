"""Label files, read into raw ids and into training classes."""

import io
import json
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, UnidentifiedImageError

from .. import disk, labels
from ..errors import DataError
from . import pixels


def read_raw(path: str | Path, space: str) -> np.ndarray:
    """Read a label file into the dataset's own ids: uint8 (H, W).

    Ids are as `labels.space(space)` names them; where files hold colours or polygons, the index of
    the colour or of the polygon's name there.

    Raises DataError, its kind one of the audit's (`audit.KINDS`): unreadable, not in the encoding
    of the label space, turned by a tag, compressed with loss, an id that the space can't hold, a
    palette that contradicts the published colours, or training classes in place of raw ids.
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
    if _is_converted(raw, space):
        raise DataError(
            f'{path}: seems to hold training classes, not {space} ids: ids 0 to 19 alone, 0 (road '
            f'as a class) among them, and no sky or vegetation. {_ORIGINAL}; or leave this '
            'file out with --skip-list, if it is right',
            'train-ids',
        )
    return raw, classes


_ORIGINAL = "Take the dataset's original label file, not one converted for another tool"


def _is_converted(raw: np.ndarray, space: str) -> bool:
    """Whether raw ids look like training classes where those never stand for themselves.

    Such a file has no id above 18, or 19 for the ignored, and 0 for the road. Original files of
    that kind exist, of a tunnel say: they have no 255, and more road than id 0. Where road is 0,
    too, they have few ids: whoever sees much sees a building, a tree, a pole or the sky.
    """
    road, above = _unlike_classes(space)
    if road is None or above[raw[::32, ::32]].any():  # all but a few files end here
        return False
    count = np.bincount(raw.ravel(), minlength=256)
    others = np.flatnonzero(count[1 : labels.IGNORE])
    if not count[0] or not others.size or above[others + 1].any():
        return False
    if not road:
        return others.size >= 3
    return bool(count[labels.IGNORE] or (others.size > 1 and count[0] > count[road]))


@cache
def _unlike_classes(space: str) -> tuple[int | None, np.ndarray]:
    """The id of the road, and bool (256,): which ids no file of training classes has.

    None for the road where training classes and raw ids can't be told apart.
    """
    last = len(labels.CLASSES)  # some tools' number of the ignored
    ids = np.arange(256)
    usual = [labels.raw_id(space, name) for name in ('vegetation', 'sky')]
    told = None not in usual and min(usual) > last and labels.space(space).encoding == 'index'
    return labels.raw_id(space, 'road') if told else None, (ids > last) & (ids < labels.IGNORE)


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


def _open(
    path: str | Path, use: Callable[[Image.Image], object]
) -> tuple[object, Image.Image, bytes]:
    """Return use(image), the image and the file's content.

    Raises DataError where Pillow can't read it, and where it is no PNG or turned by a tag.
    """
    try:
        data = disk.read(path)
        with Image.open(io.BytesIO(data)) as image:
            found = use(image)
        turn = pixels.orientation(Image.open(io.BytesIO(data))) if pixels.may_turn(data) else 1
    except UnidentifiedImageError:
        raise _unreadable(path, 'it is no picture') from None
    except Exception as error:  # Pillow raises OSError, ValueError and SyntaxError of bad files
        raise _unreadable(path, error) from None
    if image.format != 'PNG':
        kind = 'lossy' if image.format in pixels.LOSSY else 'encoding'
        raise DataError(f'{path}: {image.format} data; expected PNG. {_ORIGINAL}', kind)
    if turn > 1:
        text = f'{path}: EXIF orientation {turn}; expected a label without one. {_ORIGINAL}'
        raise DataError(text, 'orientation')
    return found, image, data


def _index(path: str | Path, space: str) -> np.ndarray:
    raw, image, data = _open(path, np.asarray)
    few = image.mode == 'L' and data[24] < 8  # of fewer bits, Pillow scales the values up
    if raw.ndim != 2 or raw.dtype != np.uint8 or few:
        depth = f'{data[24]} bits, ' if few else ''
        raise DataError(
            f'{path}: label file of {depth}mode {image.mode}, shape {raw.shape}; expected one '
            f'8-bit channel of {space} ids. A colour rendering is not a label file',
            'colour' if raw.ndim == 3 and raw.shape[2] > 2 else 'encoding',
        )
    if image.mode == 'P':
        _check_palette(path, space, bytes(image.getpalette()), raw)
    return raw


def _check_palette(path: str | Path, space: str, palette: bytes, raw: np.ndarray) -> None:
    """Refuse a palette that says of the used ids something else than the dataset's publishers.

    A tool that sorts or shortens a palette keeps each pixel's colour and changes its id.
    """
    if not _contradicted(space, palette):
        return  # whichever ids are used
    used = np.flatnonzero(np.bincount(raw.ravel(), minlength=256)).tolist()
    wrong = _contradicted(space, palette, tuple(used))
    if wrong:
        row = labels.space(space)
        names, own = (*row.names, *['unnamed'] * 256), (*(row.colours or ()), *['grey'] * 256)
        found = [
            f'id {i} ({names[i]}) is {_colour_of(palette, i)}, expected {own[i]}' for i in wrong[:3]
        ]
        raise DataError(
            f'{path}: the palette contradicts {space} in {len(wrong)} of {len(used)} ids: '
            f'{"; ".join(found)}. A tool has changed the ids or the palette. {_ORIGINAL}; or, if '
            'the ids are right, save them as 8-bit grey',
            'palette',
        )


def _colour_of(palette: bytes, i: int) -> tuple[int, ...]:
    return tuple(palette[3 * i : 3 * i + 3]) or (0, 0, 0)


@lru_cache(64)
def _contradicted(space: str, palette: bytes, used: tuple[int, ...] | None = None) -> list[int]:
    """The used ids, by default of all that exist, whose palette colours say that they are others.

    - Plain grey, id i being (i, i, i), says nothing: it is a grey file.
    - Where colours are published, an id with a class has its own, and one without has none of
      another's class. Black, say, may stand for any of the ignored.
    - Where none are published, greys that are not plain are those of a grey file, sorted.
    """
    row = labels.space(space)
    ids = np.flatnonzero(labels.possible(space)).tolist() if used is None else used
    colours = {i: _colour_of(palette, i) for i in ids}
    odd = [i for i, colour in colours.items() if colour != (i, i, i)]
    if not odd or not row.colours:
        return odd if all(len(set(colour)) == 1 for colour in colours.values()) else []
    classes = {name for other in labels.maps(space) or (space,)
               for names in labels.space(other).groups.values() for name in names}  # fmt: skip
    published = dict(enumerate(zip(row.names, row.colours, strict=True)))
    taken = {colour for name, colour in published.values() if name in classes}
    wrong = []
    for i, colour in colours.items():
        name, own = published.get(i, (None, None))
        if colour != own and (name in classes or colour in taken):
            wrong.append(i)
    return wrong


def _red16(path: str | Path, space: str) -> np.ndarray:
    # Pillow cuts 16-bit RGB down to 8, so OpenCV reads it; its decoder would complain on stderr
    # of a damaged file, so Pillow checks the checksums before.
    _, _, data = _open(path, lambda image: image.verify())
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
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
    rgb, image, _ = _open(path, lambda image: np.asarray(image.convert('RGB')))
    if image.mode not in ('RGB', 'P'):
        raise DataError(
            f'{path}: label file of mode {image.mode}; expected RGB with the {len(colours)} '
            f'colours of {space}',
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
        content = disk.read(path)
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
