"""Sections and grids on a terminal, as Markdown, LaTeX and CSV. Each format escapes foreign
text once."""

import csv as _csv
import io
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from html import escape
from itertools import pairwise
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..text import clean
from .grid import Grid, Marked, Section

_CUT = 300  # characters of a cell or a title


def _cells(grid: Grid, text: Callable[..., str], bold: str) -> list[list[list[str]]]:
    """Return header, rows and foot in a format, where `text(words, limit)` escapes."""

    def shown(cell: Marked) -> str:
        words = text(cell.text, _CUT) + text(cell.mark, _CUT)
        return bold.format(words) if cell.best else words

    blocks = [grid.header], grid.rows, grid.foot
    return [[[shown(Marked.of(cell)) for cell in line] for line in block] for block in blocks]


def markdown(sections: Iterable[Section]) -> str:
    """Return GitHub-flavoured Markdown."""
    parts = []
    for section in sections:
        if section.title:
            parts.append(f'{"#" * section.level} {_literal(section.title, _CUT)}')
        if section.text:
            parts.append(_literal(section.text))
        if grid := section.grid:
            rule = [':--' if i < grid.left else '--:' for i in range(len(grid.header))]
            head, body, foot = _cells(grid, _literal, '**{}**')
            lines = (*head, rule, *body, *foot)
            parts.append('\n'.join(f'| {" | ".join(line)} |' for line in lines))
        if section.items:
            # By its first character, an item would be a heading or a list.
            items = (
                re.sub(r'^(\d*)([#+=.)-])', r'\1\\\2', _literal(i).strip()) for i in section.items
            )
            parts.append('\n'.join(f'- {item}' for item in items))
    return '\n\n'.join(parts) + '\n'


def _literal(text: str, limit: int | None = None) -> str:
    """Escape text for a Markdown paragraph or table cell."""
    text = escape(clean(text, limit), quote=False)
    text = re.sub(r'([\\`*\[\]|~$])', r'\\\1', text)
    # An underscore within a word is literal; escaping it would only spoil the plain text.
    text = re.sub(r'(?<![^\W_])_|_(?![^\W_])', r'\\_', text)
    # GitHub links bare addresses.
    return text.replace('://', ':&#47;&#47;').replace('www.', 'www&#46;')


_LATEX = str.maketrans(
    {c: f'\\{c}' for c in '&%$#_{}'}
    | {c: f'{{{c}}}' for c in '[]*'}  # which a row's end before them would take for its own
    | {'\\': r'\textbackslash{}', '~': r'\textasciitilde{}', '^': r'\textasciicircum{}'}
    | {'<': r'\textless{}', '>': r'\textgreater{}', '|': r'\textbar{}', '"': "''"}
    | {'±': r'$\pm$', '×': r'$\times$', 'Δ': r'$\Delta$'}
    | {'†': r'$\dagger$', '·': r'$\cdot$', '…': r'\ldots{}'}
)


def latex(sections: Iterable[Section]) -> str:
    """Return tables for a paper, in booktabs' style. Characters that LaTeX lacks are `\\u1234`."""
    parts = [r'% In the preamble: \usepackage{booktabs}. Then \input{report.tex}.']
    for section in sections:
        said = '. '.join(_tex(t, 2 * _CUT) for t in (section.title, section.text) if t)
        if grid := section.grid:
            head, body, foot = (
                [' & '.join(line) + r' \\' for line in lines]
                for lines in _cells(grid, _tex, r'\textbf{{{}}}')
            )
            columns = 'l' * grid.left + 'r' * (len(grid.header) - grid.left)
            parts += [
                r'\begin{table}',
                r'\centering\footnotesize\setlength{\tabcolsep}{4pt}',
                rf'\caption{{{said}}}',
            ]
            parts += [rf'\begin{{tabular}}{{{columns}}}', r'\toprule', *head, r'\midrule', *body]
            parts += [*([r'\midrule', *foot] if foot else ()), r'\bottomrule']
            parts += [r'\end{tabular}', r'\end{table}', '']
        elif said:
            parts += [said, '']
        if section.items:
            items = (rf'\item {_tex(item)}' for item in section.items)
            parts += [r'\begin{itemize}', *items, r'\end{itemize}', '']
    return '\n'.join(parts)


def _tex(text: str, limit: int | None = None) -> str:
    known = (
        c if c.isascii() or ord(c) in _LATEX else c.encode('ascii', 'backslashreplace').decode()
        for c in clean(text, limit)
    )
    # A hyphen before a number is a minus.
    return re.sub(r'(?<![\w-])-(?=\d)', r'\\textminus{}', ''.join(known).translate(_LATEX))


def csv(grid: Grid) -> str:
    """Return numbers with two decimals, empty where there is none.

    Text that a spreadsheet would take for a formula is preceded by an apostrophe.
    """
    out = io.StringIO()
    writer = _csv.writer(out, lineterminator='\n')
    writer.writerow(grid.header)
    writer.writerows([_csv_cell(cell) for cell in row] for row in grid.rows)
    return out.getvalue()


def _csv_cell(value: Any) -> str:
    if isinstance(value, float):
        return f'{value:.2f}' if math.isfinite(value) else ''
    if not isinstance(value, str):
        return '' if value is None else str(value)
    value = clean(value)
    return f"'{value}" if value.lstrip().startswith(('=', '+', '-', '@')) else value


def show(sections: Iterable[Section], console: Console | None = None) -> None:
    """Print sections on a terminal. Columns that do not fit side by side follow below.

    rich gets `Text` alone, so that markup in a name stays text.
    """
    console = console or Console(highlight=False)
    for number, section in enumerate(sections):
        if section.title:
            console.print(Text('\n' * bool(number) + clean(section.title, 200), 'bold'))
        for part, grid in enumerate(_parts(section.grid, console) if section.grid else ()):
            console.print(*[Text()] * bool(part), _table(grid), sep='\n')
        for item in section.items:
            console.print(Text(clean(item)))


def _parts(grid: Grid, console: Console) -> Iterator[Grid]:
    """Yield grids of as many whole groups of columns as fit each."""
    unlimited = console.options.update(max_width=10_000)
    repeated = range(grid.breaks[0] if grid.breaks else 0)
    part: list[int] = []
    for start, end in pairwise([len(repeated), *grid.breaks[1:], len(grid.header)]):
        group = range(start, end)
        wider = _table(grid.columns([*repeated, *part, *group]))
        if part and console.measure(wider, options=unlimited).maximum > console.width:
            yield grid.columns([*repeated, *part])
            part = []
        part += group
    yield grid.columns([*repeated, *part])


def _table(grid: Grid) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    rows = [[_rich(cell, grid.cut) for cell in row] for row in grid.rows]
    for i, cell in enumerate(grid.header):
        # A header is broken at its spaces and behind the + of joined splits, so that it does not
        # make its column wide.
        width = max([6, *(len(row[i]) for row in rows)])
        name = _rich(cell, 80)
        joined = re.sub(r'(?<=\w)\+(?=\w)', '+\0 ', name.plain)
        unbroken = dict(break_long_words=False, break_on_hyphens=False)
        name.plain = textwrap.fill(joined, width, **unbroken).replace('\0 ', '').replace('\0', '')
        number = i >= grid.left
        justify = 'right' if number else 'left'
        table.add_column(name, justify=justify, no_wrap=number, overflow='fold')
    for row in rows:
        table.add_row(*row)
    return table


def _rich(cell: Marked | str, cut: int) -> Text:
    cell = Marked.of(cell)
    return Text(clean(cell.text, cut) + clean(cell.mark, cut), 'bold' if cell.best else '')
