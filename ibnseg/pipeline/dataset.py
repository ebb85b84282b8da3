"""Domains as MMSeg datasets: one Dataset, one label loader."""

import gc
import random
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dataset import ConcatDataset
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, TRANSFORMS
from mmseg.structures import SegDataSample

from .. import labels
from ..domains.files import read_labels, read_raw
from ..domains.pairs import Used, use
from ..domains.sources import Mixing, Source, subset
from ..domains.table import Pairs, parse, task
from ..errors import DataError
from ..measure.protocols import describe, loads_labels

#: Kinds of damage that training steps over; others say that the dataset is not what it seems.
_DAMAGES = ('damaged', 'unreadable', 'size', 'orientation')
_OTHER = 0xDA  # a stream apart from that of the augmentation
_TRIES = 10


@TRANSFORMS.register_module()
class LoadLabels(BaseTransform):
    """Read `seg_map_path` as training classes through the look-up table of the sample's domain.

    Adds `gt_seg_map`, uint8 (H, W); in the dataset's own ids where `raw_labels` says so. A photo
    without `seg_map_path`, as MMSeg's `inference_model` gives it, passes; a `DomainDataset` names
    one for each.

    Raises DataError as `read_labels`, where the label's size differs from the photo's, and where
    the sample does not say whose label it is.
    """

    def transform(self, results: dict) -> dict:
        path = results.get('seg_map_path')
        if path is None and 'domain' not in results:
            return results
        if path is None or 'label_space' not in results:
            raise DataError(
                f'{results.get("img_path")}: LoadLabels got seg_map_path={path!r} and label_space='
                f'{results.get("label_space")!r}; expected both, as DomainDataset gives them. For '
                "another dataset, load labels by MMSegmentation's LoadAnnotations"
            )
        read = read_raw if results.get('raw_labels') else read_labels
        truth = read(path, results['label_space'])
        (height, width), (tall, wide) = truth.shape, results['ori_shape'][:2]
        if (height, width) != (tall, wide):
            raise DataError(
                f'{path}: label is {width}x{height}, its photo {results["img_path"]} is '
                f'{wide}x{tall}; expected equal sizes. Unpack both again, or leave the pair out '
                'with --skip-list',
                'size',
            )
        results['gt_seg_map'] = truth
        results['seg_fields'].append('gt_seg_map')
        return results


def seed(entropy: Sequence[int]) -> int:
    """Have the draws of Python and numpy follow from numbers, as (seed, position); returns one for
    a further generator."""
    stream = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(stream[0]))
    np.random.seed(stream[1])
    return int(stream[2])


def _rooted(step: Any, data_root: str) -> Any:
    """Return a step; one that reads photos of other domains finds them where the dataset is."""
    reads = isinstance(step, Mapping) and step.get('type') in ('OtherStyle', 'WildPhoto')
    return dict(step, data_root=step.get('data_root') or data_root) if reads else step


