"""Label files, read into raw ids and into training classes."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from .. import labels
from ..errors import DataError
from . import polygons


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
        raise _unknown_ids(path, space, raw)
    return raw, classes


_IMPOSSIBLE = 254


@cache
def _table(space: str) -> np.ndarray:
    """The class of each raw id: uint8 (256,), `_IMPOSSIBLE` where no such id exists."""
    return np.where(labels.possible(space), labels.lut(space), np.uint8(_IMPOSSIBLE))


def _unknown_ids(path: str | Path, space: str, raw: np.ndarray) -> DataError:
    ids, counts = np.unique(raw, return_counts=True)
    wrong = ~labels.possible(space)[ids]
    found = ', '.join(
        f'{i} ({n} px)' for i, n in list(zip(ids[wrong], counts[wrong], strict=True))[:5]
    )
    return DataError(
        f'{path}: ids {found} do not exist in label space {space!r}. Check that this is the '
        "dataset's original label file, not one converted for another tool",
        'ids',
    )


def _open(path: str | Path, use: Callable[[Image.Image], object]) -> tuple[object, str]:
    """Return use(image) and the image's mode. Raises DataError where Pillow can't read it."""
    try:
        with Image.open(path) as image:
            return use(image), image.mode
    except Exception as error:  # Pillow raises OSError, ValueError and SyntaxError of bad files
        text = f'{path}: unreadable label file ({error}). Unpack it again'
        raise DataError(text, 'damaged') from None


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
        text = f'{path}: unreadable label file (its image data). Unpack it again'
        raise DataError(text, 'damaged')
    if image.dtype != np.uint16 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(
            f'{path}: label file of {image.dtype}, shape {image.shape}; expected 16-bit RGB with '
            f'{space} ids in the red channel, as in GT/LABELS. Colours (GT/COLOR) and files '
            'converted for another tool are no label files',
            'colour' if image.dtype == np.uint8 and image.ndim == 3 else 'encoding',
        )
    red = image[..., 2]  # OpenCV's order is BGR
    if red.max() > 255:
        raise _unknown_ids(path, space, np.minimum(red, 255).astype(np.uint8))
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
        found, counts = np.unique(code[raw == labels.IGNORE], return_counts=True)
        shown = ', '.join(
            f'({c >> 16}, {c >> 8 & 255}, {c & 255}) ({n} px)'
            for c, n in zip(found[:5], counts[:5], strict=True)
        )
        raise DataError(
            f'{path}: colours {shown} do not exist in label space {space!r}. Check that this is '
            "the dataset's original label file, not one scaled or saved as JPEG",
            'ids',
        )
    return raw


@cache
def _colour_table(colours: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """Index of each colour by its 24 bits, uint8 (2^24,); 255 for any other."""
    table = np.full(1 << 24, labels.IGNORE, np.uint8)
    for i, (red, green, blue) in enumerate(colours):
        table[red << 16 | green << 8 | blue] = i
    return table


def _polygons(path: str | Path, space: str) -> np.ndarray:
    return polygons.rasterise(path, labels.space(space).names)


_DECODERS: dict[str, Callable[[str | Path, str], np.ndarray]] = {
    'index': _index,
    'red16': _red16,
    'colour': _colour,
    'polygons': _polygons,
}
