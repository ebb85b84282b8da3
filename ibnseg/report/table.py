"""Records -> `Table`: every number of a report, without its formatting. All in percent."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..measure.confusion import Scores, score
from ..measure.records import SCORED, Measurement, Record
from .recount import recount


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

    @property
    def counted_words(self) -> str:
        """'10 of 11'; several where the runs differ."""
        return fractions(self.counted)


def counted_words(scores: Iterable[Scores]) -> str:
    """'10 of 11' classes counted; several where the scores differ."""
    return fractions(sorted({(one.counted, len(one.classes)) for one in scores}))


def fractions(counted: Iterable[tuple[int, int]]) -> str:
    """'10 of 11, 11 of 11'."""
    return ', '.join(f'{n} of {of}' for n, of in counted)


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


def tabulate(
    records: Sequence[Record],
    baseline: str | None = None,
    mixed: bool = False,
    files: Sequence[str | Path] = (),
    classes: str | None = None,
) -> Table:
    """Put records side by side.

    Args:
        records: of one model and source and rule, those of different seeds become one row.
        baseline: model to take differences against; by default the one that looks plain.
        mixed: show a domain measured by different protocols, marked, instead of refusing.
        files: where each record was read from, for messages.
        classes: count another class set (`recount.CHOICES`) than the protocols do.

    Raises:
        ValueError: nothing to show, an unknown `baseline`, other training classes, one run given
            twice, or (without `mixed`) one domain measured by different protocols.
    """
    if not records:
        raise ValueError('no records; give the *.record.json files that an evaluation wrote')
    if files and len(files) != len(records):
        raise ValueError(f'{len(files)} files are named for {len(records)} records')
    names = [str(file) for file in files] or [_describe(record) for record in records]
    if classes:
        records = [recount(record, classes) for record in records]
    _check(records, names)
    protocols, notes = _protocols(records, names, mixed)
    rows = _rows(records, names)
    baseline = _baseline(rows, records, baseline)
    rows.sort(key=lambda row: row.model != baseline)
    groups = [_group(source, rows, protocols) for source in dict.fromkeys(r.source for r in rows)]
    for group in groups:
        _compare(group, baseline)
        notes += _notes(group)
    classes = [str(name) for name in records[0].classes]
    return Table(classes, baseline, groups, protocols, list(dict.fromkeys(notes)))


def _describe(record: Record) -> str:
    facts = provenance(record, '')
    return f'{record.model} (seed {facts.seed}, {facts.checkpoint or "checkpoint unknown"})'


def provenance(record: Record, file: str) -> Provenance:
    """Read what is known of a record's origin; values of an unexpected type count as unknown."""

    def take(key: str, kind: type) -> Any:
        value = record.provenance.get(key)
        return value if type(value) is kind else None

    versions = take('versions', dict) or {}
    return Provenance(
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


def _check(records: Sequence[Record], names: list[str]) -> None:
    for record, name in zip(records, names, strict=True):
        if record.classes != records[0].classes:
            raise ValueError(
                f'{name}: its training classes ({len(record.classes)}) are not those of {names[0]} '
                f'({len(records[0].classes)}); make one report a set of classes'
            )
        if not record.domains:
            raise ValueError(f'{name}: holds no domain; evaluate that checkpoint again')
        twice = [d for d, n in Counter(m.domain for m in record.domains).items() if n > 1]
        if twice:
            raise ValueError(f'{name}: holds {twice[0]!r} more than once; expected once')


def _protocols(
    records: Sequence[Record], names: list[str], mixed: bool
) -> tuple[dict[str, dict[str, dict[str, Any]]], list[str]]:
    """Return domain -> hash -> protocol, the most frequent hash first, and notes on mixtures."""
    seen: dict[str, dict[str, tuple[dict[str, Any], str]]] = {}
    times: Counter[tuple[str, str]] = Counter()
    for record, name in zip(records, names, strict=True):
        for measurement in record.domains:
            domain, digest = measurement.domain, measurement.protocol_hash
            # Through JSON, so that a record fresh from memory (tuples) equals one read (lists).
            protocol = json.loads(json.dumps(measurement.protocol))
            first, where = seen.setdefault(domain, {}).setdefault(digest, (protocol, name))
            if protocol != first:
                raise ValueError(
                    f'{domain!r}: {where} and {name} have the same protocol hash {digest}, but '
                    f'differ in {_differences(first, protocol)}; one was edited: evaluate it again'
                )
            times[domain, digest] += 1
    notes = []
    for domain, by_hash in seen.items():
        digests = sorted(by_hash, key=lambda digest, domain=domain: -times[domain, digest])
        reference, where = by_hash[digests[0]]
        for digest in digests[1:]:
            protocol, name = by_hash[digest]
            found = (
                f'{domain} was measured by protocol {digests[0]} in {where} and by {digest} in '
                f'{name}, which differ in {_differences(reference, protocol)}'
            )
            if not mixed:
                same = {k: v for k, v in protocol.items() if k != 'classes'} == {
                    k: v for k, v in reference.items() if k != 'classes'
                }
                way_out = 'count the same (--classes)' if same else 'evaluate both by one protocol'
                raise ValueError(f'{found}; {way_out}, or accept marked numbers (--mixed)')
            notes.append(f'† {found}: numbers so marked are not comparable with their column.')
        seen[domain] = {digest: by_hash[digest] for digest in digests}
    return {d: {h: p for h, (p, _) in by_hash.items()} for d, by_hash in seen.items()}, notes


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    fields = [key for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)]
    return '; '.join(
        f'{key}: {one.get(key)!r:.40} | {other.get(key)!r:.40}' for key in fields[:8]
    ) or ('no field (the hash alone was changed)')


