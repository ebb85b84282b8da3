import numpy as np
import pytest
from mmseg.registry import TRANSFORMS
from PIL import Image, ImageOps

import ibnseg  # noqa: F401
from ibnseg import labels


def sample(height: int, width: int, seed: int = 0) -> dict:
    """As after LoadImageFromFile and LoadLabels."""
    rng = np.random.default_rng(seed)
    return dict(
        img=rng.integers(0, 256, (height, width, 3), np.uint8),
        gt_seg_map=rng.integers(0, 19, (height, width)).astype(np.uint8),
        ori_shape=(height, width),
        img_shape=(height, width),
        label_space='gta5',
        seg_fields=['gt_seg_map'],
    )


def reframe(results: dict, **options) -> dict:
    return TRANSFORMS.build(dict(type='ReframePair', **options))(dict(results))


def padded(image: Image.Image, side: int, fill: int) -> np.ndarray:
    """What RobustNet's CenterCropPad does, step by step: pad twice what is missing, then cut at
    offsets that come from the size before padding."""
    width, height = image.size
    grow_x, grow_y = max(side - width, 0), max(side - height, 0)
    image = ImageOps.expand(image, (grow_x, grow_y, grow_x, grow_y), fill)
    left, top = round((width - side) / 2), round((height - side) / 2)
    # Pillow fills with 0 what is cut beyond the border: class road, as the padding itself.
    return np.asarray(image.crop((left, top, left + side, top + side)))


@pytest.mark.parametrize('size', [(48, 64), (49, 65), (64, 48), (65, 31), (9, 50), (100, 99)])
@pytest.mark.parametrize('side', [32, 33, 80])
def test_height_and_centre_are_robustnets(size, side):
    given = sample(*size)
    found = reframe(given, height=side, crop=(side, side), pad=0)
    scaled = int(size[1] / size[0] * side), side
    photo = Image.fromarray(given['img']).resize(scaled, Image.BICUBIC)
    truth = Image.fromarray(given['gt_seg_map']).resize(scaled, Image.NEAREST)
    np.testing.assert_array_equal(found['img'], padded(photo, side, 0))
    np.testing.assert_array_equal(found['gt_seg_map'], padded(truth, side, 0))
    assert found['img_shape'] == found['ori_shape'] == (side, side)


def test_a_portrait_photo_is_padded_with_road_as_in_the_published_numbers():
    given = sample(64, 48)
    given['gt_seg_map'][:] = 10
    found = reframe(given, height=64, crop=(64, 64), pad=0)['gt_seg_map']
    # 16 columns are missing: 24 of padding on the left, and 8 of the photo are cut on the right.
    assert (found[:, :24] == 0).all() and (found[:, 24:] == 10).all()
    ignored = reframe(given, height=64, crop=(64, 64))['gt_seg_map']
    assert (ignored[:, :24] == labels.IGNORE).all()


@pytest.mark.parametrize('size', [(48, 64), (49, 65), (7, 5)])
def test_half_size_is_reins(size):
    given = sample(*size)
    found = reframe(given, scale=0.5)
    half = size[1] // 2, size[0] // 2
    photo = Image.fromarray(given['img']).resize(half, Image.BICUBIC)
    truth = Image.fromarray(given['gt_seg_map']).resize(half, Image.NEAREST)
    np.testing.assert_array_equal(found['img'], photo)
    np.testing.assert_array_equal(found['gt_seg_map'], truth)
    assert found['ori_shape'] == (size[0] // 2, size[1] // 2)


def test_raw_labels_are_padded_with_an_id_of_the_class():
    given = sample(64, 48) | dict(raw_labels=True)
    given['gt_seg_map'][:] = 23  # sky
    found = reframe(given, height=64, crop=(64, 64), pad=0)['gt_seg_map']
    assert set(labels.lut('gta5')[found].ravel()) == {0, 10}


@pytest.mark.parametrize('keep_ratio', [True, False])
def test_resizing_the_photo_leaves_its_label_and_its_own_size(keep_ratio):
    given = sample(48, 64)
    step = dict(type='ResizePhoto', scale=(32, 32), keep_ratio=keep_ratio)
    found = TRANSFORMS.build(step)(dict(given))
    assert found['img'].shape[:2] == found['img_shape'] == ((24, 32) if keep_ratio else (32, 32))
    assert found['gt_seg_map'] is given['gt_seg_map']
    assert found['ori_shape'] == (48, 64)
