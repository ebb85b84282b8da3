"""Official splits that a data set publishes apart from its folders."""

from functools import cache
from importlib.resources import files

_GTA5_LEFT_OUT = {12160, 12166, 12167, 12191, 12192, 12193, 12195, 19993, *range(12202, 12209)}


@cache
def gta5(split: str) -> tuple[str, ...]:
    """Return the file names of GTA5's official split: train 12,403, val 6,382, test 6,181.

    `train-12388` is train without the 15 that RobustNet leaves out: their labels differ in size.

    `gta5_val.txt` and `gta5_test.txt` hold inclusive ranges of image numbers (Richter et al.,
    ECCV 2016, `split.mat`); train is the rest of the 24,966. Raises ValueError for another name.
    """
    if split == 'train':
        others = set(gta5('val')) | set(gta5('test'))
        return tuple(name for name in map(_gta5_name, range(1, 24967)) if name not in others)
    if split == 'train-12388':
        return tuple(name for name in gta5('train') if int(name[:5]) not in _GTA5_LEFT_OUT)
    if split not in ('val', 'test'):
        raise ValueError(
            f"GTA5 has no split {split!r}; choose from 'train', 'train-12388', 'val', 'test'"
        )
    lines = files(__name__).joinpath(f'gta5_{split}.txt').read_text().split()
    ranges = (map(int, line.split('-')) for line in lines)
    return tuple(_gta5_name(n) for first, last in ranges for n in range(first, last + 1))


def _gta5_name(number: int) -> str:
    return f'{number:05d}.png'
