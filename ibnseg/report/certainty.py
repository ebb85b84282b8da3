"""Intervals, paired comparisons and worst images of a table's records, where their images lie
beside them. In percent; mIoU of a row is the mean over its seeds."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from .. import progress
from ..measure import bootstrap, matrices, records, units
from ..measure.bootstrap import Interval
from ..measure.matrices import Images
from . import reliability
from .grid import NOTHING, Grid, Section, percent
from .table import Group, Row, Run, Stat, Table
from .verdict import Verdict, holm, judge, p_value

_ALL_PAIRS = 4  # rows of which each is compared with each; of more, only with the baseline


@dataclass(frozen=True)
class Estimate:
    """A row on a domain, or the difference of two rows there.

    Args:
        protocol: the hash of the domain's.
        against: the row that is subtracted; None for a row alone.
        seeds: how many runs a side the mean is over.
        by_seed: over the seeds; of differences, those of runs of one seed.
        interval: over images or drives.
        p: of a difference, that of its verdict; `p_of_all`, corrected for all that the report
            compares.
    """

    source: str
    domain: str
    protocol: str
    model: str
    against: str | None
    images: int
    seeds: int
    by_seed: Stat
    interval: Interval
    p: float = math.nan
    p_of_all: float = math.nan

    @property
    def verdict(self) -> Verdict | None:
        """Of a difference; None of a row alone."""
        return None if self.against is None else judge(self.interval, self.by_seed)


@dataclass(frozen=True)
class Photos:
    """All images of a domain, the lowest mIoU (mean over the models) first.

    `images` are (key, mIoU, pixel accuracy), with an array of the models' values each: means over
    a model's seeds. mIoU is over the classes in the image's ground truth or prediction. `title`
    says domain and source.
    """

    title: str
    source: str
    domain: str
    protocol: str
    models: list[str]
    images: list[tuple[str, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Certainty:
    """What `gather` found; `alone` are the rows, `pairs` their differences.

    `reliability` are sections of the domains whose records have histograms beside them.
    """

    alone: list[Estimate]
    pairs: list[Estimate]
    photos: list[Photos]
    notes: list[str]
    reliability: list[Section] = field(default_factory=list)


def gather(table: Table) -> Certainty | None:
    """Read the images beside the table's records; None where no record has any.

    Raises RecordError: see `matrices.read`.
    """
    known = {run: _read(run) for row in table.rows for run in row.runs}
    found = Certainty([], [], [], [])
    every = [(group, domain) for group in table.groups for domain in group.domains]
    for group, domain in progress.track(every, 'certainty', len(every)):
        runs = _same_photos(group, domain, known, found.notes)
        if runs:
            _estimate(found, group, domain, runs)
        compared = [(row, run) for row, run, _ in runs]
        found.reliability.extend(reliability.sections(group, domain, compared, _ALL_PAIRS))
    known = [p_value(one.interval, one.by_seed) for one in found.pairs]
    for i, p in enumerate(zip(known, holm(known), strict=True)):
        found.pairs[i] = replace(found.pairs[i], p=p[0], p_of_all=p[1])
    return found if found.alone else None


def _read(run: Run) -> dict[str, Images]:
    found: dict[str, Images] = {}
    for path in (origin['file'] for origin in run.origins):
        if Path(path).is_file():
            record = records.read(path)
            images = matrices.read(path, record) or {}
            for one in record.domains:  # it may hold another protocol's, that the row is without
                mine = run.measured.get(one.domain)
                if one.domain in images and mine and np.array_equal(mine.matrix, one.matrix):
                    found[one.domain] = images[one.domain]
    return found


_Runs = list[tuple[Row, Run, Images]]


def _same_photos(
    group: Group, domain: str, known: dict[Run, dict[str, Images]], notes: list[str]
) -> _Runs:
    """Return the runs that can be compared image by image; add notes on the others."""
    runs: _Runs = []
    for row in group.rows:
        measured = [run for run in row.runs if domain in run.measured]
        before = len(runs)
        for run in measured:
            images = known[run].get(domain)
            usual = run.measured[domain].protocol_hash == group.reference[domain]
            if images and usual and (not runs or runs[0][2].keys == images.keys):
                runs.append((row, run, images))
        if left := len(measured) - (len(runs) - before):
            notes.append(
                f'{row.name} on {domain}: {left} of {len(row.runs)} runs left out, without '
                'per-image matrices of the same photos and protocol as the others.'
            )
    return runs


def _estimate(found: Certainty, group: Group, domain: str, runs: _Runs) -> None:
    """Add the rows, pairs and photos of runs on the same images of a domain."""
    _, run, images = runs[0]
    if len(images) < 2:
        found.notes.append(f'{domain}: one image, of which there is no interval.')
        return
    classes = run.measured[domain].classes
    where = group.source, domain, group.reference[domain]
    margins = np.stack([images.margins() for *_, images in runs])
    drawn = bootstrap.resample(margins, classes, units=units.of_domain(domain, images.keys))
    seeds: dict[Row, dict[int | None, int]] = {}  # which of the runs has a row's seed
    for number, (row, run, _) in enumerate(runs):
        seeds.setdefault(row, {})[run.seed] = number

    def one(row: Row, against: Row | None = None) -> Estimate:
        by_seed, mean = bootstrap.weights(len(runs), seeds[row], seeds.get(against))
        over = drawn.interval(mean)
        return Estimate(
            *where,
            model=row.name,
            against=against and against.name,
            images=len(images),
            seeds=len(by_seed) or len(seeds[row]),
            by_seed=Stat.of(100 * by_seed @ drawn.observed),
            interval=replace(
                over, value=100 * over.value, low=100 * over.low, high=100 * over.high
            ),
        )

    rows = list(seeds)
    found.alone.extend(map(one, rows))
    if len(rows) <= _ALL_PAIRS:
        found.pairs.extend(one(row, against) for against, row in combinations(rows, 2))
    else:
        found.pairs.extend(one(row, row.against) for row in rows if row.against in seeds)
    miou, accuracy = (
        100 * np.stack([values[list(of.values())].mean(0) for of in seeds.values()], 1)
        for values in (bootstrap.miou(margins, classes), bootstrap.accuracy(margins))
    )
    # Photos of which all is ignored have no mIoU (NaN), and come last.
    order = np.lexsort((images.keys, miou.mean(1)))
    photos = [(images.keys[i], miou[i], accuracy[i]) for i in order]
    title = f'{domain}, trained on {group.title}'
    found.photos.append(Photos(title, *where, [row.name for row in rows], photos))


_CERTAINTY = (
    '95 % over {over}: percentiles of 2,000 draws of {drawn}, all models on the same draws. a - b: '
    'mIoU of a minus that of b on each draw; other sign: share of the draws in which it is zero or '
    'of the other sign. By seed: mean ± standard deviation (n - 1) of the n runs; of a - b, of the '
    'differences of runs of one seed. Verdict, from both {over} and seeds: clear where the 95 % '
    'interval over both excludes zero. With one seed the chance of training is not known, and the '
    'verdict is over {over} alone. Each verdict is for one comparison: of 20 without any '
    'difference, one is expected to be clear.{corrected}'
)
_CORRECTED = (
    ' p of all: corrected for the {} comparisons of this report (Holm); below 0.05 a difference is '
    'clear among all of them.'
)
_DRAWN = {
    'images': 'the {units} images, which count as independent',
    'drives': 'the {units} drives that the {images} images are frames of, further away since they '
    'are few',
    'blocks': '{units} blocks of neighbouring frames, further away since they are few: the '
    '{images} images are of too few drives to say what another drive would give',
}
_WORST = (
    'mIoU over the classes in the ground truth or prediction of the image / pixel accuracy; means '
    'over the seeds. Lowest mean over the models first.'
)


def sections(found: Certainty | None, worst: int) -> Iterator[Section]:
    """Yield intervals, comparisons, so many of the worst images of each domain, and notes."""
    if not found:
        return
    for photos in found.photos:
        of = photos.source, photos.domain, photos.protocol
        every = (*found.alone, *found.pairs)
        some = [one for one in every if (one.source, one.domain, one.protocol) == of]
        title = f'Certainty of mIoU on {photos.title}'
        over = some[0].interval
        drawn = _DRAWN[over.over].format(units=over.units, images=len(photos.images))
        several = sum(math.isfinite(one.p_of_all) for one in found.pairs)
        corrected = _CORRECTED.format(several) if several > 1 else ''
        text = _CERTAINTY.format(over=over.over, drawn=drawn, corrected=corrected)
        yield Section(title, text, _intervals(some, bool(corrected)))
    yield from found.reliability
    for photos in found.photos if worst else ():
        lines = [
            [key, *(f'{percent(a)} / {percent(b)}' for a, b in zip(*values, strict=True))]
            for key, *values in photos.images[:worst]
        ]
        title = f'Worst images of {photos.title}'
        header = ['image (mIoU / accuracy)', *photos.models]
        breaks = tuple(range(1, len(header)))
        yield Section(title, _WORST, Grid(header, lines, breaks=breaks, cut=120))
    yield Section(items=found.notes)


def _intervals(some: list[Estimate], corrected: bool) -> Grid:
    """One line an estimate; by seed only where there are several, else it repeats the mIoU.

    Args:
        corrected: with the column of p values corrected for their number.
    """
    over = f'95 % over {some[0].interval.over}'
    header = ['model', 'verdict', 'n', 'mIoU', over, 'other sign', 'by seed', 'p of all']
    lines = [_line(one) for one in some]
    if not corrected:
        header, *lines = (line[:-1] for line in (header, *lines))
    if all(one.seeds < 2 for one in some):
        header, *lines = ([*line[:6], *line[7:]] for line in (header, *lines))
    return Grid(header, lines, left=2, breaks=(1, *range(4, len(header))), cut=160)


def _line(one: Estimate) -> list[str]:
    other_sign = one.interval.other_sign
    name, sign, share, word, p = one.model, '', '', '', ''
    if one.verdict:
        name, sign, share, p = f'{one.model} - {one.against}', '+', NOTHING, NOTHING
        word = one.verdict.word
        if np.isfinite(other_sign):
            share = '< 0.1 %' if 0 < other_sign < 0.0005 else f'{100 * other_sign:.1f} %'
        if math.isfinite(one.p_of_all):
            p = '< 0.001' if one.p_of_all < 0.0005 else f'{one.p_of_all:.3f}'
    value = percent(one.interval.value, sign)
    found = limits(one) or NOTHING
    return [name, word, str(one.seeds), value, found, share, percent(one.by_seed, sign), p]


def limits(one: Estimate) -> str | None:
    """Return the 95 % interval as '10.1 to 12.9', with signs for a difference."""
    low, high = (
        percent(n, '+' if one.against else '') for n in (one.interval.low, one.interval.high)
    )
    return None if low == NOTHING else f'{low} to {high}'
