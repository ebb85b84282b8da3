"""Ids of whole label files through a table, two pixels at a time."""

import numpy as np

from ..compiled import function

_UNKNOWN = 1 << 16


def pairs(classes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the table that `look_up` takes: uint32 (65536,), for two ids side by side in memory.

    Args:
        classes: uint8 (256,), the class of each id.
        known: bool (256,), whether an id can be.
    """
    both = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    classes = np.ascontiguousarray(classes[both]).view(np.uint16)[:, 0]
    return np.where(known[both].all(1), classes.astype(np.uint32), classes | np.uint32(_UNKNOWN))


@function
def _look_up(raw, table, out):
    eights = len(raw) // 8
    given, to = raw[: eights * 8].view(np.uint64), out[: eights * 8].view(np.uint64)
    last, found, seen = np.uint64(0), np.uint64(0), np.uint32(0)
    for k in range(eights):
        word = given[k]
        # Regions are many pixels wide: most words are the one before.
        if word != last or k == 0:
            last, found = word, np.uint64(0)
            for shift in range(0, 64, 16):
                pair = table[(word >> np.uint64(shift)) & np.uint64(0xFFFF)]
                found |= np.uint64(pair & np.uint32(0xFFFF)) << np.uint64(shift)
                seen |= pair
        to[k] = found
    for k in range(eights * 8, len(raw)):
        pair = table[np.uint32(raw[k]) * np.uint32(257)]
        out[k] = pair & np.uint32(0xFF)
        seen |= pair
    return seen < _UNKNOWN


def look_up(raw: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the classes of ids, uint8 of any shape, and whether each of the ids is known."""
    assert raw.dtype == np.uint8, raw.dtype
    out = np.empty(raw.shape, np.uint8)
    known = _look_up(np.ascontiguousarray(raw).reshape(-1), table, out.reshape(-1))
    return out, known
