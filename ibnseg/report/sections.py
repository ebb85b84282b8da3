"""A table's numbers as sections: on a terminal, on a page and for a paper."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..text import clean
from .grid import NOTHING, Grid, Marked, Section, percent
from .recount import relabelled
from .table import Group, Table, fractions, short_commit

_RESULTS = (
    'In percent; mean ± standard deviation (n - 1) over the n seeds. mIoU is the mean over the '
    "classes counted. Δ: change against {}. Gap: mIoU minus mIoU on the source's own domain."
)
_SAME_IDS = (
    'The same predictions for the same photos, whose raw ids two published maps send to different '
    'classes.'
)
_FIELDS = (
    'Fields as in the records. Where neither photo nor a label field is named, photos and labels '
    'keep their original size. photo is (width, height); crop, stride and label_crop are (height, '
    "width). In mode 'files', predictions are read from files, whose geometry is not known."
)


def screen(table: Table) -> Iterator[Section]:
    """Yield what fits a terminal: mIoU, label maps, protocols and notes."""
    for group in table.groups:
        yield _main(table, group)
        for rows in relabelled(group):
            yield _other_map(table, rows)
    yield Section(items=[*_protocols(table), *table.notes])


def page(table: Table) -> Iterator[Section]:
    """Yield all: what `numbers` does and the provenance."""
    yield explained(table)
    yield from numbers(table)
    yield provenance(table)


def numbers(table: Table) -> Iterator[Section]:
    """Yield what a paper needs: mIoU, IoU of each class, label maps, notes and protocols."""
    yield from tables(table)
    if table.notes:
        yield Section('Notes', items=table.notes)
    yield protocols(table)


def explained(table: Table) -> Section:
    """Return the title of a report and what its numbers are."""
    return Section('Results', _RESULTS.format(table.baseline), level=1)


def tables(table: Table) -> Iterator[Section]:
    """Yield mIoU, IoU of each class and label maps."""
    for group in table.groups:
        yield _main(table, group, every=True)
        for domain in group.domains:
            yield _classes(table, group, domain)
        for rows in relabelled(group):
            yield _other_map(table, rows, every=True)


def protocols(table: Table) -> Section:
    """Return each protocol with all its fields."""
    return Section('Protocols', _FIELDS, items=list(_protocols(table, every=True)))


def provenance(table: Table) -> Section:
    """Return where each checkpoint comes from."""
    origins = [
        dict(model=row.model, source=row.source)
        | dict(pairs=row.training.pairs or 'unknown', training=row.training.words)
        | _facts(origin)
        for row in table.rows
        for run in row.runs
        for origin in run.origins
    ]
    lines = [list(facts.values()) for facts in origins]
    return Section('Provenance', grid=Grid(list(origins[0]), lines, left=len(origins[0])))


def _facts(origin: Mapping[str, Any]) -> dict[str, str]:
    """A checkpoint's provenance as {what: words}; what is unknown is said to be."""
    shown = dict(seed=origin['seed']) | origin
    shown |= dict(
        sha256=(origin['sha256'] or '')[:12],
        validated=', '.join(origin['validated']),
        commit=short_commit(origin['commit']),
        versions=', '.join(f'{name} {version}' for name, version in origin['versions'].items()),
        file=shown.pop('file'),  # the longest comes last
    )
    return {key: 'unknown' if value in (None, '') else str(value) for key, value in shown.items()}


def short(content: Mapping[str, Any], digest: str) -> str:
    return f'{content.get("name", "unnamed")!s} {digest}'


def _protocols(table: Table, every: bool = False) -> Iterator[str]:
    """Yield a line each protocol, also of those by another label map; `every`: all its fields."""
    found = {
        (domain, digest): content
        for domain, by_hash in table.protocols.items()
        for digest, content in by_hash.items()
    }
    others = (rows[0] for group in table.groups for rows in relabelled(group))
    found |= {(one['other'], one['protocol_hash']): one['protocol'] for one in others}
    said = {'name', 'domain', 'split', 'images', 'classes'}
    for (domain, digest), content in found.items():
        names = [table.classes[index] for index in content['classes']]
        line = (
            f'{domain}: protocol {short(content, digest)}, {content.get("images")!s:.40} images, '
            f'{len(names)} of {len(table.classes)} classes'
        )
        if every:
            rest = {key: value for key, value in content.items() if key not in said}
            if len(names) < len(table.classes):
                rest['classes'] = ', '.join(names)
            line += ''.join(f'; {key} {value}' for key, value in rest.items() if value is not None)
        yield line


