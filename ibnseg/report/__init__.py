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
from . import certainty, flat, render, sections
from .certainty import Certainty, gather
from .compare import tabulate
from .table import Table

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ['Certainty', 'Table', 'gather', 'make', 'show', 'tabulate', 'texts', 'write']


def show(table: Table, found: Certainty | None = None, console: 'Console | None' = None) -> None:
    """Print what fits a terminal, with the three worst images of each domain."""
    from . import screen

    screen.show([*sections.screen(table), *certainty.sections(found, worst=3)], console)


def texts(table: Table, found: Certainty | None = None) -> dict[str, str]:
    """Return the files of a report by name.

    `found` (of `gather`) is in all but report.csv, and in statistics.csv and images.csv.
    """
    page = [*sections.page(table), *certainty.sections(found, worst=10)]
    paper = [*sections.numbers(table), *certainty.sections(found, worst=0)]
    files = {
        'report.md': render.markdown(page),
        'report.csv': render.csv(flat.long(table)),
        'report.json': flat.to_json(table, found),
        'report.html': render.html(page),
        'report.tex': render.latex(paper),
    }
    if found:
        files['statistics.csv'] = render.csv(flat.statistics(found))
        files['images.csv'] = render.csv(flat.images(found))
    return files


def write(table: Table, out_dir: str | Path, found: Certainty | None = None) -> list[Path]:
    """Write `texts` to `out_dir`; returns their paths."""
    paths = []
    for name, text in texts(table, found).items():
        paths.append(Path(out_dir) / name)
        disk.write_atomically(paths[-1], text)
    return paths


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
    table = tabulate([records.read(file) for file in files], baseline, mixed, files, classes)
    found = gather(table)
    written = write(table, out_dir, found)
    show(table, found)
    for path in written:
        print(clean(str(path)))
