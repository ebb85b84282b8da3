"""Records -> one table (`tabulate`) -> terminal, Markdown, HTML, LaTeX, CSV and JSON.

Needs neither torch nor the MM packages. `grid` is what every table is made of, `render` and
`screen` turn it into text.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import disk
from ..measure import records
from ..text import clean
from . import certainty, render, sections
from .certainty import Certainty, gather
from .compare import tabulate
from .flat import csv, to_json
from .table import Table

if TYPE_CHECKING:
    from .screen import Screen

__all__ = ['Certainty', 'Table', 'csv', 'gather', 'html', 'latex', 'make', 'markdown', 'tabulate',
           'terminal', 'to_json', 'write']  # fmt: skip


def terminal(table: Table, found: Certainty | None = None) -> 'Screen':
    """Return a rich renderable, with the three worst images of each domain."""
    from .screen import Screen

    return Screen([*sections.screen(table), *certainty.sections(found, worst=3)])


def markdown(table: Table, found: Certainty | None = None) -> str:
    """Return the whole report, with the ten worst images of each domain."""
    return render.markdown([*sections.page(table), *certainty.sections(found, worst=10)])


def html(table: Table, found: Certainty | None = None) -> str:
    """Return what `markdown` has as one page."""
    return render.html([*sections.page(table), *certainty.sections(found, worst=10)])


def latex(table: Table, found: Certainty | None = None) -> str:
    """Return the tables of numbers."""
    return render.latex([*sections.numbers(table), *certainty.sections(found, worst=0)])


def write(table: Table, out_dir: str | Path, found: Certainty | None = None) -> list[Path]:
    """Write report.md, .csv, .json, .html and .tex to `out_dir`; returns their paths.

    `found` (of `gather`) is in all but report.csv, and in statistics.csv and images.csv.
    """
    files = {
        'report.md': markdown(table, found),
        'report.csv': csv(table),
        'report.json': to_json(table, found and certainty.content(found)),
        'report.html': html(table, found),
        'report.tex': latex(table, found),
    }
    if found:
        files['statistics.csv'] = render.csv(certainty.flat(found))
        files['images.csv'] = render.csv(certainty.images_flat(found))
    for name, text in files.items():
        disk.write_atomically(Path(out_dir) / name, text)
    return [Path(out_dir) / name for name in files]


def make(
    files: Sequence[str | Path],
    out_dir: str | Path,
    baseline: str | None = None,
    mixed: bool = False,
    classes: str | None = None,
) -> None:
    """Read record files, write their report and print it.

    Raises what `records.read` and `tabulate` raise, before anything is written or printed.
    """
    from rich.console import Console

    table = tabulate([records.read(file) for file in files], baseline, mixed, files, classes)
    found = gather(table)
    written = write(table, out_dir, found)
    Console(highlight=False).print(terminal(table, found))
    for path in written:
        print(clean(str(path)))
