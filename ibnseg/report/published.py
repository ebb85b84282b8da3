"""Published results as data (`published.yaml`), and own records ranked among them.

Sources and how to add a row: docs/published.md. Nothing in the file was measured here.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from .. import domains
from ..measure.protocols import describe
from ..text import meant
from .grid import NOTHING, Grid, Marked, Section, percent
from .printed import Printed, follows
from .table import Group, Table

MARK = 'published, not measured here'
NOT_STATED = 'protocol not stated'
LIST, AMONG = 'Published results', 'Among published results'


@dataclass(frozen=True)
class Result:
    """A row of a published table. None for what its source does not state.

    Args:
        sources, miou: domains by the names of ibnseg, with the split where it is stated.
        protocol: a name in `SETTINGS`.
        seeds: how many runs the numbers are means over.
        average_of: the domains of the printed average; some may have no number of their own.
        average_follows: whether the average is that of the printed numbers; None: cannot be said.
        where, address: the table in the source, and the source itself.
        reprinted: the source quotes other authors.
    """

    method: str
    year: int | None
    backbone: str
    sources: tuple[str, ...]
    miou: Mapping[str, Printed]
    where: str
    address: str
    protocol: str | None = None
    selection: str | None = None
    seeds: int | None = None
    average: Printed | None = None
    average_of: tuple[str, ...] = ()
    average_follows: bool | None = None
    reprinted: bool = False
    note: str = ''

    @property
    def datasets(self) -> frozenset[str]:
        return frozenset(map(_dataset, self.sources))


@cache
def load() -> tuple[Result, ...]:
    """Return all results, in the order of the file."""
    content = yaml.safe_load(resources.files(__package__).joinpath('published.yaml').read_text())
    read = {name: _address(**place) for name, place in content['read'].items()}
    rows = [(table, row) for table in content['tables'] for row in table.pop('rows')]
    return tuple(_result(table | row, read) for table, row in rows)


def _address(repo: str = '', path: str = '', commit: str = '', page: str = '') -> str:
    return page or f'https://github.com/{repo}/blob/{commit}/{path}'


def _result(row: dict[str, Any], read: Mapping[str, str]) -> Result:
    targets = row.pop('targets')
    texts = dict(zip(targets, row.pop('miou'), strict=True))
    miou = {domain: number for domain, text in texts.items() if (number := Printed.read(text))}
    average = Printed.read(row.pop('average', ''))
    over = tuple(row.pop('average_of', miou if average else ()))
    known = average is not None and set(over) <= miou.keys()
    return Result(
        address=read[row.pop('read')],
        sources=tuple(row.pop('sources')),
        miou=miou,
        average=average,
        average_of=over,
        average_follows=row.pop('average_follows', True) if known else None,
        **{'year': None} | row,
    )


def arithmetic(result: Result) -> bool | None:
    """Return whether the printed average follows from the columns; None where one is missing."""
    if result.average is None or not set(result.average_of) <= result.miou.keys():
        return None
    return follows(result.average, [result.miou[domain] for domain in result.average_of])


def _dataset(domain: str) -> str:
    return domain.partition(':')[0].partition('/')[0]


def select(
    results: Iterable[Result],
    sources: Sequence[str] = (),
    backbones: Sequence[str] = (),
    targets: Sequence[str] = (),
) -> list[Result]:
    """Return the results that were trained on all of `sources`, have one of `backbones` (a part of
    its name will do) and a number on one of `targets`.

    Raises ValueError for a dataset that no result has.
    """
    every = load()
    _check('source', sources, {name for one in every for name in one.datasets})
    _check('target', targets, {_dataset(domain) for one in every for domain in one.miou})
    wanted = [_plain(name) for name in backbones]
    return [
        one
        for one in results
        if set(sources) <= one.datasets
        and (not wanted or any(name in _plain(one.backbone) for name in wanted))
        and (not targets or not {*map(_dataset, one.miou)}.isdisjoint(targets))
    ]


def _check(what: str, names: Sequence[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(
                f'no published result has the {what} {name!r}; there are '
                f'{", ".join(sorted(known))}{meant(name, known)}'
            )


def _plain(text: str) -> str:
    return ''.join(c for c in text.lower() if c.isalnum())


def listing(results: Sequence[Result]) -> list[Section]:
    """Return a table of results, one column a target, and where they stand."""
    columns = list(dict.fromkeys(_column(domain) for one in results for domain in one.miou))
    rows = []
    for one in results:
        numbers = {_column(domain): str(number.value) for domain, number in one.miou.items()}
        rows.append([
            *(one.method, one.backbone, ' + '.join(one.sources)),
            *(numbers.get(column, '') for column in columns), _average(one),
            *(_text(one.seeds), one.protocol or 'not stated', _text(one.year)),
        ])  # fmt: skip
    header = ['method', 'backbone', 'trained on']
    header += [*columns, 'average', 'seeds', 'protocol', 'year']
    text = (
        f'{MARK}. mIoU in percent, as printed. ≠: the printed average does not follow from the '
        'printed columns.'
    )
    where = dict.fromkeys(f'{MARK}: {one.where}, {one.address}' for one in results)
    grid = Grid(header, rows, left=3, breaks=tuple(range(3, len(header))))
    return [Section(LIST, text, grid), Section(items=[*where])]


def _average(one: Result) -> str:
    if one.average is None:
        return ''
    marks = {True: '', False: ' ≠', None: f' (of {len(one.average_of)})'}
    return f'{one.average.value}{marks[one.average_follows]}'


def _text(number: int | None) -> str:
    return '' if number is None else str(number)


def _column(domain: str) -> str:
    """The column of a domain: its usual split is not told from one that is not stated."""
    return domain.removesuffix(':val')


_LONG = (
    *('method', 'year', 'backbone', 'sources', 'target', 'miou', 'average', 'average_of'),
    *('average_follows', 'protocol', 'selection', 'seeds', 'reprinted', 'note', 'where', 'address'),
)


def flat(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return a dict of plain values for each result; numbers as text, as printed."""
    return [
        vars(one)
        | dict(
            sources=list(one.sources),
            miou={domain: str(number.value) for domain, number in one.miou.items()},
            average=one.average and str(one.average.value),
            average_of=list(one.average_of),
            measured_here=False,
        )
        for one in results
    ]