@DATASETS.register_module()
class DomainDataset(BaseSegDataset):
    """One split of one domain, or of several as one source.

    Every data sample carries `domain` ('name:split') and `sample_idx` in its metainfo. An index
    may be ((seed, position), i) or ((seed, position), i, aim): then sample i is augmented by
    numbers drawn from (seed, position) alone, whatever worker or rank loads it, and `aim` says
    what its crop must show (`ibnseg.train.sampler`, `ibnseg.pipeline.transforms.RandomScaleCrop`).
    Its metainfo holds the classes and the palette of its label space's task.

    Args:
        domain: 'name' or 'name:split', see `DOMAINS`; or several to train on, see `Source`.
        data_root: the folder that holds one folder a domain.
        pipeline: MMSeg transforms.
        mixing: of several domains, see `Source`; carried out by the sampler.
        fraction: of each domain, the part of its samples to use; see `subset`.
        subset_seed: which part.
        raw: labels in the dataset's own ids.
        skip_lists: files that name pairs to leave out (`ibnseg.domains.skip`).
        odd_pairs: what becomes of pairs whose files do not fit, see `ibnseg.domains.use`.

    Attributes:
        source: `Source`.
        domain: its text, 'name:split' of a single one.
        space: label space, of the first.
        sizes: number of samples of each domain, in order; they stand behind one another.
        used: `ibnseg.domains.Used` of each domain, before a `fraction` is taken.

    Raises:
        DataError: see `use`, `Source`, `subset` and `LoadLabels`.
    """

    def __init__(
        self,
        domain: str | Sequence[str],
        data_root: str,
        pipeline: Sequence[dict | Callable],
        mixing: Mixing | None = None,
        fraction: float = 1.0,
        subset_seed: int = 0,
        raw: bool = False,
        skip_lists: Sequence[str] = (),
        odd_pairs: str = 'leave_out',
        **kwargs: Any,
    ):
        self.source = Source.of(domain, mixing)
        self.domain = str(self.source)
        self.space = parse(self.source.domains[0])[0].space
        self.raw = raw
        self._skip_lists, self._odd_pairs = tuple(skip_lists), odd_pairs
        self.used: tuple[Used, ...] = ()
        self.sizes: tuple[int, ...] = ()
        self._fraction, self._subset_seed = fraction, subset_seed
        classes = task(self.source.domains)
        super().__init__(
            data_root=data_root,
            data_prefix={},
            pipeline=[_rooted(step, data_root) for step in pipeline],
            metainfo=dict(classes=classes.classes, palette=classes.palette.tolist()),
            **kwargs,
        )
        self.METAINFO = self.metainfo  # mmseg's browse_dataset.py looks there

    def load_data_list(self) -> list[dict]:
        where = self.data_root, self._skip_lists, self._odd_pairs
        self.used = tuple(use(domain, *where) for domain in self.source.domains)
        parts = [self._part(used.domain, used.pairs) for used in self.used]
        self.sizes = tuple(map(len, parts))
        return [info for part in parts for info in part]

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        # MMEngine's ends in a search for garbage through all that the process holds, 0.3 s.
        if gc.get_freeze_count():  # by the host; they stay so
            return super()._serialize_data()
        gc.freeze()
        try:
            return super()._serialize_data()
        finally:
            gc.unfreeze()

    def _part(self, domain: str, pairs: Pairs) -> list[dict]:
        return [
            dict(
                img_path=str(pairs[i][0]),
                seg_map_path=str(pairs[i][1]),
                domain=domain,
                label_space=parse(domain)[0].space,
                raw_labels=self.raw,
                label_map=None,
                reduce_zero_label=False,
                seg_fields=[],
            )
            for i in subset(len(pairs), self._fraction, self._subset_seed)
        ]

    def __getitem__(self, index: int | tuple) -> dict:
        if not isinstance(index, tuple):
            return super().__getitem__(index)
        entropy, index, *aim = index
        seed(entropy)
        try:
            # The parent hands on an index, nothing else.
            data = self.prepare_data(index, *aim)
        except DataError as error:
            data = self._other(entropy, index, error)
        return super().__getitem__(self._rand_another()) if data is None else data

    def _other(self, entropy: Sequence[int], index: int, damage: DataError) -> Any:
        """Return another sample of the domain, drawn for the position of a damaged one.

        It carries {pair: what is wrong} as `replaced`. Raises `damage` where it is of another kind,
        or where it is refused.
        """
        ends = np.cumsum(self.sizes)
        part = int(np.searchsorted(ends, index, side='right'))
        first = int(ends[part]) - self.sizes[part]
        others = np.random.default_rng((*entropy, _OTHER)).integers(self.sizes[part], size=_TRIES)
        replaced: dict[str, str] = {}
        for other in (first + others).tolist():
            if self.test_mode or self._odd_pairs == 'refuse' or damage.kind not in _DAMAGES:
                raise damage
            info = self.get_data_info(index)
            row, _ = parse(info['domain'])
            photo = Path(info['img_path']).relative_to(row.root(self.data_root)).as_posix()
            replaced[f'{row.name}/{photo}'] = str(damage)  # as a skip list names it
            try:
                data = self.prepare_data(index := other)
            except DataError as error:
                damage = error
                continue
            if data is not None:
                data['data_samples'].set_metainfo(dict(replaced=replaced))
            return data
        raise damage

    def draw_photo(self) -> str:
        """Return the path of a photo drawn from all domains; by (seed, position) in training."""
        return self.get_data_info(np.random.randint(len(self)))['img_path']

    def prepare_data(self, idx: int, aim: Mapping[str, Any] | None = None) -> Any:
        info = self.get_data_info(idx) | dict(aim or {}, draw_photo=self.draw_photo)
        try:
            data = self.pipeline(info)
        except DataError:
            raise
        except Exception as error:
            unread = 'img' not in info and not isinstance(error, MemoryError)
            way_out = (
                'If the file is damaged, unpack it again, or leave the pair out with --skip-list'
                if unread
                else 'The photo was read: mend the step in the pipeline of the config'
            )
            raise DataError(
                f'{info["img_path"]}: could not be read or augmented '
                f'({_step(error)}: {type(error).__name__}: {_line(error)}). {way_out}',
                'damaged' if unread else '',
            ) from error
        if data is not None and 'data_samples' not in data:
            steps = [type(step).__name__ for step in self.pipeline.transforms]
            raise DataError(
                f'{info["domain"]}: the pipeline {steps} gives no data_samples; expected '
                "dict(type='PackSegInputs') as its last step"
            )
        if data is not None:
            meta = dict(domain=info['domain'], sample_idx=info['sample_idx'])
            data['data_samples'].set_metainfo(meta)
        return data