def _rows(records: Sequence[Record], names: list[str]) -> list[Row]:
    rows: dict[tuple, Row] = {}
    for record, name in zip(records, names, strict=True):
        origin = provenance(record, name)
        key = (record.model, record.source, origin.rule)
        row = rows.setdefault(key, Row(record.model, record.source, origin.rule, []))
        run = next((run for run in row.runs if run.seed == origin.seed), None)
        measured = {m.domain: m for m in record.domains}
        if run is None:
            run = Run([])
            row.runs.append(run)
        # One checkpoint may have been measured in two sittings, on other domains each.
        elif (
            (origin.sha256 is None and origin.rule != SCORED)
            or origin.sha256 != run.provenance[0].sha256
            or measured.keys() & run.measured.keys()
        ):
            raise ValueError(
                f'{run.provenance[0].file} and {name} are both of {record.model!r} from '
                f'{record.source!r}, seed {origin.seed}; give one of them, or tell them apart by '
                'model name or seed'
            )
        run.provenance.append(origin)
        run.measured |= measured
        # As floats: the counts in a stranger's file may overflow int64 when summed.
        run.scores |= {d: score(m.matrix.astype(float), m.classes) for d, m in measured.items()}
    rules = Counter((row.model, row.source) for row in rows.values())
    for row in rows.values():
        row.ambiguous = rules[row.model, row.source] > 1
        row.runs.sort(key=lambda run: (run.seed is None, run.seed or 0))
    return list(rows.values())


def _baseline(rows: list[Row], records: Sequence[Record], wanted: str | None) -> str:
    models = list(dict.fromkeys(row.model for row in rows))
    if wanted is not None:
        if wanted not in models:
            raise ValueError(f'no model {wanted!r} among the records; choose from {models}')
        return wanted
    bn = [record.model for record in records if record.provenance.get('placement') == 'bn']
    for candidates in (
        [model for model in models if 'plain' in model.lower()],
        bn,
        [model for model in models if 'bn' in re.split(r'[^a-z0-9]+', model.lower())],
        [m for m in models if 'resnet' in m.lower() and 'ibn' not in m.lower()],
    ):
        if candidates:
            return candidates[0]
    return models[0]


