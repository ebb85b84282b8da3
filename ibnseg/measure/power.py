"""What k runs say of the difference of two models, and how many runs would.

Student's t test over the runs, and its power from the noncentral t distribution (Cohen, Statistical
Power Analysis for the Behavioral Sciences, 1988): paired where both models have runs of the same
seeds, else of two samples with one variance. Two-sided; runs count as normal and independent.
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np

ALPHA, POWER = 0.05, 0.8
MOST = 10_000  # runs; more are not counted


@dataclass(frozen=True)
class Difference:
    """The mean of one model minus that of another.

    Args:
        mean: of the differences.
        spread: standard deviation (n - 1): paired of the differences, else of the runs of a model,
            pooled over both.
        runs: of either model; the same number twice where paired.
    """

    mean: float
    spread: float
    runs: tuple[int, int]
    paired: bool

    @classmethod
    def of_runs(
        cls, mine: Mapping[Hashable, float], other: Mapping[Hashable, float]
    ) -> 'Difference | None':
        """Compare runs by seed. None below two runs a side: then nothing says how runs differ."""
        common = [seed for seed in mine if seed in other]
        if len(common) > 1:
            pairs = np.array([mine[seed] - other[seed] for seed in common])
            return cls(float(pairs.mean()), float(pairs.std(ddof=1)), (len(common),) * 2, True)
        if min(len(mine), len(other)) < 2:
            return None
        sides = [np.array([*side.values()]) for side in (mine, other)]
        facts = [(side.mean(), side.std(ddof=1), len(side)) for side in sides]
        return cls.of_summaries(*facts)

    @classmethod
    def of_summaries(
        cls, mine: tuple[float, float, int], other: tuple[float, float, int]
    ) -> 'Difference':
        """Compare (mean, standard deviation, runs) of two models, two runs each at least."""
        (m, s, k), (n, t, j) = mine, other
        pooled = math.sqrt(((k - 1) * s**2 + (j - 1) * t**2) / (k + j - 2))
        return cls(float(m - n), pooled, (k, j), False)

    @property
    def p(self) -> float:
        """Return how often chance alone gives as large a difference, two-sided."""
        from scipy import stats

        k, j = self.runs
        error = self.spread * math.sqrt(1 / k if self.paired else 1 / k + 1 / j)
        if error == 0:
            return float(self.mean == 0)
        freedom = k - 1 if self.paired else k + j - 2
        return float(2 * stats.t.sf(abs(self.mean) / error, freedom))

    @property
    def clear(self) -> bool:
        return self.p < ALPHA

    @property
    def needed(self) -> int | None:
        """Return how many runs a side would show a true difference of this size; see `needed`."""
        return needed(abs(self.mean) / self.spread, self.paired) if self.spread else None


def power(effect: float, runs: int, paired: bool, alpha: float = ALPHA) -> float:
    """Return the probability that `runs` runs a side show a difference.

    Args:
        effect: true difference over the standard deviation that `Difference.spread` estimates.
    """
    from scipy import stats

    freedom = runs - 1 if paired else 2 * runs - 2
    centre = effect * math.sqrt(runs if paired else runs / 2)
    limit = stats.t.ppf(1 - alpha / 2, freedom)
    beyond = stats.nct.sf(limit, freedom, centre) + stats.nct.cdf(-limit, freedom, centre)
    # Where the distribution lies too far out for scipy it is not a number: then all is beyond.
    return float(np.clip(beyond, 0, 1)) if math.isfinite(beyond) else 1.0


def needed(effect: float, paired: bool, wanted: float = POWER, alpha: float = ALPHA) -> int | None:
    """Return the fewest runs a side whose `power` is `wanted`; None above `MOST`."""
    low, high = 2, MOST
    if effect <= 0 or power(effect, high, paired, alpha) < wanted:
        return None
    while low < high:
        middle = (low + high) // 2
        enough = power(effect, middle, paired, alpha) >= wanted
        low, high = (low, middle) if enough else (middle + 1, high)
    return low


def images_needed(value: float, low: float, high: float, images: int) -> int | None:
    """Return about how many images would show a true difference of this size with 80 % power.

    Args:
        value, low, high: the observed difference and the limits of its 95 % interval over `images`
            images, whose width shrinks by the root of their number.
    """
    if value == 0:
        return None
    error = (high - low) / (2 * 1.959964)
    return math.ceil(images * ((1.959964 + 0.841621) * error / value) ** 2)
