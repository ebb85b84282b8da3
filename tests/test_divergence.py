"""Feature divergence against closed forms."""

import numpy as np
import pytest
import torch
from torch import nn

from ibnseg import hub
from ibnseg.analysis import divergence
from ibnseg.analysis.divergence import Moments


def features(count=50, channels=6, seed=0, offset=0.0):
    draw = np.random.default_rng(seed)
    return offset + draw.normal(size=(count, channels)) * (1 + np.arange(channels))


def moments(values, batch=7) -> Moments:
    found = Moments()
    for first in range(0, len(values), batch):
        found.add(values[first : first + batch])
    return found


@pytest.mark.parametrize('batch', [1, 7, 50])
@pytest.mark.parametrize('offset', [0.0, 1e6])
def test_streaming_moments_are_those_of_all_images(batch, offset):
    values = features(offset=offset)
    found = moments(values, batch)
    assert found.count == 50
    np.testing.assert_allclose(found.mean, values.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.squares / 50, values.var(0), rtol=1e-8)


def test_it_is_the_sum_of_both_divergences():
    a, b = features(), 2 + 3 * features(40, seed=1)
    (ma, sa), (mb, sb) = ((v.mean(0), v.std(0)) for v in (a, b))
    forth = np.log(sb / sa) + (sa**2 + (ma - mb) ** 2) / (2 * sb**2) - 0.5
    back = np.log(sa / sb) + (sb**2 + (ma - mb) ** 2) / (2 * sa**2) - 0.5
    np.testing.assert_allclose(divergence.divergence(moments(a), moments(b)), forth + back)


def test_shift_and_scale_in_closed_form():
    a = features()
    shifted = divergence.divergence(moments(a), moments(a + 3))
    np.testing.assert_allclose(shifted, 9 / a.var(0))
    centred = a - a.mean(0)
    scaled = divergence.divergence(moments(centred), moments(2 * centred))
    np.testing.assert_allclose(scaled, (4 + 1 / 4) / 2 - 1)
    assert (divergence.divergence(moments(a), moments(a)) == 0).all()


def test_constant_channels():
    flat = np.ones((9, 1))
    one, other, varied = moments(flat), moments(2 * flat), moments(features(9, 1))
    assert divergence.divergence(one, moments(flat, 2)) == 0
    assert divergence.divergence(one, other) == np.inf
    assert divergence.divergence(one, varied) == divergence.divergence(varied, one) == np.inf
    rounded = moments(flat * (1 + 1e-8 * features(9, 1)))
    assert divergence.divergence(one, rounded) == 0
    (row,) = divergence.by_layer(dict(x=one), dict(x=other))
    assert (row['divergence'], row['infinite'], row['each']) == (None, 1, [None])


def test_two_samples_of_one_gaussian():
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(60, 3000)), draw.normal(size=(90, 3000))
    found = divergence.divergence(moments(a), moments(b)).mean()
    assert found == pytest.approx(divergence.of_chance(60, 90), rel=0.1)


def images(count=6) -> torch.Tensor:
    return torch.randn(count, 3, 40, 40) + torch.randn(count, 3, 1, 1)


def network(name: str) -> nn.Module:
    net = hub.build(name, num_classes=4).eval()
    net.conv1.padding = (0, 0)  # at a border of zeros a shift is no shift
    return net


SHIFT = torch.tensor([0.8, -0.3, 0.5])[:, None, None]


def test_a_shift_of_the_photo_in_a_plain_stem_has_the_closed_form():
    net, x = network('resnet18'), images()
    a, b = (divergence.moments(net, part.split(2), ['bn1']) for part in (x, x + SHIFT))
    shift = (net.conv1.weight.sum((2, 3)) @ SHIFT[:, 0, 0]).numpy(force=True)
    expected = shift**2 / (1 + net.bn1.eps) / a['bn1'].variance
    (row,) = divergence.by_layer(a, b)
    np.testing.assert_allclose(row['each'], expected, rtol=1e-3, atol=1e-6)


def test_an_instance_norm_takes_a_shift_away():
    x = images()
    found = {}
    for name in ('resnet18', 'resnet18_ibn_b'):
        net = network(name)
        rows = divergence.by_layer(
            *(divergence.moments(net, part.split(3)) for part in (x, x + SHIFT))
        )
        found[name] = {row['point']: row['divergence'] for row in rows}
    assert all(value < 1e-6 for value in found['resnet18_ibn_b'].values())
    assert found['resnet18']['stem'] > 0.1


@pytest.mark.parametrize(
    ('name', 'count', 'after_in'),
    [
        ('resnet50', 17, set()),  # those of the paper's figure
        ('resnet50_ibn_b', 17, {'stem', 'layer1.2', 'layer2.3'}),  # 1, 4 and 8 of them
        ('resnet18_ibn_b', 9, {'stem', 'layer1.1', 'layer2.1'}),
        ('densenet121_ibn_a', 59, set()),
    ],
)
def test_points(name, count, after_in):
    net = hub.build(name, num_classes=2)
    points = list(divergence.points(net))
    assert len(points) == count and points[0] == 'stem'
    assert divergence.with_instance_norm(net) & set(points) == after_in


def test_an_instance_norm_of_some_channels_is_none_of_all():
    half = [dict(layer='IBN', at='stem'), dict(layer='InstanceNorm', at='after_add', stages=[1])]
    net = hub.build('resnet18', num_classes=2, placement=half)
    assert divergence.with_instance_norm(net) == {'layer1.0', 'layer1.1'}


def test_other_networks_name_their_modules():
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())
    with pytest.raises(ValueError, match='Sequential has no blocks that are known'):
        divergence.points(net)
    with pytest.raises(ValueError, match='--at 7: no such module; there are 0, 1'):
        divergence.points(net, ['7'])
    assert divergence.moments(net, images().split(2), ['1'])['1'].count == 6


def test_no_hook_stays():
    net = hub.build('resnet18', num_classes=2).eval()
    divergence.moments(net, [images(1)])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
