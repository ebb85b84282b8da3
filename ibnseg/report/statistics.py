"""Intervals, paired comparisons and worst images of a table's records, where their images lie
beside them. In percent; mIoU of a row is the mean over its seeds."""

import csv as _csv
import io
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as Grid
from rich.text import Text

from ..measure import bootstrap, matrices, records
from ..measure.bootstrap import Interval
from ..measure.matrices import Images
from ..text import clean
from . import page
from .flat import _text
from .table import Group, Row, Run, Stat, Table
from .words import NOTHING, escape

_ALL_PAIRS = 4  # rows of which each is compared with each; of more, only with the baseline


@dataclass(frozen=True)
class Certainty:
    """A row on a domain, or the difference of two rows there.

    Args:
        against: the row that is subtracted; None for a row alone.
        seeds: how many runs a side the mean is over.
        by_seed: over the seeds; of differences, those of runs of one seed.
        interval: over images.
    """

    source: str
    domain: str
    model: str
    against: str | None
    images: int
    seeds: int
    by_seed: Stat
    interval: Interval


@dataclass(frozen=True)
class Photo:
    """An image of a domain: mIoU over the classes in its truth or prediction, and pixel accuracy,
    by model, each the mean over its seeds."""

    source: str
    domain: str
    key: str
    miou: dict[str, float]
    accuracy: dict[str, float]


@dataclass(frozen=True)
class Statistics:
    """`photos` are all of them, the worst of a domain (by the mean over the rows) first."""

    alone: list[Certainty]
    pairs: list[Certainty]
    photos: list[Photo]
    notes: list[str]

    def worst(self, number: int) -> Iterator[list[Photo]]:
        """Yield the worst of each source and domain."""
        by_domain: dict[tuple[str, str], list[Photo]] = {}
        for photo in self.photos:
            by_domain.setdefault((photo.source, photo.domain), []).append(photo)
        for photos in by_domain.values():
            yield photos[:number]


def gather(table: Table) -> Statistics | None:
    """Read the images beside the table's records; None where no record has any.

    Raises RecordError: see `matrices.read`.
    """
    known = {
        id(run): _read(run) for group in table.groups for row in group.rows for run in row.runs
    }
    found = Statistics([], [], [], [])
    for group in table.groups:
        for domain in group.domains:
            _domain(table, group, domain, known, found)
    return found if found.alone else None


def _read(run: Run) -> dict[str, Images]:
    found: dict[str, Images] = {}
    for origin in run.provenance:
        if Path(origin.file).is_file():
            found |= matrices.read(origin.file, records.read(origin.file)) or {}
    return found


