"""Whether a network knows when it is wrong: calibration, and errors found by their confidence.

The confidence of a pixel is its highest softmax probability p; doubt is 1 - p. Of each image there
is a histogram of the doubt of its right and wrong pixels, in one file beside the record. All
numbers, their intervals and paired differences follow from these, whatever the size of photos.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..disk import write_by
from . import bootstrap, matrices
from .bootstrap import Resampled
from .records import Record, RecordError
from .units import Units
from .units import images as all_images

SCHEMA = 'ibnseg-reliability-1'
#: Of expected calibration error (Guo et al., ICML 2017).
CALIBRATION_BINS = 15
_KEPT = 0.95  # share of the right pixels that are kept, for the false positive rate

# Bins are 1/300 wide, so that 20 are one of calibration. The first, where most pixels of a trained
# network lie, is divided on a logarithmic scale down to what float32 resolves.
_WIDE = 20 * CALIBRATION_BINS
_FINE = np.geomspace(1e-6, 1 / _WIDE, 250)[:-1]
#: Bin i holds the doubts from EDGES[i] up to, not including, EDGES[i + 1].
EDGES = np.concatenate([[0.0], _FINE, np.arange(1, _WIDE + 1) / _WIDE])
BINS = len(EDGES) - 1

#: What is measured, in the order of `measures`; all are fractions.
MEASURES = ('ECE', 'AUROC', 'FPR@95', 'AURC')


@dataclass(frozen=True)
class Reliability:
    """The histograms of N images.

    Args:
        counts: uint32 (N, 2, BINS), pixels by doubt: wrong ones, right ones.
        doubts: float64 (N, CALIBRATION_BINS), the sum of the doubts in each bin of calibration, of
            which the first holds the smallest doubts.
        keys: each image's photo relative to the data root.
    """

    counts: np.ndarray
    doubts: np.ndarray
    keys: tuple[str, ...] = ()


def histogram(doubt: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the `counts` and `doubts` of one image.

    Args:
        doubt: floats in 0..1, of each pixel that has a ground truth.
        right: bool, whether its prediction is right.
    """
    index = np.searchsorted(EDGES, doubt, side='right') - 1
    index = np.minimum(index, BINS - 1)
    counts = np.bincount(index + BINS * right, minlength=2 * BINS).reshape(2, BINS)
    sums = np.bincount(_CALIBRATION[index], doubt, minlength=CALIBRATION_BINS)
    return counts.astype(np.uint32), sums


#: Bin -> its bin of calibration.
_CALIBRATION = np.minimum((EDGES[:-1] * CALIBRATION_BINS + 1e-9).astype(int), CALIBRATION_BINS - 1)


def measures(counts: np.ndarray, doubts: np.ndarray) -> np.ndarray:
    """Return the four `MEASURES` of sums of histograms, along a new last axis.

    NaN where there is no pixel, and, but for ECE and AURC, where all are right or all wrong.

    - ECE: sum over the bins of calibration of |right pixels - sum of confidences| / all pixels.
    - AUROC: chance that a wrong pixel has less confidence than a right one; of equal ones half.
    - FPR@95: share of the wrong pixels above the confidence that 95 % of the right ones reach.
    - AURC: mean over all coverages of the share of wrong pixels among those of highest confidence
      (Geifman & El-Yaniv, 2017).

    In a bin, pixels count as equally confident.

    Args:
        counts: (..., 2, BINS). doubts: (..., CALIBRATION_BINS).
    """
    wrong, right = (part.astype(np.float64) for part in np.moveaxis(counts, -2, 0))
    each = wrong + right
    pixels = each.sum(-1)
    starts = np.flatnonzero(np.diff(_CALIBRATION, prepend=-1))
    # right - (pixels - doubts) = doubts - wrong
    gaps = np.abs(doubts - np.add.reduceat(wrong, starts, -1)).sum(-1)
    tested, kept = np.cumsum(wrong, -1), np.cumsum(right, -1)
    with np.errstate(divide='ignore', invalid='ignore'):
        auroc = (wrong * (kept - right / 2)).sum(-1) / (tested[..., -1] * kept[..., -1])
        fpr = _wrong_at(tested, kept) / tested[..., -1]
        # Inside a bin the risk at coverage (N + x) is (E + r x) / (N + x), with r its share wrong.
        share = np.where(each > 0, wrong / each, 0)
        before = np.cumsum(each, -1) - each
        logs = np.where((before > 0) & (each > 0), np.log1p(each / before), 0)
        risk = share * each + (tested - wrong - share * before) * logs
        found = [gaps / pixels, auroc, fpr, risk.sum(-1) / pixels]
    return np.stack(found, -1)


