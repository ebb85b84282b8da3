"""The same predictions counted otherwise: over other classes, or by a dataset's other label map."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from .. import domains, labels
from ..measure import protocols
from ..measure.records import Measurement, Record
from .table import Group, Row, Stat, by_class, fractions, scores


def recount(record: Record, classes: str) -> Record:
    """Return the record over another class set; its protocols say so, so they have other hashes.

    Args:
        classes: of `protocols.CLASS_SETS`, or 'present': those with a pixel in the ground truth.
            So the denominator does not depend on what a model predicts.

    Raises ValueError: unknown class set, or a measurement of no known label space.
    """
    found = []
    for measured in record.domains:
        space = measured.protocol.get('space')
        if space not in labels.SPACES:
            raise ValueError(
                f'{measured.domain}: label space {space!r:.40} is unknown, so is which of its '
                'classes are in a class set; leave --classes away'
            )
        if classes == 'present':
            ids = np.flatnonzero(measured.matrix.sum(1)).tolist()
        else:
            ids = list(protocols.class_set(space, classes))
        found.append(_changed(measured, dict(classes=ids)))
    return replace(record, domains=found)


def _changed(measured: Measurement, changes: dict[str, Any], **fields: Any) -> Measurement:
    protocol = measured.protocol | changes
    digest = protocols.protocol_hash(protocol)
    return replace(measured, protocol=protocol, protocol_hash=digest, **fields)


def by_other_maps(measured: Measurement) -> Iterator[Measurement]:
    """Yield the same predictions, measured by each other published map of the dataset's ids.

    Name and hash of the protocol are those that measuring so would have given. Where its setting
    says nothing of the dataset by that map, nobody publishes such numbers, and the name ends with
    ', relabelled'.
    """
    if measured.raw is None or measured.domain.split(':')[0] not in domains.DOMAINS:
        return
    row, split = domains.parse(measured.domain)
    every = set(measured.classes) == set(labels.class_ids(row.space))
    name = str(measured.protocol.get('name', ''))
    setting = protocols.SETTINGS.get(name.removesuffix('-bfloat16'))
    for other in domains.DOMAINS.values():
        if other.folder == row.folder and other.space in {*labels.maps(row.space)} - {row.space}:
            classes = labels.class_ids(other.space) if every else measured.classes
            changes = dict(domain=other.name, space=other.space, classes=list(classes))
            if setting and not setting.covers(other.name):
                changes['name'] = f'{name}, relabelled'
            matrix = labels.fold(measured.raw, other.space)
            yield _changed(measured, changes, domain=f'{other.name}:{split}', matrix=matrix)


def relabelled(group: Group) -> list[list[dict[str, Any]]]:
    """Return the rows by each other label map of each domain, in percent.

    Only of rows that were measured by the column's protocol. As in report.json, but for
    `iou_difference`, which is by class index (of the classes that both maps count), `row`, and
    `counted`: classes counted, of how many, by the one and by the other map.
    """
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for domain in group.domains:
        for row in group.rows:
            if domain in row.cells and not row.cells[domain].mixed:
                for one in _of_row(row, domain):
                    found.setdefault((domain, one['other']), []).append(one)
    return list(found.values())


def _of_row(row: Row, domain: str) -> Iterator[dict[str, Any]]:
    before = row.cells[domain].scores
    runs = [run.measured[domain] for run in row.runs if domain in run.measured]
    # As many measurements of each run as there are other maps; none of a run without its raw ids.
    for others in zip(*map(by_other_maps, runs), strict=False):
        after = [scores(other) for other in others]
        iou = [(by_class(b), by_class(a)) for b, a in zip(before, after, strict=True)]
        yield dict(
            model=row.model,
            source=row.source,
            selected_by=row.rule,
            domain=domain,
            other=others[0].domain,
            protocol=others[0].protocol,
            protocol_hash=others[0].protocol_hash,
            miou=row.cells[domain].miou,
            miou_other=Stat.of(one.miou for one in after),
            difference=Stat.of(a.miou - b.miou for b, a in zip(before, after, strict=True)),
            iou_difference={
                i: Stat.of(a[i] - b[i] for b, a in iou) for i in iou[0][0] if i in iou[0][1]
            },
            row=row,
            counted=f'{fractions(before)}, {fractions(after)}',
        )
