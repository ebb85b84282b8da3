"""A table as GitHub-flavoured Markdown."""

from collections.abc import Iterable

from . import words
from .table import Group, Table
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
    parts += [_grid(header, lines), '### Pixel accuracy']
    lines = [
        [escape(row.model) + escape(row.mark)]
        + [
            percent(row.cells[d].accuracy, row.cells[d].mixed) if d in row.cells else words.NOTHING
            for d in group.domains
        ]
        for row in group.rows
    ]
    parts += [_grid(['model', *map(escape, group.domains)], lines)]
    for domain in group.domains:
        parts += [f'### IoU of each class on {escape(domain)}', _classes(table, group, domain)]
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
    ]
    return _grid(['class', *(escape(row.model) + escape(row.mark) for row in rows)], lines)


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
