"""A table for other programs: CSV in the long format, JSON in full precision."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from . import render
from .grid import Grid
from .recount import Relabelled, by_other_maps, relabelled
from .table import Cell, Row, Run, Stat, Table, scores
from .words import short_commit

SCHEMA = 'ibnseg-report-1'

_HEADER = (
    *('model', 'source', 'selected_by', 'oracle', 'seed', 'domain', 'measure', 'class', 'percent'),
    *('classes_counted', 'classes', 'images', 'label_space', 'protocol', 'protocol_hash'),
    *('comparable', 'checkpoint_sha256', 'commit'),
)


def csv(table: Table) -> str:
    """Return one line a model x seed x domain x class, and one each for mIoU and pixel accuracy.

    Where a dataset has two label maps, its domain by the other map follows from the raw ids.
    Percent with two decimals, empty where nothing was counted.
    """
    lines = [line for row in table.rows for run in row.runs for line in _lines(table, row, run)]
    return render.csv(Grid(_HEADER, lines))


def _lines(table: Table, row: Row, run: Run) -> Iterator[list[Any]]:
    origin = run.provenance[0]
    for domain, measured in run.measured.items():
        comparable = measured.protocol_hash == next(iter(table.protocols[domain]))
        others = (one for one in by_other_maps(measured) if one.domain not in run.measured)
        for one in (measured, *others):
            scored = scores(one)
            names = (table.classes[index] for index in scored.classes)
            values = [
                ('mIoU', '', scored.miou),
                ('pixel accuracy', '', scored.accuracy),
                *(('IoU', name, iou) for name, iou in zip(names, scored.iou, strict=True)),
            ]
            for measure, name, value in values:
                yield [
                    *(row.model, row.source, row.rule, 'yes' if row.oracle else 'no', origin.seed),
                    *(one.domain, measure, name, 100 * float(value)),
                    *(scored.counted, len(scored.classes), one.images),
                    *(str(one.protocol.get(key, '')) for key in ('space', 'name')),
                    *(one.protocol_hash, 'yes' if comparable else 'no'),
                    *((origin.sha256 or '')[:12], short_commit(origin.commit)),
                ]


def to_json(table: Table, statistics: Mapping[str, Any] | None = None) -> str:
    """Return the table, and the statistics if any, as strict JSON, in percent; null where nothing
    was counted."""
    maps = (one for group in table.groups for _, rows in relabelled(group) for one in rows)
    content = dict(
        schema=SCHEMA,
        unit='percent',
        baseline=table.baseline,
        classes=table.classes,
        notes=table.notes,
        protocols=table.protocols,
        rows=[_row(table, row) for row in table.rows],
        label_maps=[_label_map(table, one) for one in maps],
    )
    if statistics is not None:
        content['statistics'] = statistics
    # NaN is not JSON; Python writes it all the same, and reads it to replace it.
    plain = json.loads(json.dumps(content), parse_constant=lambda _: None)
    return json.dumps(plain, indent=1, allow_nan=False) + '\n'


def _row(table: Table, row: Row) -> dict[str, Any]:
    return dict(
        model=row.model,
        source=row.source,
        selected_by=row.rule,
        oracle=row.oracle,
        domains={domain: _cell(table, cell) for domain, cell in row.cells.items()},
        runs=[
            dict(
                seed=run.seed,
                records=[asdict(origin) for origin in run.provenance],
                domains={domain: _measured(run, domain) for domain in run.measured},
            )
            for run in row.runs
        ],
    )


def _cell(table: Table, cell: Cell) -> dict[str, Any]:
    return dict(
        miou=asdict(cell.miou),
        gap=cell.gap and asdict(cell.gap),
        delta=cell.delta,
        accuracy=asdict(cell.accuracy),
        comparable=not cell.mixed,
        iou=_by_class(table, cell.iou),
    )


def _by_class(table: Table, stats: Mapping[int, Stat]) -> list[dict[str, Any]]:
    return [{'class': table.classes[index], **asdict(stat)} for index, stat in stats.items()]


def _measured(run: Run, domain: str) -> dict[str, Any]:
    scored = run.scores[domain]
    return dict(
        protocol_hash=run.measured[domain].protocol_hash,
        images=run.measured[domain].images,
        miou=100 * scored.miou,
        accuracy=100 * scored.accuracy,
        counted=scored.counted,
        of=len(scored.classes),
        iou=[100 * float(value) for value in scored.iou],
        classes=list(scored.classes),
    )


def _label_map(table: Table, one: Relabelled) -> dict[str, Any]:
    return dict(
        model=one.row.model,
        source=one.row.source,
        selected_by=one.row.rule,
        domain=one.domain,
        other=one.other.domain,
        protocol=one.other.protocol,
        protocol_hash=one.other.protocol_hash,
        miou=asdict(one.before),
        miou_other=asdict(one.after),
        difference=asdict(one.change),
        iou_difference=_by_class(table, one.iou),
    )
