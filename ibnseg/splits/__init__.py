"""Official splits that a dataset publishes apart from its folders."""

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
    val, test = _numbers('gta5_val.txt'), _numbers('gta5_test.txt')
    train = set(range(1, 24967)) - val - test
    parts = {'train': train, 'train-12388': train - _GTA5_LEFT_OUT, 'val': val, 'test': test}
    return _names('GTA5', parts, split, digits=5)


@cache
def synthia(split: str) -> tuple[str, ...]:
    """Return the file names of SYNTHIA-RAND-CITYSCAPES: train 6,580, val 2,820, all 9,400.

    The dataset has no official split; this one is RobustNet's (Choi et al., CVPR 2021), whose
    validation numbers `synthia_val.txt` holds as inclusive ranges. Raises ValueError for another
    name.
    """
    every, val = set(range(9400)), _numbers('synthia_val.txt')
    return _names('SYNTHIA', {'train': every - val, 'val': val, 'all': every}, split, digits=7)


def _numbers(name: str) -> set[int]:
    """Read inclusive ranges of numbers, a line each."""
    lines = files(__name__).joinpath(name).read_text().split()
    ranges = (map(int, line.split('-')) for line in lines)
    return {n for first, last in ranges for n in range(first, last + 1)}


def _names(dataset: str, parts: dict[str, set[int]], split: str, digits: int) -> tuple[str, ...]:
    if split not in parts:
        choices = ', '.join(map(repr, parts))
        raise ValueError(f'{dataset} has no split {split!r}; choose from {choices}')
    return tuple(f'{number:0{digits}}.png' for number in sorted(parts[split]))


#: Drive -> the first frame of each piece and the split it went to.
_CAMVID_PIECES = {
    '0001TP': ((0, 'train'), (8550, 'test')),
    '0006R0': ((0, 'train'),),
    '0016E5': ((0, 'train'), (7959, 'val'), (8190, 'train')),
    'Seq05VD': ((0, 'test'),),
}


def camvid(stem: str) -> str | None:
    """Return 'train', 'val' or 'test' for a CamVid frame, e.g. 0001TP_006690, as SegNet split it.

    The split cuts drives into pieces: train 367, val 101, test 233. None for another name.
    """
    drive, _, frame = stem.partition('_')
    number = frame.removeprefix('f')
    pieces = _CAMVID_PIECES.get(drive)
    if pieces is None or not (number.isascii() and number.isdigit()):
        return None
    return next(split for first, split in reversed(pieces) if int(number) >= first)
