"""Records -> one table (`tabulate`) -> terminal, Markdown, CSV, JSON, each formatted once."""

from collections.abc import Sequence
from pathlib import Path

from .. import records as _records
from .flat import csv, to_json
from .page import markdown
from .screen import terminal
from .table import Table, tabulate
from .words import clean

__all__ = ['Table', 'clean', 'csv', 'markdown', 'tabulate', 'terminal', 'to_json', 'write']


def write(
    records: Sequence[_records.Record],
    out_dir: str | Path,
    baseline: str | None = None,
    mixed: bool = False,
    files: Sequence[str | Path] = (),
) -> list[Path]:
    """Write report.md, report.csv and report.json to `out_dir`; returns their paths.

    Raises what `tabulate` raises, before anything is written.
    """
    table = tabulate(records, baseline, mixed, files)
    pages = {
        Path(out_dir) / 'report.md': markdown(table),
        Path(out_dir) / 'report.csv': csv(table),
        Path(out_dir) / 'report.json': to_json(table),
    }
    for path, text in pages.items():
        _records.write_atomically(path, text)
    return list(pages)