def _main(table: Table, group: Group, every: bool = False) -> Section:
    """mIoU, change and gap; with `every`, the number of seeds also where it is always 1."""
    rows = group.rows
    names = (Marked(row.model, row.mark) for row in rows)
    columns = [['model', *names, 'protocol', 'classes counted']]
    breaks = []
    if every or any(len(row.runs) > 1 for row in rows):
        columns.append(['n', *(str(len(row.runs)) for row in rows), '', ''])
    for domain in group.domains:
        breaks.append(len(columns))
        cells = [row.cells.get(domain) for row in rows]
        values = [
            Marked(percent(c.miou, mixed=c.mixed), best=c.best) if c else NOTHING for c in cells
        ]
        digest = group.reference[domain]
        content = table.protocols[domain][digest]
        counted = fractions(one for cell in cells if cell for one in cell.scores)
        columns.append([domain, *values, short(content, digest), counted])
        if any(c and c.delta is not None for c in cells):
            deltas = (
                percent(c.delta, '+', c.delta_mixed) if c and c.delta is not None else ''
                for c in cells
            )
            columns.append(['Δ', *deltas, '', ''])
        if group.home not in (None, domain):
            gaps = (percent(c.gap, '+', c.gap_mixed) if c else NOTHING for c in cells)
            columns.append(['gap', *gaps, '', ''])
    header, *lines = zip(*columns, strict=True)
    title = f'Trained on {clean(group.title, 120)} · mIoU in %'
    if 'Δ' in header:
        title += f', change against {clean(table.baseline, 30)}'
    return Section(title, grid=Grid(header, lines[:-2], lines[-2:], breaks=breaks))


def _classes(table: Table, group: Group, domain: str) -> Section:
    rows = [row for row in group.rows if domain in row.cells]
    cells = [row.cells[domain] for row in rows]
    lines = [
        [table.classes[index], *(percent(c.iou.get(index), mixed=c.mixed) for c in cells)]
        for index in sorted({index for cell in cells for index in cell.iou})
    ]
    means = ('mIoU', *(percent(cell.miou, mixed=cell.mixed) for cell in cells))
    lines.append([Marked(text, best=True) for text in means])
    lines.append(['pixel accuracy', *(percent(c.accuracy, mixed=c.mixed) for c in cells)])
    known = table.protocols[domain]
    foot = [
        ['classes counted', *(fractions(cell.scores) for cell in cells)],
        ['protocol', *(', '.join(short(known[d], d) for d in c.protocols) for c in cells)],
    ]
    title = f'IoU of each class on {domain}, trained on {group.title}'
    header = ['class', *(Marked(row.model, row.mark) for row in rows)]
    return Section(title, grid=Grid(header, lines, foot), level=3)


def _other_map(table: Table, rows: list[dict[str, Any]], every: bool = False) -> Section:
    """mIoU by two label maps; with `every`, also of each class in which there is a difference."""
    first = rows[0]
    lines = [
        [first['domain'], *(percent(one['miou']) for one in rows)],
        [first['other'], *(percent(one['miou_other']) for one in rows)],
        ['change', *(percent(one['difference'], '+') for one in rows)],
        ['classes counted', *(one['counted'] for one in rows)],
    ]
    for index in first['iou_difference'] if every else ():
        changes = [one['iou_difference'][index] for one in rows]
        if any(abs(change.mean) >= 0.05 for change in changes):
            name = f'change of {table.classes[index]}'
            lines.append([name, *(percent(change, '+') for change in changes)])
    header = ['mIoU', *(Marked(one['model'], one['row'].mark) for one in rows)]
    (digest,) = first['row'].cells[first['domain']].protocols
    content = table.protocols[first['domain']][digest]
    title = (
        f'{first["domain"]} ({short(content, digest)}) by the label map of {first["other"]} '
        f'({short(first["protocol"], first["protocol_hash"])})'
    )
    grid = Grid(header, lines, breaks=range(1, len(header)))
    return Section(title, _SAME_IDS, grid, level=3)
