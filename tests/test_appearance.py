"""Changed photos: what each change does, what leaves IBN-b as it is, and what a protocol says."""

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from ibnseg import hub
from ibnseg.errors import DataError
from ibnseg.measure import protocols
from ibnseg.pipeline import appearance, styles
from ibnseg.pipeline.appearance import ChangeInput, Restyle, Stylised, describe
from ibnseg.pipeline.styles import STYLES

MEAN = (103.53, 116.28, 123.675)  # BGR
STD = (57.375, 57.12, 58.395)


def photo(seed=0, low=60, high=190, size=(24, 32)) -> np.ndarray:
    smooth = np.random.default_rng(seed).integers(low, high, (*size, 3))
    return cv2.GaussianBlur(smooth.astype(np.uint8), (5, 5), 1.0)


def changed(name: str, image: np.ndarray) -> np.ndarray:
    step = describe(name, MEAN)
    assert step.pop('type') == 'ChangeInput'
    return ChangeInput(**step)(dict(img=image))['img']


def test_grey_levels_are_added_unclipped():
    image = np.full((2, 2, 3), (10, 100, 250), np.uint8)
    np.testing.assert_array_equal(changed('rgb+50', image)[0, 0], [60, 150, 300])
    np.testing.assert_array_equal(changed('r+50', image)[0, 0], [10, 100, 300])
    np.testing.assert_array_equal(changed('b-20.5', image)[0, 0], [-10.5, 100, 250])


def test_std_acts_on_the_normalised_input():
    image = photo()
    np.testing.assert_allclose(
        (changed('std*1.5', image) - MEAN) / STD, 1.5 * (image - MEAN) / STD, atol=1e-5
    )


def test_none_is_no_step_and_others_are_named():
    assert describe('none') is None
    with pytest.raises(ValueError, match=r"unknown change 'reinhart'.*did you mean 'reinhard'"):
        describe('reinhart')
    with pytest.raises(ValueError, match="'fourier' needs images: give --style-from"):
        describe('fourier')
    with pytest.raises(ValueError, match="'stylised' needs images: give --stylised"):
        describe('stylised')


# ------------------------------------------------------------------------------ what b does not see


def normalised(image: np.ndarray) -> torch.Tensor:
    values = ((image - np.array(MEAN)) / STD)[..., ::-1].astype(np.float32)
    return torch.from_numpy(values.copy()).permute(2, 0, 1)[None]


def change_of_logits(name: str, change: str, mirrored: bool) -> float:
    """Return the largest change of a random network's logits, relative to their spread."""
    net = hub.build(name, num_classes=5).eval()
    if mirrored:
        net.conv1.padding_mode = 'replicate'
        net.conv1._reversed_padding_repeated_twice = [3, 3, 3, 3]
    image = photo(low=0, high=256, size=(64, 64))
    with torch.no_grad():
        before, after = net(normalised(image)), net(normalised(changed(change, image)))
    return float((after - before).abs().max() / before.std())


def test_b_is_unchanged_by_contrast_to_rounding():
    """Input and zeros of the border are scaled alike; InstanceNorm in the stem takes that off."""
    assert change_of_logits('resnet18_ibn_b', 'std*1.5', mirrored=False) < 1e-3
    assert change_of_logits('resnet18', 'std*1.5', mirrored=False) > 0.01
    assert change_of_logits('resnet18_ibn_a', 'std*1.5', mirrored=False) > 0.01


@pytest.mark.parametrize('change', ['rgb+50', 'r+50', 'g-30'])
def test_b_is_unchanged_by_a_shift_but_for_the_border_of_zeros(change):
    assert change_of_logits('resnet18_ibn_b', change, mirrored=True) < 1e-3
    assert change_of_logits('resnet18_ibn_b', change, mirrored=False) > 1e-3
    assert change_of_logits('resnet18', change, mirrored=True) > 0.01


# ---------------------------------------------------------------------------------------- styles


@pytest.mark.parametrize('style', STYLES)
def test_a_photo_in_its_own_style_is_itself(style):
    image = photo()
    off = np.abs(STYLES[style](image, image).astype(int) - image)
    assert off.max() <= 1


def test_reinhard_takes_mean_and_spread():
    image, partner = photo(), photo(1, 90, 150)

    def moments(image):
        lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_BGR2LAB)
        return np.stack([v.ravel() for v in cv2.meanStdDev(lab)])

    found = moments(styles.reinhard(image, partner))
    np.testing.assert_allclose(found, moments(partner), atol=0.3)
    assert np.abs(moments(image) - moments(partner)).max() > 1


def test_histogram_takes_the_partners():
    image = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    partner = np.random.default_rng(0).permutation(200 - image.reshape(-1, 3)).reshape(8, 8, 3)
    found = styles.histogram(image, partner)
    for channel in range(3):
        np.testing.assert_array_equal(
            np.sort(found[..., channel].ravel()), np.sort(partner[..., channel].ravel())
        )
    assert (np.diff(found[..., 0].ravel().astype(int)) > 0).all(), 'darker stays darker'


