"""Photos in the style of others of the source."""

from types import SimpleNamespace

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmengine.registry import DefaultScope
from test_resume import data  # noqa: F401

from ibnseg.errors import DataError
from ibnseg.pipeline import DomainDataset
from ibnseg.pipeline.restyle import OtherStyle
from ibnseg.pipeline.styles import STYLES
from ibnseg.train import checkpoint


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def dataset(data, **step) -> DomainDataset:  # noqa: F811
    steps = [dict(type='LoadPhoto'), dict(type='LoadLabels'), dict(type='OtherStyle', **step)]
    steps.append(dict(type='PackSegInputs'))
    domains = ['gta5:train', 'cityscapes:train']
    return DomainDataset(domains, str(data), steps if step else [*steps[:2], steps[3]])


@pytest.mark.parametrize('style', STYLES)
def test_the_partner_follows_from_seed_and_position(style, data):  # noqa: F811
    one = dataset(data, style=style, prob=1)
    plain = dataset(data)
    before = plain[(0, 1), 2]
    found = [one[(0, position), 2] for position in (1, 1, 2, 3, 4)]
    images = [sample['inputs'] for sample in found]
    assert images[0].equal(images[1])
    assert not all(images[0].equal(other) for other in images[2:])
    assert not all(image.equal(before['inputs']) for image in images)  # one may be its own partner
    for sample in found:
        labels = sample['data_samples'].gt_sem_seg.data
        assert labels.equal(before['data_samples'].gt_sem_seg.data)


def test_partners_come_from_every_source(data):  # noqa: F811
    one, drawn = dataset(data), set()
    for position in range(40):
        np.random.seed(position)
        drawn.add(one.draw_photo())
    assert drawn == {info['img_path'] for info in map(one.get_data_info, range(len(one)))}


def test_a_photo_gets_its_partners_mean(data):  # noqa: F811
    one = dataset(data, style='fourier', prob=1)
    paths = [one.get_data_info(i)['img_path'] for i in (0, 5)]
    own, partner = (Compose([dict(type='LoadPhoto')])(dict(img_path=path)) for path in paths)
    step = OtherStyle('fourier', 1, dict(band=0))
    found = step(dict(own, draw_photo=lambda: paths[1]))['img']
    means = [image.mean((0, 1)) for image in (own['img'], partner['img'], found)]
    assert np.abs(means[0] - means[1]).max() > 5
    np.testing.assert_allclose(means[2], means[1], atol=3)  # clipped and rounded


def test_never_and_half_of_the_time(data):  # noqa: F811
    plain = dataset(data)
    for prob, least, most in ((0, 0, 0), (0.5, 5, 35)):
        one = dataset(data, prob=prob)
        changed = sum(
            not one[(0, i), 0]['inputs'].equal(plain[(0, i), 0]['inputs']) for i in range(40)
        )
        assert least <= changed <= most


def test_what_cannot_be_done_is_refused(data):  # noqa: F811
    with pytest.raises(ValueError, match=r"style is 'fourrier'.*did you mean 'fourier'"):
        OtherStyle('fourrier')
    for style in ('reinhard', 'histogram'):
        with pytest.raises(ValueError, match=f"{style} has no option 'as_relased'"):
            OtherStyle(style, options=dict(as_relased=True))
    assert OtherStyle('reinhard', options=dict(as_released=True)).options == {'as_released': True}
    with pytest.raises(ValueError, match='prob is 2'):
        OtherStyle(prob=2)
    with pytest.raises(DataError, match=r'x\.png: OtherStyle draws its partner from the photos of'):
        OtherStyle(prob=1)(dict(img=np.zeros((4, 4, 3), np.uint8), img_path='x.png'))


def test_partners_of_a_pool_that_is_named_are_told(data):  # noqa: F811
    pool = dict(photos='cityscapes:train')  # below the dataset's data root
    one, plain = (dataset(data, prob=1, **options) for options in (pool, {}))
    step = one.pipeline.transforms[2]
    assert {path.parent.parent.parent.parent for path in step.pool.files} == {data / 'cityscapes'}
    assert one[(0, 1), 0]['inputs'].equal(one[(0, 1), 0]['inputs'])
    drawn = []
    step.pool.draw = lambda: drawn.append(1) or np.zeros((4, 4, 3), np.uint8)
    assert not one[(0, 1), 0]['inputs'].equal(plain[(0, 1), 0]['inputs']) and drawn
    told = [
        checkpoint._unlabelled(SimpleNamespace(train_dataloader=SimpleNamespace(dataset=each)))
        for each in (one, plain)
    ]
    assert told[0]['unlabelled'][0]['datasets'] == ['cityscapes'] and not told[1]
    with pytest.raises(DataError, match='nowhere'):
        OtherStyle(photos='nowhere')
