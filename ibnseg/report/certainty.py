"""Intervals, paired comparisons and worst images of a table's records, where their images lie
beside them. In percent; mIoU of a row is the mean over its seeds."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ..measure import bootstrap, matrices, records
from ..measure.bootstrap import Interval
from ..measure.matrices import Images
from .grid import Grid, Section
from .table import Group, Row, Run, Stat, Table
from .words import NOTHING, number, percent

_ALL_PAIRS = 4  # rows of which each is compared with each; of more, only with the baseline


@dataclass(frozen=True)
class Estimate:
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
class Photos:
    """All images of a domain, the lowest mIoU (mean over the models) first.

    `miou` (over the classes in the image's ground truth or prediction) and pixel `accuracy` are
    (models, images), each the mean over the model's seeds.
    """

    source: str
    domain: str
    keys: list[str]
    models: list[str]
    miou: np.ndarray
    accuracy: np.ndarray


@dataclass(frozen=True)
class Certainty:
    """What `gather` found; `alone` are the rows, `pairs` their differences."""

    alone: list[Estimate]
    pairs: list[Estimate]
    photos: list[Photos]
    notes: list[str]


def gather(table: Table) -> Certainty | None:
    """Read the images beside the table's records; None where no record has any.

    Raises RecordError: see `matrices.read`.
    """
    known = {id(run): _read(run) for row in table.rows for run in row.runs}
    found = Certainty([], [], [], [])
    for group in table.groups:
        for domain in group.domains:
            runs = _same_photos(table, group, domain, known, found.notes)
            if not runs:
                continue
            on_domain = _OnDomain(group, domain, runs)
            if on_domain.margins.shape[1] < 2:
                found.notes.append(f'{domain}: one image, of which there is no interval.')
                continue
            pairs = _pairs(on_domain.rows, table.baseline)
            found.alone.extend(on_domain.estimate(row) for row in on_domain.rows)
            found.pairs.extend(on_domain.estimate(*pair) for pair in pairs)
            found.photos.append(on_domain.photos())
    return found if found.alone else None


def _read(run: Run) -> dict[str, Images]:
    found: dict[str, Images] = {}
    for origin in run.provenance:
        if Path(origin.file).is_file():
            found |= matrices.read(origin.file, records.read(origin.file)) or {}
    return found


_Runs = list[tuple[Row, Run, Images]]


def _same_photos(
    table: Table, group: Group, domain: str, known: dict[int, dict[str, Images]], notes: list[str]
) -> _Runs:
    """Return the runs that can be compared image by image; notes say which can not."""
    reference = next(iter(table.protocols[domain]))
    runs: _Runs = []
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
            notes.append(
                f'{row.name} on {domain}: {left} of {len(row.runs)} runs left out, without '
                'per-image matrices of the same photos and protocol as the others.'
            )
    return runs


def _pairs(rows: list[Row], baseline: str) -> list[tuple[Row, Row]]:
    """Return (row, against)."""
    if len(rows) <= _ALL_PAIRS:
        return [(row, against) for against, row in combinations(rows, 2)]
    return [(row, rows[0]) for row in rows[1:] if rows[0].model == baseline]


class _OnDomain:
    """The runs of a source on the same images of a domain."""

    def __init__(self, group: Group, domain: str, runs: _Runs):
        self.source, self.domain, self.runs = group.source, domain, runs
        self.rows = [row for row in group.rows if self._indices(row)]
        self.classes = runs[0][1].measured[domain].classes
        self.margins = np.stack([packed.margins() for *_, packed in runs])

    @cached_property
    def resampled(self) -> bootstrap.Resampled:
        return bootstrap.resample(self.margins, self.classes)

    def _indices(self, row: Row) -> list[int]:
        return [i for i, (of, *_) in enumerate(self.runs) if of is row]

    def estimate(self, row: Row, against: Row | None = None) -> Estimate:
        weights, by_seed = self._weights(row, against)
        found = self.resampled.interval(weights)
        limits = (100 * value for value in (found.value, found.low, found.high))
        return Estimate(
            source=self.source,
            domain=self.domain,
            model=row.name,
            against=against and against.name,
            images=self.margins.shape[1],
            seeds=len(by_seed) or len(self._indices(row)),
            by_seed=Stat.of(100 * by_seed @ self.resampled.observed),
            interval=Interval(*limits, found.other_sign),
        )

    def _weights(self, row: Row, against: Row | None) -> tuple[np.ndarray, np.ndarray]:
        """Return how the runs' mIoU are summed: to the mean or the difference, and by seed.

        Where two rows have seeds in common, only those count; else means are compared, and there
        is nothing by seed.
        """
        unit = np.eye(len(self.runs))
        mine = {self.runs[i][1].seed: unit[i] for i in self._indices(row)}
        if against is None:
            by_seed = list(mine.values())
        else:
            other = {self.runs[i][1].seed: unit[i] for i in self._indices(against)}
            by_seed = [mine[seed] - other[seed] for seed in other if seed in mine]
            if not by_seed:
                means = (np.mean(list(side.values()), axis=0) for side in (mine, other))
                return np.subtract(*means), np.zeros((0, len(self.runs)))
        return np.mean(by_seed, axis=0), np.stack(by_seed)

    def photos(self) -> Photos:
        each = bootstrap.miou(self.margins, self.classes), bootstrap.accuracy(self.margins)
        miou, accuracy = (
            100 * np.stack([values[self._indices(row)].mean(0) for row in self.rows])
            for values in each
        )
        keys = self.runs[0][2].keys
        # Photos of which all is ignored have no mIoU, and come last.
        rank = np.nan_to_num(miou.mean(0), nan=np.inf)
        order = sorted(range(len(keys)), key=lambda i: (rank[i], keys[i]))
        return Photos(
            *(self.source, self.domain, [keys[i] for i in order], [row.name for row in self.rows]),
            *(miou[:, order], accuracy[:, order]),
        )


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
    'mIoU over the classes in the ground truth or prediction of the image / pixel accuracy; means '
    'over the seeds. Lowest mean over the models first.'
)


def sections(found: Certainty | None, worst: int) -> Iterator[Section]:
    """Yield intervals, comparisons, so many of the worst images of each domain, and notes."""
    if not found:
        return
    for source in dict.fromkeys(one.source for one in found.alone):
        alone = [_alone(one) for one in found.alone if one.source == source]
        header = ['domain', 'model', 'images', 'n', 'mIoU', '95 % over images', '± over seeds']
        title = f'Certainty of mIoU, trained on {source}'
        yield Section(title, _ALONE, Grid(header, alone, left=2))
        pairs = [_pair(one) for one in found.pairs if one.source == source]
        header = ['domain', 'model', 'against', 'change', '95 % over images', 'other sign']
        if pairs:
            title = f'Paired comparison, trained on {source}'
            yield Section(title, _PAIRS, Grid([*header, 'by seed'], pairs, left=3))
    for photos in found.photos if worst else ():
        title = f'Worst images of {photos.domain}, trained on {photos.source}'
        header = ['image (mIoU / accuracy)', *photos.models]
        lines = [
            [key, *(f'{number(a)} / {number(b)}' for a, b in zip(*values, strict=True))]
            for key, *values in _by_image(photos)
        ]
        yield Section(title, _WORST, Grid(header, lines[:worst], cut=120))
    yield Section(items=found.notes)


def _alone(one: Estimate) -> list[str]:
    value, limits, spread = number(one.interval.value), _limits(one), number(one.by_seed.std)
    return [one.domain, one.model, str(one.images), str(one.seeds), value, limits, spread]


def _pair(one: Estimate) -> list[str]:
    change, n = number(one.interval.value, '+'), one.by_seed.n
    by_seed = percent(one.by_seed, sign='+') + (f' (n={n})' if n else '')
    share = one.interval.other_sign
    if not np.isfinite(share):
        shown = NOTHING
    else:
        shown = f'{100 * share:.1f} %' if share == 0 or share >= 0.0005 else '< 0.1 %'
    return [one.domain, one.model, one.against, change, _limits(one, '+'), shown, by_seed]


def _limits(one: Estimate, sign: str = '') -> str:
    low, high = (number(limit, sign) for limit in (one.interval.low, one.interval.high))
    return NOTHING if low == NOTHING else f'{low} to {high}'


def flat(found: Certainty) -> Grid:
    """Return one line a row and domain, and one a pair and domain; `against` is empty for the
    former. Percent, but for `other_sign`, a share."""
    header = (
        *('source', 'domain', 'model', 'against', 'images', 'seeds', 'value', 'low', 'high'),
        *('other_sign', 'by_seed_mean', 'by_seed_std', 'by_seed_n'),
    )
    lines = [
        [
            *(one.source, one.domain, one.model, one.against, one.images, one.seeds),
            *(one.interval.value, one.interval.low, one.interval.high),
            f'{one.interval.other_sign:.4f}' if one.against else '',
            *(one.by_seed.mean, one.by_seed.std, one.by_seed.n),
        ]
        for one in (*found.alone, *found.pairs)
    ]
    return Grid(header, lines)


def images_flat(found: Certainty) -> Grid:
    """Return one line an image and model."""
    lines = [
        [photos.source, photos.domain, key, model, float(miou), float(accuracy)]
        for photos in found.photos
        for key, *values in _by_image(photos)
        for model, miou, accuracy in zip(photos.models, *values, strict=True)
    ]
    return Grid(('source', 'domain', 'image', 'model', 'miou', 'accuracy'), lines)


def _by_image(photos: Photos) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    return zip(photos.keys, photos.miou.T, photos.accuracy.T, strict=True)


def content(found: Certainty) -> dict[str, Any]:
    """Return what `report.json` holds of it: all but the photos."""
    alone, pairs = ([asdict(one) for one in side] for side in (found.alone, found.pairs))
    return dict(alone=alone, pairs=pairs, notes=found.notes)
