"""A table as GitHub-flavoured Markdown."""

from collections.abc import Iterable

from . import words
from .maps import by_map
from .table import Group, Row, Table, fractions
from .words import difference, escape, percent


def markdown(table: Table) -> str:
    """Return the whole report: mIoU, pixel accuracy, IoU a class, protocols and provenance."""
    parts = [
        '# Results',
        'In percent; mean ± standard deviation (n - 1) over the seeds. mIoU is the mean over the '
        'classes counted. Brackets: change against '
        f"{escape(table.baseline)}. Gap: mIoU minus mIoU on the source's own domain.",
    ]
    for group in table.groups:
        parts += _group(table, group)
    if table.notes:
        parts += ['## Notes', *(f'- {escape(note, None)}' for note in table.notes)]
    parts += ['## Protocols', _protocols(table), '## Provenance', _provenance(table)]
    return _join(parts)


def _join(parts: Iterable[str]) -> str:
    """Join blocks by an empty line, list items by none."""
    text = ''
    for part in parts:
        tight = text.rpartition('\n')[2].startswith('- ') and part.startswith('- ')
        text += ('\n' if tight else '\n\n' if text else '') + part
    return text + '\n'


def _grid(header: list[str], lines: Iterable[list[str]], left: int = 1) -> str:
    """A Markdown table of escaped cells; all columns but the first `left` are right-aligned."""
    rule = [':--' if i < left else '--:' for i in range(len(header))]
    return '\n'.join(f'| {" | ".join(line)} |' for line in (header, rule, *lines))


def _group(table: Table, group: Group) -> list[str]:
    parts = [f'## Trained on {escape(group.source)}']
    header, lines = (
        ['model', 'n'],
        [[escape(r.model) + escape(r.mark), str(len(r.runs))] for r in group.rows],
    )
    for domain in group.domains:
        header += [f'{escape(domain)} mIoU'] + ['gap'] * (domain != group.home)
        for row, line in zip(group.rows, lines, strict=True):
            cell = row.cells.get(domain)
            if cell is None:
                line += [words.NOTHING] * (1 + (domain != group.home))
                continue
            value = percent(cell.miou, cell.mixed)
            value = f'**{value}**' if cell.best else value
            change = difference(cell.delta, cell.delta_mixed)
            line += [value + (f' ({change})' if change else '')]
            if domain != group.home:
                line += [percent(cell.gap, cell.gap_mixed, sign='+')]
    blank = [[''] * (domain != group.home) for domain in group.domains]
    below = [
        [what, '', *(cell for d, gap in zip(values, blank, strict=True) for cell in (d, *gap))]
        for what, *values in _foot(table, group)
    ]
    parts += [_grid(header, [*lines, *below]), '### Pixel accuracy']
    lines = [
        [escape(row.model) + escape(row.mark)]
        + [
            percent(row.cells[d].accuracy, row.cells[d].mixed) if d in row.cells else words.NOTHING
            for d in group.domains
        ]
        for row in group.rows
    ]
    lines += [line for line in _foot(table, group) if line[0] == 'protocol']
    parts += [_grid(['model', *map(escape, group.domains)], lines)]
    for domain in group.domains:
        parts += [f'### IoU of each class on {escape(domain)}', _classes(table, group, domain)]
    return parts + _maps(table, group)


def _foot(table: Table, group: Group) -> list[list[str]]:
    """What stands below the numbers of each domain: protocol, and classes counted."""
    protocols = [next(iter(table.protocols[domain].items())) for domain in group.domains]
    counted = [
        sorted({c for row in group.rows if d in row.cells for c in row.cells[d].counted})
        for d in group.domains
    ]
    return [
        ['protocol', *(escape(words.short(content, digest)) for digest, content in protocols)],
        ['classes counted', *(fractions(pairs) for pairs in counted)],
    ]


def _maps(table: Table, group: Group) -> list[str]:
    parts = []
    for domain, rows in by_map(group):
        other = rows[0].other
        digest, content = next(iter(table.protocols[domain].items()))
        shown = words.short(content, digest), words.short(other.protocol, other.protocol_hash)
        names = [escape(one.row.model) + escape(one.row.mark) for one in rows]
        header = ['model', f'{escape(domain)} mIoU', f'{escape(other.domain)} mIoU', 'difference']
        lines = [
            [name, percent(one.before), percent(one.after), percent(one.change, sign='+')]
            for name, one in zip(names, rows, strict=True)
        ]
        counted = [', '.join(dict.fromkeys(one.counted[i] for one in rows)) for i in (0, 1)]
        lines += [['protocol', *map(escape, shown), ''], ['classes counted', *counted, '']]
        changed = [
            [escape(table.classes[i]), *(percent(one.iou[i], sign='+') for one in rows)]
            for i in rows[0].iou
            if any(abs(one.iou[i].mean) >= 0.05 for one in rows)
        ]
        parts += [
            f'### Label maps of {escape(domain)}',
            'The same predictions for the same photos, whose raw ids two published maps send to '
            'different classes.',
            _grid(header, lines),
        ]
        if changed:
            said = 'Difference of IoU, of each class in which there is one:'
            parts += [said, _grid(['class', *names], changed)]
    return parts


def _classes(table: Table, group: Group, domain: str) -> str:
    rows = [row for row in group.rows if domain in row.cells]
    cells = [row.cells[domain] for row in rows]
    ids = sorted({index for cell in cells for index in cell.iou})
    lines = [
        [escape(table.classes[index]), *(percent(c.iou.get(index), c.mixed) for c in cells)]
        for index in ids
    ]
    lines += [
        ['**mIoU**', *(percent(cell.miou, cell.mixed) for cell in cells)],
        ['classes counted', *(cell.counted_words for cell in cells)],
        [
            'protocol',
            *(escape(', '.join(_measured_by(table, row, domain))) for row in rows),
        ],
    ]
    return _grid(['class', *(escape(row.model) + escape(row.mark) for row in rows)], lines)


def _measured_by(table: Table, row: Row, domain: str) -> list[str]:
    digests = dict.fromkeys(
        run.measured[domain].protocol_hash for run in row.runs if domain in run.measured
    )
    return [words.short(table.protocols[domain][digest], digest) for digest in digests]


def _protocols(table: Table) -> str:
    return '\n'.join(
        f'- {escape(domain)}: {escape(str(content.get("name", "unnamed")))} {escape(digest)}; '
        + escape(words.protocol(content, table.classes), None)
        for domain, protocols in table.protocols.items()
        for digest, content in protocols.items()
    )


def _provenance(table: Table) -> str:
    facts = [
        (row, words.origin(origin))
        for row in table.rows
        for run in row.runs
        for origin in run.provenance
    ]
    what = [key for key in facts[0][1] if key != 'versions']
    lines = [
        [escape(row.model), escape(row.source), *(escape(known[key], 60) for key in what)]
        for row, known in facts
    ]
    grid = _grid(['model', 'source', *what], lines, left=len(what) + 2)
    versions = list(dict.fromkeys(known['versions'] for _, known in facts))
    who = {
        v: ', '.join(f'{r.model} seed {k["seed"]}' for r, k in facts if k['versions'] == v)
        for v in versions
    }
    said = [
        f'Versions{f" of {escape(who[v])}" if len(versions) > 1 else ""}: {escape(v, 500)}.'
        for v in versions
    ]
    return '\n\n'.join([grid, *said])
