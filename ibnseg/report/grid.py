"""What every table of ibnseg is made of before it is rendered, and how its numbers are written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .table import Stat

NOTHING = 'n/a'


def percent(value: Stat | float | None, sign: str = '', mixed: bool = False) -> str:
    """'36.6', over seeds '36.6 ± 0.2', with `sign` '+' '+5.1'. 'n/a' for NaN and None."""
    mean, spread = value, ''
    if isinstance(value, Stat):
        mean, spread = value.mean, f' ± {value.std:.1f}' if value.n > 1 else ''
    if mean is None or not np.isfinite(mean):
        return NOTHING
    # Never '-0.0'.
    return f'{round(mean, 1) + 0.0:{sign}.1f}{spread}{"†" if mixed else ""}'


@dataclass(frozen=True)
class Marked:
    """A cell with a `mark` that is never cut off, however long `text` is; `best` is set bold."""

    text: str
    mark: str = ''
    best: bool = False

    @classmethod
    def of(cls, cell: Any) -> 'Marked':
        return cell if isinstance(cell, cls) else cls(str(cell))


@dataclass(frozen=True)
class Grid:
    """A table of `Marked` or plain text; for CSV also of numbers and None.

    Args:
        header: the columns' names.
        rows: as many cells each.
        foot: rows that say something of the columns, e.g. the protocol; not on a terminal.
        left: how many columns are text, aligned to the left. The others are numbers.
        breaks: columns where a terminal may break the table. Those before the first are repeated.
        cut: characters of a cell on a terminal.
    """

    header: Sequence[Any]
    rows: Sequence[Sequence[Any]]
    foot: Sequence[Sequence[Any]] = ()
    left: int = 1
    breaks: Sequence[int] = ()
    cut: int = 40

    def columns(self, keep: Sequence[int]) -> 'Grid':
        """Return the table of some columns, without its foot."""
        header, *rows = ([line[i] for i in keep] for line in (self.header, *self.rows))
        left = sum(i < self.left for i in keep)
        return replace(self, header=header, rows=rows, foot=(), breaks=(), left=left)


@dataclass(frozen=True)
class Section:
    """A part of a report. `text` explains what follows and is not on a terminal."""

    title: str = ''
    text: str = ''
    grid: Grid | None = None
    items: Sequence[str] = ()
    level: int = 2
