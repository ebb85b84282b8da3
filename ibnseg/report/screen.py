"""Sections on a terminal, by rich. It gets `Text` alone, so that markup in a name stays text."""

import textwrap
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ..text import clean
from .grid import Grid, Marked, Section


class Screen:
    """A rich renderable. What does not fit side by side follows below."""

    def __init__(self, sections: Iterable[Section]):
        self.sections = list(sections)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = options.update(max_width=10_000)

        def fits(grid: Grid) -> bool:
            return Measurement.get(console, unlimited, _table(grid)).maximum <= options.max_width

        for number, section in enumerate(self.sections):
            if section.title:
                yield Text('\n' * bool(number) + clean(section.title, 200), 'bold')
            if section.grid:
                for part, grid in enumerate(_parts(section.grid, fits)):
                    yield from [Text()] if part else ()
                    yield _table(grid)
            yield from (Text(clean(item)) for item in section.items)


def _parts(grid: Grid, fits: Callable[[Grid], bool]) -> Iterator[Grid]:
    """Yield grids of as many whole groups of columns as fit each."""
    repeated = range(grid.breaks[0] if grid.breaks else 0)
    part: list[int] = []
    for start, end in pairwise([len(repeated), *grid.breaks[1:], len(grid.header)]):
        group = range(start, end)
        if part and not fits(grid.columns([*repeated, *part, *group])):
            yield grid.columns([*repeated, *part])
            part = []
        part += group
    yield grid.columns([*repeated, *part])


def _table(grid: Grid) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    rows = [[_text(cell, grid.cut) for cell in row] for row in grid.rows]
    for i, cell in enumerate(grid.header):
        # A header is broken at its spaces, so that it does not make its column wide.
        width = max([6, *(len(row[i]) for row in rows)])
        name = _text(cell, 40)
        name.plain = textwrap.fill(
            name.plain, width, break_long_words=False, break_on_hyphens=False
        )
        number = i >= grid.left
        justify = 'right' if number else 'left'
        table.add_column(name, justify=justify, no_wrap=number, overflow='fold')
    for row in rows:
        table.add_row(*row)
    return table


def _text(cell: Marked | str, cut: int) -> Text:
    cell = Marked.of(cell)
    return Text(clean(cell.text, cut) + clean(cell.mark, cut), 'bold' if cell.best else '')