def _domain(
    table: Table, group: Group, domain: str, known: dict[int, dict[str, Images]], out: Statistics
) -> None:
    reference = next(iter(table.protocols[domain]))
    runs: list[tuple[Row, Run, Images]] = []
    for row in group.rows:
        left = 0
        for run in row.runs:
            packed, measured = known[id(run)].get(domain), run.measured.get(domain)
            if packed is None or measured.protocol_hash != reference:
                left += measured is not None
            elif runs and runs[0][2].keys != packed.keys:
                left += 1
            else:
                runs.append((row, run, packed))
        if left:
            out.notes.append(
                f'{row.model}{row.mark} on {domain}: {left} of {len(row.runs)} runs left out, '
                'without per-image matrices of the same photos and protocol as the others.'
            )
    if not runs:
        return
    classes = runs[0][1].measured[domain].classes
    margins = np.stack([packed.margins() for _, _, packed in runs])
    number = margins.shape[1]
    if number < 2:
        out.notes.append(f'{domain}: one image, of which there is no interval.')
        return
    scored = bootstrap.resample(margins, classes)
    of_row: dict[int, list[int]] = {}
    for i, (row, _, _) in enumerate(runs):
        of_row.setdefault(id(row), []).append(i)
    rows = [row for row in group.rows if id(row) in of_row]
    weights = np.eye(len(runs))

    def certainty(row: Row, against: Row | None) -> Certainty:
        mine, theirs = of_row[id(row)], of_row[id(against)] if against else []
        if against:
            seeds = [runs[i][1].seed for i in mine]
            common = [s for s in (runs[i][1].seed for i in theirs) if s in seeds]
            if common:
                mine, theirs = (
                    [next(i for i in side if runs[i][1].seed == seed) for seed in common]
                    for side in (mine, theirs)
                )
            each = weights[mine] - weights[theirs] if common else np.zeros((0, len(runs)))
            wanted = weights[mine].mean(0) - weights[theirs].mean(0)
        else:
            each, wanted = weights[mine], weights[mine].mean(0)
        interval = scored.interval(wanted)
        return Certainty(
            *(group.source, domain, row.model + row.mark),
            against and against.model + against.mark,
            *(number, len(mine)),
            Stat.of(100 * each @ scored.observed),
            Interval(
                100 * interval.value, 100 * interval.low, 100 * interval.high, interval.other_sign
            ),
        )

    out.alone.extend(certainty(row, None) for row in rows)
    pairs = combinations(rows, 2)
    if len(rows) > _ALL_PAIRS:
        pairs = ((rows[0], row) for row in rows[1:] if rows[0].model == table.baseline)
    out.pairs.extend(certainty(row, against) for against, row in pairs)
    values = [
        100 * measure for measure in (bootstrap.miou(margins, classes), bootstrap.accuracy(margins))
    ]
    photos = [
        Photo(
            *(group.source, domain, key),
            *(
                {row.model + row.mark: float(value[of_row[id(row)], i].mean()) for row in rows}
                for value in values
            ),
        )
        for i, key in enumerate(runs[0][2].keys)
    ]
    out.photos.extend(sorted(photos, key=lambda photo: (_rank(photo), photo.key)))


def _rank(photo: Photo) -> float:
    """The mean over the models; photos of which all is ignored come last."""
    value = float(np.mean(list(photo.miou.values())))
    return value if np.isfinite(value) else np.inf


@dataclass(frozen=True)
class _Block:
    """A table of words. `left` columns are text; a `path` column is the first."""

    title: str
    text: str
    header: list[str]
    lines: list[list[str]]
    left: int


_ALONE = (
    'Percentiles of 2,000 draws of the images, all models on the same draws. Images count as '
    'independent; where they are neighbouring frames of one drive, intervals are too narrow. ± is '
    'the standard deviation (n - 1) over the seeds.'
)
_PAIRS = (
    'Difference of mIoU on the same draws of images; other sign: share of the draws in which it is '
    'zero or of the other sign. By seed: mean ± standard deviation (n - 1) of the differences of '
    'runs of one seed.'
)
_WORST = (
    'mIoU over the classes in the truth or prediction of the image, and pixel accuracy behind the '
    'stroke; means over the seeds. Lowest mean over the models first.'
)


def _blocks(found: Statistics, worst: int) -> Iterator[_Block]:
    for source in dict.fromkeys(one.source for one in found.alone):
        alone = [one for one in found.alone if one.source == source]
        header = ['domain', 'model', 'images', 'n', 'mIoU', '95 % over images', '± over seeds']
        lines = [
            [
                *(one.domain, one.model, str(one.images), str(one.seeds)),
                *(_number(one.interval.value), _limits(one.interval), _number(one.by_seed.std)),
            ]
            for one in alone
        ]
        yield _Block(f'Certainty of mIoU, trained on {source}', _ALONE, header, lines, 2)
        pairs = [one for one in found.pairs if one.source == source]
        header = ['domain', 'model', 'against', 'change', '95 % over images', 'other sign']
        lines = [
            [
                *(one.domain, one.model, one.against or ''),
                *(_number(one.interval.value, '+'), _limits(one.interval, '+')),
                *(_share(one.interval.other_sign), _by_seed(one.by_seed)),
            ]
            for one in pairs
        ]
        if pairs:
            title = f'Paired comparison, trained on {source}'
            yield _Block(title, _PAIRS, [*header, 'by seed'], lines, 3)
    for photos in found.worst(worst):
        models = list(photos[0].miou)
        lines = [
            [
                photo.key,
                *(f'{_number(photo.miou[m])} / {_number(photo.accuracy[m])}' for m in models),
            ]
            for photo in photos
        ]
        title = f'Worst images of {photos[0].domain}, trained on {photos[0].source}'
        yield _Block(title, _WORST, ['image (mIoU / accuracy)', *models], lines, 1)


