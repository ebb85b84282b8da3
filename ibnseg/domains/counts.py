"""How many pixels of which class a label file holds, and where: counted once, kept in a cache.

The cache (`disk.cache_folder('classes')`) has one file for the labels of a folder, whose rows count
for files of the same size and time.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import disk, labels
from .. import workers as spread
from ..errors import DataError
from ..progress import track
from .files import read_labels

#: Of a file: (size, time of change), counts, centroids.
_Row = tuple[tuple[int, int], np.ndarray, np.ndarray]
_VERSION = 2  # of the cache files; count it up when what is counted changes


@dataclass(frozen=True)
class Statistics:
    """Class statistics of label files, in the order given.

    Args:
        counts: int64 (files, classes of their task), pixels of each class.
        centroids: int32 (occurrences, 4): file, class, x, y in pixels of the label. One row a
            class and tile that the class occurs in.
    """

    counts: np.ndarray
    centroids: np.ndarray


def count(
    files: Sequence[tuple[str, str]], tile: int = 1024, workers: int | None = None
) -> Statistics:
    """Count the classes of label files; what the cache has of unchanged files is taken from it.

    Args:
        files: (path, label space) each; one or several, of one task.
        tile: side in pixels of the squares in which centroids are taken; whole ones only, as in
            RobustNet, but one at least each way where the photo is smaller.
        workers: processes; default: one a core.

    Raises:
        DataError: as `read_labels`.
    """
    (classes,) = {len(labels.task(space).classes) for _, space in files}
    folder = disk.cache_folder('classes')
    jobs = [(str(Path(path).resolve()), space, tile) for path, space in files]
    try:
        # The ranks of a run, and other runs, wait for the one that counts.
        with disk.alone(folder):
            rows = _rows(jobs, folder, workers)
    except OSError as error:
        raise DataError(
            f'{folder}: class statistics are kept here, and it cannot be written ({error}). '
            'Name another folder by the environment variable XDG_CACHE_HOME'
        ) from None
    centroids = [np.insert(found, 0, i, axis=1) for i, (_, _, found) in enumerate(rows)]
    return Statistics(
        np.array([counts for _, counts, _ in rows], np.int64).reshape(-1, classes),
        np.concatenate([np.empty((0, 4), np.int32), *centroids]),
    )


def _rows(jobs: Sequence[tuple], folder: Path, workers: int | None) -> list[_Row]:
    """Return the row of each job (path, label space, tile), from the caches or counted now."""
    # A dataset's splits have folders of their own, or share one.
    keys = [json.dumps([_VERSION, tile, space, str(Path(p).parent)]) for p, space, tile in jobs]
    caches = [folder / f'{hashlib.sha256(k.encode()).hexdigest()[:16]}.npz' for k in keys]
    known = {cache: _read(cache) for cache in set(caches)}
    stamps = [_stamp(path) for path, *_ in jobs]
    rows = [known[cache].get(path) for cache, (path, *_) in zip(caches, jobs, strict=True)]
    missing = [i for i, row in enumerate(rows) if row is None or row[0] != stamps[i]]
    counted = spread.run(_of_file, [jobs[i] for i in missing], workers)
    changed = set()
    try:
        for i, row in zip(missing, track(counted, 'counting classes', len(missing)), strict=True):
            rows[i] = known[caches[i]][jobs[i][0]] = (stamps[i], *row)
            changed.add(caches[i])
    finally:  # what was counted before an error or an interrupt, too
        for cache in changed:
            _write(cache, known[cache])
    return rows


def of_label(truth: np.ndarray, tile: int, classes: int = 19) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts, int64 (classes,), and centroids, int32 (n, 3): class, x, y, of one label.

    Args:
        truth: uint8 (H, W) of training classes.
        tile: as `count`.
        classes: of its task.
    """
    height, width = truth.shape
    counts = np.bincount(truth.ravel(), minlength=256)[:classes].astype(np.int64)
    found = []
    for top in range(0, max(height // tile, 1) * tile, tile):
        for left in range(0, max(width // tile, 1) * tile, tile):
            part = truth[top : top + tile, left : left + tile].astype(np.int64)
            by_row = _histograms(part)
            by_column = _histograms(part.T)
            pixels = by_row.sum(0)
            for c in np.flatnonzero(pixels[:classes]):
                y = int(by_row[:, c] @ np.arange(len(by_row)) / pixels[c])
                x = int(by_column[:, c] @ np.arange(len(by_column)) / pixels[c])
                found.append((c, left + x, top + y))
    return counts, np.array(found, np.int32).reshape(-1, 3)


def _histograms(part: np.ndarray) -> np.ndarray:
    """Count the values 0..255 of each row: int64 (rows, 256)."""
    codes = part + 256 * np.arange(len(part))[:, None]
    return np.bincount(codes.ravel(), minlength=256 * len(part)).reshape(-1, 256)


def _stamp(path: str) -> tuple[int, int]:
    status = Path(path).stat()
    return status.st_size, status.st_mtime_ns


def _of_file(path: str, space: str, tile: int) -> tuple[np.ndarray, np.ndarray]:
    return of_label(read_labels(path, space), tile, len(labels.task(space).classes))


def _read(path: Path) -> dict[str, _Row]:
    """Return the rows by path; nothing where the cache is absent or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            paths, stamps, counts, ends, found = (
                file[key] for key in ('paths', 'stamps', 'counts', 'ends', 'centroids')
            )
        parts = np.split(found.reshape(-1, 3), ends[:-1])
        return {
            str(name): (tuple(map(int, stamp)), pixels, part)
            for name, stamp, pixels, part in zip(paths, stamps, counts, parts, strict=True)
        }
    except Exception:  # a cache is made anew, whatever is wrong with it
        return {}


def _write(path: Path, rows: dict[str, _Row]) -> None:
    content = io.BytesIO()
    np.savez_compressed(
        content,
        paths=np.array(list(rows)),
        stamps=np.array([stamp for stamp, *_ in rows.values()], np.int64),
        counts=np.array([counts for _, counts, _ in rows.values()]),
        ends=np.cumsum([len(part) for *_, part in rows.values()]),
        centroids=np.concatenate([part for *_, part in rows.values()]),
    )
    disk.write_atomically(path, content.getvalue())
