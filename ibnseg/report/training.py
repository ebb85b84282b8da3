"""How the runs of a report were trained: only those trained alike are seeds of one row."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..measure.records import Record

_PAIRS = 'pairs of '
_WIDTH = 36  # characters of a mark; more are cut off on a terminal
_SHOWN = 6  # differences in a sentence


@dataclass(frozen=True)
class Training:
    """What a record says of a training.

    Args:
        facts: what must be equal in all runs of a row, by name.
        known: whether it says pairs and settings; records of older versions do not.
    """

    facts: Mapping[str, Any]
    known: bool

    @classmethod
    def of(cls, record: Record, origin: Mapping[str, Any]) -> 'Training':
        """Read it from a record and its `table.origin`."""
        said = record.provenance.get('training')
        said = said if isinstance(said, dict) else {}
        pairs, settings = said.get('pairs'), said.get('settings')
        known = isinstance(pairs, dict) and isinstance(settings, dict)
        facts: dict[str, Any] = {}
        done, length = origin['iteration'], origin['training_iterations']
        if origin['rule'] == 'last' and None not in (done, length) and done != length:
            facts['iteration'] = done  # on the way, so not the last of its run
        if known:
            facts |= {f'{_PAIRS}{domain}': _which(of) for domain, of in pairs.items()} | settings
        elif length is not None:
            facts['train_cfg.max_iters'] = length
        return cls(facts, known)

    @property
    def key(self) -> str:
        return json.dumps([self.known, self.facts], sort_keys=True)

    @property
    def digest(self) -> str:
        """Eight digits over all of it."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:8]

    @property
    def words(self) -> str:
        """The digest, and whether it is over a part of what decides a result only."""
        return self.digest if self.known else f'unknown {self.digest}'

    @property
    def pairs(self) -> str:
        """The pairs in words, as 'gta5:train 3 of 12,403'; '' where they are not known."""
        found = ((k.removeprefix(_PAIRS), v) for k, v in self.facts.items() if k.startswith(_PAIRS))
        return ', '.join(f'{domain} {_count(of)}' for domain, of in found)

    def say(self, name: str, short: bool = False) -> str:
        """Return a fact in words; `short`: for a mark."""
        absent = 'last' if name == 'iteration' else None if self.known else 'unknown'
        value = self.facts.get(name, absent)
        if name.startswith(_PAIRS):
            digits = value.get('digest') if isinstance(value, dict) else None
            return f'{_count(value)} pairs' if short else f'{_count(value)} ({digits!s:.8})'
        return f'{name.rpartition(".")[2]} {value!s:.16}' if short else f'{value!s:.40}'


def _which(of: Any) -> Any:
    """What says which pairs these are; not why others were left out."""
    return {k: of.get(k) for k in ('pairs', 'published', 'digest')} if isinstance(of, dict) else of


def _count(of: Any) -> str:
    """'3 of 12,403', or '3' where as many are published or that is not known."""
    of = of if isinstance(of, dict) else {}
    number, published = of.get('pairs'), of.get('published')
    if type(number) is not int:
        return 'unknown'
    whole = type(published) is not int or published == number
    return f'{number:,}' if whole else f'{number:,} of {published:,}'


def differing(trainings: Sequence[Training]) -> list[str]:
    """Return the names of the facts in which known trainings differ, and of those in which others
    do."""
    names: dict[str, None] = {}
    for known in (True, False):
        every = [one.facts for one in trainings if one.known is known]
        for name in dict.fromkeys(name for facts in every for name in facts):
            if any(facts.get(name) != every[0].get(name) for facts in every):
                names[name] = None
    return list(names)


def marks(trainings: Sequence[Training]) -> list[str]:
    """Return a few words each that tell trainings apart; '' for one alone."""
    names = differing(trainings)
    mixed = len({one.known for one in trainings}) > 1
    for number in (1, 2):
        found = [
            ', '.join(
                ['training not recorded'] * (mixed and not one.known)
                + [one.say(name, short=True) for name in names[:number] if name in one.facts]
            )
            for one in trainings
        ]
        if len(set(found)) == len(found) and max(map(len, found)) <= _WIDTH:
            return found
    return [f'training {one.digest}' for one in trainings]


def described(trainings: Sequence[Training], names: Sequence[str]) -> str:
    """Return the values of facts side by side, as 'train_cfg.max_iters: 2000 | 4000'.

    Of a list, such as a pipeline, the parts that not all have: 'custom_hooks: EMAHook() | none'.
    """
    said: dict[str, list[str]] = {}
    for name in names:
        if whole := _list_of(name, trainings):
            said[whole] = said.get(whole) or _own_parts(whole, trainings)
        else:
            said[name] = [one.say(name) for one in trainings]
    shown = [f'{name}: {" | ".join(values)}' for name, values in list(said.items())[:_SHOWN]]
    more = [f'{len(said) - _SHOWN} more'] * (len(said) > _SHOWN)
    return '; '.join(shown + more)


def _list_of(name: str, trainings: Sequence[Training]) -> str | None:
    """Return the list of parts with a type that fact `name` belongs to: 'custom_hooks'."""
    for number in re.finditer(r'\.\d+\.|$', name):
        prefix = name[: number.start()]
        if any(f'{prefix}.0.type' in one.facts for one in trainings):
            return prefix
    return None


def _own_parts(name: str, trainings: Sequence[Training]) -> list[str]:
    """Return in words what each training's list has that not all have."""
    parts = [_parts(name, one) for one in trainings]
    common = parts[0]
    for others in parts[1:]:
        common = common & others
    own = [', '.join((one - common).elements()) for one in parts]
    return [one or 'none' for one in own] if any(own) else ['in another order']


def _parts(name: str, training: Training) -> Counter[str]:
    """Return the parts of a list as 'EMAHook(momentum=0.001)'."""
    found: dict[str, dict[str, str]] = {}
    for key in training.facts:
        number, dot, argument = key.removeprefix(f'{name}.').partition('.')
        if dot and key.startswith(f'{name}.'):
            found.setdefault(number, {})[argument] = training.say(key)
    return Counter(
        f'{part.pop("type", "?")}({", ".join(f"{key}={value}" for key, value in part.items())})'
        for part in found.values()
    )
