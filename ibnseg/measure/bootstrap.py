"""What the images of a domain say of the certainty of its numbers.

The bootstrap draws the N images of a domain N times with replacement, sums the drawn images'
confusion matrices and scores the sum; all models are scored on the same draws, so that a
difference between two is free of what is hard for both (Efron and Tibshirani, An Introduction to
the Bootstrap, 1993). Of frames of drives it draws whole drives (`units`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .units import Units, images

TIMES = 2000
_CHUNK = 2**22  # numbers in one block of draws: 32 MiB


@dataclass(frozen=True)
class Interval:
    """An observed value and the limits of its 95 % interval; NaN where there is none.

    `other_sign` is the share of the draws in which the value has not the sign that was observed
    (0 counts as such): small where a difference is larger than the choice of images explains.
    `over` says what was drawn, 'images', 'drives' or 'blocks', and `units` how many.
    """

    value: float
    low: float
    high: float
    other_sign: float
    over: str = 'images'
    units: int = 0


def miou(margins: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Return the mIoU of each matrix over `classes` as a fraction, as `confusion.score` does.

    NaN where no class is in truth or prediction. `margins` (..., 3, all classes): sums of
    `Images.margins`.
    """
    right, truth, predicted = np.moveaxis(margins[..., list(classes)], -2, 0)
    with np.errstate(invalid='ignore'):
        iou = right / (truth + predicted - right)
        return np.nansum(iou, -1) / np.isfinite(iou).sum(-1)


def accuracy(margins: np.ndarray) -> np.ndarray:
    """Return the pixel accuracy of each matrix as a fraction; NaN where nothing was counted."""
    right, truth, _ = np.moveaxis(margins, -2, 0).sum(-1)
    with np.errstate(invalid='ignore'):
        return right / truth


def draws(units: int, times: int = TIMES, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield blocks of float64 (draws, units): how often a draw holds each unit."""
    stream = np.random.default_rng(seed)
    block = max(1, _CHUNK // units)
    for start in range(0, times, block):
        rows = min(block, times - start)
        drawn = stream.integers(units, size=(rows, units))
        drawn += units * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * units)
        yield counts.reshape(rows, units).astype(np.float64)


def weights(
    runs: int, mine: Mapping[Any, int], other: Mapping[Any, int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of runs in the mean over a model's seeds, or in a difference of two.

    Args:
        runs: how many there are.
        mine, other: seed -> number of the run, of the model and of the one that is subtracted.

    Returns:
        (seeds, runs), of each seed, for a difference those in common; and (runs,), of the mean.
        Without a seed in common, it is the difference of the means.
    """
    unit = np.eye(runs)
    by_seed = unit[list(mine.values())]
    mean = by_seed.mean(0)
    if other is None:
        return by_seed, mean
    common = [seed for seed in other if seed in mine]
    by_seed = unit[[mine[s] for s in common]] - unit[[other[s] for s in common]]
    return by_seed, by_seed.mean(0) if common else mean - unit[list(other.values())].mean(0)


@dataclass(frozen=True)
class Resampled:
    """The mIoU, or another measure, of R runs on the same images, as fractions.

    Args:
        observed: (R,), on all images.
        drawn: (draws, R), on each draw; NaN where a draw has no value.
        units: what was drawn.
    """

    observed: np.ndarray
    drawn: np.ndarray
    units: Units

    def interval(self, weights: np.ndarray) -> Interval:
        """Return the weighted sum of the runs' values, e.g. a mean or a difference of two means.

        Limits are percentiles of the draws, of few units further away (`Units.widening`). (BCa
        limits covered no better in trials, with a rare class and without.)
        """
        value, drawn = self.observed @ weights, self.drawn @ weights
        over = self.units.what, self.units.number
        if not np.isfinite(drawn).all():
            return Interval(float(value), *[float('nan')] * 3, *over)
        drawn = value + self.units.widening * (drawn - value)
        low, high = np.quantile(drawn, [0.025, 0.975])
        other = (drawn * np.sign(value) <= 0).mean()
        return Interval(float(value), float(low), float(high), float(other), *over)


def resample(
    margins: np.ndarray,
    classes: Sequence[int],
    times: int = TIMES,
    seed: int = 0,
    units: Units | None = None,
) -> Resampled:
    """Score R runs on the same draws of their N images.

    Args:
        margins: (R, N, 3, all classes), `Images.margins` of each run.
        classes: those that count.
        times, seed: number of the draws, and what they follow from.
        units: what is drawn; default: single images.

    Raises ValueError below two images: there is nothing to draw.
    """
    runs, number = margins.shape[:2]
    units = units or images(number)
    if number < 2:
        raise ValueError(f'{number} images; a bootstrap needs two at least')
    rows = units.sums(margins.swapaxes(0, 1).reshape(number, -1))

    def scored(sums: np.ndarray) -> np.ndarray:
        return miou(sums.reshape(-1, runs, *margins.shape[2:]), classes)

    drawn = [scored(block @ rows) for block in draws(len(rows), times, seed)]
    return Resampled(scored(rows.sum(0))[0], np.concatenate(drawn), units)
