"""What is wrong with a comparison: of own records, or of a paper's table in a CSV file.

Each check is one of `KINDS`. docs/claims.md says what each means, and what is not checked.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .. import domains
from ..measure import power, records
from ..measure.power import Difference
from ..measure.selection import RULES
from ..text import meant
from . import sheet
from .certainty import Estimate, gather
from .compare import tabulate
from .grid import Section
from .printed import follows, mean
from .sheet import Line, Sheet
from .table import Group, Row, Table
from .verdict import NOT_CLEAR

KINDS = {
    'average': 'an average that does not follow from its columns',
    'protocol': 'numbers of different protocols in one column',
    'engine': 'a difference between networks that different engines ran',
    'selection': 'a checkpoint that was selected on a target',
    'adaptation': 'a training that read photos of a target, without labels',
    'seeds': 'a difference that so many seeds cannot resolve',
    'images': 'a difference that so many images cannot resolve',
    'both': 'a difference that images and seeds resolve alone, but not together',
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; `kind` is one of `KINDS`."""

    kind: str
    where: str
    what: str


@dataclass
class Claims:
    """What was found; `notes` say what could not be checked."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def sections(self) -> list[Section]:
        number = len(self.findings)
        title = f'{number} finding{"s" * (number != 1)}' if number else 'Nothing found'
        items = [f'{one.kind}: {one.where}: {one.what}' for one in self.findings]
        return [Section(title, items=items), Section(items=[f'note: {n}' for n in self.notes])]

    def json(self) -> str:
        content = dict(findings=[asdict(one) for one in self.findings], notes=self.notes)
        return json.dumps(content, indent=1) + '\n'


def check(paths: Sequence[str | Path], baseline: str | None = None) -> Claims:
    """Check one CSV file, or records (files, or folders with *.record.json below them).

    Args:
        baseline: the model that the others are compared with. Of records the plain one by default,
            of a CSV the first.

    Raises ValueError for input that cannot be used: see `sheet.read`, `records.read`, `tabulate`.
    """
    tables = [path for path in paths if Path(path).suffix.lower() in ('.csv', '.tsv')]
    if not tables:
        files, _ = records.find(paths)
        read = [records.read(file) for file in files]
        return of_table(tabulate(read, baseline, mixed=True, files=files))
    if len(paths) > 1:
        raise ValueError(f'{tables[0]} and other paths; give one CSV file, or records')
    return of_sheet(sheet.read(tables[0]), baseline)


# Records.


def of_table(table: Table) -> Claims:
    """Check records that were put side by side (with `mixed`)."""
    found = Claims()
    for group in table.groups:
        found.findings += _columns(table, group)
        for row in group.rows:
            found.findings += _selection(row)
        for row in group.rows:
            if row.against and row.engine != row.against.engine:
                where = f'{row.name} - {row.against.name}, trained on {group.title}'
                what = f'{row.engine or "torch"} against {row.against.engine or "torch"}'
                found.findings.append(Finding('engine', where, f'predicted by {what}'))
            if row.against:
                found.findings += _runs(group, row, row.against)
    for row in table.rows:
        if row.model == table.baseline and len(table.rows) > 1:
            break
    else:
        found.notes.append('Nothing to compare with: differences were not checked.')
    found.findings = list(dict.fromkeys(found.findings))
    _images(table, found)
    return found


def _columns(table: Table, group: Group) -> Iterator[Finding]:
    for domain in group.domains:
        mixed = [row.name for row in group.rows if (c := row.cells.get(domain)) and c.mixed]
        if mixed:
            hashes = ', '.join(table.protocols[domain])
            what = f'{", ".join(mixed)}: not measured as the others are (protocols {hashes})'
            yield Finding('protocol', f'{domain}, trained on {group.title}', what)


def _selection(row: Row) -> Iterator[Finding]:
    where = f'{row.name}, trained on {row.source}'
    if row.saw:
        what = f'the training read photos of {", ".join(row.saw)}, without labels'
        yield Finding('adaptation', where, what)
    if row.oracle:
        yield Finding('selection', where, 'the labels of a target chose the checkpoint')
        return
    seen = {one.name for one in domains.trained_on(row.source)}
    validated = {name for run in row.runs for one in run.origins for name in one['validated']}
    foreign = sorted(name for name in validated if name.partition(':')[0] not in seen)
    if foreign and row.rule != RULES['last'].name:
        what = f'selected by {row.rule!r}, yet validated on {", ".join(foreign)}'
        yield Finding('selection', where, what)


def _runs(group: Group, row: Row, against: Row) -> Iterator[Finding]:
    for domain in _targets(group.domains, group.source):
        cells = [one.cells.get(domain) for one in (row, against)]
        if all(cell and not cell.mixed for cell in cells):
            sides = [
                {run.seed: run.scores[domain].miou for run in one.runs if domain in run.scores}
                for one in (row, against)
            ]
            where = f'{row.name} - {against.name} on {domain}, trained on {group.title}'
            yield from _seeds(where, *sides)


def _targets(columns: Sequence[str], source: str) -> list[str]:
    """Return the columns of datasets that were not trained on."""
    try:
        seen = {one.name for one in domains.trained_on(source)}
    except ValueError:  # of a paper's table, in words of its own
        seen = {part.strip().lower() for part in source.replace(',', '+').split('+')}
    return [name for name in columns if name.lower().partition(':')[0] not in seen]


def _seeds(
    where: str, mine: Mapping[object, float], other: Mapping[object, float]
) -> Iterator[Finding]:
    found = Difference.of_runs(mine, other)
    if found:
        yield from _judge(where, found)
    else:
        less = min(len(mine), len(other))
        what = f'{less} run of a model says nothing of how its runs differ; train two at least'
        yield Finding('seeds', where, what)


def _judge(where: str, found: Difference) -> Iterator[Finding]:
    if found.clear:
        return
    runs = ' and '.join(map(str, dict.fromkeys(found.runs)))
    how = 'differences of runs of one seed' if found.paired else 'runs of a model'
    what = (
        f'{found.mean:+.2f} with {runs} runs each, where {how} vary by ±{found.spread:.2f} '
        f'(p = {found.p:.2f}). '
    )
    if found.mean == 0:
        what += 'There is no difference to show.'
    elif found.needed is None:
        what += f'Not even {power.MOST:,} runs each would show a difference of this size.'
    else:
        what += f'{found.needed:,} runs each would show one of this size with 80 % power.'
    yield Finding('seeds', where, what)


def _images(table: Table, found: Claims) -> None:
    certain = gather(table)
    if certain is None:
        found.notes.append('No per-image matrices beside the records: images were not checked.')
        return
    against = {(row.source, row.name): row.against.name for row in table.rows if row.against}
    for one in certain.pairs:
        claimed = against.get((one.source, one.model)) == one.against
        if claimed and one.domain in _targets([one.domain], one.source):
            found.findings += _certain(one)
    found.notes += certain.notes


def _certain(one: Estimate) -> Iterator[Finding]:
    value, low, high = one.interval.value, one.interval.low, one.interval.high
    where = f'{one.model} - {one.against} on {one.domain}, trained on {one.source}'
    if low <= 0 <= high:
        over = one.interval
        drawn = f'{one.images} images' + f' of {over.units} {over.over}' * (over.over != 'images')
        what = f'{value:+.2f} on {drawn}, 95 % {low:+.2f} to {high:+.2f}. '
        number = power.images_needed(value, low, high, over.units)
        what += (
            f'About {number:,} {over.over} would show one of this size with 80 % power.'
            if number
            else 'There is no difference to show.'
        )
        yield Finding('images', where, what)
        return
    runs, verdict = one.by_seed, one.verdict
    alone = runs.n > 1 and Difference(runs.mean, runs.std, (runs.n,) * 2, True).clear
    if alone and verdict and verdict.kind == NOT_CLEAR:
        what = f'{value:+.2f}; {verdict.limits}. Each alone excludes 0; more of either would do.'
        yield Finding('both', where, what)


# A paper's table.


def of_sheet(table: Sheet, baseline: str | None = None) -> Claims:
    """Check a table of a paper."""
    found = Claims()
    for line in table.lines:
        found.findings += _averages(line)
        found.findings += _rule(line, table.domains)
    found.findings += _protocols(table)
    names = [line.model for line in table.lines]
    if baseline is not None and baseline not in names:
        raise ValueError(f'no line of the baseline {baseline!r}{meant(baseline, names)}')
    for source, lines in sheet.by_source(table):
        _differences(source, lines, table, baseline, found)
    return found


def _averages(line: Line) -> Iterator[Finding]:
    for title, of, printed in line.averages:
        columns = [line.cells[domain] for domain in of if domain in line.cells]
        where = f'{line.name}, column {title}'
        if not columns:
            yield Finding(
                'average', where, f'{printed.value}, but none of its columns has a number'
            )
        elif len(columns) < len(of):
            left = ', '.join(domain for domain in of if domain not in line.cells)
            what = (
                f'{printed.value}, but {left} has no number: it is no average of the same domains'
            )
            yield Finding('average', where, what)
        elif not follows(printed, columns):
            what = f'{printed.value}, but its columns have the mean {mean(columns):.3f}'
            yield Finding('average', where, what)


def _rule(line: Line, columns: Sequence[str]) -> Iterator[Finding]:
    said = line.facts.get('selection', '')
    targets = _targets(columns, line.facts.get('source', ''))
    words = '|'.join(map(re.escape, ('oracle', 'target', 'targets', *map(str.lower, targets))))
    affirmed = re.sub(r'\b(no|not|never|without)\b[^,;]*', '', said.lower())
    if re.search(rf'(?<!\w)({words})(?!\w)', affirmed):
        yield Finding('selection', line.name, f'selected by {said!r}: the labels of a target chose')


def _protocols(table: Sheet) -> Iterator[Finding]:
    if 'protocol' not in table.facts:
        return
    columns: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for domain in table.domains:
        numbers: dict[str, list[str]] = {}
        for line in table.lines:
            if domain in line.cells:
                said = line.facts['protocol'] or 'not stated'
                numbers.setdefault(said, []).append(str(line.number))
        if len(numbers) > 1:
            key = tuple((said, ', '.join(lines)) for said, lines in numbers.items())
            columns.setdefault(key, []).append(domain)
    for key, of in columns.items():
        what = '; '.join(f'{said} in line {lines}' for said, lines in key)
        yield Finding('protocol', f'column {", ".join(of)}', what)


def _differences(
    source: str, lines: Sequence[Line], table: Sheet, baseline: str | None, found: Claims
) -> None:
    """Compare each model with the baseline, where the table says how its runs vary."""
    models: dict[str, list[Line]] = {}
    for line in lines:
        models.setdefault(line.model, []).append(line)
    base = baseline if baseline is not None else next(iter(models))
    others = [model for model in models if model != base]
    if base not in models or not others:
        return
    unknown = []
    for model in others:
        for domain in _targets(table.domains, source):
            sides = [[one for one in models[m] if domain in one.cells] for m in (model, base)]
            if all(sides):
                where = f'{model} - {base} on {domain}' + f', trained on {source}' * bool(source)
                if 'seed' in table.facts:
                    by_seed = [
                        {one.facts['seed']: float(one.cells[domain].value) for one in side}
                        for side in sides
                    ]
                    found.findings += _seeds(where, *by_seed)
                elif difference := _summaries(*(side[0] for side in sides), domain):
                    found.findings += _judge(where, difference)
                else:
                    unknown.append(where)
    if unknown:
        found.notes.append(
            f'Differences not checked, {len(unknown)} ({unknown[0]}, ...): the table has neither '
            'runs by seed nor ± with the number of seeds.'
        )


def _summaries(mine: Line, other: Line, domain: str) -> Difference | None:
    facts = []
    for line in (mine, other):
        cell, seeds = line.cells[domain], line.facts.get('seeds', '')
        if cell.spread is None or not seeds.isdecimal() or int(seeds) < 2:
            return None
        facts.append((float(cell.value), float(cell.spread), int(seeds)))
    return Difference.of_summaries(*facts)
