"""One photo in the style of another, without a network. All uint8 BGR (H, W, 3)."""

from collections.abc import Callable

import cv2
import numpy as np

#: Share of the shorter side up to which `fourier` takes a frequency's amplitude from the partner;
#: that of Yang & Soatto, CVPR 2020.
_BAND = 0.01


def reinhard(photo: np.ndarray, partner: np.ndarray, as_released: bool = False) -> np.ndarray:
    """Give a photo the mean and the standard deviation of its partner, by channel of CIELAB.

    Reinhard et al., IEEE CG&A 2001, who do it in the l-alpha-beta space.

    Args:
        as_released: as the package `color_transfer` does with preserve_paper=False: in whole
            numbers, those of the result cut off, which turns colours by a few levels.
    """
    both = photo, partner
    if not as_released:
        both = (image.astype(np.float32) / 255 for image in both)
    lab, target = (cv2.cvtColor(image, cv2.COLOR_BGR2LAB).astype(np.float32) for image in both)
    mean, spread = (np.float32(v).ravel() for v in cv2.meanStdDev(lab))
    new_mean, new_spread = (np.float32(v).ravel() for v in cv2.meanStdDev(target))
    lab = (lab - mean) * (new_spread / np.maximum(spread, 1e-6)) + new_mean
    if as_released:
        return cv2.cvtColor(lab.clip(0, 255).astype(np.uint8), cv2.COLOR_LAB2BGR)
    return _eight_bits(255 * cv2.cvtColor(lab, cv2.COLOR_LAB2BGR))


def histogram(photo: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """Give each colour channel of a photo the histogram of its partner's."""
    tables = []
    for channel in range(3):
        counts, target = (
            np.bincount(image[..., channel].ravel(), minlength=256) for image in (photo, partner)
        )
        levels = np.flatnonzero(target)  # not those between, which no pixel has
        ranks = np.cumsum(target)[levels] / target.sum()
        tables.append(np.interp(np.cumsum(counts) / counts.sum(), ranks, levels))
    return cv2.LUT(np.ascontiguousarray(photo), _eight_bits(np.stack(tables, -1))[None])


def fourier(photo: np.ndarray, partner: np.ndarray, band: float = _BAND) -> np.ndarray:
    """Give a photo the amplitudes of its partner's lowest frequencies; its phases stay.

    Yang & Soatto, "FDA", CVPR 2020.

    Args:
        band: share of the shorter side; frequencies up to that are changed, at least the mean.
    """
    height, width = photo.shape[:2]
    if partner.shape != photo.shape:
        partner = cv2.resize(partner, (width, height), interpolation=cv2.INTER_LINEAR)
    return _eight_bits(exchanged(photo, partner, int(band * min(height, width))))


def exchanged(photo: np.ndarray, partner: np.ndarray, low: int) -> np.ndarray:
    """Return a photo (H, W, C) with its partner's amplitudes at frequencies -low..low, float64.

    Unclipped. The window is symmetric, as in the NumPy code of FDA's release; that of its training,
    -low..low-1, is not, and gives complex values of which it takes the real part.
    """
    spectrum, target = (np.fft.fft2(i.astype(np.float64), axes=(0, 1)) for i in (photo, partner))
    rows, columns = (np.abs(np.fft.fftfreq(n, 1 / n)) <= low for n in photo.shape[:2])
    inside = np.ix_(rows, columns)
    spectrum[inside] = np.abs(target[inside]) * np.exp(1j * np.angle(spectrum[inside]))
    return np.fft.ifft2(spectrum, axes=(0, 1)).real


def _eight_bits(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


STYLES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    'reinhard': reinhard,
    'histogram': histogram,
    'fourier': fourier,
}
