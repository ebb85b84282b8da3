"""One evaluation over any number of domains: a confusion matrix each, and a sparse one an image.

`CrossDomainIoU` is the evaluator of validation, of testing and of anyone's own MMSeg config.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS

from .. import disk, domains, labels
from .confusion import Scores, confusion, raw_confusion, score
from .matrices import Images, sparse
from .predictions import encode
from .reliability import BINS, CALIBRATION_BINS, Reliability, histogram


def scores_of(matrices: dict[str, np.ndarray]) -> dict[str, Scores]:
    """Score each domain ('name:split') over the classes that its label space can name."""
    return {
        name: score(matrix, labels.class_ids(domains.parse(name)[0].space))
        for name, matrix in matrices.items()
    }


@METRICS.register_module()
class CrossDomainIoU(BaseMetric):
    """mIoU and pixel accuracy of each domain, from streaming confusion matrices.

    The loader's dataset is a `CrossDomainDataset`; each sample says its domain and its number in
    it. `evaluate` gives `<domain>/mIoU` and `<domain>/aAcc` in percent and `mIoU` as their mean.

    Args:
        output_dir: folder for predictions as PNGs of class indices, `<number>_<photo>`, numbered as
            the dataset; MMSegmentation's `test.py --out`. `ibnseg test` has `--save-predictions`.
        keep_results: as that gives it; nothing else is kept.

    Attributes:
        totals: after `evaluate`, the matrix of each domain, summed over its images on all ranks.
        raw: after `evaluate`, of each domain whose labels come in raw ids: pixels by (raw id,
            predicted class), int64 (ids, classes).
        images: after `evaluate`, the matrices of a domain's images in the order of the dataset;
            the same on every rank, however many there were. Until then each image costs the rank
            that saw it some hundred bytes: 8 a class pair that occurs in it.
        unread: after `evaluate`, domain -> what is wrong with each pair that could not be read
            (`CrossDomainDataset.goes_on`). Such a domain is in none of the above.
        keeps_doubt: samples have a `doubt` (`predict.Predictor`); set before, on all ranks alike.
        reliability: after `evaluate`, the histograms of each domain's images, of samples' doubts.
        watch: called with (domain, number, uint8 prediction (H, W)) of each image, if set.

    Raises:
        RuntimeError: an image of another domain; or the ranks together saw an image of the
            dataset more than once or not at all (a sampler that pads or drops).
    """

    def __init__(
        self,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        output_dir: str | None = None,
        keep_results: bool = False,
    ):
        super().__init__(collect_device, prefix)
        self.output_dir = output_dir
        self.totals: dict[str, np.ndarray] = {}
        self.images: dict[str, Images] = {}
        self.watch: Callable[[str, int, np.ndarray], None] | None = None
        self.raw: dict[str, np.ndarray] = {}
        self.keeps_doubt = False
        self.reliability: dict[str, Reliability] = {}
        self._doubts: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]] = {}
        self._seen: dict[str, _Rows] = {}
        self._raw: dict[str, np.ndarray] = {}
        self.unread: dict[str, list[str]] = {}
        self._unread: list[tuple[str, str]] = []

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        num_classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            name, number = sample['domain'], sample['sample_idx']
            if 'unread' in sample:
                self._unread.append((name, sample['unread']))
                continue
            if name not in (expected := self.dataset_meta['domains']):
                raise RuntimeError(f'an image of {name}; the dataset has {tuple(expected)}')
            prediction = sample['pred_sem_seg']['data'][0].cpu().numpy()
            truth = sample['gt_sem_seg']['data'][0].cpu().numpy()
            space = self.dataset_meta.get('raw', {}).get(name)
            if self.keeps_doubt:
                classes = labels.lut(space)[truth] if space else truth
                known = classes < num_classes
                doubt = sample['doubt']['data'][0].cpu().numpy()[known]
                found = histogram(doubt, prediction[known] == classes[known])
                self._doubts.setdefault(name, {})[number] = found
            if space:
                ids = len(labels.space(space).names)
                raw = raw_confusion(truth, prediction, num_classes)[:ids]
                self._raw[name] = self._raw.get(name, 0) + raw
                matrix = labels.fold(raw, space)
            else:
                matrix = confusion(truth, prediction, num_classes)
            self._seen.setdefault(name, _Rows()).add(number, sparse(matrix))
            if self.watch:
                self.watch(name, number, prediction.astype(np.uint8))
            if self.output_dir is not None:
                self._write(name, number, sample['img_path'], prediction.astype(np.uint8))

    def _write(self, name: str, number: int, photo: str, prediction: np.ndarray) -> None:
        """Write a prediction under a name that sorts as the dataset does."""
        counts = self.dataset_meta['domains']
        number += sum(counts[other] for other in takewhile(lambda other: other != name, counts))
        palette = np.array(self.dataset_meta['palette'], np.uint8)
        file = Path(str(self.output_dir), f'{number:06}_{Path(photo).stem}.png')
        disk.write_atomically(file, encode(prediction, palette))

    def evaluate(self, size: int) -> dict[str, float]:
        num_classes = len(self.dataset_meta['classes'])
        seen, self._seen, self.totals, self.images = self._seen, {}, {}, {}
        raw, self._raw, self.raw = self._raw, {}, {}
        unread = sorted(chain.from_iterable(all_gather_object(self._unread)))
        self._unread, self.unread = [], {name: [] for name, _ in unread}
        for name, text in unread:
            self.unread[name].append(text)
        self.images = {
            name: _gather(name, seen.get(name, _Rows()), count, (num_classes, num_classes))
            for name, count in self.dataset_meta['domains'].items()
            if name not in self.unread
        }
        doubts, self._doubts = self._doubts, {}
        self.reliability = {
            name: _gather_doubts(doubts.get(name, {}), len(of_domain))
            for name, of_domain in self.images.items()
            if self.keeps_doubt
        }
        for name, space in self.dataset_meta.get('raw', {}).items():
            if name in self.unread:
                continue
            none = np.zeros((len(labels.space(space).names), num_classes), np.int64)
            self.raw[name] = _over_ranks(raw.get(name, none))
        self.totals = {name: of_domain.total() for name, of_domain in self.images.items()}
        scores = scores_of(self.totals)
        mious = [of_domain.miou for of_domain in scores.values()]
        metrics = {'mIoU': 100 * float(np.mean(mious))} if mious else {}
        for name, of_domain in scores.items():
            metrics[f'{name}/mIoU'] = 100 * of_domain.miou
            metrics[f'{name}/aAcc'] = 100 * of_domain.accuracy
        return metrics

    def compute_metrics(self, results: list) -> dict:
        raise AssertionError('evaluate() does not collect results')


class _Rows:
    """Images' numbers and sparse matrices, one behind another.

    An object for each, left between the label maps that come and go, would keep their memory from
    being used again: 100 kB an image (tools/benchmark/memory.py).
    """

    def __init__(self):
        self.numbers, self.ends, self.cells = array('q'), array('q', [0]), array('I')

    def add(self, number: int, row: np.ndarray) -> None:
        self.cells.frombytes(row.tobytes())
        self.numbers.append(number)
        self.ends.append(len(self.cells))

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        cells = np.frombuffer(self.cells, np.uint32)
        for number, start, end in zip(self.numbers, self.ends, self.ends[1:], strict=False):
            yield number, cells[start:end].reshape(2, -1)


def _gather(name: str, seen: _Rows, images: int, shape: tuple[int, int]) -> Images:
    """Bring the matrices of a domain's images together from all ranks, each to its own place.

    Sums over ranks do it, of arrays in which each rank fills in what it saw.
    """
    times, sizes = np.zeros(images + 1, np.int64), np.zeros(images, np.int64)
    for number, row in seen:
        times[min(number, images)] += 1
        sizes[number % images] = row.shape[1]
    times, sizes = _over_ranks(times), _over_ranks(sizes)
    wrong = np.flatnonzero(times != [1] * images + [0])
    if len(wrong):
        raise RuntimeError(
            f'{name}: {times.sum()} images were evaluated, the dataset has {images}; number '
            f"{wrong[0]} {times[wrong[0]]} times. Use sampler=dict(type='DefaultSampler', "
            'shuffle=False, round_up=False)'
        )
    starts = np.append(0, np.cumsum(sizes))
    cells = np.zeros((2, starts[-1]), np.int64)
    for number, row in seen:
        cells[:, starts[number] : starts[number + 1]] = row
    cells, counts = _over_ranks(cells)
    return Images(shape, starts, cells.astype(np.int32), counts.astype(np.uint32))


def _gather_doubts(seen: dict[int, tuple[np.ndarray, np.ndarray]], images: int) -> Reliability:
    counts = np.zeros((images, 2, BINS), np.int64)
    sums = np.zeros((images, CALIBRATION_BINS))
    for number, found in seen.items():
        counts[number], sums[number] = found
    return Reliability(_over_ranks(counts).astype(np.uint32), _over_ranks(sums))


def _over_ranks(array: np.ndarray) -> np.ndarray:
    all_reduce(torch.from_numpy(array))
    return array
