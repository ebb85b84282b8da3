"""One evaluation over any number of domains: a confusion matrix each, constant in memory.

`CrossDomainIoU` is the evaluator of validation, of testing and of anyone's own MMSeg config.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS

from . import domains, labels

_EXACT = 2**24  # pixels: OpenCV gives its counts as float32


def confusion(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Count pixels by (true class, predicted class).

    Args:
        truth: 0..255, any shape; values from `num_classes` on (255) are ignored.
        prediction: integers below `num_classes`, at most 256, of the same shape.

    Returns:
        int64 (num_classes, num_classes), rows are the truth.

    Raises:
        ValueError: shapes differ, or a value is out of range.
    """
    if truth.shape != prediction.shape:
        raise ValueError(
            f'prediction is {prediction.shape}, truth is {truth.shape}; expected equal shapes'
        )
    for name, values, limit in (('truth', truth, 256), ('prediction', prediction, num_classes)):
        if values.size and not 0 <= values.min() <= values.max() < limit:
            raise ValueError(
                f'{name} holds values from {values.min()} to {values.max()}; expected 0 to '
                f'{limit - 1}'
            )
    counts = np.zeros((256, num_classes), np.int64)
    pair = [np.ascontiguousarray(values, np.uint8).ravel() for values in (truth, prediction)]
    for start in range(0, truth.size, _EXACT):
        part = [values[start : start + _EXACT].reshape(1, -1) for values in pair]
        ranges = [0, 256, 0, num_classes]
        counts += cv2.calcHist(part, [0, 1], None, [256, num_classes], ranges).astype(np.int64)
    return counts[:num_classes]


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says of a set of classes, as fractions.

    `iou` has one value a class of the set, NaN where a class is in neither truth nor prediction;
    `miou` is the mean of the others, `counted` of them. This is the rule of MMSeg's IoUMetric and
    of the Cityscapes benchmark. Pixels whose truth is ignored count nowhere.
    """

    classes: tuple[int, ...]
    iou: np.ndarray
    accuracy: float

    @property
    def counted(self) -> int:
        return int(np.isfinite(self.iou).sum())

    @property
    def miou(self) -> float:
        return float(np.nanmean(self.iou)) if self.counted else float('nan')


def score(matrix: np.ndarray, classes: Sequence[int] | None = None) -> Scores:
    """Read scores from a confusion matrix (rows truth), over `classes` or all of them."""
    classes = tuple(range(len(matrix)) if classes is None else classes)
    right = np.diag(matrix).astype(np.float64)
    union = matrix.sum(0) + matrix.sum(1) - right
    with np.errstate(invalid='ignore', divide='ignore'):
        iou = (right / union)[list(classes)]
        accuracy = float(right.sum() / matrix.sum())
    return Scores(classes, iou, accuracy)


def scores_of(matrices: dict[str, np.ndarray]) -> dict[str, Scores]:
    """Score each domain ('name:split') over the classes that its label space can name."""
    return {
        name: score(matrix, labels.class_ids(domains.parse(name)[0].space))
        for name, matrix in matrices.items()
    }


@METRICS.register_module()
class CrossDomainIoU(BaseMetric):
    """mIoU and pixel accuracy of each domain, from streaming confusion matrices.

    The loader's dataset is a `CrossDomainDataset`; each sample says its domain. `evaluate` gives
    `<domain>/mIoU` and `<domain>/aAcc` in percent, `mIoU` as their mean, and leaves the matrices,
    summed over ranks, in `totals`.

    Raises:
        RuntimeError: an image of another domain; or the ranks together saw more or fewer images
            than the data set has (a sampler that pads or drops).
    """

    def __init__(self, collect_device: str = 'cpu', prefix: str | None = None):
        super().__init__(collect_device, prefix)
        self.totals: dict[str, np.ndarray] = {}
        self._matrices: dict[str, np.ndarray] = {}
        self._images: dict[str, int] = {}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        num_classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            name = sample['domain']
            if name not in self.dataset_meta['domains']:
                expected = tuple(self.dataset_meta['domains'])
                raise RuntimeError(f'an image of {name}; the data set has {expected}')
            matrix = confusion(
                sample['gt_sem_seg']['data'][0].cpu().numpy(),
                sample['pred_sem_seg']['data'][0].cpu().numpy(),
                num_classes,
            )
            self._matrices[name] = self._matrices.get(name, 0) + matrix
            self._images[name] = self._images.get(name, 0) + 1

    def evaluate(self, size: int) -> dict[str, float]:
        num_classes = len(self.dataset_meta['classes'])
        expected = self.dataset_meta['domains']
        empty = np.zeros((num_classes, num_classes), np.int64)
        matrices, seen_here = self._matrices, self._images
        self._matrices, self._images, self.totals = {}, {}, {}
        totals = {}
        for name, images in expected.items():
            row = np.append(matrices.get(name, empty).ravel(), seen_here.get(name, 0))
            total = torch.from_numpy(row)
            all_reduce(total)
            *counts, seen = total.tolist()
            if seen != images:
                raise RuntimeError(
                    f'{name}: {seen} images were evaluated, the data set has {images}. Use '
                    "sampler=dict(type='DefaultSampler', shuffle=False, round_up=False)"
                )
            totals[name] = np.array(counts, np.int64).reshape(num_classes, num_classes)
        self.totals = totals
        scores = scores_of(totals)
        metrics = {'mIoU': 100 * float(np.mean([s.miou for s in scores.values()]))}
        for name, of_domain in scores.items():
            metrics[f'{name}/mIoU'] = 100 * of_domain.miou
            metrics[f'{name}/aAcc'] = 100 * of_domain.accuracy
        return metrics

    def compute_metrics(self, results: list) -> dict:
        raise AssertionError('evaluate() does not collect results')
