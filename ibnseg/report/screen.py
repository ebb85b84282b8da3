"""A table for the terminal. Only `rich.text.Text` is printed: markup in a name stays text."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table as Grid
from rich.text import Text

from ..text import clean
from .maps import Relabelled, by_map
from .table import Cell, Group, Table
from .words import NOTHING, difference, percent

_DOMAIN = 40  # characters; 'foggy_cityscapes:train/0.005' differs from its neighbours in the last


def terminal(table: Table) -> '_Screen':
    """Return a rich renderable. Domains that do not fit side by side follow below."""
    return _Screen(table)


class _Screen:
    def __init__(self, table: Table):
        self.table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for group in self.table.groups:
            title = f'Trained on {clean(group.source, 80)} · mIoU in %'
            if any(cell.delta is not None for row in group.rows for cell in row.cells.values()):
                title += f', change against {clean(self.table.baseline, 30)}'
            yield Text(title, style='bold')
            yield from _fitting(group, console, options)
            for domain, rows in by_map(group):
                yield Text(f'{clean(domain, _DOMAIN)} by another label map', style='bold')
                yield _other_map(domain, rows)
        for line in dict.fromkeys((*self._protocols(), *self._other_protocols())):
            yield Text(line, style='dim')
        for note in self.table.notes:
            yield Text(clean(note))

    def _protocols(self) -> Iterator[str]:
        for domain, protocols in self.table.protocols.items():
            for digest, content in protocols.items():
                yield self._protocol(domain, digest, content)

    def _other_protocols(self) -> Iterator[str]:
        for group in self.table.groups:
            for _, (one, *_) in by_map(group):
                other = one.other
                yield self._protocol(other.domain, other.protocol_hash, other.protocol)

    def _protocol(self, domain: str, digest: str, content: Mapping[str, Any]) -> str:
        ids = content.get('classes', ())
        name, images = (clean(str(content.get(key)), 40) for key in ('name', 'images'))
        return (
            f'{clean(domain, _DOMAIN)}: protocol {name} {clean(digest, 12)}, {images} images, '
            f'{len(ids)} of {len(self.table.classes)} classes'
        )


def _other_map(domain: str, rows: list[Relabelled]) -> Grid:
    grid = _empty()
    other = rows[0].other
    for header in (domain, other.domain, 'Δ', 'classes'):
        grid.add_column(Text(clean(header, _DOMAIN)), justify='right', no_wrap=True)
    for one in rows:
        values = (percent(one.before), percent(one.after), percent(one.change, sign='+'))
        grid.add_row(
            Text(clean(one.row.model, 24) + clean(one.row.mark, 24)),
            *map(Text, (*values, f'{one.counted[0]}, {one.counted[1]}')),
        )
    return grid


def _empty() -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    grid.add_column('model', overflow='fold')
    return grid


def _fitting(group: Group, console: Console, options: ConsoleOptions) -> Iterator[Grid]:
    """Yield grids of as many domains each as the width allows."""
    unlimited = options.update(max_width=10_000)

    def fits(domains: list[str]) -> bool:
        needed = Measurement.get(console, unlimited, _grid(group, domains)).maximum
        return needed <= options.max_width

    left = group.domains
    while left:
        size = len(left)
        while size > 1 and not fits(left[:size]):
            size -= 1
        yield _grid(group, left[:size])
        left = left[size:]


def _grid(group: Group, domains: list[str]) -> Grid:
    grid = _empty()
    lines = [[Text(clean(row.model, 24) + clean(row.mark, 24))] for row in group.rows]
    for line, row in zip(lines, group.rows, strict=True):
        if len(row.runs) > 1:
            line[0].append(f' n={len(row.runs)}', style='dim')
    for domain in domains:
        cells = [row.cells.get(domain) for row in group.rows]
        for header, values in _columns(
            cells, clean(domain, _DOMAIN), group.home not in (None, domain)
        ):
            grid.add_column(Text(header), justify='right', no_wrap=True)
            for line, value in zip(lines, values, strict=True):
                line.append(value)
    for line in lines:
        grid.add_row(*line)
    return grid


def _columns(cells: list[Cell | None], header: str, away: bool) -> Iterator[tuple[str, list[Text]]]:
    """Yield (header, values) of a domain: mIoU, the change if any has one, the gap if `away`."""
    yield (
        header,
        [
            Text(percent(c.miou, c.mixed, ''), 'bold' if c.best else '') if c else Text(NOTHING)
            for c in cells
        ],
    )
    if any(c and c.delta is not None for c in cells):
        yield 'Δ', [Text(difference(c.delta, c.delta_mixed) if c else '') for c in cells]
    if away:
        yield (
            'gap',
            [Text(percent(c.gap, c.gap_mixed, '', '+') if c else NOTHING, 'dim') for c in cells],
        )
