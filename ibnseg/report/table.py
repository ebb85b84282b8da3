"""`Table`: every number of a report, without its formatting. All in percent."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..measure.confusion import Scores, score
from ..measure.records import Measurement, Record, engine_of
from .training import Training


@dataclass(frozen=True)
class Stat:
    """A mean over the runs that have a value (NaN if none); `std` is NaN below two runs."""

    mean: float
    std: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> 'Stat':
        finite = [value for value in values if np.isfinite(value)]
        n = len(finite)
        mean = np.mean(finite) if n else np.nan
        std = np.std(finite, ddof=1) if n > 1 else np.nan
        return cls(float(mean), float(std), n)


def scores(measured: Measurement) -> Scores:
    """Return the scores of a measurement, in percent."""
    # As floats: the counts in a stranger's file may overflow int64 when summed.
    found = score(measured.matrix.astype(float), measured.classes)
    return replace(found, iou=100 * found.iou, accuracy=100 * found.accuracy)


def by_class(scored: Scores) -> dict[int, float]:
    """Return the IoU by class index."""
    return dict(zip(scored.classes, scored.iou.tolist(), strict=True))


def fractions(found: Iterable[Scores]) -> str:
    """Return the distinct numbers of classes counted, as '10 of 11, 11 of 11'."""
    pairs = sorted({(one.counted, len(one.classes)) for one in found})
    return ', '.join(f'{n} of {of}' for n, of in pairs)


def origin(record: Record, file: str) -> dict[str, Any]:
    """Return where a checkpoint comes from; None for what is absent or of an unexpected type."""

    def take(key: str, kind: type) -> Any:
        value = record.provenance.get(key)
        return value if type(value) is kind else None

    versions = take('versions', dict) or {}
    return dict(
        file=file,
        checkpoint=take('checkpoint', str),
        sha256=take('checkpoint_sha256', str),
        engine=engine_of(record.provenance),
        engine_version=engine_of(
            dict(engine=dict(name=(take('engine', dict) or {}).get('version')))
        ),
        iteration=take('iteration', int),
        training_iterations=take('training_iterations', int),
        rule=take('selection', str),
        unlabelled=_datasets(take('unlabelled', list) or ()),
        validated=[name for name in take('validated', list) or () if isinstance(name, str)],
        seed=take('seed', int),
        commit=take('commit', str),
        date=take('date', str),
        versions={str(k): v for k, v in versions.items() if isinstance(v, str)},
    )


def _datasets(unlabelled: Iterable[Any]) -> list[str]:
    """Return the datasets whose photos a training read without labels, of what a record says."""
    parts = (one.get('datasets') for one in unlabelled if isinstance(one, dict))
    return [name for part in parts if isinstance(part, list) for name in part if type(name) is str]


@dataclass(eq=False)
class Run:
    """One checkpoint: where it comes from (of `origin`), and what was measured, by domain.

    `unmeasured` holds the domains that were lost, and why.
    """

    seed: int | None
    origins: list[dict[str, Any]] = field(default_factory=list)
    measured: dict[str, Measurement] = field(default_factory=dict)
    scores: dict[str, Scores] = field(default_factory=dict)
    unmeasured: dict[str, str] = field(default_factory=dict)


@dataclass
class Cell:
    """A model on a domain.

    Args:
        scores: of each run there; what follows is over them.
        miou: mean over the classes counted.
        accuracy: pixel accuracy.
        iou: by class index; the classes of the protocol.
        gap: mIoU minus the same run's on the source's domain; None where that was not measured.
        delta: mIoU minus the baseline's; None for the baseline and where it was not measured.
        mixed: some run has another protocol than the column's reference.
        gap_mixed, delta_mixed: the same of either side of the difference.
        best: highest of the column, among rows that may be compared.
        protocols: the distinct hashes of the runs' protocols.
    """

    scores: list[Scores]
    protocols: list[str]
    miou: Stat
    accuracy: Stat
    iou: dict[int, Stat]
    gap: Stat | None = None
    delta: float | None = None
    mixed: bool = False
    gap_mixed: bool = False
    delta_mixed: bool = False
    best: bool = False


@dataclass(eq=False)
class Row:
    """A model x source x selection rule x training x engine; `runs` differ in seed, `cells` are by
    domain.

    `variant` tells it from rows that differ in training alone; `against` is the row of the baseline
    that deltas are taken to. `engine` ran the networks, '' for torch.
    """

    model: str
    source: str
    rule: str | None
    training: Training
    engine: str = ''
    runs: list[Run] = field(default_factory=list)
    ambiguous: bool = False
    variant: str = ''
    against: 'Row | None' = None
    cells: dict[str, Cell] = field(default_factory=dict)

    @property
    def oracle(self) -> bool:
        return 'oracle' in (self.rule or '').lower()

    @property
    def saw(self) -> list[str]:
        """The targets whose photos the training read, without labels: no generalisation to them."""
        read = dict.fromkeys(n for run in self.runs for o in run.origins for n in o['unlabelled'])
        measured = {domain.split(':')[0] for run in self.runs for domain in run.measured}
        own = re.findall(r'([^\s:+]+):', self.source)
        return [name for name in read if name in measured and name not in own]

    @property
    def honest(self) -> bool:
        """Whether nothing of a target took part in the training."""
        return not (self.oracle or self.saw)

    @property
    def mark(self) -> str:
        """What must follow the model's name wherever it stands."""
        rule = [self.rule or 'rule unknown'] if self.ambiguous else []
        words = ['target oracle'] if self.oracle else rule
        words += [f'saw photos of {", ".join(self.saw)}'] if self.saw else []
        words += [part for part in (self.variant, self.engine) if part]
        return f' ({", ".join(words)})' if words else ''

    @property
    def name(self) -> str:
        return self.model + self.mark


@dataclass
class Group:
    """The rows of one source, and of one protocol where a network was measured by several.

    `domains` are the columns, whose numbers are compared by the protocol whose hash is in
    `reference`; `home` is the source's own, or None. `protocol` is in words, or ''.
    """

    source: str
    home: str | None
    domains: list[str]
    rows: list[Row]
    reference: dict[str, str]
    protocol: str = ''

    @property
    def title(self) -> str:
        return self.source + (f', protocol {self.protocol}' if self.protocol else '')


@dataclass
class Table:
    """A report's numbers.

    Args:
        classes: names of the training classes.
        baseline: the model that deltas are against.
        groups: one a source and protocol.
        protocols: domain -> hash -> protocol.
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


def short_commit(commit: str | None) -> str:
    """Return twelve digits, and '-dirty' where it stood there."""
    return re.sub(r'^([0-9a-f]{12})[0-9a-f]+(?=$|-dirty$)', r'\1', commit or 'unknown')
