"""Where the files of each dataset lie, as it is downloaded: (root, split) -> photos, labels.

Both are paths by a key that a photo shares with its label file. FileNotFoundError names a folder
that should be there.
"""

import re
from collections.abc import Callable
from pathlib import Path

from .. import splits
from ..errors import DataError
from ..text import meant

Files = dict[str, Path]
Layout = Callable[[Path, str], tuple[Files, Files]]

ACDC_CONDITIONS = ('fog', 'night', 'rain', 'snow')


def _files(root: Path, *patterns: str, wanted: Callable[[str], bool] | None = None) -> Files:
    """Find files of glob patterns, of which the `wanted` keys. A key is what stands for the stars.

    `val/*/*_labelIds.png` gives 'lindau/lindau_000000', for drives repeat each other's numbers.
    """
    files: Files = {}
    for pattern in patterns:
        head, stars, tail = pattern.partition('*')
        folder, suffix = root / head, pattern.rpartition('*')[2]
        if not folder.is_dir():  # Path.glob finds nothing in an absent one, silently
            raise FileNotFoundError(2, 'no such folder', str(folder))
        for path in folder.glob(stars + tail):
            key = '/'.join(path.parts[len(folder.parts) :]).removesuffix(suffix)
            other = files.setdefault(key, path)
            if other is not path:
                text = f'{path} and {other}: two files of one name. Remove one'
                raise DataError(text, 'same-name', path)
    return {key: path for key, path in files.items() if wanted is None or wanted(key)}


def of_tree(tree: str) -> Layout:
    """Return the layout that two lines describe, of the photos and of the labels.

    `idd/leftImg8bit/{train,val}/<drive>/*.{png,jpg}`: any split, any folder, either suffix.
    """
    photos, truth = (line.partition('/')[2] for line in tree.splitlines())

    def find(line: str, root: Path, split: str) -> Files:
        pattern = re.sub(r'<\w+>', '*', line.replace('{train,val}', split))
        stem, _, suffixes = pattern.rstrip('}').partition('{')
        return _files(root, *(stem + suffix for suffix in suffixes.split(',')))

    return lambda root, split: (find(photos, root, split), find(truth, root, split))


def gta5(root: Path, split: str) -> tuple[Files, Files]:
    wanted = set(splits.gta5(split)).__contains__
    return _files(root, 'images/*', wanted=wanted), _files(root, 'labels/*', wanted=wanted)


def synthia(root: Path, split: str) -> tuple[Files, Files]:
    wanted = set(splits.synthia(split)).__contains__
    return _files(root, 'RGB/*', wanted=wanted), _files(root, 'GT/LABELS/*', wanted=wanted)


def foggy_cityscapes(root: Path, split: str) -> tuple[Files, Files]:
    part, beta = split.split('/')
    labelled = root if (root / 'gtFine').is_dir() else root.parent / 'cityscapes'
    return (
        _files(root, f'leftImg8bit_foggy/{part}/*/*_leftImg8bit_foggy_beta_{beta}.png'),
        _files(labelled, f'gtFine/{part}/*/*_gtFine_labelIds.png'),
    )


def bdd100k(root: Path, split: str) -> tuple[Files, Files]:
    if (root / 'seg').is_dir() and not (root / 'labels' / 'sem_seg').is_dir():
        patterns = f'seg/images/{split}/*.jpg', f'seg/labels/{split}/*_train_id.png'
    else:
        patterns = f'images/10k/{split}/*.jpg', f'labels/sem_seg/masks/{split}/*.png'
    return _files(root, patterns[0]), _files(root, patterns[1])


def mapillary(root: Path, split: str) -> tuple[Files, Files]:
    part = root / {'train': 'training', 'val': 'validation'}[split]
    version = 'v1.2/' if (part / 'v1.2' / 'labels').is_dir() else ''
    return _files(part, 'images/*.jpg'), _files(part, f'{version}labels/*.png')


def acdc(root: Path, split: str) -> tuple[Files, Files]:
    part, _, condition = split.partition('/')
    photos, truth = (
        {
            f'{name}/{key}': path
            for name in ((condition,) if condition else ACDC_CONDITIONS)
            for key, path in _files(root, f'{folder}/{name}/{part}/*/*{suffix}').items()
        }
        for folder, suffix in (('rgb_anon', '_rgb_anon.png'), ('gt', '_gt_labelTrainIds.png'))
    )
    return photos, truth


_CAMVID_DRIVES = ('0001TP', '0006R0', '0016E5', 'Seq05VD')
_CAMVID_FOLDERS = ('train', 'val', 'test')


def camvid_parts(split: str, name: str) -> tuple[tuple[str, ...], Callable[[str], bool]]:
    """(folders, whether a frame belongs to the split, by its name).

    A split is `train`, drives joined by +, or both: `train/0006R0+0016E5`.
    """
    if split in _CAMVID_FOLDERS:
        return (split,), lambda stem: True  # also a file of no known drive
    part, slash, names = split.rpartition('/')
    drives = names.split('+')
    if (
        (slash and part not in _CAMVID_FOLDERS)
        or not set(drives) <= set(_CAMVID_DRIVES)
        or len(set(drives)) < len(drives)
    ):
        near = meant(split, (*_CAMVID_FOLDERS, *_CAMVID_DRIVES))
        raise DataError(
            f'{name} has no split {split!r}; choose one of {_CAMVID_FOLDERS}, or of the '
            f"drives {_CAMVID_DRIVES} joined by '+', or both as in 'train/0006R0+0016E5'{near}"
        )
    return (part,) if part else _CAMVID_FOLDERS, lambda stem: stem.split('_')[0] in drives


def camvid(root: Path, split: str) -> tuple[Files, Files]:
    folders, wanted = camvid_parts(split, 'camvid')
    photos = (f'{part}/*.{kind}' for part in folders for kind in ('png', 'jpg'))
    truth = (f'{part}annot/*.png' for part in folders)
    return _files(root, *photos, wanted=wanted), _files(root, *truth, wanted=wanted)


def camvid32(root: Path, split: str) -> tuple[Files, Files]:
    folders, of_drive = camvid_parts(split, 'camvid32')

    def wanted(stem: str) -> bool:
        return splits.camvid(stem) in folders and of_drive(stem)

    photos = _files(root, '701_StillsRaw_full/*.png', wanted=wanted)
    return photos, _files(root, 'LabeledApproved_full/*_L.png', wanted=wanted)
