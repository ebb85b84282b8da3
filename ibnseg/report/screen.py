"""A table for the terminal. Only `rich.text.Text` is printed: markup in a name stays text."""

from collections.abc import Iterator

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table as Grid
from rich.text import Text

from . import words
from .table import Group, Table
from .words import clean, difference, percent


def terminal(table: Table) -> '_Screen':
    """Return a rich renderable. Domains that do not fit side by side follow below."""
    return _Screen(table)


class _Screen:
    def __init__(self, table: Table):
        self.table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for group in self.table.groups:
            title = f'Trained on {clean(group.source, 40)} · mIoU in %'
            if any(cell.delta is not None for row in group.rows for cell in row.cells.values()):
                title += f', change against {clean(self.table.baseline, 30)}'
            yield Text(title, style='bold')
            for grid in _fitting(group, console, options):
                yield grid
        for line in self._protocols():
            yield Text(line, style='dim')
        for note in self.table.notes:
            yield Text(clean(note))

    def _protocols(self) -> Iterator[str]:
        for domain, protocols in self.table.protocols.items():
            for digest, content in protocols.items():
                ids = content.get('classes', ())
                yield (
                    f'{clean(domain, 30)}: protocol {clean(str(content.get("name")), 20)} '
                    f'{clean(digest, 12)}, {content.get("images")!s:.12} images, '
                    f'{len(ids)} of {len(self.table.classes)} classes'
                )


def _fitting(group: Group, console: Console, options: ConsoleOptions) -> Iterator[Grid]:
    """Yield grids of as many domains each as the width allows."""
    left = group.domains
    while left:
        size = len(left)
        while (
            size > 1
            and (
                Measurement.get(
                    console, options.update(max_width=10_000), _grid(group, left[:size])
                )
            ).maximum
            > options.max_width
        ):
            size -= 1
        yield _grid(group, left[:size])
        left = left[size:]


def _grid(group: Group, domains: list[str]) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    grid.add_column('model', overflow='fold')
    lines = [[Text(clean(row.label, 30))] for row in group.rows]
    for line, row in zip(lines, group.rows, strict=True):
        if len(row.runs) > 1:
            line[0].append(f' n={len(row.runs)}', style='dim')
    for domain in domains:
        cells = [row.cells.get(domain) for row in group.rows]
        columns = [
            (
                Text(clean(domain, 24)),
                [
                    Text(
                        percent(c and c.miou, bool(c and c.mixed), ''),
                        'bold' if c and c.best else '',
                    )
                    for c in cells
                ],
            )
        ]
        if any(cell and cell.delta is not None for cell in cells):
            columns += [
                (
                    Text('Δ'),
                    [Text(difference(c and c.delta, bool(c and c.delta_mixed))) for c in cells],
                )
            ]
        if domain != group.home and group.home:
            columns += [
                (
                    Text('gap'),
                    [
                        Text(percent(c and c.gap, bool(c and c.gap_mixed), '', '+'), 'dim')
                        for c in cells
                    ],
                )
            ]
        for header, values in columns:
            grid.add_column(header, justify='right', no_wrap=True)
            for line, value in zip(lines, values, strict=True):
                line.append(value)
    for line in lines:
        grid.add_row(*line)
    return grid
