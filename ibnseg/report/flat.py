"""A table for other programs: CSV in the long format, JSON in full precision."""

import csv as _csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from ..measure.records import Measurement
from ..text import clean
from .maps import by_map, by_other_maps, scores
from .table import Provenance, Row, Run, Table
from .words import short_commit

SCHEMA = 'ibnseg-report-1'

_HEADER = (
    *('model', 'source', 'selected_by', 'oracle', 'seed', 'domain', 'measure', 'class', 'percent'),
    *('classes_counted', 'classes', 'images', 'label_space', 'protocol', 'protocol_hash'),
    *('comparable', 'checkpoint_sha256', 'commit'),
)


def csv(table: Table) -> str:
    """Return one line a model x seed x domain x class, and one each for mIoU and pixel accuracy.

    Where a data set has two label maps, its domain by the other map follows from the raw ids.

    Percent with two decimals, empty where nothing was counted. Text that a spreadsheet would take
    for a formula is preceded by an apostrophe.
    """
    out = io.StringIO()
    writer = _csv.writer(out, lineterminator='\n')
    writer.writerow(_HEADER)
    for row in table.rows:
        for run in row.runs:
            writer.writerows([_text(cell) for cell in line] for line in _lines(table, row, run))
    return out.getvalue()


def _lines(table: Table, row: Row, run: Run) -> Iterator[list[Any]]:
    origin = run.provenance[0]
    for domain, measurement in run.measured.items():
        comparable = measurement.protocol_hash == next(iter(table.protocols[domain]))
        others = (one for one in by_other_maps(measurement) if one.domain not in run.measured)
        for one in (measurement, *others):
            yield from _of_domain(table, row, origin, one, 'yes' if comparable else 'no')


def _of_domain(
    table: Table, row: Row, origin: Provenance, measurement: Measurement, comparable: str
) -> Iterator[list[Any]]:
    scored, protocol = scores(measurement), measurement.protocol
    values = [
        ('mIoU', '', scored.miou),
        ('pixel accuracy', '', scored.accuracy),
        *(
            ('IoU', table.classes[index], iou)
            for index, iou in zip(scored.classes, scored.iou, strict=True)
        ),
    ]
    for measure, name, value in values:
        yield [
            *(row.model, row.source, row.rule, 'yes' if row.oracle else 'no', origin.seed),
            *(measurement.domain, measure, name, 100 * float(value)),
            *(scored.counted, len(scored.classes), measurement.images),
            *(str(protocol.get('space', '')), str(protocol.get('name', ''))),
            *(measurement.protocol_hash, comparable),
            *((origin.sha256 or '')[:12], short_commit(origin.commit)),
        ]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f'{value:.2f}' if math.isfinite(value) else ''
    if not isinstance(value, str):
        return '' if value is None else str(value)
    value = clean(value)
    return f"'{value}" if value.lstrip().startswith(('=', '+', '-', '@')) else value


def to_json(table: Table, statistics: Mapping[str, Any] | None = None) -> str:
    """Return the table, and the statistics if any, as strict JSON, in percent; null where nothing
    was counted."""
    content = dict(
        schema=SCHEMA,
        unit='percent',
        baseline=table.baseline,
        classes=table.classes,
        notes=table.notes,
        protocols=table.protocols,
        rows=[_row(table, row) for row in table.rows],
        label_maps=[
            dict(
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
                iou_difference=[
                    {'class': table.classes[index], **asdict(stat)}
                    for index, stat in one.iou.items()
                ],
            )
            for group in table.groups
            for _, rows in by_map(group)
            for one in rows
        ],
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
        domains={
            domain: dict(
                miou=asdict(cell.miou),
                gap=cell.gap and asdict(cell.gap),
                delta=cell.delta,
                accuracy=asdict(cell.accuracy),
                comparable=not cell.mixed,
                iou=[
                    {'class': table.classes[index], **asdict(iou)}
                    for index, iou in cell.iou.items()
                ],
            )
            for domain, cell in row.cells.items()
        },
        runs=[
            dict(
                seed=run.seed,
                records=[asdict(origin) for origin in run.provenance],
                domains={
                    domain: dict(
                        protocol_hash=run.measured[domain].protocol_hash,
                        images=run.measured[domain].images,
                        miou=100 * scores.miou,
                        accuracy=100 * scores.accuracy,
                        counted=scores.counted,
                        of=len(scores.classes),
                        iou=[100 * float(value) for value in scores.iou],
                        classes=list(scores.classes),
                    )
                    for domain, scores in run.scores.items()
                },
            )
            for run in row.runs
        ],
    )
