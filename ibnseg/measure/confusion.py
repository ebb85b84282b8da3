"""Confusion matrices of label maps, and the scores read from them. numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def confusion(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Count pixels by (true class, predicted class).

    Args:
        truth: 0..255, any shape; values from `num_classes` on (255) are ignored.
        prediction: integers below `num_classes`, at most 256, of the same shape.

    Returns:
        int64 (num_classes, num_classes), rows are the ground truth.

    Raises:
        ValueError: shapes differ, or a value is out of range.
    """
    return raw_confusion(truth, prediction, num_classes)[:num_classes]


def raw_confusion(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Count pixels by (value of the ground truth, predicted class): int64 (256, num_classes).

    Of labels in a dataset's own ids, so that every label map's matrix follows (`labels.fold`).
    Raises as `confusion`.
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
    pairs = truth.ravel().astype(np.int64) * num_classes + prediction.ravel()
    return np.bincount(pairs, minlength=256 * num_classes).reshape(256, num_classes)


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
