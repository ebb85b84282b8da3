"""`Table`: every number of a report, without its formatting. All in percent."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..measure.confusion import Scores, score
from ..measure.records import Measurement, Record


@dataclass(frozen=True)
class Stat:
    """A mean over the runs that have a value (NaN if none); `std` is NaN below two runs."""

    mean: float
    std: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> 'Stat':
        finite = [value for value in values if np.isfinite(value)]
        return cls(
            float(np.mean(finite)) if finite else float('nan'),
            float(np.std(finite, ddof=1)) if len(finite) > 1 else float('nan'),
            len(finite),
        )


@dataclass(frozen=True)
class Provenance:
    """Where a checkpoint comes from, as far as its record says; None where it does not."""

    file: str
    checkpoint: str | None
    sha256: str | None
    iteration: int | None
    training_iterations: int | None
    rule: str | None
    validated: tuple[str, ...]
    seed: int | None
    commit: str | None
    date: str | None
    versions: dict[str, str]

    @classmethod
    def of(cls, record: Record, file: str) -> 'Provenance':
        """Read it from a record; values of an unexpected type count as unknown."""

        def take(key: str, kind: type) -> Any:
            value = record.provenance.get(key)
            return value if type(value) is kind else None

        versions = take('versions', dict) or {}
        return cls(
            file=file,
            checkpoint=take('checkpoint', str),
            sha256=take('checkpoint_sha256', str),
            iteration=take('iteration', int),
            training_iterations=take('training_iterations', int),
            rule=take('selection', str),
            validated=tuple(d for d in take('validated', list) or () if isinstance(d, str)),
            seed=take('seed', int),
            commit=take('commit', str),
            date=take('date', str),
            versions={str(k): v for k, v in versions.items() if isinstance(v, str)},
        )


def scores(measured: Measurement) -> Scores:
    # As floats: the counts in a stranger's file may overflow int64 when summed.
    return score(measured.matrix.astype(float), measured.classes)


@dataclass
class Run:
    """One checkpoint: its seed, and what was measured of it, by domain."""

    provenance: list[Provenance]
    measured: dict[str, Measurement] = field(default_factory=dict)
    scores: dict[str, Scores] = field(default_factory=dict)

    @property
    def seed(self) -> int | None:
        return self.provenance[0].seed


@dataclass
class Cell:
    """A model on a domain.

    Args:
        miou: mean over `counted` of the protocol's classes.
        accuracy: pixel accuracy.
        iou: by class index; the classes of the protocol.
        counted: the distinct (classes counted, classes of the protocol) among the runs.
        gap: mIoU minus the same run's on the source's domain; None where that was not measured.
        delta: mIoU minus the baseline's; None for the baseline and where it was not measured.
        mixed: some run has another protocol than the column's reference.
        gap_mixed, delta_mixed: the same of either side of the difference.
        best: highest of the column, among rows that may be compared.
    """

    miou: Stat
    accuracy: Stat
    iou: dict[int, Stat]
    counted: list[tuple[int, int]]
    gap: Stat | None = None
    delta: float | None = None
    mixed: bool = False
    gap_mixed: bool = False
    delta_mixed: bool = False
    best: bool = False


def counted(runs: Iterable[Scores]) -> list[tuple[int, int]]:
    """Return the distinct (classes counted, classes of the protocol)."""
    return sorted({(one.counted, len(one.classes)) for one in runs})


def fractions(pairs: Iterable[tuple[int, int]]) -> str:
    """'10 of 11, 11 of 11'."""
    return ', '.join(f'{n} of {of}' for n, of in pairs)


@dataclass
class Row:
    """A model x source x selection rule; `runs` differ in seed."""

    model: str
    source: str
    rule: str | None
    runs: list[Run]
    ambiguous: bool = False
    cells: dict[str, Cell] = field(default_factory=dict)

    @property
    def oracle(self) -> bool:
        return 'oracle' in (self.rule or '').lower()

    @property
    def mark(self) -> str:
        """What must follow the model's name wherever it stands."""
        if self.oracle:
            return ' (target oracle)'
        return f' ({self.rule or "rule unknown"})' if self.ambiguous else ''

    @property
    def name(self) -> str:
        return self.model + self.mark


@dataclass
class Group:
    """The rows of one source. `domains` are the columns; `home` is the source's own, or None."""

    source: str
    home: str | None
    domains: list[str]
    rows: list[Row]


@dataclass
class Table:
    """A report's numbers in percent.

    Args:
        classes: names of the training classes.
        baseline: the model that deltas are against.
        groups: one a source.
        protocols: domain -> hash -> protocol; a column's reference is first.
        notes: what a reader must know to read the numbers, one sentence each.
    """

    classes: list[str]
    baseline: str
    groups: list[Group]
    protocols: dict[str, dict[str, dict[str, Any]]]
    notes: list[str]

    @property
    def rows(self) -> list[Row]:
        return [row for group in self.groups for row in group.rows]
