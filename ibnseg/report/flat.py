"""A report for other programs: CSV in the long format, JSON in full precision."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import astuple
from typing import Any

from . import headline
from .certainty import Certainty
from .grid import Grid
from .recount import by_other_maps, relabelled
from .table import Cell, Group, Row, Run, Stat, Table, by_class, scores, short_commit

SCHEMA = 'ibnseg-report-1'

_TABLE = (
    *('model', 'source', 'selected_by', 'oracle', 'seed', 'domain', 'measure', 'class', 'percent'),
    *('classes_counted', 'classes', 'images', 'label_space', 'protocol', 'protocol_hash'),
    *('comparable', 'checkpoint_sha256', 'commit', 'pairs', 'training', 'engine'),
)
_STATISTICS = (
    *('source', 'domain', 'protocol', 'model', 'against', 'images', 'seeds', 'value', 'low'),
    *('high', 'other_sign', 'by_seed_mean', 'by_seed_std', 'by_seed_n'),
    *('verdict', 'low_over_both', 'high_over_both', 'p', 'p_of_all', 'over', 'units'),
)


def long(table: Table) -> Grid:
    """Return one line a model x seed x domain x class, and one each for mIoU and pixel accuracy.

    A domain that an evaluation lost has one line, 'not measured', with the reason as its class.

    Where a dataset has two label maps, its domain by the other map follows from the raw ids.
    """
    runs = ((group, row, run) for group in table.groups for row in group.rows for run in row.runs)
    return Grid(_TABLE, [line for of in runs for line in _lines(table, *of)])


def _lines(table: Table, group: Group, row: Row, run: Run) -> Iterator[list[Any]]:
    origin = run.origins[0]
    who = row.model, row.source, row.rule, 'yes' if row.oracle else 'no', run.seed
    for domain, why in run.unmeasured.items():
        lost = [*who, domain, 'not measured', why]
        yield [*lost, *[''] * (len(_TABLE) - len(lost))]
    for domain, measured in run.measured.items():
        comparable = measured.protocol_hash == group.reference[domain]
        others = (one for one in by_other_maps(measured) if one.domain not in run.measured)
        for one in (measured, *others):
            scored = scores(one)
            values = [('mIoU', '', scored.miou), ('pixel accuracy', '', scored.accuracy)]
            values += [('IoU', table.classes[i], iou) for i, iou in by_class(scored).items()]
            for value in values:
                yield [
                    *who,
                    *(one.domain, *value, scored.counted, len(scored.classes), one.images),
                    *(str(one.protocol.get(key, '')) for key in ('space', 'name')),
                    *(one.protocol_hash, 'yes' if comparable else 'no'),
                    *((origin['sha256'] or '')[:12], short_commit(origin['commit'])),
                    *(row.training.pairs, row.training.words, row.engine or 'torch'),
                ]


def statistics(found: Certainty) -> Grid:
    """Return one line a row and column, and one a pair and column; `against` is empty for the
    former. Percent, but for `other_sign`, `p` and `p_of_all`, shares. `..._over_both`: over images
    (or the drives that they are of) and seeds."""
    lines = []
    for one in (*found.alone, *found.pairs):
        over, verdict = one.interval, one.verdict
        judged = ['', '', '', '', '']
        if verdict:
            shares = [_share(p) for p in (one.p, one.p_of_all)]
            judged = [verdict.word, verdict.low, verdict.high, *shares]
        lines.append(
            [
                *(one.source, one.domain, one.protocol, one.model, one.against, one.images),
                *(one.seeds, over.value, over.low, over.high),
                *(_share(over.other_sign) if one.against else '', *astuple(one.by_seed)),
                *(*judged, over.over, over.units),
            ]
        )
    return Grid(_STATISTICS, lines)


def _share(value: float) -> str:
    return f'{value:.4f}'


def images(found: Certainty) -> Grid:
    """Return one line an image and model."""
    lines = [
        [photos.source, photos.domain, photos.protocol, key, model, float(miou), float(accuracy)]
        for photos in found.photos
        for key, *values in photos.images
        for model, miou, accuracy in zip(photos.models, *values, strict=True)
    ]
    header = ['source', 'domain', 'protocol', 'image', 'model', 'miou', 'accuracy']
    return Grid(header, lines)


def to_json(table: Table, found: Certainty | None = None) -> str:
    """Return the table, and the statistics if any, as strict JSON, in percent; null where nothing
    was counted."""
    content = dict(
        schema=SCHEMA,
        unit='percent',
        baseline=table.baseline,
        classes=table.classes,
        headline=[' '.join(said).strip() for said in headline.sentences(table, found)],
        notes=table.notes,
        protocols=table.protocols,
        rows=[_row(table, group, row) for group in table.groups for row in group.rows],
        label_maps=[
            {key: value for key, value in one.items() if key not in ('row', 'counted')}
            | dict(training=one['row'].variant)
            | dict(iou_difference=_by_class(table, one['iou_difference']))
            for group in table.groups
            for rows in relabelled(group)
            for one in rows
        ],
    )
    if found:
        pairs = [vars(one) | dict(verdict=one.verdict) for one in found.pairs]
        content['statistics'] = dict(alone=found.alone, pairs=pairs, notes=found.notes)
    # `vars`: a Stat by its fields. NaN is not JSON; Python writes it all the same, and reads it
    # to replace it.
    plain = json.loads(json.dumps(content, default=vars), parse_constant=lambda _: None)
    return json.dumps(plain, indent=1, allow_nan=False) + '\n'


def _row(table: Table, group: Group, row: Row) -> dict[str, Any]:
    def shown(cell: Cell) -> dict[str, Any]:
        return dict(
            miou=cell.miou,
            gap=cell.gap,
            delta=cell.delta,
            accuracy=cell.accuracy,
            comparable=not cell.mixed,
            iou=_by_class(table, cell.iou),
        )

    return dict(
        model=row.model,
        source=row.source,
        selected_by=row.rule,
        oracle=row.oracle,
        engine=row.engine or 'torch',
        training=dict(
            variant=row.variant,
            digest=row.training.digest,
            known=row.training.known,
            facts=row.training.facts,
        ),
        protocol=group.protocol,
        domains={domain: shown(cell) for domain, cell in row.cells.items()},
        runs=[
            dict(
                seed=run.seed,
                records=run.origins,
                domains={domain: _measured(run, domain) for domain in run.measured},
            )
            for run in row.runs
        ],
    )


def _by_class(table: Table, stats: Mapping[int, Stat]) -> list[dict[str, Any]]:
    return [{'class': table.classes[index], **vars(stat)} for index, stat in stats.items()]


def _measured(run: Run, domain: str) -> dict[str, Any]:
    scored = run.scores[domain]
    return dict(
        protocol_hash=run.measured[domain].protocol_hash,
        images=run.measured[domain].images,
        miou=scored.miou,
        accuracy=scored.accuracy,
        counted=scored.counted,
        of=len(scored.classes),
        iou=list(scored.iou),
        classes=scored.classes,
    )
