"""What a data set's other label map would have said, from the matrix over its raw ids."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from .. import domains, labels
from ..measure import protocols
from ..measure.confusion import Scores, score
from ..measure.records import Measurement
from .table import Group, Row, Stat, counted_words


@dataclass(frozen=True)
class Relabelled:
    """A row on a domain, by the label map it was measured by and by another. In percent.

    Args:
        domain: as measured.
        other: by the other label map, of the first run.
        before, after: mIoU by the one and by the other map; `change` is their difference.
        counted: classes counted, of how many, by the one and by the other.
        iou: the difference of each class that both count.
    """

    row: Row
    domain: str
    other: Measurement
    before: Stat
    after: Stat
    change: Stat
    counted: tuple[str, str]
    iou: dict[int, Stat]


def relabelled(group: Group) -> Iterator[Relabelled]:
    """Yield each row on each domain that has other label maps, if of the column's protocol."""
    for domain in group.domains:
        for row in group.rows:
            runs = [run for run in row.runs if domain in run.measured]
            if not runs or row.cells[domain].mixed:
                continue
            before = [run.scores[domain] for run in runs]
            # One way to read them a label map; none of a run without its raw ids.
            for others in zip(*(by_other_maps(run.measured[domain]) for run in runs), strict=False):
                after = [scores(other) for other in others]
                pairs = list(zip(before, after, strict=True))
                yield Relabelled(
                    row=row,
                    domain=domain,
                    other=others[0],
                    before=row.cells[domain].miou,
                    after=Stat.of(100 * one.miou for one in after),
                    change=Stat.of(100 * (b.miou - a.miou) for a, b in pairs),
                    counted=(counted_words(before), counted_words(after)),
                    iou={
                        i: Stat.of(100 * (_iou(b, i) - _iou(a, i)) for a, b in pairs)
                        for i in before[0].classes
                        if i in after[0].classes
                    },
                )


def by_map(group: Group) -> list[tuple[str, list[Relabelled]]]:
    """Return (domain, rows) for each other label map of each domain."""
    found: dict[tuple[str, str], list[Relabelled]] = {}
    for one in relabelled(group):
        found.setdefault((one.domain, one.other.domain), []).append(one)
    return [(domain, rows) for (domain, _), rows in found.items()]


def _iou(scored: Scores, index: int) -> float:
    return scored.iou[scored.classes.index(index)]


def scores(measured: Measurement) -> Scores:
    # As floats: the counts in a stranger's file may overflow int64 when summed.
    return score(measured.matrix.astype(float), measured.classes)


def by_other_maps(measured: Measurement) -> list[Measurement]:
    """Return the same predictions, measured by each other published map of the data set's ids.

    Name and hash of the protocol are those that measuring so would have given. Where its setting
    says nothing of the data set by that map, nobody publishes such numbers, and the name ends with
    ', relabelled'.
    """
    if measured.raw is None or measured.domain.split(':')[0] not in domains.DOMAINS:
        return []
    row, split = domains.parse(measured.domain)
    every = set(measured.classes) == set(labels.class_ids(row.space))
    found = []
    for other in domains.DOMAINS.values():
        if other.folder == row.folder and other.space in {*labels.maps(row.space)} - {row.space}:
            classes = labels.class_ids(other.space) if every else measured.classes
            protocol = measured.protocol | dict(
                domain=other.name, space=other.space, classes=list(classes)
            )
            name = str(protocol.get('name', ''))
            setting = protocols.SETTINGS.get(name.removesuffix('-bfloat16'))
            if setting and not setting.covers(other.name):
                protocol['name'] = f'{name}, relabelled'
            found.append(
                replace(
                    measured,
                    domain=f'{other.name}:{split}',
                    protocol=protocol,
                    protocol_hash=protocols.protocol_hash(protocol),
                    matrix=labels.fold(measured.raw, other.space),
                )
            )
    return found
