"""Augmentation as the protocols define it: the crop resized alone, colour by look-up tables.

All draws come from `numpy.random`, which `DomainDataset` seeds by the sample's position.
"""

import cv2
import numpy as np
from mmcv.image import rescale_size
from mmcv.transforms import BaseTransform
from mmseg.datasets.transforms import PhotoMetricDistortion
from mmseg.registry import TRANSFORMS

from ..labels import IGNORE

_TRIES = 10  # of MMSeg's RandomCrop and of DAFormer's rare class sampling
# A pixel costs cv2.warpAffine four times what it costs cv2.resize (measured, uint8 x 3).
_WARP_COST = 4


@TRANSFORMS.register_module()
class RandomScaleCrop(BaseTransform):
    """Scale the photo at random and crop it, resizing only what the crop shows.

    The same draws and the same result as MMSeg's `RandomResize(scale, ratio_range,
    keep_ratio=True)` and `RandomCrop(crop_size, cat_max_ratio)`: the label is equal, the photo
    within one grey level. Where the scaled photo is smaller than the crop, so is the result; the
    model's `data_preprocessor` pads it.

    A sampler may aim the crop (`ibnseg.train.sampler`), by one of these in the sample:
        centroid: (x, y) of the photo, which the crop then covers or touches, at any place in it
            (RobustNet, class-uniform sampling).
        rare_class: (class, pixels); scale and crop are drawn up to eleven times, until the crop
            holds more than that many pixels of the class (DAFormer, rare class sampling).

    Args:
        crop_size: (height, width).
        ratio_range: of the scale, drawn uniformly.
        scale: (width, height) that ratio 1 fits into; default: the photo's own.
        cat_max_ratio: a crop in which one class has this share of the labelled pixels or more is
            drawn again, up to ten times. Not where the sampler aims by a centroid.
    """

    def __init__(
        self,
        crop_size: tuple[int, int],
        ratio_range: tuple[float, float] = (0.5, 2.0),
        scale: tuple[int, int] | None = None,
        cat_max_ratio: float = 1.0,
    ):
        self.crop_size, self.ratio_range, self.scale = crop_size, ratio_range, scale
        self.cat_max_ratio = cat_max_ratio
        low, high = ratio_range
        if not 0 < low <= high:
            raise ValueError(f'ratio_range is {ratio_range}; expected 0 < low <= high')

    def transform(self, results: dict) -> dict:
        photo, label = results['img'], results['gt_seg_map']
        size = photo.shape[1::-1]
        rare_class, pixels = results.pop('rare_class', (None, 0))
        centroid = results.pop('centroid', None)
        for _ in range(1 if rare_class is None else _TRIES + 1):
            scale, scaled = self._scale(size)
            corner, cropped = self._crop(label, scaled, centroid)
            if rare_class is None or np.count_nonzero(cropped == rare_class) > pixels:
                break
        results['img'] = _resized(photo, scaled, corner, cropped.shape[::-1])
        results['gt_seg_map'] = cropped
        results['img_shape'] = cropped.shape
        results['scale'], results['keep_ratio'] = scale, True
        results['scale_factor'] = scaled[0] / size[0], scaled[1] / size[1]
        return results

    def _scale(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        low, high = self.ratio_range
        ratio = np.random.random_sample() * (high - low) + low
        width, height = self.scale or size
        # At least one pixel: a photo is never scaled away.
        scale = max(int(width * ratio), 1), max(int(height * ratio), 1)
        new = rescale_size(size, scale)
        return scale, (max(new[0], 1), max(new[1], 1))

    def _crop(
        self, label: np.ndarray, scaled: tuple[int, int], centroid: tuple[float, float] | None
    ) -> tuple[tuple[int, int], np.ndarray]:
        """Return the (x, y) of a crop's corner in the scaled photo, and its label."""
        grid = [_nearest(n, new) for n, new in zip(label.shape[::-1], scaled, strict=True)]
        height, width = self.crop_size
        spare = max(scaled[1] - height, 0), max(scaled[0] - width, 0)

        def at(y: int, x: int) -> tuple[tuple[int, int], np.ndarray]:
            rows, columns = grid[1][y : y + height], grid[0][x : x + width]
            return (x, y), label.take(rows, 0).take(columns, 1)

        if centroid is not None:
            points = (
                int(c * new / n)
                for c, new, n in zip(centroid[::-1], scaled[::-1], label.shape, strict=True)
            )
            corner = (
                min(max(np.random.randint(point - side, point + 1), 0), most)
                for point, side, most in zip(points, self.crop_size, spare, strict=True)
            )
            return at(*corner)
        for _ in range(_TRIES + 1):
            corner, cropped = at(*(np.random.randint(0, most + 1) for most in spare))
            if self.cat_max_ratio >= 1 or self._is_mixed(cropped):
                break
        return corner, cropped

    def _is_mixed(self, cropped: np.ndarray) -> bool:
        count = cv2.calcHist([cropped], [0], None, [256], [0, 256]).ravel()
        count[IGNORE] = 0
        return np.count_nonzero(count) > 1 and count.max() / count.sum() < self.cat_max_ratio


def _nearest(size: int, new: int) -> np.ndarray:
    """Which of `size` pixels cv2.resize's INTER_NEAREST takes for each of `new`."""
    return np.minimum((np.arange(new) * (1 / (new / size))).astype(int), size - 1)


def _resized(
    photo: np.ndarray, scaled: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """Return the crop of `size` at `corner` of the photo as cv2.resize would scale it."""
    (x, y), (width, height) = corner, size
    if scaled[0] * scaled[1] < _WARP_COST * width * height:
        whole = cv2.resize(photo, scaled, interpolation=cv2.INTER_LINEAR)
        return whole[y : y + height, x : x + width]
    sx, sy = photo.shape[1] / scaled[0], photo.shape[0] / scaled[1]
    back = np.array([[sx, 0, (x + 0.5) * sx - 0.5], [0, sy, (y + 0.5) * sy - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(photo, back, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


_LEVELS = np.arange(256, dtype=np.float32)


def linear(photo: np.ndarray, alpha: float = 1, beta: float = 0) -> np.ndarray:
    """Return alpha * photo + beta, uint8, clipped and cut to whole grey levels.

    By alpha alone as PIL's ImageEnhance.Brightness.
    """
    table = np.clip(_LEVELS * np.float32(alpha) + np.float32(beta), 0, 255).astype(np.uint8)
    return cv2.LUT(np.ascontiguousarray(photo), table)


def adjust_contrast(photo: np.ndarray, factor: float) -> np.ndarray:
    """As PIL's ImageEnhance.Contrast: away from, or towards, the mean grey. uint8 BGR (H, W, 3)."""
    mean = int(cv2.mean(cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY))[0] + 0.5)
    return linear(photo, factor, (1 - factor) * mean)


def adjust_saturation(photo: np.ndarray, factor: float) -> np.ndarray:
    """As PIL's ImageEnhance.Color, within a grey level. uint8 BGR (H, W, 3)."""
    grey = np.array([0.114, 0.587, 0.299])
    return cv2.transform(photo, factor * np.eye(3) + (1 - factor) * grey)


def adjust_hue(photo: np.ndarray, shift: float) -> np.ndarray:
    """Turn the hue by `shift` in [-0.5, 0.5] of the circle, in 8-bit HSV. uint8 BGR (H, W, 3)."""
    turned = ((np.arange(256) + round(shift * 256)) % 256).astype(np.uint8)
    return _hue(photo, turned, cv2.COLOR_BGR2HSV_FULL, cv2.COLOR_HSV2BGR_FULL)


def _hue(photo: np.ndarray, table: np.ndarray, there: int, back: int) -> np.ndarray:
    tables = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    tables[:, 0] = table
    return cv2.cvtColor(cv2.LUT(cv2.cvtColor(photo, there), tables[None]), back)


@TRANSFORMS.register_module()
class ColorJitter(BaseTransform):
    """Brightness, contrast, saturation and hue in random order, as torchvision's ColorJitter.

    Factors are uniform in [max(0, 1 - v), 1 + v], the hue's shift in [-hue, hue]. The defaults are
    RobustNet's. The photo is uint8 BGR.

    Args:
        brightness, contrast, saturation: 0 or more.
        hue: 0 to 0.5 of the circle.
        prob: of jittering at all.
    """

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.1,
        prob: float = 0.5,
    ):
        if min(brightness, contrast, saturation) < 0 or not 0 <= hue <= 0.5:
            raise ValueError(
                f'ColorJitter has {brightness, contrast, saturation, hue}; expected brightness, '
                'contrast, saturation of at least 0 and a hue of 0 to 0.5'
            )
        self.steps = [
            (linear, max(0.0, 1 - brightness), 1 + brightness),
            (adjust_contrast, max(0.0, 1 - contrast), 1 + contrast),
            (adjust_saturation, max(0.0, 1 - saturation), 1 + saturation),
            (adjust_hue, -hue, hue),
        ]
        self.prob = prob

    def transform(self, results: dict) -> dict:
        if np.random.rand() < self.prob:
            photo = np.ascontiguousarray(results['img'])
            for i in np.random.permutation(len(self.steps)):
                adjust, low, high = self.steps[i]
                if low < high:
                    photo = adjust(photo, np.random.uniform(low, high))
            results['img'] = photo
        return results


@TRANSFORMS.register_module()
class RandomGaussianBlur(BaseTransform):
    """Blur by a Gaussian whose sigma is uniform in a range of pixels, cut off at 4 sigma.

    What lies outside of the photo is its nearest pixel.

    Args:
        sigma: range. The default is RobustNet's, which blurs every photo; DAFormer's strong
            augmentation has (0.15, 1.15) and prob 0.5.
        prob: of blurring at all.
    """

    def __init__(self, sigma: tuple[float, float] = (0.15, 1.3), prob: float = 1.0):
        if not 0 < sigma[0] <= sigma[1]:
            raise ValueError(f'sigma is {sigma}; expected 0 < low <= high, in pixels')
        self.sigma, self.prob = sigma, prob

    def transform(self, results: dict) -> dict:
        if np.random.rand() < self.prob:
            sigma = np.random.uniform(*self.sigma)
            side = 2 * int(4 * sigma + 0.5) + 1
            results['img'] = cv2.GaussianBlur(
                results['img'], (side, side), sigma, borderType=cv2.BORDER_REPLICATE
            )
        return results


@TRANSFORMS.register_module()
class PhotometricDistortion(PhotoMetricDistortion):
    """MMSeg's PhotoMetricDistortion by look-up tables: the same draws, the same pixels."""

    convert = staticmethod(linear)

    def hue(self, img: np.ndarray) -> np.ndarray:
        if not np.random.randint(2):
            return img
        shift = np.random.randint(-self.hue_delta, self.hue_delta)
        table = ((np.arange(256) + shift) % 180).astype(np.uint8)
        return _hue(img, table, cv2.COLOR_BGR2HSV, cv2.COLOR_HSV2BGR)
