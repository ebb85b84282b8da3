"""Sections on a terminal, by rich. It gets `Text` alone, so that markup in a name stays text."""

import textwrap
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..text import clean
from .grid import Grid, Marked, Section


def show(sections: Iterable[Section], console: Console | None = None) -> None:
    """Print sections. Columns that do not fit side by side follow below."""
    console = console or Console(highlight=False)
    unlimited = console.options.update(max_width=10_000)

    def fits(grid: Grid) -> bool:
        return console.measure(_table(grid), options=unlimited).maximum <= console.width

    for number, section in enumerate(sections):
        if section.title:
            console.print(Text('\n' * bool(number) + clean(section.title, 200), 'bold'))
        for part, grid in enumerate(_parts(section.grid, fits) if section.grid else ()):
            console.print(*[Text()] * bool(part), _table(grid), sep='\n')
        for item in section.items:
            console.print(Text(clean(item)))


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
        unbroken = dict(break_long_words=False, break_on_hyphens=False)
        name.plain = textwrap.fill(name.plain, width, **unbroken)
        number = i >= grid.left
        justify = 'right' if number else 'left'
        table.add_column(name, justify=justify, no_wrap=number, overflow='fold')
    for row in rows:
        table.add_row(*row)
    return table


def _text(cell: Marked | str, cut: int) -> Text:
    cell = Marked.of(cell)
    return Text(clean(cell.text, cut) + clean(cell.mark, cut), 'bold' if cell.best else '')
