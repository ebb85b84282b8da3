"""A table of a paper as a CSV file, for `claims`; the format is in docs/claims.md."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import disk, machine
from .printed import Printed

_MOST = 4 * 2**20  # bytes
_COLUMNS = {
    'model': ('model', 'method', 'name'),
    'source': ('source', 'trained on'),
    'seed': ('seed',),
    'seeds': ('seeds', 'runs'),
    'selection': ('selection', 'selected by', 'selected_by'),
    'protocol': ('protocol',),
    'average': ('average', 'avg', 'avg.', 'mean'),
}
_IGNORED = ('backbone', 'year', 'note', 'notes', 'venue', 'reference')
_NAMED = {alias: name for name, aliases in _COLUMNS.items() for alias in aliases}


@dataclass
class Line:
    """A row of the table.

    Args:
        number: of the line in the file.
        facts: model, source, seed, seeds, selection and protocol, as text; '' where empty.
        cells: by domain; those with a number.
        averages: (the header of its column, the domains that it is over, the number).
    """

    number: int
    facts: dict[str, str]
    cells: dict[str, Printed] = field(default_factory=dict)
    averages: list[tuple[str, list[str], Printed]] = field(default_factory=list)

    @property
    def model(self) -> str:
        return self.facts['model']

    @property
    def name(self) -> str:
        seed = self.facts.get('seed')
        return f'line {self.number} ({self.model}{f", seed {seed}" if seed else ""})'


@dataclass
class Sheet:
    """The lines of a table, its domains, and which facts it has a column for."""

    domains: list[str]
    facts: set[str]
    lines: list[Line]


def read(path: str | Path) -> Sheet:
    """Read a table.

    Raises ValueError: not text, too large, a column or a cell that is not understood, no model or
    domain, a run twice.
    """
    try:
        data = disk.read(path)
        text = data[:_MOST].decode('utf-8-sig')
    except OSError as error:
        raise ValueError(machine.said(error) or f'{path}: {error.strerror}') from None
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: not UTF-8 text ({error.reason})') from None
    if len(data) > _MOST:
        raise ValueError(f'{path}: larger than {_MOST // 2**20} MiB; no table of a paper is')
    try:
        return _sheet(text)
    except (ValueError, csv.Error) as error:
        raise ValueError(f'{path}: {error}') from None


def _sheet(text: str) -> Sheet:
    first = text.lstrip().partition('\n')[0]
    delimiter = max(',;\t', key=first.count)
    rows = csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    table = [(number, row) for number, row in enumerate(rows, 1) if any(map(str.strip, row))]
    if len(table) < 2:
        raise ValueError('no table; expected a header and one line a model or run')
    (_, header), *body = table
    kinds = [_kind(name) for name in header]
    domains = [name for kind, name in kinds if kind == 'domain']
    facts = {name for kind, name in kinds if kind == 'fact'}
    for name in {name for name in kinds if kinds.count(name) > 1 and name[0] != 'ignored'}:
        raise ValueError(f'two columns say {name[1]!r}')
    if 'model' not in facts or not domains:
        raise ValueError(f'the header is {header!r:.120}; expected model and one column a domain')
    for kind, name in kinds:
        of = name.split('+') if kind == 'average' and name else [name] if kind == 'std' else []
        if unknown := [domain for domain in of if domain not in domains]:
            raise ValueError(f'there is no column {unknown[0]!r} for the header {name!r}')
    lines = [_line(number, row, header, kinds, domains) for number, row in body]
    _check_once(lines)
    return Sheet(domains, facts, lines)


def _kind(header: str) -> tuple[str, str]:
    """Return what a column holds ('fact', 'average', 'std', 'domain' or 'ignored'), and of what."""
    header = ' '.join(header.split())
    low = header.lower()
    if match := re.fullmatch(r'(?:average|avg|mean) of (.+)', header, re.IGNORECASE):
        return 'average', '+'.join(part.strip() for part in match[1].split('+'))
    if match := re.fullmatch(r'(.+) std', header, re.IGNORECASE):
        return 'std', match[1]
    if _NAMED.get(low) == 'average':
        return 'average', ''
    if low in _NAMED:
        return 'fact', _NAMED[low]
    return ('ignored' if low in _IGNORED or not low else 'domain'), header


def _line(
    number: int,
    row: Sequence[str],
    header: Sequence[str],
    kinds: Sequence[tuple[str, str]],
    domains: Sequence[str],
) -> Line:
    if len(row) != len(header):
        raise ValueError(
            f'line {number} has {len(row)} cells, the header {len(header)}; quote cells with '
            'decimal commas, or separate cells by ;'
        )
    line = Line(number, {})
    for (kind, name), cell, title in zip(kinds, row, header, strict=True):
        if kind == 'fact':
            line.facts[name] = ' '.join(cell.split())
        elif kind != 'ignored':
            try:
                value = Printed.read(cell)
            except ValueError as error:
                raise ValueError(f'line {number}, column {title.strip()!r:.40}: {error}') from None
            if value and kind == 'domain':
                line.cells[name] = value
            elif value and kind == 'average':
                line.averages.append((title.strip(), name.split('+') if name else [], value))
            elif value and name in line.cells:
                line.cells[name] = Printed(line.cells[name].value, value.value)
    if not line.model:
        raise ValueError(f'line {number} names no model')
    line.averages = [(title, of or list(domains), value) for title, of, value in line.averages]
    return line


def _check_once(lines: Sequence[Line]) -> None:
    seen: dict[tuple[str, ...], int] = {}
    for line in lines:
        key = tuple(
            line.facts.get(k, '') for k in ('model', 'source', 'seed', 'selection', 'protocol')
        )
        if key in seen:
            raise ValueError(
                f'lines {seen[key]} and {line.number} are of one model and seed; runs of a model '
                'need a column seed'
            )
        seen[key] = line.number


def by_source(sheet: Sheet) -> Iterator[tuple[str, list[Line]]]:
    for source in dict.fromkeys(line.facts.get('source', '') for line in sheet.lines):
        yield source, [line for line in sheet.lines if line.facts.get('source', '') == source]
