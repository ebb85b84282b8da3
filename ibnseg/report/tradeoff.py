"""The gain on each target against the change at home, as a figure."""

from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from .. import disk
from ..analysis.plots import COLOURS, MARKERS, plain
from .certainty import Certainty, Estimate
from .table import Group, Table

_ROWS = 22  # of a column of the legend


def write(table: Table, found: Certainty | None, path: Path) -> None:
    """Draw a panel for each target: a point a model, bars as far as its verdicts look.

    Bars are 95 % over images (or drives) and seeds; with one seed over images alone, and thin.
    Models against which the others are compared stand at (0, 0).

    Raises ValueError where no model can be compared at home and away.
    """
    from matplotlib.figure import Figure

    known = {
        (one.source, one.domain, one.protocol, one.model, one.against): one
        for one in (found.pairs if found else ())
    }
    panels = [
        (group, domain, points)
        for group in table.groups
        if group.home
        for domain in group.domains
        if domain != group.home and (points := _points(group, domain))
    ]
    if not panels:
        raise ValueError(
            'no figure: no model has a change at home and away; expected a baseline and other '
            "models, measured on the source's own domain and on another"
        )
    most = max(len(points) for *_, points in panels)
    columns = -(-most // _ROWS)
    figure = Figure((5.6 + 1.8 * columns, 4.6 * len(panels)), layout='constrained', dpi=110)
    for axes, (group, domain, points) in zip(
        figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True
    ):
        shared = _shared([name for row, *_ in points for name in (row.name, row.against.name)])
        alpha = 0.7 if len(points) <= len(COLOURS) else 0.3
        axes.axhline(0, color='0.6', lw=0.8)
        axes.axvline(0, color='0.6', lw=0.8)
        for i, (row, x, y) in enumerate(points):
            colour = COLOURS[i % len(COLOURS)]
            marker = MARKERS[i // len(COLOURS) % len(MARKERS)]
            axes.plot(
                x, y, marker, color=colour, ms=7, label=plain(row.name[len(shared) :]), zorder=3
            )
            for one, (value, other), flat in (
                (group.home, (x, y), True), (domain, (y, x), False),
            ):  # fmt: skip
                key = (group.source, one, group.reference[one], row.name, row.against.name)
                _bar(axes, known.get(key), value, other, flat, dict(color=colour, alpha=alpha))
        axes.set_xlabel(f'change at home, on {plain(group.home)} (points of mIoU)')
        axes.set_ylabel(f'change on {plain(domain)}')
        axes.set_title(_title(group, points, shared), fontsize=10)
        axes.spines[['top', 'right']].set_visible(False)
        axes.legend(
            frameon=False, fontsize=8, loc='upper left', bbox_to_anchor=(1, 1), ncols=columns
        )
    disk.write_by(path, lambda file: figure.savefig(file, format='png'))


def _points(group: Group, domain: str) -> list[tuple]:
    """Return (row, change at home, change on the domain) of rows that have both."""
    out = []
    for row in group.rows:
        cells = [row.cells.get(one) for one in (group.home, domain)]
        changes = [cell.delta for cell in cells if cell and not cell.delta_mixed]
        changes = [one for one in changes if one is not None and np.isfinite(one)]
        if len(changes) == 2 and not row.oracle and domain not in row.saw:
            out.append((row, *changes))
    return out


def _bar(
    axes, one: Estimate | None, value: float, other: float, flat: bool, style: Mapping[str, Any]
) -> None:
    if one is None or not np.isfinite(one.interval.low):
        return
    both = np.isfinite(one.verdict.low)
    source = one.verdict if both else one.interval
    ends, fixed = (source.low, source.high), (other, other)
    axes.plot(*(ends, fixed) if flat else (fixed, ends), lw=1.2 if both else 0.5, **style)


def _shared(names: list[str]) -> str:
    """Return what all begin with, up to a hyphen: the config, where models are its methods."""
    parts = zip(*(name.split('-')[:-1] for name in names), strict=False)
    return ''.join(f'{one[0]}-' for one in takewhile(lambda one: len({*one}) == 1, parts))


def _title(group: Group, points: list[tuple], shared: str) -> str:
    against = ' or '.join(
        dict.fromkeys(plain(row.against.name[len(shared) :]) for row, *_ in points)
    )
    config = f'{plain(shared[:-1])}, trained' if shared else 'Trained'
    return f'{config} on {plain(group.title)}, against {against}'
