"""What a report says, in one sentence a source: the largest gain, and how certain it is."""

from collections.abc import Mapping

import numpy as np

from .certainty import Certainty
from .grid import percent
from .table import Group, Row, Table
from .verdict import UNKNOWN, Verdict, counted

_NO_IMAGES = Verdict(
    UNKNOWN,
    'how certain that is, is not known: no results of single images (*.images.npz, which ibnseg '
    'test writes) beside the records',
)
Verdicts = Mapping[tuple, Verdict]  # by source, domain, protocol, model and against


def sentences(table: Table, found: Certainty | None) -> list[tuple[str, str]]:
    """Return for each source (and protocol) the claim with its certainty, and more to know."""
    known = {
        (one.source, one.domain, one.protocol, one.model, one.against): one.verdict
        for one in (found.pairs if found else ())
    }
    return [_said(group, known) for group in table.groups]


def gains(row: Row, domains: list[str]) -> dict[str, float]:
    """Return the changes against the baseline that are of one protocol, by domain."""
    cells = {domain: row.cells[domain] for domain in domains if domain in row.cells}
    return {
        domain: cell.delta
        for domain, cell in cells.items()
        if cell.delta is not None and not cell.delta_mixed and np.isfinite(cell.delta)
    }


def leader(group: Group) -> Row | None:
    """Return the row of the largest mean gain on the targets; an honest one. None: no gains."""
    rows = [row for row in group.rows if row.honest and gains(row, targets(group))]
    most = max((len(gains(row, targets(group))) for row in rows), default=0)
    rows = [row for row in rows if len(gains(row, targets(group))) == most]
    return max(rows, key=lambda row: np.mean([*gains(row, targets(group)).values()]), default=None)


def targets(group: Group) -> list[str]:
    """Return the domains that are not the source's own; all where there are no others."""
    return [domain for domain in group.domains if domain != group.home] or group.domains


def _said(group: Group, known: Verdicts) -> tuple[str, str]:
    best = leader(group)
    if best is None:
        return _nothing_to_compare(group), ''
    found = gains(best, targets(group))
    verdicts = {
        d: known.get(
            (group.source, d, group.reference[d], best.name, best.against.name), _NO_IMAGES
        )
        for d in group.domains
    }
    who, other, more = best.name, best.against.name, []
    if len(found) == 1:
        ((domain, gain),) = found.items()
        verdict = verdicts[domain]
        claim = (
            f'On {domain}, {who} trained on {group.title} reaches '
            f'{percent(best.cells[domain].miou)} % mIoU, {_points(gain)} than {other}: '
            f'{verdict.sentence}.'
        )
        more += [f'Of the change, {verdict.limits}.'] * bool(verdict.limits)
    else:
        low, high = (percent(pick(found.values()), '+') for pick in (min, max))
        several = [verdicts[domain] for domain in found]
        unknown = all(verdict is _NO_IMAGES for verdict in several)
        claim = (
            f'{who} trained on {group.title} reaches {_points(np.mean([*found.values()]))} mIoU '
            f'than {other} on average over {len(found)} target domains ({low} to {high}): '
            f'{_NO_IMAGES.sentence if unknown else counted(several)}.'
        )
    rivals = sum(bool(gains(row, targets(group))) for row in group.rows if row.honest)
    more += [f'It is the largest gain of {rivals} models.'] * (rivals > 1)
    for domain, gain in gains(best, [group.home] if group.home else []).items():
        if domain not in found:
            word = verdicts[domain].word
            more.append(f'At home, on {domain}: {percent(gain, "+")} ({word}).')
    return claim, ' '.join(more)


def _points(gain: float) -> str:
    return f'{percent(abs(gain))} points {"less" if gain < 0 else "more"}'


def _nothing_to_compare(group: Group) -> str:
    domain = targets(group)[0]
    rows = [row for row in group.rows if domain in row.cells]
    shown = ', '.join(f'{row.name} {percent(row.cells[domain].miou)} %' for row in rows[:4])
    return (
        f'mIoU on {domain}, trained on {group.title}: {shown}. Nothing here can be compared with a '
        'baseline.'
    )
