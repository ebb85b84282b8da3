"""Which photos of a domain are shown: chosen by rule from the images' mIoU, never by hand."""

from collections.abc import Sequence

import numpy as np

from ..report.certainty import Photos

MEDIAN_GAIN = 'median gain'


def baseline_of(models: Sequence[str], wanted: str) -> int | None:
    """Return the number of the baseline's row among the rows; None without it or a rival."""
    found = [i for i, name in enumerate(models) if name == wanted or name.startswith(f'{wanted} (')]
    return found[0] if found and len(models) > 1 else None


def gains(photos: Photos, baseline: int) -> np.ndarray:
    """Return each photo's gain: mIoU of the other models, their mean, minus the baseline's."""
    miou = np.array([values for _, values, _ in photos.images])
    return np.delete(miou, baseline, axis=1).mean(1) - miou[:, baseline]


def choose(photos: Photos, baseline: int | None, each: int = 2) -> dict[int, list[str]]:
    """Return the numbers of the photos to show -> why, most telling first.

    By the mean mIoU of all models: the worst, the median, the best. With a baseline, by the gain:
    the most improved, that of median gain, the most worsened. `each` of the extremes, and one
    of each median. What has no mIoU is left out. Of equal photos it is the first in the order of
    `photos`, so that the choice follows from the records alone.
    """
    miou = np.array([values.mean() for _, values, _ in photos.images])
    rules = _ranked(miou, ('worst', 'median', 'best'), each)
    if baseline is not None:
        gain = gains(photos, baseline)
        names = 'most worsened', MEDIAN_GAIN, 'most improved'
        rules = [*_ranked(gain, names, each, signed=True), *rules]
    chosen: dict[int, list[str]] = {}
    for why, number in rules:
        chosen.setdefault(number, []).append(why)
    return chosen


def _ranked(
    values: np.ndarray, names: tuple[str, str, str], each: int, signed: bool = False
) -> list[tuple[str, int]]:
    """Return (why, number): lowest, median and highest; `signed`: lowest below 0, highest above."""
    order = [i for i in np.argsort(values, kind='stable').tolist() if np.isfinite(values[i])]
    if not order:
        return []
    low, middle, high = names
    lowest = [i for i in order[:each] if not signed or values[i] < 0]
    highest = [i for i in order[::-1][:each] if not signed or values[i] > 0]
    found = [(high, i) for i in highest], [(middle, order[(len(order) - 1) // 2])]
    return [*found[0], *found[1], *((low, i) for i in lowest)]
