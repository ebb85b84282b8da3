import colorsys

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from mmseg.registry import TRANSFORMS
from PIL import Image, ImageEnhance

from ibnseg.labels import IGNORE
from ibnseg.pipeline import transforms

SIZES = [(105, 191), (100, 200), (64, 64), (200, 100)]
RATIOS = [(0.5, 2.0), (0.2, 0.4), (1.0, 1.0), (2.5, 4.0)]


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def build(name, **options):
    return TRANSFORMS.build(dict(type=name, **options))


def picture(size=(48, 64), seed=0, smooth=3):
    """A BGR photo with edges and flat parts: uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (*size, 3), np.uint8)
    return cv2.resize(cv2.resize(noise, None, fx=1 / smooth, fy=1 / smooth), size[::-1])


def sample(size, seed=0):
    rng = np.random.default_rng(seed)
    blocks = rng.choice([0, 1, 2, 3, IGNORE], (4, 5)).astype(np.uint8)
    label = cv2.resize(blocks, size[::-1], interpolation=cv2.INTER_NEAREST)
    return dict(img=picture(size, seed), gt_seg_map=label, seg_fields=['gt_seg_map'])


def after(transform, results, seed):
    np.random.seed(seed)
    return transform(results)


# ------------------------------------------------------------------------ geometry


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('ratios', RATIOS, ids=str)
@pytest.mark.parametrize('most', [1.0, 0.75, 0.3])
def test_scale_and_crop_are_mmsegs(size, ratios, most):
    scale, crop = (150, 90), (50, 60)
    ours = build('RandomScaleCrop', crop_size=crop, ratio_range=ratios, scale=scale,
                 cat_max_ratio=most)  # fmt: skip
    theirs = [
        build('RandomResize', scale=scale, ratio_range=ratios, keep_ratio=True),
        build('RandomCrop', crop_size=crop, cat_max_ratio=most),
    ]
    for seed in range(5):
        np.random.seed(seed)
        expected = sample(size, seed)
        for step in theirs:
            expected = step(expected)
        drawn = np.random.rand()
        found = after(ours, sample(size, seed), seed)
        assert np.random.rand() == drawn, 'as many draws'
        np.testing.assert_array_equal(found['gt_seg_map'], expected['gt_seg_map'])
        assert found['img'].shape == expected['img'].shape
        assert np.abs(found['img'].astype(int) - expected['img']).max() <= 1
        for key in ('img_shape', 'scale', 'scale_factor', 'keep_ratio'):
            assert found[key] == expected[key], key


@pytest.mark.parametrize('scaled', [(900, 500), (400, 900), (801, 777)], ids=str)
@pytest.mark.parametrize('corner', ['first', 'last', 'middle'])
def test_only_the_crop_is_resized(scaled, corner, monkeypatch):
    photo, size = picture((105, 191)), (64, 48)
    spare = [a - b for a, b in zip(scaled, size, strict=True)]
    x, y = dict(first=(0, 0), last=spare, middle=[n // 3 for n in spare])[corner]
    whole = cv2.resize(photo, scaled)[y : y + size[1], x : x + size[0]].astype(int)
    monkeypatch.setattr(cv2, 'resize', None)
    part = transforms._resized(photo, scaled, (x, y), size)
    assert np.abs(part - whole).max() <= 1


def test_default_scale_is_the_photos_own():
    crop = build('RandomScaleCrop', crop_size=(30, 30), ratio_range=(0.5, 0.5))
    assert after(crop, sample((60, 100)), 0)['scale'] == (50, 30)


def test_a_photo_smaller_than_the_crop_is_left_to_the_padding():
    crop = build('RandomScaleCrop', crop_size=(500, 40), ratio_range=(1, 1))
    assert after(crop, sample((60, 100)), 0)['img'].shape == (60, 40, 3)
    tiny = build('RandomScaleCrop', crop_size=(8, 8), ratio_range=(0.001, 0.001))
    assert after(tiny, sample((60, 100)), 0)['img'].shape == (1, 1, 3)


@pytest.mark.parametrize('point', [(0, 0), (99, 59), (37, 42)], ids=str)
def test_crop_around_a_centroid(point):
    """The point lies in the crop or on its rim, and everywhere in it, not in its middle alone."""
    crop = build('RandomScaleCrop', crop_size=(20, 30), ratio_range=(0.5, 2.0))
    seen = []
    for seed in range(60):
        results = sample((60, 100)) | dict(centroid=point)
        results['gt_seg_map'] = np.arange(6000, dtype=np.uint16).reshape(60, 100)
        found = after(crop, results, seed)
        assert found['img'].shape[:2] == (20, 30) and 'centroid' not in found
        rows, columns = np.divmod(found['gt_seg_map'].astype(int), 100)
        slack = 2  # the scale is at least 0.5, so a pixel of the crop is at most two of the photo
        assert columns.min() - slack <= point[0] <= columns.max() + slack
        assert rows.min() - slack <= point[1] <= rows.max() + slack
        seen.append((point[0] - columns.min()) / np.ptp(columns))
    if point == (37, 42):
        assert min(seen) < 0.2 and max(seen) > 0.8


def test_crop_of_a_rare_class():
    label = np.zeros((200, 200), np.uint8)
    label[90:110, 180:190] = 6
    crop = build('RandomScaleCrop', crop_size=(100, 100), ratio_range=(1, 1))

    def share(**aim):
        hits = 0
        for seed in range(100):
            results = sample(label.shape) | dict(gt_seg_map=label, **aim)
            found = after(crop, results, seed)
            assert 'rare_class' not in found
            hits += np.count_nonzero(found['gt_seg_map'] == 6) > 50
        return hits

    # 16 % of all crops show it; of eleven tries, one does in 1 - 0.84^11 = 85 %.
    assert 5 < share() < 30
    assert 70 < share(rare_class=(6, 50)) < 97
    results = sample(label.shape) | dict(gt_seg_map=label, rare_class=(17, 50))
    assert after(crop, results, 0)['img'].shape == (100, 100, 3), 'a class that is not there'


def test_impossible_ranges_are_refused():
    for name, options in (
        ('RandomScaleCrop', dict(crop_size=(8, 8), ratio_range=(2, 1))),
        ('RandomGaussianBlur', dict(sigma=(0, 1))),
        ('ColorJitter', dict(hue=0.6)),
        ('ColorJitter', dict(contrast=-1)),
    ):
        with pytest.raises(ValueError, match='expected'):
            build(name, **options)


# ------------------------------------------------------------------------ colour


ENHANCERS = {
    transforms.linear: ImageEnhance.Brightness,
    transforms.adjust_contrast: ImageEnhance.Contrast,
    transforms.adjust_saturation: ImageEnhance.Color,
}


@pytest.mark.parametrize('adjust', ENHANCERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize('factor', [0.0, 0.6, 0.99, 1.0, 1.4, 3.0])
def test_enhancers_are_pillows(adjust, factor):
    photo = picture()
    rgb = Image.fromarray(photo[..., ::-1].copy())
    expected = np.asarray(ENHANCERS[adjust](rgb).enhance(factor)).astype(int)
    found = adjust(photo, factor)[..., ::-1]
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 1
    if factor == 1:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('shift', [-0.5, -0.1, 0.0, 0.04, 0.1, 0.5])
def test_hue_is_turned_in_hsv(shift):
    photo = picture()
    found = transforms.adjust_hue(photo, shift)[..., ::-1].reshape(-1, 3) / 255
    for before, after in zip(photo[..., ::-1].reshape(-1, 3)[::7] / 255, found[::7], strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        expected = colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value)
        # Hue in 256 steps: half a step of it and of the shift are up to 6 grey levels.
        np.testing.assert_allclose(after, expected, atol=8 / 255)


def test_jitter_draws_what_torchvision_draws(monkeypatch):
    """Each factor uniform in its range, all orders, and nothing in 1 - prob of the samples."""
    calls = []
    steps = dict(brightness='linear', contrast='adjust_contrast', saturation='adjust_saturation',
                 hue='adjust_hue')  # fmt: skip
    for name, step in steps.items():
        monkeypatch.setattr(
            transforms, step,
            lambda photo, factor, name=name: calls.append((name, factor)) or photo,
        )  # fmt: skip
    jitter = build('ColorJitter', brightness=0.4, contrast=2.0, saturation=0.3, hue=0.1, prob=0.5)
    photo = picture((2, 2), smooth=1)
    orders = []
    for seed in range(600):
        calls.clear()
        after(jitter, dict(img=photo), seed)
        orders.append(tuple(calls))
    done = [order for order in orders if order]
    assert 250 < len(done) < 350
    assert len({tuple(name for name, _ in order) for order in done}) == 24
    ranges = dict(
        brightness=(0.6, 1.4), contrast=(0.0, 3.0), saturation=(0.7, 1.3), hue=(-0.1, 0.1)
    )
    for name, (low, high) in ranges.items():
        factors = [factor for order in done for n, factor in order if n == name]
        assert low <= min(factors) < low + 0.05 * (high - low)
        assert high >= max(factors) > high - 0.05 * (high - low)


def test_a_jitter_of_nothing_changes_nothing():
    photo = picture()
    still = build('ColorJitter', brightness=0, contrast=0, saturation=0, hue=0, prob=1)
    np.testing.assert_array_equal(still(dict(img=photo.copy()))['img'], photo)


def test_transforms_leave_their_input_alone():
    for transform in (
        build('ColorJitter', prob=1), build('PhotometricDistortion'), build('RandomGaussianBlur'),
    ):  # fmt: skip
        photo = picture()
        for seed in range(8):
            after(transform, dict(img=photo[:, ::-1]), seed)  # a view, as RandomFlip leaves
        np.testing.assert_array_equal(photo, picture())


@pytest.mark.parametrize('sigma', [0.15, 0.5, 1.3])
def test_blur_is_a_gaussian(sigma):
    photo = picture()
    radius = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    expected = photo.astype(float)
    for axis in (0, 1):
        pad = [(radius, radius) if i == axis else (0, 0) for i in range(3)]
        wide = np.pad(expected, pad, 'edge')
        n = photo.shape[axis]
        expected = sum(w * wide.take(range(i, i + n), axis) for i, w in enumerate(kernel))
    found = build('RandomGaussianBlur', sigma=(sigma, sigma))(dict(img=photo))['img']
    assert np.abs(found - expected).max() <= 1.5


def test_blur_as_often_as_asked():
    photo = picture()
    for prob in (0, 0.5, 1):
        blurring = build('RandomGaussianBlur', sigma=(1, 1.3), prob=prob)
        changed = sum(
            not np.array_equal(after(blurring, dict(img=photo), seed)['img'], photo)
            for seed in range(200)
        )
        assert abs(changed - 200 * prob) <= (30 if prob == 0.5 else 0)


def test_photometric_distortion_is_mmsegs():
    ours, theirs = build('PhotometricDistortion'), build('PhotoMetricDistortion')
    photo = picture()
    results = []
    for seed in range(64):
        expected = after(theirs, dict(img=photo.copy()), seed)['img']
        drawn = np.random.rand()
        found = after(ours, dict(img=photo.copy()), seed)['img']
        assert np.random.rand() == drawn, 'as many draws'
        np.testing.assert_array_equal(found, expected)
        results.append(found.tobytes())
    assert len(set(results)) > 48
