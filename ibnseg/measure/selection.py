"""Which checkpoint of a run is reported: the rules, by name.

DomainBed's lesson (Gulrajani and Lopez-Paz, 2021): a number without its selection rule says
little. A rule's name stands in every checkpoint, record and table.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .. import domains
from ..text import meant


@dataclass(frozen=True)
class Rule:
    """One way to choose.

    Args:
        name: what checkpoints, records and tables say.
        files: patterns of the checkpoints to choose from; the newest of the first pattern that
            has any is the choice.
        oracle: labels of a target domain chose, so that the number is an upper bound.
    """

    name: str
    files: tuple[str, ...]
    oracle: bool = False


_BEST_ELSE_LAST = ('best_iter_*.pth', 'iter_*.pth')

#: What a person types -> the rule.
RULES = {
    'last': Rule('last', ('iter_*.pth',)),
    'source': Rule('source validation', _BEST_ELSE_LAST),
    'oracle': Rule('target oracle', _BEST_ELSE_LAST, oracle=True),
}


def find(option: str) -> Rule:
    """Return the rule that a person names. Raises ValueError for an unknown one."""
    if option not in RULES:
        near = meant(option, RULES)
        raise ValueError(f'unknown selection rule {option!r}; choose from {tuple(RULES)}{near}')
    return RULES[option]


def implied(source: str | Sequence[str], validated: Sequence[str]) -> Rule:
    """Return the rule that selecting on the domains `validated` amounts to: source or oracle."""
    return RULES['source' if all(_of_source(source, name) for name in validated) else 'oracle']


def validation(
    rule: Rule, source: str | Sequence[str], validated: Sequence[str], measured: Sequence[str]
) -> list[str]:
    """Return the domains to validate on during training.

    Args:
        source: the domain (or domains) trained on.
        validated: the domains that the config validates on.
        measured: the domains that will be measured at the end; an oracle selects on those of
            them that are not of a source's dataset.

    Raises ValueError where `rule` is source validation and `validated` holds a target, or it is
    the oracle and there is no target.
    """
    targets = [domain for domain in measured if not _of_source(source, domain)]
    foreign = [domain for domain in validated if not _of_source(source, domain)]
    if rule.oracle and not targets:
        raise ValueError(
            f"selection by 'oracle': {list(measured)} holds no target of source {source!r}; name "
            'one in test_dataloader.dataset.domains'
        )
    if rule is RULES['source'] and foreign:
        raise ValueError(
            f"selection by 'source': val_dataloader holds {foreign[0]!r}, which is not of source "
            f"{source!r}; validate on the source's own split, or say 'oracle'"
        )
    return targets if rule.oracle else list(validated)


def _of_source(source: str | Sequence[str], domain: str) -> bool:
    return domains.parse(domain)[0].name in {row.name for row in domains.trained_on(source)}