def _group(source: str, rows: list[Row], protocols: Mapping[str, Mapping[str, Any]]) -> Group:
    rows = [row for row in rows if row.source == source]
    domains = list(dict.fromkeys(d for row in rows for run in row.runs for d in run.measured))
    own = [d for d in domains if d.split(':')[0] == source.split(' -> ')[-1].split(':')[0]]
    # The split that selected; where none of the source's did, one that was not trained on.
    validated = {d for row in rows for run in row.runs for p in run.provenance for d in p.validated}
    own = [d for d in own if d in validated] or own
    home = next((d for d in own if d != source), own[0] if own else None)
    domains.sort(key=lambda domain: domain != home)
    for row in rows:
        row.cells = {
            domain: _cell(row.runs, domain, home, next(iter(protocols[domain])))
            for domain in domains
            if any(domain in run.measured for run in row.runs)
        }
        for domain, cell in row.cells.items():
            at_home = row.cells.get(home) if domain != home else None
            cell.gap_mixed = at_home is not None and (cell.mixed or at_home.mixed)
    return Group(source, home, domains, rows)


def _cell(runs: list[Run], domain: str, home: str | None, reference: str) -> Cell:
    runs = [run for run in runs if domain in run.measured]
    scores = [run.scores[domain] for run in runs]
    iou: dict[int, list[float]] = {}
    for one in scores:
        for index, value in zip(one.classes, one.iou, strict=True):
            iou.setdefault(index, []).append(100 * value)
    gaps = [
        100 * (run.scores[domain].miou - run.scores[home].miou)
        for run in runs
        if home in run.scores and domain != home
    ]
    return Cell(
        miou=Stat.of(100 * one.miou for one in scores),
        accuracy=Stat.of(100 * one.accuracy for one in scores),
        iou={index: Stat.of(values) for index, values in iou.items()},
        counted=sorted({(one.counted, len(one.classes)) for one in scores}),
        gap=Stat.of(gaps) if gaps else None,
        mixed=any(run.measured[domain].protocol_hash != reference for run in runs),
    )


def _compare(group: Group, baseline: str) -> None:
    """Fill in deltas and the best of each column."""
    plain = [row for row in group.rows if row.model == baseline]
    for row in group.rows:
        # By the same rule if there is one; an honest row is never measured against an oracle.
        against = next(
            (p for p in plain if p.rule == row.rule), next((p for p in plain if not p.oracle), None)
        )
        if against is None or row.model == baseline:
            continue
        for domain, cell in row.cells.items():
            if domain in against.cells:
                cell.delta = cell.miou.mean - against.cells[domain].miou.mean
                cell.delta_mixed = cell.mixed or against.cells[domain].mixed
    for domain in group.domains:
        cells = [row.cells[domain] for row in group.rows if domain in row.cells and not row.oracle]
        rivals = [c for c in cells if not c.mixed and np.isfinite(c.miou.mean)]
        # As shown: a tie at one decimal is a tie.
        shown = {round(cell.miou.mean, 1) for cell in rivals}
        for cell in rivals:
            cell.best = len(shown) > 1 and round(cell.miou.mean, 1) == max(shown)


def _notes(group: Group) -> list[str]:
    notes = []
    if any(row.oracle for row in group.rows):
        notes.append(
            'Target oracle: the checkpoint was selected by its score on a target domain; an upper '
            'bound that cannot be had in practice, so it is never the best of a column.'
        )
    fewer: dict[str, list[str]] = {}
    for row in group.rows:
        name = row.model + row.mark
        lengths = {p.training_iterations for run in row.runs for p in run.provenance} - {None}
        if len(lengths) > 1:
            found = ', '.join(map(str, sorted(lengths)))
            notes.append(f'{name}: its runs were trained for different lengths ({found}).')
        for domain, cell in row.cells.items():
            measured = sum(domain in run.measured for run in row.runs)
            if measured < len(row.runs):
                notes.append(f'{name}: {measured} of {len(row.runs)} runs measured on {domain}.')
            if any(counted < of for counted, of in cell.counted):
                fewer.setdefault(f'{cell.counted_words} classes on {domain}', []).append(name)
            at_home = row.cells.get(group.home)
            if cell.gap and at_home and set(cell.iou) != set(at_home.iou):
                notes.append(
                    f'The gap on {domain} is between {len(cell.iou)} classes there and '
                    f'{len(at_home.iou)} on {group.home}.'
                )
    return notes + [
        f'{", ".join(models)}: mIoU over {what}; the others are in neither truth nor prediction.'
        for what, models in fewer.items()
    ]