def to_json(results: Sequence[Result]) -> str:
    return json.dumps(flat(results), indent=1, ensure_ascii=False) + '\n'


def long(results: Sequence[Result]) -> Grid:
    """Return one line a result and target."""
    lines = []
    for one in flat(results):
        for target, number in one['miou'].items():
            values = one | dict(target=target, miou=number)
            texts = (' + '.join(v) if isinstance(v := values[k], list) else v for k in _LONG)
            lines.append(list(texts))
    return Grid(_LONG, lines)


# Own records among published results.


def obstacle(group: Group, domain: str, result: Result, target: str) -> str:
    """Return why a published number may not stand in the ranking of own ones; '' if it may.

    It may where its protocol is one of `protocols.SETTINGS` and the own records were measured by
    the same: the hash of theirs is that of the setting on all images of the same split, so that
    test size, windows, label map and classes are equal. A selection rule that the source states
    must be the rule of an own row. (That both were trained on the same datasets, `among` sees to.)
    """
    if result.protocol is None:
        return NOT_STATED
    if ':' not in target:
        return 'split not stated'
    measured = (run.measured.get(domain) for row in group.rows for run in row.runs)
    hashes = {one.protocol_hash for one in measured if one}
    row, split = domains.parse(target)
    try:
        there = describe(result.protocol, target, row.splits.get(split, 0)).hash
    except ValueError:  # the setting says nothing of this dataset
        there = ''
    if there != group.reference[domain] or there not in hashes:
        return f'another protocol ({result.protocol})'
    if result.selection not in (None, *(row.rule for row in group.rows)):
        return f'another selection rule ({result.selection})'
    return ''


def among(table: Table, results: Sequence[Result]) -> Iterator[Section]:
    """Yield, for each source and domain of own records, these and the published results of networks
    that were trained on the same datasets. Those of one protocol are ranked together."""
    for group in table.groups:
        trained = frozenset(row.name for row in domains.trained_on(group.source))
        alike = [one for one in results if one.datasets == trained]
        for domain in group.domains:
            lines = [*_own(group, domain), *_others(group, domain, alike)]
            title = f'{domain}, trained on {group.title}'
            if all(line.own for line in lines):
                yield Section(
                    title, items=['No published result in the list is of these datasets.']
                )
            else:
                yield Section(f'{AMONG}: {title}', _RANKED, _ranking(lines))


@dataclass(frozen=True)
class _Line:
    """A number of a ranking; `why_not` says why it has no rank."""

    value: float
    own: bool
    model: str
    backbone: str
    shown: str
    seeds: str
    selection: str
    why_not: str


def _own(group: Group, domain: str) -> Iterator[_Line]:
    for row in group.rows:
        if domain in row.cells:
            cell, rule = row.cells[domain], row.rule or 'not stated'
            why_not = 'another protocol than the others' * cell.mixed
            why_not = 'selected on the target' if row.oracle else why_not
            why_not = 'read photos of the target' if domain.split(':')[0] in row.saw else why_not
            shown = percent(cell.miou)
            seeds = str(cell.miou.n)
            yield _Line(cell.miou.mean, True, row.name, '', shown, seeds, rule, why_not)


def _others(group: Group, domain: str, results: Iterable[Result]) -> Iterator[_Line]:
    row, split = domains.parse(domain)
    for one in results:
        name = f'{one.method}{" (reprinted)" * one.reprinted}'
        for target, number in one.miou.items():
            if target in (row.name, f'{row.name}:{split}'):
                why_not = obstacle(group, domain, one, target)
                shown, rule = str(number.value), one.selection or 'not stated'
                facts = name, one.backbone, shown, _text(one.seeds), rule, why_not
                yield _Line(float(number.value), False, *facts)


_RANKED = (
    'Ranked together: measured by the same protocol (test size, windows, label map, classes, all '
    'images of the split), trained on the same datasets. Training may differ in all else.'
)


def _ranking(lines: Sequence[_Line]) -> Grid:
    ranked = sorted((line for line in lines if not line.why_not), key=lambda line: -line.value)
    shown = [round(line.value, 1) for line in ranked]  # a tie at one decimal is a tie
    rows = []
    for line in [*ranked, *(line for line in lines if line.why_not)]:
        rank = NOTHING if line.why_not else str(shown.index(round(line.value, 1)) + 1)
        said = [] if line.own else [MARK]
        said += [line.why_not] if line.why_not else [f'selection: {line.selection}']
        name = Marked(line.model, best=line.own)
        rows.append([name, line.backbone, '; '.join(said), rank, line.shown, line.seeds])
    return Grid(['model', 'backbone', 'note', 'rank', 'mIoU', 'seeds'], rows, left=3, cut=80)
