"""Label files, read into training classes."""

from pathlib import Path

import numpy as np
from PIL import Image

from .. import labels
from .errors import DataError


def read_labels(path: str | Path, space: str) -> np.ndarray:
    """Read a label file into training classes: uint8 (H, W), 255 where unmapped.

    Raises DataError: unreadable, not a single channel of indices, or an id that the label space
    can't hold.
    """
    try:
        with Image.open(path) as image:
            raw = np.asarray(image)
            mode = image.mode
    except Exception as error:  # Pillow raises OSError, ValueError and SyntaxError of bad files
        raise DataError(f'{path}: unreadable label file ({error}). Unpack it again') from None
    if raw.ndim != 2 or raw.dtype != np.uint8:
        raise DataError(
            f'{path}: label file of mode {mode}, shape {raw.shape}; expected one 8-bit channel of '
            f'{space} ids. A colour rendering is not a label file'
        )
    wrong = ~labels.possible(space)
    if wrong[raw.max()] or wrong[raw].any():
        ids, counts = np.unique(raw[wrong[raw]], return_counts=True)
        found = ', '.join(f'{i} ({n} px)' for i, n in zip(ids[:5], counts[:5], strict=True))
        raise DataError(
            f'{path}: ids {found} do not exist in label space {space!r}. Check that this is the '
            "data set's original label file, not one converted for another tool"
        )
    return labels.lut(space)[raw]
