"""Calibration and errors by their confidence, of a table's records with histograms beside them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from ..measure import bootstrap, records, reliability, units
from ..measure.reliability import MEASURES, Reliability
from .grid import NOTHING, Grid, Section, percent
from .table import Group, Row, Run

_TEXT = (
    'Over the pixels with a ground truth; confidence is the highest softmax probability. ECE: '
    'expected calibration error, 15 bins of equal width. AUROC: chance that a wrong pixel is less '
    'confident than a right one. FPR@95: share of the wrong pixels as confident as 95 % of the '
    'right ones. AURC: area under the risk-coverage curve, which counts accuracy, too. Lower is '
    'better, but for AUROC. Brackets: 95 % over images or drives, as for mIoU; all '
    'models on the same draws. a - b: of a minus that of b on each draw.'
)


def sections(
    group: Group, domain: str, runs: Sequence[tuple[Row, Run]], pairs_up_to: int
) -> Iterator[Section]:
    """Yield one section if some of the runs have histograms, of the same photos.

    Args:
        runs: that can be compared image by image.
        pairs_up_to: rows of which each is compared with each; of more, only with the baseline.

    Raises RecordError: see `measure.reliability.read`.
    """
    known: list[Reliability] = []
    seeds: dict[Row, dict[int | None, int]] = {}
    for row, run in runs:
        found = _read(run, domain)
        if found and len(found.counts) > 1 and (not known or known[0].keys == found.keys):
            seeds.setdefault(row, {})[run.seed] = len(known)
            known.append(found)
    if not known:
        return
    drawn = reliability.resample(known, units=units.of_domain(domain, known[0].keys))

    def line(row: Row, against: Row | None = None) -> list[str]:
        by_seed, mean = bootstrap.weights(len(known), seeds[row], seeds.get(against))
        name = row.name if against is None else f'{row.name} - {against.name}'
        cells = [_cell(drawn[one].interval, mean, '+' if against else '') for one in MEASURES]
        return [name, str(len(by_seed) or len(seeds[row])), *cells]

    rows = list(seeds)
    pairs = [(row, against) for against, row in combinations(rows, 2)]
    if len(rows) > pairs_up_to:
        pairs = [(row, row.against) for row in rows if row.against in seeds]
    lines = [*map(line, rows), *(line(*pair) for pair in pairs)]
    title = f'Reliability on {domain}, trained on {group.title}'
    yield Section(title, _TEXT, Grid(['model', 'n', *(f'{m} in %' for m in MEASURES)], lines))


def _cell(interval: Callable, weights: np.ndarray, sign: str) -> str:
    found = interval(weights)
    value, low, high = (percent(100 * n, sign) for n in (found.value, found.low, found.high))
    return value if low == NOTHING else f'{value} ({low} to {high})'


def _read(run: Run, domain: str) -> Reliability | None:
    for file in (origin['file'] for origin in run.origins):
        if reliability.beside(file).is_file() and Path(file).is_file():
            record = records.read(file)
            mine = next((one for one in record.domains if one.domain == domain), None)
            if mine and np.array_equal(mine.matrix, run.measured[domain].matrix):
                found = reliability.read(file, record)
                return found and found[domain]
    return None
