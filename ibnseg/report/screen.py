"""Sections on a terminal, by rich. It gets `Text` alone, so that markup in a name stays text."""

import textwrap
from collections.abc import Callable, Iterable, Iterator

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
                yield from [Text()] if number else ()
                yield Text(clean(section.title, 200), 'bold')
            if section.grid:
                for part, grid in enumerate(_parts(section.grid, fits)):
                    yield from [Text()] if part else ()
                    yield _table(grid)
            yield from (Text(clean(item)) for item in section.items)


def _parts(grid: Grid, fits: Callable[[Grid], bool]) -> Iterator[Grid]:
    """Yield grids of as many whole groups of columns as fit each."""
    if not grid.breaks:
        yield grid
    bounds = [*grid.breaks, len(grid.header)]
    while grid.breaks and len(bounds) > 1:
        for number in range(len(bounds) - 1, 0, -1):
            part = grid.columns([*range(grid.breaks[0]), *range(bounds[0], bounds[number])])
            if number == 1 or fits(part):
                break
        yield part
        bounds = bounds[number:]


def _table(grid: Grid) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    header = [_text(cell, 40) for cell in grid.header]
    rows = [[_text(cell, grid.cut) for cell in row] for row in grid.rows]
    for i, name in enumerate(header):
        # A header is broken at its spaces, so that it does not make its column wide.
        width = max([6, *(len(row[i]) for row in rows)])
        name.plain = textwrap.fill(
            name.plain, width, break_long_words=False, break_on_hyphens=False
        )
        numbers = i >= grid.left
        table.add_column(
            name, justify='right' if numbers else 'left', no_wrap=numbers, overflow='fold'
        )
    for row in rows:
        table.add_row(*row)
    return table


def _text(cell: Marked | str, cut: int) -> Text:
    cell = Marked.of(cell)
    return Text(clean(cell.text, cut) + clean(cell.mark, cut), 'bold' if cell.best else '')