def _step(error: Exception) -> str:
    """Return which step of a pipeline raised an error."""
    owners = (frame.f_locals.get('self') for frame, _ in traceback.walk_tb(error.__traceback__))
    steps = [type(owner).__name__ for owner in owners if isinstance(owner, BaseTransform)]
    return steps[0] if steps else 'pipeline'


def _line(error: Exception) -> str:
    text = ' '.join(str(error).split())
    return text or traceback.extract_tb(error.__traceback__)[-1].line or 'no message'


@DATASETS.register_module()
class CrossDomainDataset(ConcatDataset):
    """Several domains behind one another, for one evaluation run.

    `metainfo['domains']` is {'name:split': number of images}, in the order given;
    `metainfo['raw']` the label space of those whose labels come in raw ids.

    Args:
        domains: 'name' or 'name:split' each.
        data_root: the folder that holds one folder a domain.
        pipeline: MMSeg transforms; default: those of the protocol. `ibnseg test` takes no other,
            since no protocol describes what they do. One that loads no labels is not used: it is
            there for MMSegmentation's `MMSegInferencer`, which looks for it in a config.
        protocol: how photos and labels are prepared: the name of a published setting, or fields
            (`ibnseg.measure.protocols.describe`); default: in their own size.
        altered: what is done to photos beside that, see there.
        raw: where a dataset has several label maps, read its own ids: only `CrossDomainIoU`
            knows them.
        skip_lists, odd_pairs: as `DomainDataset`.

    Attributes:
        used: {'name:split': `ibnseg.domains.Used`}.
        goes_on: of a pair that cannot be read, give a sample without inputs, whose metainfo says
            why (`unread`), instead of raising DataError. `CrossDomainLoop` knows what to do.
    """

    def __init__(
        self,
        domains: Sequence[str],
        data_root: str,
        pipeline: Sequence[dict | Callable] | None = None,
        protocol: str | Mapping[str, Any] | None = None,
        raw: bool = False,
        skip_lists: Sequence[str] = (),
        odd_pairs: str = 'leave_out',
        altered: Mapping[str, Any] | None = None,
    ):
        names = [f'{row.name}:{split}' for row, split in map(parse, domains)]
        if len(set(names)) < len(names):
            raise DataError(f'domains {list(domains)}: one is named twice. Name each once')
        task(domains)  # refuses those of other classes
        if pipeline is not None and not loads_labels(pipeline):
            pipeline = None
        parts = [
            DomainDataset(
                name,
                data_root,
                describe(protocol, name, altered=altered).pipeline()
                if pipeline is None
                else pipeline,
                raw=raw and bool(labels.maps(parse(name)[0].space)),
                skip_lists=skip_lists,
                odd_pairs=odd_pairs,
                test_mode=True,
            )
            for name in names
        ]
        super().__init__(parts)
        self.used = {part.domain: used for part in parts for used in part.used}
        self._metainfo |= dict(
            domains={part.domain: len(part) for part in parts},
            raw={part.domain: part.space for part in parts if part.raw},
        )
        self.METAINFO = self.metainfo  # mmseg's confusion_matrix.py looks there
        self.goes_on = False

    #: Looked for by MMSegmentation's confusion_matrix.py.
    ignore_index, reduce_zero_label = labels.IGNORE, False

    def __getitem__(self, index: int) -> dict:
        try:
            return super().__getitem__(index)
        except DataError as error:
            if not self.goes_on:
                raise
            part, number = self._get_ori_dataset_idx(index)
            domain = self.datasets[part].domain
            meta = dict(domain=domain, sample_idx=number, unread=str(error))
            return dict(inputs=None, data_samples=SegDataSample(metainfo=meta))