def test_fourier_takes_low_amplitudes_and_keeps_the_rest():
    image, partner = photo(), photo(1, 100, 130)
    found = styles.fourier(image, partner, band=0)  # the mean alone
    shift = partner.mean((0, 1)) - image.mean((0, 1))
    np.testing.assert_allclose(found, np.clip(image + shift, 0, 255), atol=0.51)
    partner = np.random.default_rng(2).integers(60, 200, (48, 64, 3)).astype(np.uint8)
    wide = styles.fourier(image, cv2.resize(partner, (32, 24)), band=0.1)  # up to 2
    resized = styles.fourier(image, partner, band=0.1)
    np.testing.assert_array_equal(wide, resized)
    own, other, found = (
        np.fft.fft2(i[..., 0]) for i in (image, cv2.resize(partner, (32, 24)), wide)
    )
    rounding = 40  # of 8 bits, five times its standard deviation
    assert np.abs(own - found)[3:22, 3:30].max() < rounding < np.abs(own - other)[3:22, 3:30].max()
    np.testing.assert_allclose(np.abs(found)[:3, :3], np.abs(other)[:3, :3], atol=rounding)


def save(folder, name: str, image: np.ndarray):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[..., ::-1]).save(path)
    return path


def test_the_partner_is_drawn_by_seed_and_position(tmp_path):
    for i in range(8):
        save(tmp_path, f'{i}.png', np.full((4, 4, 3), 20 * i, np.uint8))

    def drawn(seed: int, order) -> dict[int, int]:
        step = describe('fourier', style_from=str(tmp_path), seed=seed)
        kind = step.pop('type')
        assert kind == 'Restyle'
        style = Restyle(**step)
        image = np.full((4, 4, 3), 90, np.uint8)
        return {i: style(dict(img=image, sample_idx=i))['img'][0, 0, 0] for i in order}

    first = drawn(0, range(20))
    assert drawn(0, reversed(range(20))) == first
    assert drawn(1, range(20)) != first
    assert len(set(first.values())) > 3


def test_a_stylised_copy_stands_for_its_photo(tmp_path):
    copies, image = tmp_path / 'monet', photo()
    save(copies, 'aachen/a_1.jpg', image)
    save(copies, 'aachen/same.png', image)
    save(copies, 'bonn/same.png', 255 - image)
    save(copies, 'small.png', image[:4])
    take = Stylised(digest='', where=str(copies))

    def of(name: str) -> np.ndarray:
        return take(dict(img=image, img_path=f'data/val/{name}'))['img']

    assert of('aachen/a_1.png').shape == image.shape
    np.testing.assert_array_equal(of('bonn/same.png'), 255 - image)
    with pytest.raises(DataError, match='0 images are named other; expected one for each photo'):
        of('other.png')
    with pytest.raises(DataError, match='2 images are named same'):
        of('cologne/same.png')
    with pytest.raises(DataError, match=r'small.png: is 32x4, its photo .* is 32x24'):
        of('small.png')


def test_a_list_names_images_and_folders(tmp_path):
    files = [save(tmp_path, name, photo()) for name in ('a/1.png', 'a/2.png', 'b/3.png', '4.png')]
    listed = tmp_path / 'some.txt'
    listed.write_text('a\n\nb/3.png\n')
    assert appearance.image_files(str(listed)) == tuple(files[:3])
    (tmp_path / 'wrong.txt').write_text('c\n')
    with pytest.raises(DataError, match=r'names .*c, which does not exist'):
        appearance.image_files(str(tmp_path / 'wrong.txt'))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match='empty: no images there'):
        appearance.image_files(str(tmp_path / 'empty'))


# -------------------------------------------------------------------------------------- protocols


def protocol(step=None) -> protocols.Protocol:
    fit = dict(photo=(256, 128), keep_ratio=True)
    return protocols.describe(fit, 'gta5:val', 40, altered=step)


def test_each_change_is_a_protocol_of_its_own(tmp_path):
    for i in range(3):
        save(tmp_path, f'one/{i}.png', photo(i))
        save(tmp_path, f'two/{i}.png', photo(i + 3))
    steps = [describe(name, MEAN) for name in ('none', 'rgb+50', 'r+50', 'r+40', 'std*1.5')]
    for folder in ('one', 'two'):
        steps += [describe(n, style_from=str(tmp_path / folder)) for n in STYLES]
        steps.append(describe('stylised', stylised=str(tmp_path / folder)))
    steps.append(describe('fourier', style_from=str(tmp_path / 'one'), seed=1))
    found = [protocol(step) for step in steps]
    assert len({one.hash for one in found}) == len(found)
    assert found[0] == protocol() and found[0].name == 'native'
    assert all(
        one.name == f'native-{s["name"]}' for one, s in zip(found[1:], steps[1:], strict=True)
    )
    for one in found:
        assert str(tmp_path) not in json.dumps(one.content()), 'a place is no protocol'
        assert protocols.protocol_hash(json.loads(json.dumps(one.content()))) == one.hash


def test_equal_images_elsewhere_are_one_protocol(tmp_path):
    for folder in ('here', 'there'):
        save(tmp_path, f'{folder}/art/1.png', photo())
    one, other = (
        protocol(describe('fourier', style_from=str(tmp_path / folder / 'art')))
        for folder in ('here', 'there')
    )
    assert one.hash == other.hash
    assert one.pipeline() != other.pipeline()


def test_styles_come_before_scaling_and_the_input_last():
    def types(step) -> list[str]:
        return [one['type'] for one in protocol(step).pipeline()]

    start = ['LoadPhoto', 'LoadLabels']
    assert types(None) == [*start, 'ResizePhoto', 'PackSegInputs']
    assert types(describe('r+50')) == [*start, 'ResizePhoto', 'ChangeInput', 'PackSegInputs']
    style = dict(type='Restyle', name='fourier')
    assert types(style) == [*start, 'Restyle', 'ResizePhoto', 'PackSegInputs']
