"""Records -> one table (`tabulate`) -> terminal, Markdown, CSV, JSON, each formatted once."""

from collections.abc import Sequence
from pathlib import Path

from .. import records as _records
from . import statistics
from .flat import csv, to_json
from .page import markdown
from .screen import terminal
from .statistics import Statistics, gather
from .table import Table, tabulate
from .words import clean

__all__ = ['Statistics', 'Table', 'clean', 'csv', 'gather', 'markdown', 'statistics', 'tabulate',
           'terminal', 'to_json', 'write']  # fmt: skip


def write(
    records: Sequence[_records.Record],
    out_dir: str | Path,
    baseline: str | None = None,
    mixed: bool = False,
    files: Sequence[str | Path] = (),
    found: Statistics | None = None,
) -> list[Path]:
    """Write report.md, report.csv and report.json to `out_dir`; returns their paths.

    With statistics (`gather`), these are in report.md and report.json, too, and statistics.html,
    statistics.csv and images.csv (every image) are written.

    Raises what `tabulate` raises, before anything is written.
    """
    table = tabulate(records, baseline, mixed, files)
    pages = {
        Path(out_dir) / 'report.md': markdown(table),
        Path(out_dir) / 'report.csv': csv(table),
        Path(out_dir) / 'report.json': to_json(table, found and statistics.content(found)),
    }
    if found:
        pages[Path(out_dir) / 'report.md'] += '\n' + statistics.markdown(found)
        pages |= {
            Path(out_dir) / 'statistics.html': statistics.html(found),
            Path(out_dir) / 'statistics.csv': statistics.csv(found),
            Path(out_dir) / 'images.csv': statistics.photos_csv(found),
        }
    for path, text in pages.items():
        _records.write_atomically(path, text)
    return list(pages)
