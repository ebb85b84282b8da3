"""A table's numbers as sections: on a terminal, on a page and for a paper."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..text import clean
from . import words
from .grid import Grid, Marked, Section
from .recount import Relabelled, relabelled
from .table import Group, Row, Table, fractions
from .words import NOTHING, number, percent

_SAME_IDS = (
    'The same predictions for the same photos, whose raw ids two published maps send to different '
    'classes.'
)
_FIELDS = (
    'Fields as in the records. An empty cell means that nothing is done: photos and labels keep '
    'their original size. photo is (width, height); crop, stride and label_crop are (height, '
    "width). In mode 'files', predictions are read from files, whose geometry is not known."
)


def screen(table: Table) -> Iterator[Section]:
    """Yield what fits a terminal: mIoU, label maps, protocols and notes."""
    for group in table.groups:
        yield _main(table, group)
        for domain, rows in relabelled(group):
            yield Section(f'{domain} by another label map', grid=_other_map(table, domain, rows))
    lines = (
        f'{domain}: protocol {words.short(content, digest)}, {content.get("images")!s:.40} images, '
        f'{len(content.get("classes", ()))} of {len(table.classes)} classes'
        for domain, digest, content in _protocols(table)
    )
    yield Section(items=[*dict.fromkeys(lines), *table.notes])


def page(table: Table) -> Iterator[Section]:
    """Yield all: what `numbers` does and the provenance."""
    yield Section(
        'Results',
        'In percent; mean ± standard deviation (n - 1) over the n seeds. mIoU is the mean over the '
        f'classes counted. Δ: change against {table.baseline}. Gap: mIoU minus mIoU on the '
        "source's own domain.",
        level=1,
    )
    yield from numbers(table)
    origins = [
        dict(model=row.model, source=row.source) | words.facts(origin)
        for row in table.rows
        for run in row.runs
        for origin in run.provenance
    ]
    yield Section('Provenance', grid=_facts(origins))


def numbers(table: Table) -> Iterator[Section]:
    """Yield what a paper needs: mIoU, accuracy, IoU a class, label maps, notes and protocols."""
    for group in table.groups:
        yield _main(table, group, every=True)
        title = f'Pixel accuracy, trained on {group.source}'
        yield Section(title, grid=_accuracy(table, group), level=3)
        for domain in group.domains:
            title = f'IoU of each class on {domain}, trained on {group.source}'
            yield Section(title, grid=_classes(table, group, domain), level=3)
        for domain, rows in relabelled(group):
            yield from _maps(table, domain, rows)
    if table.notes:
        yield Section('Notes', items=table.notes)
    protocols = [_fields(table, *one) for one in _protocols(table)]
    every = dict.fromkeys(key for fields in protocols for key in fields)
    rows = [{key: fields.get(key, '') for key in every} for fields in protocols]
    yield Section('Protocols', _FIELDS, _facts(rows))


def _fields(table: Table, domain: str, digest: str, content: Mapping[str, Any]) -> dict[str, str]:
    names = [table.classes[index] for index in content['classes']]
    which = f'{len(names)} of {len(table.classes)}'
    if len(names) < len(table.classes):
        which += f': {", ".join(names)}'
    first = dict(domain=domain, name='unnamed', hash=digest)
    known = {key: str(value) for key, value in content.items() if value is not None}
    return first | known | dict(domain=domain, hash=digest, classes=which)


def _facts(rows: Sequence[Mapping[str, str]]) -> Grid:
    return Grid(list(rows[0]), [list(row.values()) for row in rows], left=len(rows[0]))


def _protocols(table: Table) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield (domain, hash, protocol) of each number, also of those by another label map."""
    for domain, by_hash in table.protocols.items():
        yield from ((domain, digest, content) for digest, content in by_hash.items())
    for group in table.groups:
        for _, (first, *_) in relabelled(group):
            yield first.other.domain, first.other.protocol_hash, first.other.protocol


