"""Label spaces: what a raw label id of each dataset means in the classes of its task.

numpy only. The classes are the 19 of Cityscapes, but for BDD100K's drivable areas. Ids as published
by the datasets; 255 is `IGNORE` everywhere.
"""

import numpy as np

from ..text import meant
from . import spaces
from .spaces import IGNORE, STREETS, Space, Task

__all__ = ['CITYSCAPES_IDS', 'CLASSES', 'IGNORE', 'PALETTE', 'SPACES', 'Space', 'Task', 'class_ids',
           'fold', 'lut', 'maps', 'possible', 'raw_id', 'space', 'task']  # fmt: skip

#: The 19 classes of the Cityscapes benchmark in training order; their RGB, uint8 (19, 3).
CLASSES, PALETTE = STREETS.classes, STREETS.palette

#: Names of the label spaces; a domain file adds its own (`ibnseg.domains.own`).
SPACES = spaces.SPACES.keys()


def space(name: str) -> Space:
    """Return a label space. Raises ValueError for an unknown one."""
    if name not in spaces.SPACES:
        raise ValueError(
            f'unknown label space {name!r}; choose from {tuple(SPACES)}{meant(name, SPACES)}'
        )
    return spaces.SPACES[name]


def task(name: str) -> Task:
    """Return the classes that labels of a space are read into, and their colours."""
    return space(name).task


def lut(name: str) -> np.ndarray:
    """Return the look-up table of a label space: uint8 (256,), `lut(name)[raw]` is the class.

    255 where a raw id has no training class. Raises ValueError for an unknown space.
    """
    row = space(name)
    table = np.full(256, IGNORE, np.uint8)
    for label, names in row.groups.items():
        table[[row.names.index(raw) for raw in names]] = row.task.classes.index(label)
    return table


def possible(name: str) -> np.ndarray:
    """Return bool (256,): which raw ids a correct label file of this space may hold."""
    row = space(name)
    named = {*range(len(row.names))} - {*row.holes}
    return np.isin(np.arange(256), [*named, *row.extra])


def class_ids(name: str, absent: bool = False) -> tuple[int, ...]:
    """Return the training classes that labels of this space name anywhere, ascending.

    With `absent` also those that have an id, but no pixel in the whole dataset.
    """
    row = space(name)
    named = row.groups.keys() - set(() if absent else row.absent)
    return tuple(i for i, label in enumerate(row.task.classes) if label in named)


def maps(name: str) -> tuple[str, ...]:
    """Return the label spaces that read the same raw ids into classes differently, and itself.

    () where a dataset has one published map.
    """
    row = space(name)
    found = tuple(other for other in SPACES if space(other).names == row.names)
    return found if any(space(other).groups != row.groups for other in found) else ()


def fold(raw: np.ndarray, name: str) -> np.ndarray:
    """Sum the rows of a matrix over raw ids, (ids, classes), to the classes of a label space.

    Returns (classes, classes); what the space ignores counts nowhere.
    """
    table = lut(name)[: len(raw)]
    matrix = np.zeros((len(task(name).classes), raw.shape[1]), raw.dtype)
    np.add.at(matrix, table[table != IGNORE], raw[table != IGNORE])
    return matrix


def raw_id(name: str, label: str) -> int | None:
    """Return the raw id that a space calls a class by, None where it can't name it."""
    row = space(name)
    names = () if label in row.absent else row.groups.get(label, ())
    return row.names.index(names[0]) if names else None


#: uint8 (19,): the `labelIds` value of each training class in Cityscapes and GTA5.
CITYSCAPES_IDS = np.array([raw_id('cityscapes', label) for label in CLASSES], np.uint8)
