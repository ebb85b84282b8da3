"""Corrupted photos: what is drawn follows from seed and photo alone, and the protocol says it."""

import json
from dataclasses import replace
from importlib import metadata

import numpy as np
import pytest

from ibnseg.analysis import corruptions as analysis
from ibnseg.measure import protocols
from ibnseg.pipeline import appearance
from ibnseg.pipeline.corruptions import CORRUPTIONS, KINDS, Corrupt, describe

PHOTO = np.random.default_rng(0).integers(60, 190, (40, 64, 3)).astype(np.uint8)


def corrupted(name, photo='aachen_0', image=PHOTO, root='data', **changed) -> np.ndarray:
    step = describe(name, root) | changed
    assert step.pop('type') == 'Corrupt'
    where = f'{root}/cityscapes/leftImg8bit/val/{photo}.png'
    return Corrupt(**step)(dict(img=image, img_path=where, domain='cityscapes:val'))['img']


def test_these_are_the_16_of_cityscapes_c():
    assert len(set(CORRUPTIONS)) == 16 and {len(names) for names in KINDS.values()} == {4}


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_what_is_drawn_follows_from_seed_and_photo(name):
    first = corrupted(f'{name}-3')
    assert first.shape == PHOTO.shape and first.dtype == np.uint8
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    corrupted(f'{name}-2', 'another')  # another order
    again = corrupted(f'{name}-3', root='/another/place')
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    weak, strong = (np.abs(corrupted(f'{name}-{s}').astype(int) - PHOTO).mean() for s in (1, 5))
    assert weak > 0 and (weak < strong or name == 'saturate')  # which first takes, then adds


@pytest.mark.parametrize('name', ['gaussian_noise', 'impulse_noise', 'glass_blur', 'fog', 'frost'])
def test_another_seed_or_photo_draws_anew(name):
    drawn = [corrupted(f'{name}-5'), corrupted(f'{name}-5', 'b'), corrupted(f'{name}-5', seed=1)]
    assert len({image.tobytes() for image in drawn}) == 3


@pytest.mark.parametrize('name', ['jpeg_compression', 'gaussian_blur', 'brightness'])
def test_colours_keep_their_order(name):
    image = np.full_like(PHOTO, (20, 60, 180))  # red, as BGR
    blue, green, red = corrupted(f'{name}-1', image=image).mean((0, 1))
    assert blue < green < red


def test_the_protocol_says_what_was_done():
    step = appearance.describe('fog-3', data_root='data', seed=4)
    assert step == describe('fog-3', 'data', 4)
    plain = protocols.describe(None, 'cityscapes:val', 5)
    fog = protocols.describe(None, 'cityscapes:val', 5, altered=step)
    assert plain.name == 'native' and fog.name == 'native-fog-3'
    assert 'altered' not in plain.content()
    steps = [one['type'] for one in fog.pipeline()]
    assert steps == ['LoadPhoto', 'LoadLabels', 'Corrupt', 'PackSegInputs']
    others = (dict(seed=5), dict(library='another 2'), dict(severity=2), dict(corruption='snow'))
    changed = [replace(fog, altered=step | other) for other in others]
    assert len({one.hash for one in (plain, fog, *changed)}) == 6
    assert replace(fog, altered=step | dict(where='elsewhere')).hash == fog.hash
    json.dumps(fog.content())


def test_what_cannot_be_done_is_said(monkeypatch):
    for wrong in ('fog-6', 'fog-0', 'fog-x'):
        with pytest.raises(ValueError, match='expected a severity of 1 to 5, like fog-3'):
            describe(wrong)
    assert describe('haze-3') is None
    with pytest.raises(ValueError, match='unknown change'):
        appearance.describe('fog')

    def absent(name):
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, 'version', absent)
    with pytest.raises(ValueError, match=r'pip install "ibnseg\[corruptions\]"'):
        describe('fog-3')


def test_means_and_degradation():
    scores = {'none': 50.0, 'fog-1': 40.0, 'fog-5': 20.0, 'snow-1': 10.0, 'snow-5': 10.0}
    scores |= {'gaussian_blur-1': 45.0, 'gaussian_blur-5': 35.0}
    results = [dict(target='t', change=name, score=score) for name, score in scores.items()]
    found = analysis._summary(results, ('gaussian_blur', 'fog', 'snow'))['t']
    assert found['curves']['fog'] == [40.0, 20.0]
    assert found['means'] == dict(gaussian_blur=40.0, fog=30.0, snow=10.0)
    assert found['kinds'] == dict(blur=40.0, weather=20.0)
    assert found['mean'] == pytest.approx(80 / 3)
    assert found['relative_degradation'] == pytest.approx(100 * (1 - 80 / 3 / 50))
    assert analysis.degradation(0.0, 0.0) is None
