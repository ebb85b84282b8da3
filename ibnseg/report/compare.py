"""Records -> `Table`: what may stand side by side, and the differences."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..measure.records import SCORED, Record
from ..text import meant
from .recount import recount
from .table import Cell, Group, Row, Run, Stat, Table, by_class, fractions, origin, scores

_Protocols = dict[str, dict[str, dict[str, Any]]]


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
        classes: count another class set (see `recount`) than the protocols do.

    Raises:
        ValueError: nothing to show, an unknown `baseline`, other training classes, one run given
            twice, or (without `mixed`) one domain measured by different protocols.
    """
    if not records:
        raise ValueError('no records; give the *.record.json files that an evaluation wrote')
    names = list(map(str, files)) or [f'{r.model} ({n})' for n, r in enumerate(records, 1)]
    if classes:
        records = [recount(record, classes) for record in records]
    named = list(zip(records, names, strict=True))
    _check(named)
    protocols, notes = _protocols(named, mixed)
    rows = _rows(named)
    baseline = _baseline(records, baseline)
    rows.sort(key=lambda row: row.model != baseline)
    groups = [_group(source, rows, protocols) for source in dict.fromkeys(r.source for r in rows)]
    for group in groups:
        _compare(group, baseline)
        notes += _notes(group)
    return Table(list(records[0].classes), baseline, groups, protocols, list(dict.fromkeys(notes)))


def _check(named: list[tuple[Record, str]]) -> None:
    first, where = named[0]
    for record, name in named:
        if record.classes != first.classes:
            raise ValueError(
                f'{name}: its training classes ({len(record.classes)}) are not those of {where} '
                f'({len(first.classes)}); make one report a set of classes'
            )
        if not record.domains:
            raise ValueError(f'{name}: holds no domain; evaluate that checkpoint again')
        domains = [one.domain for one in record.domains]
        if len(set(domains)) < len(domains):
            raise ValueError(f'{name}: a domain is measured twice ({", ".join(domains)})')


