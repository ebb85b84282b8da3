"""Records -> `Table`: what may stand side by side, and the differences."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..measure.records import SCORED, Record
from ..text import clean, meant
from .columns import Named, Protocols, by_protocol, contents, protocols
from .recount import recount
from .table import Cell, Group, Row, Run, Stat, Table, by_class, fractions, origin, scores
from .training import Training, described, differing, marks


def tabulate(
    records: Sequence[Record],
    baseline: str | None = None,
    mixed: bool = False,
    files: Sequence[str | Path] = (),
    classes: str | None = None,
) -> Table:
    """Put records side by side.

    Args:
        records: of one model, source, rule and training, those of different seeds become one row.
            A network measured by several protocols is in a group for each of them.
        baseline: model to take differences against; by default the one that looks plain.
        mixed: show a domain measured by different protocols, marked, instead of refusing.
        files: where each record was read from, for messages; as many or none.
        classes: count another class set (see `recount`) than the protocols do.

    Raises:
        ValueError: nothing to show, an unknown `baseline`, other training classes, two runs of one
            seed, two results of one checkpoint, or (without `mixed`) one domain measured by
            different protocols.
    """
    if not records:
        raise ValueError('no records; give the *.record.json files that an evaluation wrote')
    names = list(map(str, files)) or [f'{r.model} ({n})' for n, r in enumerate(records, 1)]
    if classes:
        records = [recount(record, classes) for record in records]
    named = list(zip(records, names, strict=True))
    _check(named)
    baseline = _baseline(records, baseline)
    parts = [(words, part, _rows(part)) for words, part in by_protocol(named).items()]
    _mark([row for *_, rows in parts for row in rows])
    groups, every, notes = [], {}, []
    for words, part, rows in parts:
        known, said = protocols(part, mixed)
        rows.sort(key=lambda row: row.model != baseline)
        for source in dict.fromkeys(row.source for row in rows):
            group = _group(source, rows, known)
            group.protocol = words
            _compare(group, baseline)
            groups.append(group)
            said += _notes(group)
        notes += [f'Protocol {words}: {note}' if words else note for note in said]
        for domain, by_hash in known.items():
            every[domain] = every.get(domain, {}) | by_hash
    return Table(list(records[0].classes), baseline, groups, every, list(dict.fromkeys(notes)))


def _check(named: Named) -> None:
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
    contents(named)


def _rows(named: Named) -> list[Row]:
    rows: dict[tuple, Row] = {}
    for record, name in named:
        known = origin(record, name)
        training = Training.of(record, known)
        key = record.model, record.source, known['rule']
        engine = known['engine']
        row = rows.setdefault((*key, training.key, engine), Row(*key, training, engine))
        run = next((run for run in row.runs if run.seed == known['seed']), None)
        if run is None:
            run = Run(known['seed'])
            row.runs.append(run)
        else:
            _check_same(run, record, known)
        run.origins.append(known)
        run.measured = {one.domain: one for one in record.domains} | run.measured
        run.scores = {domain: scores(one) for domain, one in run.measured.items()}
        run.unmeasured |= _unmeasured(record)
        for domain in run.measured:
            run.unmeasured.pop(domain, None)
    for row in rows.values():
        row.runs.sort(key=lambda run: (run.seed is None, run.seed or 0))
    return list(rows.values())


def _unmeasured(record: Record) -> dict[str, str]:
    """Return the domains that an evaluation lost, and why, as its record says."""
    stated = record.provenance.get('unmeasured')
    items = stated.items() if isinstance(stated, dict) else ()
    return {clean(domain, 80): clean(why, 300) for domain, why in items if isinstance(why, str)}


def _mark(rows: list[Row]) -> None:
    """Tell rows of one model and source apart, by rule and by training."""
    for row in rows:
        alike = [r for r in rows if (r.model, r.source) == (row.model, row.source)]
        row.ambiguous = len({other.rule for other in alike}) > 1
        trainings = {other.training.key: other.training for other in alike}
        found = marks([*trainings.values()])
        row.variant = found[[*trainings].index(row.training.key)]


def _check_same(run: Run, record: Record, known: Mapping[str, Any]) -> None:
    """Refuse a record of the seed of a run, unless it is of the same checkpoint.

    That may have been measured in several sittings, on other domains or again.
    """
    first = run.origins[0]
    files = f'{first["file"]} and {known["file"]} are both of'
    who = f'{record.model!r} from {record.source!r}, seed {known["seed"]}'
    same = known['sha256'] == first['sha256']
    if not same or (known['sha256'] is None and known['rule'] != SCORED):
        raise ValueError(
            f'{files} {who}, but of other checkpoints; give one of them, or tell them apart by '
            'model name or seed'
        )
    for one in record.domains:
        before = run.measured.get(one.domain, one)
        if before.protocol_hash != one.protocol_hash or not np.array_equal(
            before.matrix, one.matrix
        ):
            other = [o['file'] for o in run.origins]
            raise ValueError(
                f'{" or ".join(other)} and {known["file"]} measured {one.domain} with one '
                f'checkpoint of {who}, by protocols {before.protocol_hash} and '
                f'{one.protocol_hash}, with other results; give one of them'
            )


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


def _group(source: str, rows: list[Row], protocols: Protocols) -> Group:
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
    reference = {domain: next(iter(protocols[domain])) for domain in domains}
    return Group(source, home, domains, rows, reference)


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
        rivals = [p for p in plain if p.rule == row.rule] or [p for p in plain if not p.oracle]
        if not rivals or row.model == baseline:
            continue
        row.against = against = min(rivals, key=lambda plain: _distance(row, plain))
        for domain in row.cells.keys() & against.cells.keys():
            cell, other = row.cells[domain], against.cells[domain]
            cell.delta = cell.miou.mean - other.miou.mean
            cell.delta_mixed = cell.mixed or other.mixed
    for domain in group.domains:
        name = domain.split(':')[0]
        honest = [row for row in group.rows if not (row.oracle or name in row.saw)]
        cells = [row.cells[domain] for row in honest if domain in row.cells]
        rivals = [c for c in cells if not c.mixed and np.isfinite(c.miou.mean)]
        # As shown: a tie at one decimal is a tie.
        shown = {round(cell.miou.mean, 1) for cell in rivals}
        for cell in rivals:
            cell.best = len(shown) > 1 and round(cell.miou.mean, 1) == max(shown)


def _trained_otherwise(row: Row, other: Row) -> list[str]:
    """Return in what the trainings of two rows differ, but for their networks."""
    names = differing([row.training, other.training])
    return [name for name in names if not name.startswith('model.')]


def _distance(row: Row, other: Row) -> tuple[bool, bool, int]:
    unlike = row.training.known is not other.training.known
    return row.engine != other.engine, unlike, len(_trained_otherwise(row, other))


def _notes(group: Group) -> list[str]:
    notes = []
    if any(row.oracle for row in group.rows):
        notes.append(
            'Target oracle: the checkpoint was selected by its score on a target domain; an upper '
            'bound that cannot be had in practice, so it is never the best of a column.'
        )
    notes += [
        f'{row.name}: its training read photos of {", ".join(row.saw)}, without labels. That is '
        'adaptation to them, not generalisation, so it is not the best of their columns.'
        for row in group.rows
        if row.saw
    ]
    variants: dict[tuple, list[Row]] = {}
    for row in group.rows:
        variants.setdefault((row.model, row.rule, row.engine), []).append(row)
    for rows in variants.values():
        if len(rows) > 1:
            trainings = [row.training for row in rows]
            what = described(trainings, differing(trainings)) or 'the others do not say how'
            names = ' | '.join(row.name for row in rows)
            notes.append(f'Not trained alike, so not seeds of one row: {names}. {what}.')
    fewer: dict[str, list[str]] = {}
    for row in group.rows:
        if row.engine:
            versions = dict.fromkeys(o['engine_version'] for run in row.runs for o in run.origins)
            said = ', '.join(filter(None, versions)) or 'version unknown'
            notes.append(f'{row.name}: predicted by {row.engine} ({said}), not by torch.')
        if row.against and row.against.engine != row.engine:
            notes.append(
                f'{row.name} and {row.against.name} were predicted by different engines '
                f'({row.engine or "torch"}, {row.against.engine or "torch"}): their difference is '
                'of both, network and engine.'
            )
        if row.against and (names := _trained_otherwise(row, row.against)):
            what = described([row.training, row.against.training], names)
            notes.append(f'{row.name}, trained otherwise than {row.against.name}: {what}.')
        for run in row.runs:
            seed = f' (seed {run.seed})' if len(row.runs) > 1 else ''
            notes += [
                f'{row.name}{seed}: {domain} is not measured: {why}'
                for domain, why in run.unmeasured.items()
            ]
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