def _main(table: Table, group: Group, every: bool = False) -> Section:
    """mIoU, change and gap; with `every`, the number of seeds also where it is always 1."""
    rows = group.rows
    header, lines = ['model'], [[_name(row)] for row in rows]
    foot = [['protocol'], ['classes counted']]
    breaks = []

    def column(name: str, values: list, below: tuple[str, str] = ('', '')) -> None:
        header.append(name)
        for line, value in zip([*lines, *foot], [*values, *below], strict=True):
            line.append(value)

    if every or any(len(row.runs) > 1 for row in rows):
        column('n', [str(len(row.runs)) for row in rows])
    for domain in group.domains:
        breaks.append(len(header))
        cells = [row.cells.get(domain) for row in rows]
        values = [Marked(percent(c.miou, c.mixed), best=c.best) if c else NOTHING for c in cells]
        counted = sorted({pair for cell in cells if cell for pair in cell.counted})
        column(domain, values, (_reference(table, domain), fractions(counted)))
        if any(c and c.delta is not None for c in cells):
            column('Δ', [number(c.delta, '+', c.delta_mixed) if c else '' for c in cells])
        if group.home not in (None, domain):
            column('gap', [percent(c.gap, c.gap_mixed, '+') if c else NOTHING for c in cells])
    title = f'Trained on {clean(group.source, 80)} · mIoU in %'
    if 'Δ' in header:
        title += f', change against {clean(table.baseline, 30)}'
    return Section(title, grid=Grid(header, lines, foot, breaks=breaks))


def _name(row: Row) -> Marked:
    return Marked(row.model, row.mark)


def _reference(table: Table, domain: str) -> str:
    """The protocol that a column's numbers are compared by."""
    digest, content = next(iter(table.protocols[domain].items()))
    return words.short(content, digest)


def _accuracy(table: Table, group: Group) -> Grid:
    def shown(row: Row, domain: str) -> str:
        cell = row.cells.get(domain)
        return percent(cell.accuracy, cell.mixed) if cell else NOTHING

    lines = [[_name(row), *(shown(row, domain) for domain in group.domains)] for row in group.rows]
    foot = ['protocol', *(_reference(table, domain) for domain in group.domains)]
    return Grid(['model', *group.domains], lines, [foot])


def _classes(table: Table, group: Group, domain: str) -> Grid:
    rows = [row for row in group.rows if domain in row.cells]
    cells = [row.cells[domain] for row in rows]
    lines = [
        [table.classes[index], *(percent(cell.iou.get(index), cell.mixed) for cell in cells)]
        for index in sorted({index for cell in cells for index in cell.iou})
    ]
    means = ('mIoU', *(percent(cell.miou, cell.mixed) for cell in cells))
    lines.append([Marked(text, best=True) for text in means])
    foot = [
        ['classes counted', *(fractions(cell.counted) for cell in cells)],
        ['protocol', *(_measured_by(table, row, domain) for row in rows)],
    ]
    return Grid(['class', *map(_name, rows)], lines, foot)


def _measured_by(table: Table, row: Row, domain: str) -> str:
    measured = [run.measured[domain] for run in row.runs if domain in run.measured]
    digests = dict.fromkeys(one.protocol_hash for one in measured)
    return ', '.join(words.short(table.protocols[domain][digest], digest) for digest in digests)


def _other_map(table: Table, domain: str, rows: list[Relabelled]) -> Grid:
    other = rows[0].other
    lines = [
        [
            *(_name(one.row), percent(one.before), percent(one.after)),
            *(percent(one.change, sign='+'), one.counted),
        ]
        for one in rows
    ]
    protocols = _reference(table, domain), words.short(other.protocol, other.protocol_hash)
    foot = [['protocol', *protocols, '', '']]
    return Grid(['model', domain, other.domain, 'Δ', 'classes counted'], lines, foot)


def _maps(table: Table, domain: str, rows: list[Relabelled]) -> Iterator[Section]:
    title = f'Label maps of {domain}'
    yield Section(title, _SAME_IDS, _other_map(table, domain, rows), level=3)
    changed = [
        [table.classes[i], *(percent(one.iou[i], sign='+') for one in rows)]
        for i in rows[0].iou
        if any(abs(one.iou[i].mean) >= 0.05 for one in rows)
    ]
    if changed:
        grid = Grid(['class', *(_name(one.row) for one in rows)], changed)
        yield Section(text='Difference of IoU, of each class in which there is one:', grid=grid)
