"""Records -> one table (`tabulate`) -> terminal, Markdown, CSV, JSON, each formatted once."""

from collections.abc import Sequence
from pathlib import Path

from .. import disk
from ..measure import records as _records
from ..text import clean
from . import maps, statistics
from .flat import csv, to_json
from .html import html
from .page import markdown
from .screen import terminal
from .statistics import Statistics, gather
from .table import Table, tabulate

__all__ = ['Statistics', 'Table', 'clean', 'csv', 'gather', 'html', 'maps', 'markdown',
           'statistics', 'tabulate', 'terminal', 'to_json', 'write']  # fmt: skip


def write(
    records: Sequence[_records.Record],
    out_dir: str | Path,
    baseline: str | None = None,
    mixed: bool = False,
    files: Sequence[str | Path] = (),
    found: Statistics | None = None,
    classes: str | None = None,
) -> list[Path]:
    """Write report.md, .csv, .json and .html to `out_dir`; returns their paths.

    With statistics (`gather`), these are in all but report.csv, too, and statistics.csv and
    images.csv (every image) are written.

    Raises what `tabulate` raises, before anything is written.
    """
    table = tabulate(records, baseline, mixed, files, classes)
    text = markdown(table) + ('\n' + statistics.markdown(found) if found else '')
    pages = {
        Path(out_dir) / 'report.md': text,
        Path(out_dir) / 'report.csv': csv(table),
        Path(out_dir) / 'report.json': to_json(table, found and statistics.content(found)),
        Path(out_dir) / 'report.html': html(text),
    }
    if found:
        pages |= {
            Path(out_dir) / 'statistics.csv': statistics.csv(found),
            Path(out_dir) / 'images.csv': statistics.photos_csv(found),
        }
    for path, text in pages.items():
        disk.write_atomically(path, text)
    return list(pages)