def _protocols(named: list[tuple[Record, str]], mixed: bool) -> tuple[_Protocols, list[str]]:
    """Return domain -> hash -> protocol, the most frequent hash first, and notes on mixtures."""
    measured = [(one, name) for record, name in named for one in record.domains]
    times = Counter((one.domain, one.protocol_hash) for one, _ in measured)
    first: dict[tuple[str, str], tuple[dict[str, Any], str]] = {}
    for one, name in measured:
        # Through JSON, so that a fresh record (tuples) equals one that was read (lists).
        content = json.loads(json.dumps(one.protocol))
        protocol, where = first.setdefault((one.domain, one.protocol_hash), (content, name))
        if content != protocol:
            raise ValueError(
                f'{one.domain!r}: {where} and {name} have the same protocol hash '
                f'{one.protocol_hash} but differ in {_differences(protocol, content)}; one was '
                'edited: evaluate it again'
            )
    found: _Protocols = {domain: {} for domain, _ in first}
    notes = []
    for domain, by_hash in found.items():
        usual, *others = (digest for (d, digest), _ in times.most_common() if d == domain)
        reference, where = first[domain, usual]
        by_hash[usual] = reference
        for digest in others:
            protocol, name = first[domain, digest]
            by_hash[digest] = protocol
            what = (
                f'{domain} was measured by protocol {usual} in {where} and by {digest} in {name}, '
                f'which differ in {_differences(reference, protocol)}'
            )
            if not mixed:
                same = protocol | dict(classes=reference.get('classes')) == reference
                way_out = 'count the same (--classes)' if same else 'evaluate both by one protocol'
                raise ValueError(f'{what}; {way_out}, or accept marked numbers (--mixed)')
            notes.append(f'† {what}: numbers so marked are not comparable with their column.')
    return found, notes


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return both values of the fields in which two protocols differ."""
    fields = [key for key in one | other if one.get(key) != other.get(key)]
    return '; '.join(f'{key}: {one.get(key)!r:.40} | {other.get(key)!r:.40}' for key in fields[:8])


def _rows(named: list[tuple[Record, str]]) -> list[Row]:
    rows: dict[tuple, Row] = {}
    for record, name in named:
        known = origin(record, name)
        key = record.model, record.source, known['rule']
        row = rows.setdefault(key, Row(*key))
        measured = {one.domain: one for one in record.domains}
        run = next((run for run in row.runs if run.seed == known['seed']), None)
        if run is None:
            run = Run(known['seed'])
            row.runs.append(run)
        # One checkpoint may have been measured in two sittings, on other domains each.
        elif (
            (known['sha256'] is None and known['rule'] != SCORED)
            or known['sha256'] != run.origins[0]['sha256']
            or measured.keys() & run.measured.keys()
        ):
            raise ValueError(
                f'{run.origins[0]["file"]} and {name} are both of {record.model!r} from '
                f'{record.source!r}, seed {known["seed"]}; give one of them, or tell them apart by '
                'model name or seed'
            )
        run.origins.append(known)
        run.measured |= measured
        run.scores |= {domain: scores(one) for domain, one in measured.items()}
    rules = Counter((row.model, row.source) for row in rows.values())
    for row in rows.values():
        row.ambiguous = rules[row.model, row.source] > 1
        row.runs.sort(key=lambda run: (run.seed is None, run.seed or 0))
    return list(rows.values())


_PLAIN_NAME = re.compile(r'^(?!.*ibn).*(resnet|(?<![a-z0-9])(plain|bn)(?![a-z0-9]))')


def _baseline(records: Sequence[Record], wanted: str | None) -> str:
    """Return the wanted model, else a plain one by its record, else one by its name, else any."""
    models = list(dict.fromkeys(record.model for record in records))
    if wanted is not None:
        if wanted not in models:
            near = meant(wanted, models)
            raise ValueError(f'no model {wanted!r} among the records; choose from {models}{near}')
        return wanted

    for record in records:
        facts = record.provenance
        # Records from before `method` have only the placement.
        named = facts.get('method') or facts.get('placement')
        if named == 'bn' and not facts.get('fine_tuned'):
            return record.model
    # Records of predictions from files do not say how the network was made.
    return next((model for model in models if _PLAIN_NAME.search(model.lower())), models[0])


def _group(source: str, rows: list[Row], protocols: _Protocols) -> Group:
    rows = [row for row in rows if row.source == source]
    runs = [run for row in rows for run in row.runs]
    domains = list(dict.fromkeys(domain for run in runs for domain in run.measured))
    own = [d for d in domains if d.split(':')[0] == source.split(' -> ')[-1].split(':')[0]]
    # The split that selected; where none of the source's did, one that was not trained on.
    validated = {domain for run in runs for one in run.origins for domain in one['validated']}
    own = [d for d in own if d in validated] or own
    home = next((d for d in own if d != source), own[0] if own else None)
    domains.sort(key=lambda domain: domain != home)
    for row in rows:
        for domain in domains:
            if any(domain in run.measured for run in row.runs):
                row.cells[domain] = _cell(row, domain, home, next(iter(protocols[domain])))
    return Group(source, home, domains, rows)


def _cell(row: Row, domain: str, home: str | None, reference: str) -> Cell:
    runs = [run for run in row.runs if domain in run.measured]
    found = [run.scores[domain] for run in runs]
    iou = [by_class(one) for one in found]
    away = [run.scores for run in runs if home in run.scores and domain != home]
    protocols = list(dict.fromkeys(run.measured[domain].protocol_hash for run in runs))
    mixed = protocols != [reference]
    return Cell(
        scores=found,
        protocols=protocols,
        miou=Stat.of(one.miou for one in found),
        accuracy=Stat.of(one.accuracy for one in found),
        iou={i: Stat.of(one.get(i, np.nan) for one in iou) for one in iou for i in one},
        gap=Stat.of(one[domain].miou - one[home].miou for one in away) if away else None,
        mixed=mixed,
        gap_mixed=domain != home and home in row.cells and (mixed or row.cells[home].mixed),
    )


def _compare(group: Group, baseline: str) -> None:
    """Fill in deltas and the best of each column."""
    plain = [row for row in group.rows if row.model == baseline]
    for row in group.rows:
        # By the same rule if there is one; an honest row is never measured against an oracle.
        same = (p for p in plain if p.rule == row.rule)
        against = next(same, None) or next((p for p in plain if not p.oracle), None)
        if against is None or row.model == baseline:
            continue
        for domain in row.cells.keys() & against.cells.keys():
            cell, other = row.cells[domain], against.cells[domain]
            cell.delta = cell.miou.mean - other.miou.mean
            cell.delta_mixed = cell.mixed or other.mixed
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
        lengths = {one['training_iterations'] for run in row.runs for one in run.origins} - {None}
        if len(lengths) > 1:
            found = ', '.join(map(str, sorted(lengths)))
            notes.append(f'{row.name}: its runs were trained for different lengths ({found}).')
        for domain, cell in row.cells.items():
            measured, every = len(cell.scores), len(row.runs)
            if measured < every:
                notes.append(f'{row.name}: {measured} of {every} runs measured on {domain}.')
            if any(one.counted < len(one.classes) for one in cell.scores):
                what = f'{fractions(cell.scores)} classes on {domain}'
                fewer.setdefault(what, []).append(row.name)
            at_home = row.cells.get(group.home)
            if cell.gap and cell.iou.keys() != at_home.iou.keys():
                notes.append(
                    f'The gap on {domain} is between {len(cell.iou)} classes there and '
                    f'{len(at_home.iou)} on {group.home}.'
                )
    return notes + [
        f'{", ".join(models)}: mIoU over {what}; the others are in neither truth nor prediction.'
        for what, models in fewer.items()
    ]