def _wrong_at(tested: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return how many wrong pixels are kept where `_KEPT` of the right ones are."""
    aim = _KEPT * kept[..., -1:]
    at = (kept < aim).sum(-1, keepdims=True)

    def before(values: np.ndarray) -> np.ndarray:
        return np.where(at > 0, np.take_along_axis(values, np.maximum(at - 1, 0), -1), 0)

    at = np.minimum(at, BINS - 1)
    low, high = before(kept), np.take_along_axis(kept, at, -1)
    part = (aim - low) / (high - low)
    return (before(tested) * (1 - part) + np.take_along_axis(tested, at, -1) * part)[..., 0]


def resample(
    runs: list[Reliability],
    times: int = bootstrap.TIMES,
    seed: int = 0,
    units: Units | None = None,
) -> dict[str, Resampled]:
    """Measure R runs on the same draws of their N images; returns one `Resampled` a measure.

    Args as of `bootstrap.resample`.

    Raises ValueError below two images: there is nothing to draw.
    """
    images = len(runs[0].counts)
    if images < 2:
        raise ValueError(f'{images} images; a bootstrap needs two at least')
    units = units or all_images(images)
    observed, drawn = [], []
    for run in runs:
        counts = units.sums(run.counts.reshape(images, -1).astype(np.float64))
        doubts, blocks = units.sums(run.doubts), []
        for block in bootstrap.draws(len(counts), times, seed):
            for part in np.array_split(block, -(-len(block) // 200)):  # bounds the memory
                sums = (part @ counts).reshape(-1, 2, BINS)
                blocks.append(measures(sums, part @ doubts))
        observed.append(measures(run.counts.sum(0, dtype=np.int64), run.doubts.sum(0)))
        drawn.append(np.concatenate(blocks))
    by_run, draws = np.stack(observed), np.stack(drawn, 1)
    return {name: Resampled(by_run[:, i], draws[:, :, i], units) for i, name in enumerate(MEASURES)}


def beside(record_path: str | Path) -> Path:
    """Return where the histograms of a record lie: `a.record.json` -> `a.reliability.npz`."""
    images = matrices.beside(record_path)
    return images.with_name(images.name.removesuffix('.images.npz') + '.reliability.npz')


def write(record_path: str | Path, record: Record, found: Mapping[str, Reliability]) -> Path:
    """Write the histograms of each of the record's domains beside the record; returns the path."""
    arrays, domains = {}, []
    for i, measured in enumerate(record.domains):
        one = found[measured.domain]
        domains.append(dict(domain=measured.domain, images=list(one.keys)))
        arrays[f'counts{i}'] = one.counts.astype(np.uint32)
        arrays[f'doubts{i}'] = one.doubts.astype(np.float64)
    header = dict(schema=SCHEMA, record=matrices.identity(record), domains=domains)
    arrays['header'] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    write_by(beside(record_path), lambda file: np.savez_compressed(file, **arrays))
    return beside(record_path)


def read(record_path: str | Path, record: Record) -> dict[str, Reliability] | None:
    """Read the histograms beside a record, by domain; None where there is no such file.

    Nothing in the file is run, and what it unpacks to is bounded (`matrices.unpack`).

    Raises RecordError: not such a file, too large, of another record, or with counts that are not
    the record's.
    """
    path = beside(record_path)
    if not path.exists() or path.is_dir():
        return None
    try:
        arrays = matrices.unpack(path)
        header = json.loads(arrays.pop('header', np.empty(0)).tobytes())
        if not isinstance(header, dict) or header.get('schema') != SCHEMA:
            raise ValueError(f'its schema is not {SCHEMA!r}')
        if header.get('record') != matrices.identity(record):
            raise ValueError('not of the record beside it; one of them is of another evaluation')
        return {
            measured.domain: _domain(measured, header['domains'][i], arrays, i)
            for i, measured in enumerate(record.domains)
        }
    except Exception as error:  # zipfile, zlib and numpy raise nearly anything of bad files
        reason = getattr(error, 'strerror', None) or str(error) or type(error).__name__
        raise RecordError(
            f'{path}: these histograms cannot be used ({reason:.80}). Delete it to do without, or '
            'evaluate again with --reliability'
        ) from None


def _domain(measured: Any, said: dict, arrays: Mapping[str, np.ndarray], i: int) -> Reliability:
    counts, doubts, keys = arrays[f'counts{i}'], arrays[f'doubts{i}'], said['images']
    if (
        (counts.dtype, counts.shape) != (np.uint32, (measured.images, 2, BINS))
        or (doubts.dtype, doubts.shape) != (np.float64, (measured.images, CALIBRATION_BINS))
        or not (np.isfinite(doubts).all() and (doubts >= 0).all())
        or not isinstance(keys, list)
        or not all(isinstance(key, str) for key in keys)
        or not len(set(keys)) == len(keys) == measured.images
    ):
        raise ValueError(f'the histograms of {measured.domain!r:.40} are damaged')
    right = int(np.trace(measured.matrix))
    pixels = counts.sum((0, 2), dtype=np.int64).tolist()
    if pixels != [int(measured.matrix.sum()) - right, right]:
        raise ValueError(f'the pixels of {measured.domain!r:.40} are not those of the record')
    return Reliability(counts, doubts, tuple(keys))
