"""What a network is trained on: one domain, or several and how they are mixed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from .table import Domain, parse, task

Mixing = str | Sequence[float]
_SUBSET = 0x5EED  # a stream apart from those of the samplers
_MIXINGS = ('proportional', 'equal')
#: Between what a network was trained on first and what it was fine-tuned on.
THEN = ' -> '


@dataclass(frozen=True)
class Source:
    """One or several domains to train on.

    As text: `gta5:train`, `gta5:train-12388+synthia:train`, `... (equal)`, `... (3:1)`. Make it by
    `Source.of`, which checks.

    Args:
        domains: 'name:split' each.
        mixing: how often each is drawn from: 'proportional' to its number of images, 'equal', or
            one weight a domain.
    """

    domains: tuple[str, ...]
    mixing: str | tuple[float, ...] = 'proportional'

    @classmethod
    def of(cls, source: str | Sequence[str], mixing: Mixing | None = None) -> 'Source':
        """Read a source from a config's words, or from the text of another.

        Raises DataError: an unknown domain or split, one named twice, or a mixing that is not one.
        """
        if isinstance(source, str):
            text, _, stated = source.partition(' (')
            # A plus may also join the drives of a split: `camvid:0006R0+0016E5+gta5:train`.
            source = re.split(r'\+(?=[\w-]+:)', text)
            stated = stated.rstrip(')')
            if stated:
                mixing = stated if stated in _MIXINGS else stated.split(':')
        names = [f'{row.name}:{split}' for row, split in map(parse, source)]
        if len(set(names)) < len(names) or not names:
            raise DataError(f'source {list(source)}: name one or several domains, each once')
        task(names)  # refuses those of other classes
        return cls(tuple(names), _checked(mixing, names))

    def __str__(self) -> str:
        text = '+'.join(self.domains)
        if self.mixing == 'proportional' or len(self.domains) == 1:
            return text
        stated = self.mixing
        if not isinstance(stated, str):
            stated = ':'.join(f'{weight:g}' for weight in stated)
        return f'{text} ({stated})'

    def shares(self, sizes: Sequence[int]) -> tuple[float, ...]:
        """Return which part of the draws comes from each domain, given their numbers of images."""
        weights = dict(proportional=sizes, equal=[1] * len(sizes)).get(self.mixing, self.mixing)
        return tuple(weight / sum(weights) for weight in weights)


def _checked(mixing: Mixing | None, names: Sequence[str]) -> str | tuple[float, ...]:
    if mixing is None or mixing in _MIXINGS:
        return mixing or 'proportional'
    try:
        weights = tuple(float(weight) for weight in mixing)
    except ValueError:
        weights = ()
    if len(weights) != len(names) or not all(np.isfinite(w) and w > 0 for w in weights):
        raise DataError(
            f'mixing is {mixing!r} for {len(names)} domain(s) {list(names)}; expected '
            "'proportional', 'equal' or one weight above 0 a domain"
        )
    return weights


def trained_on(source: str | Sequence[str]) -> tuple[Domain, ...]:
    """Return the rows of all domains whose labels a network has seen, fine-tuning included.

    Args:
        source: of a config or record, e.g. 'gta5:train -> cityscapes:train 10 %'; of 'unknown', as
            records of networks from elsewhere say, none.
    """
    if source == 'unknown':
        return ()
    stages = map(whole, source.split(THEN)) if isinstance(source, str) else [source]
    return tuple(parse(name)[0] for stage in stages for name in Source.of(stage).domains)


def part(source: str, fraction: float, seed: int) -> str:
    """Return the text of a `subset` of a source: 'gta5:train 25 %', '... (subset 3)'."""
    return f'{source} {100 * fraction:g} %' + (f' (subset {seed})' if seed else '')


def whole(source: str) -> str:
    """Return the text of a source without what `part` adds."""
    return re.sub(r' [\d.e-]+ %( \(subset \d+\))?$', '', source)


def subset(size: int, fraction: float, seed: int) -> np.ndarray:
    """Return the indices, ascending, of a random `fraction` of `size` samples, one at least.

    Of one seed they are nested: those of 10 % are among those of 20 %.

    Raises DataError for a fraction that is not above 0 and at most 1.
    """
    if not 0 < fraction <= 1:
        raise DataError(f'fraction is {fraction}; expected above 0, at most 1')
    order = np.random.default_rng((_SUBSET, seed)).permutation(size)
    return np.sort(order[: max(round(fraction * size), 1)])
