"""Where the files of each dataset lie, as it is downloaded: (root, split) -> photos, labels.

Both are paths by a key that a photo shares with its label file. FileNotFoundError names a folder
that should be there.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from .. import splits
from ..errors import DataError

Files = dict[str, Path]

ACDC_CONDITIONS = ('fog', 'night', 'rain', 'snow')


def _folder(path: Path) -> Path:
    """The folder, or FileNotFoundError: Path.glob finds nothing in an absent one, silently."""
    if not path.is_dir():
        raise FileNotFoundError(2, 'no such folder', str(path))
    return path


def _unique(found: Iterable[tuple[str, Path]]) -> Files:
    files: Files = {}
    for key, path in found:
        other = files.setdefault(key, path)
        if other is not path:
            text = f'{path} and {other}: two files of one name. Remove one'
            raise DataError(text, 'same-name', path)
    return files


def _by_suffix(folder: Path, *suffixes: str, deep: bool = False) -> Files:
    """Files with one of the suffixes, in the folder or (deep) in its folders, by name without it.

    The key of a deep one holds its folder: drives repeat each other's frame numbers.
    """
    return _unique(
        (f'{path.parent.name}/{stem}' if deep else stem, path)
        for path in _folder(folder).glob('*/*' if deep else '*')
        for stem in (path.name.removesuffix(suffix) for suffix in suffixes)
        if stem != path.name
    )


def _named(folder: Path, names: Iterable[str]) -> Files:
    wanted = set(names)
    return {path.name: path for path in _folder(folder).iterdir() if path.name in wanted}


def gta5(root: Path, split: str) -> tuple[Files, Files]:
    names = splits.gta5(split)
    return _named(root / 'images', names), _named(root / 'labels', names)


def synthia(root: Path, split: str) -> tuple[Files, Files]:
    names = splits.synthia(split)
    return _named(root / 'RGB', names), _named(root / 'GT' / 'LABELS', names)


def cityscapes(root: Path, split: str) -> tuple[Files, Files]:
    return (
        _by_suffix(root / 'leftImg8bit' / split, '_leftImg8bit.png', deep=True),
        _by_suffix(root / 'gtFine' / split, '_gtFine_labelIds.png', deep=True),
    )


def foggy_cityscapes(root: Path, split: str) -> tuple[Files, Files]:
    part, beta = split.split('/')
    truth = root / 'gtFine'
    if not truth.is_dir():
        truth = root.parent / 'cityscapes' / 'gtFine'
    return (
        _by_suffix(
            root / 'leftImg8bit_foggy' / part, f'_leftImg8bit_foggy_beta_{beta}.png', deep=True
        ),
        _by_suffix(truth / part, '_gtFine_labelIds.png', deep=True),
    )


def bdd100k(root: Path, split: str) -> tuple[Files, Files]:
    if (root / 'seg').is_dir() and not (root / 'labels' / 'sem_seg').is_dir():
        return (
            _by_suffix(root / 'seg' / 'images' / split, '.jpg'),
            _by_suffix(root / 'seg' / 'labels' / split, '_train_id.png'),
        )
    return (
        _by_suffix(root / 'images' / '10k' / split, '.jpg'),
        _by_suffix(root / 'labels' / 'sem_seg' / 'masks' / split, '.png'),
    )


def bdd100k_drivable(root: Path, split: str) -> tuple[Files, Files]:
    return (
        _by_suffix(root / 'images' / '100k' / split, '.jpg'),
        _by_suffix(root / 'labels' / 'drivable' / 'masks' / split, '.png'),
    )


def bdd100k_drivable_2018(root: Path, split: str) -> tuple[Files, Files]:
    return (
        _by_suffix(root / 'images' / '100k' / split, '.jpg'),
        _by_suffix(root / 'drivable_maps' / 'labels' / split, '_drivable_id.png'),
    )


def mapillary(root: Path, split: str) -> tuple[Files, Files]:
    part = root / {'train': 'training', 'val': 'validation'}[split]
    newer = part / 'v1.2' / 'labels'
    truth = newer if newer.is_dir() else part / 'labels'
    return _by_suffix(part / 'images', '.jpg'), _by_suffix(truth, '.png')


def _idd(root: Path, split: str, truth: str) -> tuple[Files, Files]:
    return (
        # Part II of the dataset holds JPEGs.
        _by_suffix(root / 'leftImg8bit' / split, '_leftImg8bit.png', '_leftImg8bit.jpg', deep=True),
        _by_suffix(root / 'gtFine' / split, truth, deep=True),
    )


def idd(root: Path, split: str) -> tuple[Files, Files]:
    return _idd(root, split, '_gtFine_polygons.json')


def idd_level3(root: Path, split: str) -> tuple[Files, Files]:
    return _idd(root, split, '_gtFine_labellevel3Ids.png')


def acdc(root: Path, split: str) -> tuple[Files, Files]:
    part, _, condition = split.partition('/')
    photos, truth = (
        _unique(
            (f'{name}/{key}', path)
            for name in ((condition,) if condition else ACDC_CONDITIONS)
            for key, path in _by_suffix(root / folder / name / part, suffix, deep=True).items()
        )
        for folder, suffix in (('rgb_anon', '_rgb_anon.png'), ('gt', '_gt_labelTrainIds.png'))
    )
    return photos, truth


def dark_zurich(root: Path, split: str) -> tuple[Files, Files]:
    return (
        _by_suffix(root / 'rgb_anon' / split / 'night', '_rgb_anon.png', deep=True),
        _by_suffix(root / 'gt' / split / 'night', '_gt_labelTrainIds.png', deep=True),
    )


def kitti(root: Path, split: str) -> tuple[Files, Files]:
    part = root / 'training'
    return _by_suffix(part / 'image_2', '.png'), _by_suffix(part / 'semantic', '.png')


_CAMVID_DRIVES = ('0001TP', '0006R0', '0016E5', 'Seq05VD')
_CAMVID_FOLDERS = ('train', 'val', 'test')


def camvid_parts(split: str, name: str = 'camvid') -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(folders, drives) of `train`, of drives joined by +, or of both: `train/0006R0+0016E5`."""
    if split in _CAMVID_FOLDERS:
        return (split,), _CAMVID_DRIVES
    part, slash, names = split.rpartition('/')
    drives = tuple(names.split('+'))
    if (
        (slash and part not in _CAMVID_FOLDERS)
        or not set(drives) <= set(_CAMVID_DRIVES)
        or len(set(drives)) < len(drives)
    ):
        raise DataError(
            f'{name} has no split {split!r}; choose one of {_CAMVID_FOLDERS}, or of the drives '
            f"{_CAMVID_DRIVES} joined by '+', or both as in 'train/0006R0+0016E5'"
        )
    return (part,) if part else _CAMVID_FOLDERS, drives


def _camvid_filter(split: str) -> tuple[tuple[str, ...], Callable[[str], bool]]:
    """(folders, whether a frame belongs to the split, by its name)."""
    folders, drives = camvid_parts(split)
    every = split in _CAMVID_FOLDERS  # also a file of no known drive
    return folders, lambda stem: every or stem.split('_')[0] in drives


def camvid(root: Path, split: str) -> tuple[Files, Files]:
    folders, wanted = _camvid_filter(split)
    photos, truth = (
        _unique(
            (stem, path)
            for folder in folders
            for stem, path in _by_suffix(root / f'{folder}{suffix}', *kinds).items()
            if wanted(stem)
        )
        for suffix, kinds in (('', ('.png', '.jpg')), ('annot', ('.png',)))
    )
    return photos, truth


def camvid32(root: Path, split: str) -> tuple[Files, Files]:
    folders, wanted = _camvid_filter(split)
    photos, truth = (
        {
            stem: path
            for stem, path in _by_suffix(root / folder, suffix).items()
            if splits.camvid(stem) in folders and wanted(stem)
        }
        for folder, suffix in (
            ('701_StillsRaw_full', '.png'),
            ('LabeledApproved_full', '_L.png'),
        )
    )
    return photos, truth
