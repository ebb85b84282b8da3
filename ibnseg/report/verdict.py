"""How certain a difference is, in words: one verdict from both sources of chance, images and seeds.

The rule and its formula are in docs/statistics.md.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..measure.bootstrap import Interval
from ..measure.units import t_quantile
from .grid import percent
from .table import Stat

CLEAR, NOT_CLEAR, IMAGES_ONLY, UNKNOWN = 'clear', 'not clear', 'clear over images', 'unknown'


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


def judge(interval: Interval, by_seed: Stat) -> Verdict:
    """Judge a difference of two models, in percent.

    Args:
        interval: over images or drives, of the mean over the seeds.
        by_seed: the differences of runs of one seed.
    """
    value, low, high = interval.value, interval.low, interval.high
    if not all(map(math.isfinite, (value, low, high))):
        return Verdict(UNKNOWN, 'unknown: there is no interval over images')
    if by_seed.n < 2:
        return _images_alone(interval, by_seed.n)
    spread = t_quantile(by_seed.n - 1) * by_seed.std / math.sqrt(by_seed.n)
    low, high = value - math.hypot(value - low, spread), value + math.hypot(high - value, spread)
    found = f'over {interval.over} and {by_seed.n} seeds'
    limits = f'95 % {found}: {percent(low, "+")} to {percent(high, "+")}'
    said = limits, low, high
    if low > 0 or high < 0:
        return Verdict(CLEAR, f'clear {found}', *said)
    if spread >= abs(value):
        return Verdict(NOT_CLEAR, 'not clear, the seeds differ by more', *said)
    return Verdict(NOT_CLEAR, f'not clear {found}', *said)


def p_value(interval: Interval, by_seed: Stat) -> float:
    """Return the share outside of the interval over both that just reaches zero, by bisection.

    So it is below 0.05 where `judge` says clear; NaN below two seeds.
    """
    if by_seed.n < 2 or not math.isfinite(interval.low):
        return math.nan
    value, error = abs(interval.value), by_seed.std / math.sqrt(by_seed.n)
    near = interval.value - interval.low if interval.value > 0 else interval.high - interval.value
    units = interval.units - 1 if interval.over != 'images' else math.inf
    usual = t_quantile(units)

    def reach(outside: float) -> float:
        level = 1 - outside / 2
        over = near * t_quantile(units, level) / usual
        return math.hypot(over, t_quantile(by_seed.n - 1, level) * error)

    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if reach(middle) < value else (middle, high)
    return high


def holm(values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number; NaN is no comparison, and stays.

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    known = sorted((i for i, p in enumerate(values) if math.isfinite(p)), key=values.__getitem__)
    out, most = [math.nan] * len(values), 0.0
    for rank, i in enumerate(known):
        most = out[i] = max(most, min(1.0, (len(known) - rank) * values[i]))
    return out


def _images_alone(interval: Interval, seeds: int) -> Verdict:
    low, high = interval.low, interval.high
    word = IMAGES_ONLY if low > 0 or high < 0 else NOT_CLEAR
    limits = f'95 % over {interval.over}: {percent(low, "+")} to {percent(high, "+")}'
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
