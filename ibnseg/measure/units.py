"""What a bootstrap draws: images, or the drives that they are frames of.

Neighbouring frames of a drive resemble each other, so the next drive differs by more than frames
drawn one by one would say. Whole drives are drawn instead (Davison & Hinkley, Bootstrap Methods and
their Application, 1997, section 3.8).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import domains

_FEWEST = 3  # drives that say something of another one
_BLOCKS = 6  # few, so that each is longer than what its frames have in common


@dataclass(frozen=True)
class Units:
    """The units of N images.

    Args:
        of: int (N,), the unit of each image, 0 to `number` - 1.
        what: 'images', 'drives', or 'blocks' of neighbouring frames.
        drives: how many drives there are; 0 where that is not known.
    """

    of: np.ndarray
    what: str = 'images'
    drives: int = 0

    @property
    def number(self) -> int:
        return int(self.of.max()) + 1

    @property
    def widening(self) -> float:
        """Return by how much limits of few units are too near.

        Percentiles of G drawn units lie where a normal distribution with the variance (G - 1) / G
        times the true one has them; limits that hold are Student's, with G - 1 degrees of freedom
        (Cameron & Miller, Journal of Human Resources 50, 2015, section VI). Single images are many
        enough.
        """
        if self.what == 'images':
            return 1.0
        number = self.number
        return t_quantile(number - 1) / t_quantile(math.inf) * math.sqrt(number / (number - 1))

    def sums(self, rows: np.ndarray) -> np.ndarray:
        """Return the sums over each unit's images: (N, ...) -> (number, ...)."""
        if self.what == 'images':
            return rows
        out = np.zeros((self.number, *rows.shape[1:]), rows.dtype)
        np.add.at(out, self.of, rows)
        return out


def t_quantile(freedom: float, level: float = 0.975) -> float:
    """Return a quantile of Student's distribution; with infinite freedom, of the normal one."""
    from scipy.special import ndtri, stdtrit

    return float(stdtrit(freedom, level) if math.isfinite(freedom) else ndtri(level))


def images(number: int) -> Units:
    """Return each image as a unit of its own."""
    return Units(np.arange(number))


def of_domain(domain: str, keys: Sequence[str]) -> Units:
    """Return the units of a domain's images.

    Args:
        domain: 'name' or 'name:split'; of one that this process does not know, images are units.
        keys: of its images, see `Domain.key`.
    """
    try:
        row, _ = domains.parse(domain)
    except ValueError:
        return images(len(keys))
    return of_drives([row.drive(key) for key in keys], keys) if row.drives else images(len(keys))


def of_drives(drives: Sequence[str], keys: Sequence[str]) -> Units:
    """Return drives as units; of one or two, blocks of neighbouring frames; see `_BLOCKS`.

    Args:
        drives: of each image.
        keys: of each image; their order is that of the frames of a drive.
    """
    names, of = np.unique(np.asarray(drives, dtype=object).astype(str), return_inverse=True)
    if len(names) == len(keys):
        return images(len(keys))
    if len(names) >= _FEWEST:
        return Units(of, 'drives', len(names))
    out, number = np.zeros(len(keys), int), 0
    for drive in range(len(names)):
        frames = sorted(np.flatnonzero(of == drive), key=lambda i: keys[i])
        parts = min(len(frames), max(1, round(_BLOCKS * len(frames) / len(keys))))
        out[frames] = number + np.arange(len(frames)) * parts // len(frames)
        number += parts
    return Units(out, 'blocks', len(names))
