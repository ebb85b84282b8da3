"""Where the files of each dataset lie, as it is downloaded: (root, split) -> its layouts.

A dataset that was published in several has one of each, the documented one first (`listing`).
"""

import re
from collections.abc import Callable
from pathlib import Path

from .. import splits
from ..errors import DataError
from ..text import meant
from .listing import Layout, Place

Layouts = Callable[[Path, str], list[Layout]]

ACDC_CONDITIONS = ('fog', 'night', 'rain', 'snow')


def _layout(
    root: Path, photos: str, truth: str, wanted: Callable[[str], bool] | None = None
) -> Layout:
    return Layout([Place(root, photos)], [Place(root, truth)], wanted)


def of_tree(tree: str) -> Layouts:
    """Return the layout that two lines describe, of the photos and of the labels.

    `idd/leftImg8bit/{train,val}/<drive>/*_leftImg8bit.{png,jpg}`: any split, any folder, either
    suffix.
    """
    photos, truth = (
        re.sub(r'<\w+>', '*', line.partition('/')[2].replace('{train,val}', '{split}', 1))
        for line in tree.splitlines()
    )
    return lambda root, split: [
        _layout(root, *(line.replace('{split}', split) for line in (photos, truth)))
    ]


def _of_names(names: Callable[[str], tuple[str, ...]], photos: str, truth: str) -> Layouts:
    """Return the layout of a dataset whose splits are lists of file names."""

    def layouts(root: Path, split: str) -> list[Layout]:
        wanted = {Path(name).stem for name in names(split)}
        return [_layout(root, photos, truth, wanted.__contains__)]

    return layouts


gta5 = _of_names(splits.gta5, 'images/*.png', 'labels/*.png')
synthia = _of_names(splits.synthia, 'RGB/*.png', 'GT/LABELS/*.png')


def foggy_cityscapes(root: Path, split: str) -> list[Layout]:
    part, beta = split.split('/')
    photos = f'leftImg8bit_foggy/{part}/*/*_leftImg8bit_foggy_beta_{beta}.png'
    truth = f'gtFine/{part}/*/*_gtFine_labelIds.png'
    return [
        Layout([Place(root, photos)], [Place(labelled, truth)])
        for labelled in (root, root.parent / 'cityscapes')
    ]


def bdd100k(root: Path, split: str) -> list[Layout]:
    return [
        _layout(root, f'images/10k/{split}/*.jpg', f'labels/sem_seg/masks/{split}/*.png'),
        _layout(root, f'seg/images/{split}/*.jpg', f'seg/labels/{split}/*_train_id.png'),
    ]


def mapillary(root: Path, split: str) -> list[Layout]:
    part = {'train': 'training', 'val': 'validation'}[split]
    return [
        _layout(root, f'{part}/images/*.jpg', f'{part}/{version}labels/*.png')
        for version in ('', 'v1.2/')
    ]


def acdc(root: Path, split: str) -> list[Layout]:
    part, _, condition = split.partition('/')
    photos, truth = (
        [
            Place(root, f'{folder}/{name}/{part}/*/*{suffix}', f'{name}/')
            for name in ((condition,) if condition else ACDC_CONDITIONS)
        ]
        for folder, suffix in (('rgb_anon', '_rgb_anon.png'), ('gt', '_gt_labelTrainIds.png'))
    )
    return [Layout(photos, truth)]


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


def camvid(root: Path, split: str) -> list[Layout]:
    folders, wanted = camvid_parts(split, 'camvid')
    photos = [Place(root, f'{part}/*.{{png,jpg}}') for part in folders]
    return [Layout(photos, [Place(root, f'{part}annot/*.png') for part in folders], wanted)]


def camvid32(root: Path, split: str) -> list[Layout]:
    folders, of_drive = camvid_parts(split, 'camvid32')

    def wanted(stem: str) -> bool:
        return splits.camvid(stem) in folders and of_drive(stem)

    return [_layout(root, '701_StillsRaw_full/*.png', 'LabeledApproved_full/*_L.png', wanted)]
