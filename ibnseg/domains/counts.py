"""How many pixels of which class a label file holds, and where: counted once, then remembered."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .. import disk, labels, progress
from ..errors import DataError
from .files import read_labels

_VERSION = 3  # raise it when what is counted changes


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


def count(files: Sequence[tuple[str, str]], tile: int = 1024) -> Statistics:
    """Count the classes of label files; what the cache has of unchanged files is taken from it.

    Args:
        files: (path, label space) each; one or several, of one task.
        tile: side in pixels of the squares in which centroids are taken; whole ones only, as in
            RobustNet, but one at least each way where the photo is smaller.

    Raises:
        DataError: as `read_labels`.
    """
    (classes,) = {len(labels.task(space).classes) for _, space in files}
    jobs = [(Path(path).resolve(), space, tile) for path, space in files]
    found = {}
    folder = disk.cache_folder('classes')
    try:
        # The ranks of a run, and other runs, wait for the one that counts.
        with disk.alone(folder), progress.bar('counting classes') as bar:
            for space in dict.fromkeys(space for _, space in files):
                store = disk.Store('classes', space, (_VERSION, labels.space(space)))
                of_space = [job for job in jobs if job[1] == space]
                found |= store.values(_of_file, of_space, None, bar)[0]
    except OSError as error:
        raise DataError(
            f'{folder}: class statistics are kept here, and it cannot be written ({error}). '
            'Name another folder by the environment variable XDG_CACHE_HOME'
        ) from None
    centroids = [(i, *row) for i, job in enumerate(jobs) for row in found[job][1]]
    return Statistics(
        np.array([found[job][0] for job in jobs], np.int64).reshape(-1, classes),
        np.array(centroids, np.int32).reshape(-1, 4),
    )


def _of_file(path: Path, space: str, tile: int) -> tuple[list[int], list[tuple]]:
    return of_label(read_labels(path, space), tile, len(labels.task(space).classes))


def of_label(truth: np.ndarray, tile: int, classes: int) -> tuple[list[int], list[tuple]]:
    """Return the counts of each class and the centroids, (class, x, y) each, of one label.

    Args:
        truth: uint8 (H, W) of training classes.
        tile: as `count`.
        classes: of its task.
    """
    height, width = truth.shape
    counts = np.bincount(truth.ravel(), minlength=256)[:classes]
    found = []
    for top in range(0, max(height // tile, 1) * tile, tile):
        for left in range(0, max(width // tile, 1) * tile, tile):
            part = truth[top : top + tile, left : left + tile]
            for c in np.unique(part[part < classes]).tolist():
                m = cv2.moments((part == c).view(np.uint8), binaryImage=True)
                found.append((c, left + int(m['m10'] / m['m00']), top + int(m['m01'] / m['m00'])))
    return counts.tolist(), found
