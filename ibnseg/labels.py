"""Label spaces: what a raw label id of each data set means in the 19 Cityscapes training classes.

numpy only. Ids as published by the data sets; 255 is `IGNORE` everywhere.
"""

import numpy as np

IGNORE = 255

#: The 19 classes of the Cityscapes benchmark, in training order.
CLASSES = (
    'road',
    'sidewalk',
    'building',
    'wall',
    'fence',
    'pole',
    'traffic light',
    'traffic sign',
    'vegetation',
    'terrain',
    'sky',
    'person',
    'rider',
    'car',
    'truck',
    'bus',
    'train',
    'motorcycle',
    'bicycle',
)

#: uint8 (19, 3), RGB, as published with Cityscapes.
PALETTE = np.array(
    [
        (128, 64, 128),
        (244, 35, 232),
        (70, 70, 70),
        (102, 102, 156),
        (190, 153, 153),
        (153, 153, 153),
        (250, 170, 30),
        (220, 220, 0),
        (107, 142, 35),
        (152, 251, 152),
        (70, 130, 180),
        (220, 20, 60),
        (255, 0, 0),
        (0, 0, 142),
        (0, 0, 70),
        (0, 60, 100),
        (0, 80, 100),
        (0, 0, 230),
        (119, 11, 32),
    ],
    np.uint8,
)

#: uint8 (19,): the `labelIds` value of each training class in Cityscapes and GTA5.
CITYSCAPES_IDS = np.array(
    [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33], np.uint8
)


def _by_name(*names: str | None) -> dict[int, int]:
    """Map raw id i to the class called names[i]; None is unmapped."""
    return {raw: CLASSES.index(name) for raw, name in enumerate(names) if name is not None}


_CITYSCAPES = {int(raw): train for train, raw in enumerate(CITYSCAPES_IDS)}

# Name of a space -> ({raw id: training class}, every raw id the data set may hold).
_SPACES: dict[str, tuple[dict[int, int], frozenset[int]]] = {
    # 255 stands for Cityscapes' id -1 (license plate) in an 8-bit file.
    'cityscapes': (_CITYSCAPES, frozenset(range(34)) | {IGNORE}),
    'gta5': (_CITYSCAPES, frozenset(range(35)) | {IGNORE}),
    'camvid-11': (
        _by_name(
            'sky',
            'building',
            'pole',
            'road',
            'sidewalk',
            'vegetation',
            'traffic sign',
            'fence',
            'car',
            'person',
            'bicycle',
            None,
        ),
        frozenset(range(12)) | {IGNORE},
    ),
}

SPACES = tuple(_SPACES)


def _space(name: str) -> tuple[dict[int, int], frozenset[int]]:
    if name not in _SPACES:
        raise ValueError(f'unknown label space {name!r}; choose from {SPACES}')
    return _SPACES[name]


def lut(space: str) -> np.ndarray:
    """Return the look-up table of a label space: uint8 (256,), `lut(space)[raw]` is the class.

    255 where a raw id has no training class. Raises ValueError for an unknown space.
    """
    mapping, _ = _space(space)
    table = np.full(256, IGNORE, np.uint8)
    table[list(mapping)] = list(mapping.values())
    return table


def possible(space: str) -> np.ndarray:
    """Return bool (256,): which raw ids a correct label file of this space may hold."""
    _, ids = _space(space)
    table = np.zeros(256, bool)
    table[list(ids)] = True
    return table


def class_ids(space: str) -> tuple[int, ...]:
    """Return the training classes that labels of this space can name, ascending."""
    mapping, _ = _space(space)
    return tuple(sorted(set(mapping.values())))
