"""Records -> one table (`tabulate`) -> terminal, Markdown, HTML, LaTeX, CSV and JSON.

Needs neither torch nor the MM packages. `grid` is what every table is made of, `render` turns it
into text, `page` makes the HTML file.
"""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from .. import disk
from ..measure import records
from ..text import tell
from . import certainty, curves, flat, headline, page, render, sections, tradeoff
from .certainty import Certainty, gather
from .compare import tabulate
from .grid import Section
from .page import gallery
from .page.data import Curves
from .page.gallery import Gallery
from .table import Table

__all__ = ['Certainty', 'Table', 'gather', 'make', 'show', 'tabulate', 'texts']


_ON_SCREEN = 60  # tables of intervals and of worst images
_SIDE_BY_SIDE = 6  # models whose worst images are shown there


def show(table: Table, found: Certainty | None = None, console: Console | None = None) -> None:
    """Print what fits a terminal, with the three worst images of each domain for a few models.

    Of hundreds of domains, the first: rich takes a second for 50 such tables.
    """
    models = max((len(photos.models) for photos in found.photos), default=0) if found else 0
    detail = [*certainty.sections(found, worst=3 if models <= _SIDE_BY_SIDE else 0)]
    if (more := len(detail) - _ON_SCREEN) > 0:
        said = f'{more + 1:,} tables of other domains are in the files of ibnseg report --out DIR'
        detail[_ON_SCREEN - 1 : -1] = [Section(items=[said])]
    parts = [*sections.screen(table), *detail]
    if any(map(headline.leader, table.groups)):  # else there is nothing to say in short
        parts.append(_in_short(table, found))
    render.show(parts, console)


def texts(
    table: Table,
    found: Certainty | None = None,
    gallery: Gallery | None = None,
    curves: Curves | None = None,
) -> dict[str, str]:
    """Return the files of a report by name.

    Args:
        found: of `gather`; in all but report.csv, and in statistics.csv and images.csv.
        gallery: of `gallery.read`; in report.html.
        curves: by row or model: 'loss' and 'mIoU', each (iteration, value) pairs; in report.html.
    """
    said = _in_short(table, found)
    whole = [*sections.page(table), *certainty.sections(found, worst=10)]
    whole.insert(1, said)
    paper = [said, *sections.numbers(table), *certainty.sections(found, worst=0)]
    files = {
        'report.md': render.markdown(whole),
        'report.csv': render.csv(flat.long(table)),
        'report.json': flat.to_json(table, found),
        'report.html': page.html(table, found, gallery, curves),
        'report.tex': render.latex(paper),
    }
    if found:
        files['statistics.csv'] = render.csv(flat.statistics(found))
        files['images.csv'] = render.csv(flat.images(found))
    return files


def _in_short(table: Table, found: Certainty | None) -> Section:
    said = [' '.join(parts).strip() for parts in headline.sentences(table, found)]
    return Section('In short', items=said)


def make(
    paths: Sequence[str | Path],
    out_dir: str | Path,
    baseline: str | None = None,
    mixed: bool = False,
    classes: str | None = None,
    figure: bool = False,
) -> None:
    """Read record files (see `records.find`), write their report and print it.

    With `figure`, also tradeoff.png (`tradeoff.write`).

    Paths without records are named and passed over: `work_dirs/*` may hold other reports.

    Raises what `records.find`, `records.read` and `tabulate` raise, before anything is written.
    """
    files, empty = records.find(paths)
    table = tabulate([records.read(file) for file in files], baseline, mixed, files, classes)
    found = gather(table)
    said: list[str] = []
    drawn = curves.of_rows(table.rows, said)
    shown = texts(table, found, gallery.read(Path(out_dir) / 'gallery'), drawn)
    made = {Path(out_dir) / name: text for name, text in shown.items()}
    for path, text in made.items():
        disk.write_atomically(path, text)
    show(table, found)
    for note in said:
        tell(note)
    for path in empty:
        tell(f'passed over, holds no record: {path}')
    for path in made:
        tell(str(path))
    if figure:
        drawing = Path(out_dir) / 'tradeoff.png'
        tradeoff.write(table, found, drawing)
        tell(str(drawing))
