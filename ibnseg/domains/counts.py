"""How many pixels of which class a label file holds, and where: counted once, kept in a cache.

The cache (`disk.cache_folder('classes')`) has one file for the labels of a folder, whose rows count
for files of the same size and time.
"""

import hashlib
import io
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import disk, labels
from ..errors import DataError
from .files import read_labels

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

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
    stamps = [(str(Path(path).resolve()), space, *_stamp(path)) for path, space in files]
    folder = disk.cache_folder('classes')
    groups: dict[Path, list[int]] = {}
    for i, (path, space, *_) in enumerate(stamps):
        # A data set's splits have folders of their own, or share one.
        key = json.dumps([_VERSION, tile, space, str(Path(path).parent)])
        name = f'{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz'
        groups.setdefault(folder / name, []).append(i)
    rows: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    # The ranks of a run, and other runs, wait for the one that counts.
    with _alone(folder):
        known = {cache: _read(cache) for cache in groups}
        for cache, members in groups.items():
            for i in members:
                row = known[cache].get(stamps[i][0])
                if row is not None and row[0] == stamps[i][2:]:
                    rows[i] = row[1:]
        missing = [i for i in range(len(stamps)) if i not in rows]
        if missing:
            jobs = [(stamps[i][0], stamps[i][1], tile) for i in missing]
            try:
                for i, row in zip(missing, _run(jobs, workers), strict=True):
                    rows[i] = row
            finally:  # what was counted before an error or an interrupt, too
                for cache, members in groups.items():
                    new = [i for i in members if i in rows]
                    if not set(new).isdisjoint(missing):
                        news = {stamps[i][0]: (stamps[i][2:], *rows[i]) for i in new}
                        _write(cache, known[cache] | news)
    centroids = [np.insert(rows[i][1], 0, i, axis=1) for i in range(len(stamps)) if len(rows[i][1])]
    return Statistics(
        np.array([rows[i][0] for i in range(len(stamps))], np.int64).reshape(-1, classes),
        np.concatenate(centroids or [np.empty((0, 4), np.int32)]),
    )


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


def _run(jobs: Sequence[tuple], workers: int | None) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    workers = workers or _cores()
    if workers <= 1 or len(jobs) < 16:
        yield from _watched((_of_file(*job) for job in jobs), len(jobs))
        return
    method = 'fork' if 'fork' in multiprocessing.get_all_start_methods() else None
    # Ctrl-C goes to all; this process ends the work.
    pool = ProcessPoolExecutor(
        workers,
        multiprocessing.get_context(method),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        yield from _watched(pool.map(_of_file, *zip(*jobs, strict=True), chunksize=4), len(jobs))
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    # Where a cluster gives a job some of a machine's cores, those.
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def _watched(results: Iterable, total: int) -> Iterator:
    """Pass on the results, with a bar on a terminal and one line elsewhere."""
    text = f'counting the classes of {total} label files, once'
    if not sys.stdout.isatty():
        if total >= 16:
            print(text, flush=True)
        yield from results
        return
    from rich.progress import track

    yield from track(results, text, total, transient=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / '.lock', 'w')  # noqa: SIM115
    except OSError as error:
        raise DataError(
            f'{folder}: class statistics are kept here, and it cannot be written ({error}). '
            'Name another folder by the environment variable XDG_CACHE_HOME'
        ) from None
    with lock:
        if fcntl is not None:
            with suppress(OSError):  # some network file systems can't; then all count
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> dict[str, tuple]:
    """Return path -> (stamp, counts, centroids); nothing where the cache is absent or damaged."""
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


def _write(path: Path, rows: dict[str, tuple]) -> None:
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
