"""How certain a difference is, in words: one verdict from both sources of chance, images and seeds.

The rule and its formula are in docs/statistics.md.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from ..measure.bootstrap import Interval
from .grid import percent
from .table import Stat

CLEAR, NOT_CLEAR, IMAGES_ONLY, UNKNOWN = 'clear', 'not clear', 'clear over images', 'unknown'
_T = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)


@dataclass(frozen=True)
class Verdict:
    """What can be said of a difference.

    Args:
        word: for a table, e.g. 'not clear'; with one seed 'clear over images, 1 seed'.
        sentence: the same with its reason, without a full stop.
        limits: the interval that it is from, in words; '' where there is none.
        low, high: 95 % over images and seeds; NaN below two seeds.
    """

    word: str
    sentence: str
    limits: str = ''
    low: float = math.nan
    high: float = math.nan

    @property
    def kind(self) -> str:
        """CLEAR, NOT_CLEAR, IMAGES_ONLY or UNKNOWN."""
        return self.word.partition(',')[0]


def t_quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t distribution.

    From a table up to 10 degrees of freedom, beyond by three terms of the series of Abramowitz and
    Stegun, 26.7.5 (error below 0.0002).
    """
    if freedom <= len(_T):
        return _T[freedom - 1]
    z = NormalDist().inv_cdf(0.975)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def judge(interval: Interval, by_seed: Stat) -> Verdict:
    """Judge a difference of two models, in percent.

    Args:
        interval: over images, of the mean over the seeds.
        by_seed: the differences of runs of one seed.
    """
    value, low, high = interval.value, interval.low, interval.high
    if not all(map(math.isfinite, (value, low, high))):
        return Verdict(UNKNOWN, 'unknown: there is no interval over images')
    if by_seed.n < 2:
        return _images_alone(value, low, high, by_seed.n)
    spread = t_quantile(by_seed.n - 1) * by_seed.std / math.sqrt(by_seed.n)
    low, high = value - math.hypot(value - low, spread), value + math.hypot(high - value, spread)
    limits = f'95 % over images and {by_seed.n} seeds: {percent(low, "+")} to {percent(high, "+")}'
    found = f'over images and {by_seed.n} seeds'
    if low > 0 or high < 0:
        return Verdict(CLEAR, f'clear {found}', limits, low, high)
    if spread >= abs(value):
        return Verdict(NOT_CLEAR, 'not clear, the seeds differ by more', limits, low, high)
    return Verdict(NOT_CLEAR, f'not clear {found}', limits, low, high)


def _images_alone(value: float, low: float, high: float, seeds: int) -> Verdict:
    word = IMAGES_ONLY if low > 0 or high < 0 else NOT_CLEAR
    limits = f'95 % over images: {percent(low, "+")} to {percent(high, "+")}'
    few = 'one seed only' if seeds else 'no seed in common'
    short = '1 seed' if seeds else 'no common seed'
    but = 'but' if word == IMAGES_ONLY else 'and'
    sentence = f'{word}, {but} {few}, so the chance of training is not known'
    return Verdict(f'{word}, {short}', sentence, limits)


def counted(verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts' words with their numbers, as 'clear (2 of 3), not clear (1 of 3)'."""
    found = Counter(one.kind for one in verdicts)
    said = ', '.join(f'{word} ({n} of {len(verdicts)})' for word, n in found.most_common())
    few = [one for one in verdicts if one.word != one.kind]
    unknown = '; with fewer than two seeds in common, the chance of training is not known'
    return said + (unknown if few else '')
