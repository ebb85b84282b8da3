"""Records -> `Table`: what may stand side by side, and the differences."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..measure.records import SCORED, Record
from .recount import recount
from .table import Cell, Group, Provenance, Row, Run, Stat, Table, counted, fractions, scores


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
        files: where each record was read from, for messages; as many or none.
        classes: count another class set (`recount.CHOICES`) than the protocols do.

    Raises:
        ValueError: nothing to show, an unknown `baseline`, other training classes, one run given
            twice, or (without `mixed`) one domain measured by different protocols.
    """
    if not records:
        raise ValueError('no records; give the *.record.json files that an evaluation wrote')
    names = list(map(str, files)) or [f'{r.model} ({n})' for n, r in enumerate(records, 1)]
    if classes:
        records = [recount(record, classes) for record in records]
    _check(records, names)
    protocols, notes = _protocols(records, names, mixed)
    rows = _rows(records, names)
    baseline = _baseline(records, baseline)
    rows.sort(key=lambda row: row.model != baseline)
    groups = [_group(source, rows, protocols) for source in dict.fromkeys(r.source for r in rows)]
    for group in groups:
        _compare(group, baseline)
        notes += _notes(group)
    classes = [str(name) for name in records[0].classes]
    return Table(classes, baseline, groups, protocols, list(dict.fromkeys(notes)))


def _check(records: Sequence[Record], names: list[str]) -> None:
    for record, name in zip(records, names, strict=True):
        if record.classes != records[0].classes:
            raise ValueError(
                f'{name}: its training classes ({len(record.classes)}) are not those of {names[0]} '
                f'({len(records[0].classes)}); make one report a set of classes'
            )
        if not record.domains:
            raise ValueError(f'{name}: holds no domain; evaluate that checkpoint again')
        domains = [one.domain for one in record.domains]
        if len(set(domains)) < len(domains):
            raise ValueError(f'{name}: a domain is measured twice ({", ".join(domains)})')


def _protocols(
    records: Sequence[Record], names: list[str], mixed: bool
) -> tuple[dict[str, dict[str, dict[str, Any]]], list[str]]:
    """Return domain -> hash -> protocol, the most frequent hash first, and notes on mixtures."""
    seen: dict[str, dict[str, tuple[dict[str, Any], str]]] = {}
    times: Counter[tuple[str, str]] = Counter()
    for record, name in zip(records, names, strict=True):
        for one in record.domains:
            # Through JSON, so that a record fresh from memory (tuples) equals one read (lists).
            protocol = json.loads(json.dumps(one.protocol))
            by_hash = seen.setdefault(one.domain, {})
            first, where = by_hash.setdefault(one.protocol_hash, (protocol, name))
            if protocol != first:
                raise ValueError(
                    f'{one.domain!r}: {where} and {name} have the same protocol hash '
                    f'{one.protocol_hash} but differ in {_differences(first, protocol)[1]}; one '
                    'was edited: evaluate it again'
                )
            times[one.domain, one.protocol_hash] += 1
    notes = []
    for domain, by_hash in seen.items():
        digests = sorted(by_hash, key=lambda digest, domain=domain: -times[domain, digest])
        reference, where = by_hash[digests[0]]
        for digest in digests[1:]:
            protocol, name = by_hash[digest]
            fields, differences = _differences(reference, protocol)
            found = (
                f'{domain} was measured by protocol {digests[0]} in {where} and by {digest} in '
                f'{name}, which differ in {differences}'
            )
            if not mixed:
                same = fields == ['classes']
                way_out = 'count the same (--classes)' if same else 'evaluate both by one protocol'
                raise ValueError(f'{found}; {way_out}, or accept marked numbers (--mixed)')
            notes.append(f'† {found}: numbers so marked are not comparable with their column.')
        seen[domain] = {digest: by_hash[digest] for digest in digests}
    return {d: {h: p for h, (p, _) in by_hash.items()} for d, by_hash in seen.items()}, notes


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[list[str], str]:
    """Return the fields in which two protocols differ, and both values of them in words."""
    fields = [key for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)]
    shown = (f'{key}: {one.get(key)!r:.40} | {other.get(key)!r:.40}' for key in fields[:8])
    return fields, '; '.join(shown)


def _rows(records: Sequence[Record], names: list[str]) -> list[Row]:
    rows: dict[tuple, Row] = {}
    for record, name in zip(records, names, strict=True):
        origin = Provenance.of(record, name)
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
        run.scores |= {domain: scores(one) for domain, one in measured.items()}
    rules = Counter((row.model, row.source) for row in rows.values())
    for row in rows.values():
        row.ambiguous = rules[row.model, row.source] > 1
        row.runs.sort(key=lambda run: (run.seed is None, run.seed or 0))
    return list(rows.values())


#: What a method adds, beside what `method` or `placement` names.
_FURTHER = ('fine_tuned',)


def _baseline(records: Sequence[Record], wanted: str | None) -> str:
    """Return the wanted model, else a plain one by its record, else one by its name, else any."""
    models = list(dict.fromkeys(record.model for record in records))
    if wanted is not None:
        if wanted not in models:
            raise ValueError(f'no model {wanted!r} among the records; choose from {models}')
        return wanted

    def plain(record: Record) -> bool:
        facts = record.provenance
        # Records from before `method` have only the placement.
        named = facts.get('method') or facts.get('placement')
        return named == 'bn' and not any(facts.get(key) for key in _FURTHER)

    by_record = (record.model for record in records if plain(record))
    # Records of predictions from files do not say how the network was made.
    by_name = (model for model in models if _PLAIN_NAME.search(model.lower()))
    return next(by_record, None) or next(by_name, models[0])


_PLAIN_NAME = re.compile(r'^(?!.*ibn).*(resnet|(?<![a-z0-9])(plain|bn)(?![a-z0-9]))')


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
    found = [run.scores[domain] for run in runs]
    iou: dict[int, list[float]] = {}
    for one in found:
        for index, value in zip(one.classes, one.iou, strict=True):
            iou.setdefault(index, []).append(100 * value)
    gaps = [
        100 * (run.scores[domain].miou - run.scores[home].miou)
        for run in runs
        if home in run.scores and domain != home
    ]
    return Cell(
        miou=Stat.of(100 * one.miou for one in found),
        accuracy=Stat.of(100 * one.accuracy for one in found),
        iou={index: Stat.of(values) for index, values in iou.items()},
        counted=counted(found),
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
        lengths = {p.training_iterations for run in row.runs for p in run.provenance} - {None}
        if len(lengths) > 1:
            found = ', '.join(map(str, sorted(lengths)))
            notes.append(f'{row.name}: its runs were trained for different lengths ({found}).')
        for domain, cell in row.cells.items():
            measured = sum(domain in run.measured for run in row.runs)
            if measured < len(row.runs):
                notes.append(
                    f'{row.name}: {measured} of {len(row.runs)} runs measured on {domain}.'
                )
            if any(n < of for n, of in cell.counted):
                fewer.setdefault(f'{fractions(cell.counted)} classes on {domain}', []).append(
                    row.name
                )
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