def _number(value: float, sign: str = '') -> str:
    return f'{round(value, 1) + 0.0:{sign}.1f}' if np.isfinite(value) else NOTHING


def _limits(interval: Interval, sign: str = '') -> str:
    if not np.isfinite(interval.low):
        return NOTHING
    return f'{_number(interval.low, sign)} to {_number(interval.high, sign)}'


def _share(value: float) -> str:
    if not np.isfinite(value):
        return NOTHING
    return f'{100 * value:.1f} %' if value == 0 or value >= 0.0005 else '< 0.1 %'


def _by_seed(stat: Stat) -> str:
    if not stat.n:
        return NOTHING
    spread = f' ± {stat.std:.1f}' if stat.n > 1 else ''
    return f'{_number(stat.mean, "+")}{spread} (n={stat.n})'


def markdown(found: Statistics) -> str:
    """Return the sections, to follow a report's others."""
    parts: list[str] = []
    for block in _blocks(found, 10):
        lines = [[escape(cell, 300) for cell in line] for line in block.lines]
        header = [escape(cell) for cell in block.header]
        parts += [f'## {escape(block.title)}', block.text, page._grid(header, lines, block.left)]
    parts += [f'- {escape(note, None)}' for note in found.notes]
    return page._join(parts)


def csv(found: Statistics) -> str:
    """Return one line a row and domain, and one a pair and domain; `against` is empty for the
    former. Percent, but for `other_sign`, a share."""
    header = (
        *('source', 'domain', 'model', 'against', 'images', 'seeds', 'value', 'low', 'high'),
        *('other_sign', 'by_seed_mean', 'by_seed_std', 'by_seed_n'),
    )
    return _lines(
        header,
        (
            [
                *(one.source, one.domain, one.model, one.against, one.images, one.seeds),
                *(one.interval.value, one.interval.low, one.interval.high),
                '' if not one.against else f'{one.interval.other_sign:.4f}',
                *(one.by_seed.mean, one.by_seed.std, one.by_seed.n),
            ]
            for one in (*found.alone, *found.pairs)
        ),
    )


def photos_csv(found: Statistics) -> str:
    """Return one line an image and model, in percent."""
    return _lines(
        ('source', 'domain', 'image', 'model', 'miou', 'accuracy'),
        (
            [photo.source, photo.domain, photo.key, model, miou, photo.accuracy[model]]
            for photo in found.photos
            for model, miou in photo.miou.items()
        ),
    )


def _lines(header: tuple[str, ...], lines: Iterator[list[Any]]) -> str:
    out = io.StringIO()
    writer = _csv.writer(out, lineterminator='\n')
    writer.writerow(header)
    writer.writerows([_text(cell) for cell in line] for line in lines)
    return out.getvalue()


def content(found: Statistics) -> dict[str, Any]:
    """Return what `report.json` holds of it: all but the photos."""
    parts = asdict(found)
    del parts['photos']
    return parts


def terminal(found: Statistics) -> '_Screen':
    """Return a rich renderable, with the three worst images of each domain."""
    return _Screen(found)


class _Screen:
    def __init__(self, found: Statistics):
        self.found = found

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for block in _blocks(self.found, 3):
            yield Text(clean(block.title, 100), style='bold')
            grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
            for i, name in enumerate(block.header):
                width = max(6, *(len(line[i]) for line in block.lines))
                grid.add_column(
                    Text(_wrapped(clean(name, 24), width)),
                    justify='left' if i < block.left else 'right',
                    no_wrap=i >= block.left,
                    overflow='fold',
                )
            for line in block.lines:
                grid.add_row(*(Text(clean(cell, 120)) for cell in line))
            yield grid
            yield Text()
        for note in self.found.notes:
            yield Text(clean(note))


def _wrapped(words: str, width: int) -> str:
    """Break a header at its spaces, so that it is not what makes its column wide."""
    return textwrap.fill(words, width, break_long_words=False, break_on_hyphens=False)
