"""Losses of sites: what they are, who collects them, and the mask that a pass finds."""

import itertools

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn
from torch.testing import assert_close

from ibnseg import hub, methods, registered  # noqa: F401
from ibnseg.backbones import IBNResNet
from ibnseg.methods import IRW, ISW, IW, clusters, recording, whitening
from ibnseg.methods.passes import StatisticsPass
from ibnseg.methods.segmentor import check_collected
from ibnseg.weights import load_weights

TINY = dict(stem_channels=16, base_channels=8)


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def segmentor(placement='iw', kind='SiteSegmentor', **options) -> nn.Module:
    torch.manual_seed(3)
    loss = dict(type='CrossEntropyLoss', avg_non_ignore=True)
    head = dict(type='FCNHead', in_channels=64, in_index=3, channels=8, num_convs=1)
    head |= dict(num_classes=4, concat_input=False, dropout_ratio=0, align_corners=False)
    head['loss_decode'] = loss
    backbone = dict(type='IBNResNet', depth=18, placement=placement, **TINY)
    backbone |= options.pop('backbone', {})
    return MODELS.build(dict(type=kind, backbone=backbone, decode_head=head, **options)).train()


def batch(images: int = 4):
    """Images and their samples."""
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(images, 3, 64, 64, generator=rng)
    samples = []
    for _ in range(images):
        sample = SegDataSample()
        label = torch.randint(4, (1, 64, 64), generator=rng)
        sample.gt_sem_seg = PixelData(data=label)
        samples.append(sample)
    return x, samples


def whole_mask(model: nn.Module) -> nn.Module:
    for layer in model.modules():
        if isinstance(layer, ISW):
            layer.mask.copy_(torch.ones_like(layer.mask).triu(1))
    return model


@pytest.mark.parametrize('placement, kind', [('iw', 'IW'), ('irw', 'IRW'), ('isw', 'ISW')])
def test_the_segmentor_adds_the_mean_over_sites(placement, kind):
    model = whole_mask(segmentor(placement, site_loss={kind: 0.25}))
    x, samples = batch()
    losses = model.loss(x, samples)
    assert set(losses) == {'decode.loss_ce', 'decode.acc_seg', f'loss_{kind}'}
    with recording(model.backbone) as seen:
        model.backbone(x)
    assert [layer.site for layer, _ in seen] == ['stem', 'layer1.1.after_add', 'layer2.1.after_add']
    expected = 0.25 * sum(layer.loss(y) for layer, y in seen) / 3
    assert_close(losses[f'loss_{kind}'], expected, rtol=0, atol=0)
    assert expected > 0 or kind == 'IRW'
    total, _ = model.parse_losses(losses)
    assert_close(total, losses['decode.loss_ce'] + expected)


def test_a_relu_in_place_does_not_change_what_a_loss_sees():
    net = IBNResNet(18, placement='iw', **TINY).train()
    assert net.relu.inplace and net.layer1[1].relu.inplace
    x = batch()[0]
    with recording(net) as seen:
        net(x)
    in_place = [layer.loss(y) for layer, y in seen]
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    with recording(net) as seen:
        net(x)
    for one, (layer, y) in zip(in_place, seen, strict=True):
        assert (y < 0).any()
        assert torch.equal(one, layer.loss(y))


@pytest.mark.parametrize('with_cp', [False, True])
def test_gradients_are_those_of_the_plain_sum(with_cp):
    """Recording, in-place ReLUs and checkpointing against a network of neither."""
    net = IBNResNet(18, placement='iw', with_cp=with_cp, **TINY).train()
    plain = IBNResNet(18, placement='iw', **TINY).train()
    plain.load_state_dict(net.state_dict())
    kept = []
    for module in plain.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
        if isinstance(module, IW):
            module.register_forward_hook(lambda m, i, out: kept.append((m, out)))
    x = batch()[0]
    with recording(net) as seen:
        out = net(x)
    (sum(o.mean() for o in out) + sum(layer.loss(y) for layer, y in seen)).backward()
    out = plain(x)
    (sum(o.mean() for o in out) + sum(layer.loss(y) for layer, y in kept)).backward()
    for (key, one), other in zip(net.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), key
    assert not [h for m in net.modules() for h in m._forward_hooks]


def test_a_loss_without_one_who_collects_it_is_refused():
    check_collected(segmentor('ibn_b', 'EncoderDecoder'))
    check_collected(segmentor('iw'))
    with pytest.raises(ValueError, match=r'loss \(IW\), which EncoderDecoder would not collect. '
                       'Set model.type=SiteSegmentor'):  # fmt: skip
        check_collected(segmentor('iw', 'EncoderDecoder'))


def test_a_loss_that_would_be_left_out_is_refused():
    model = segmentor('iw')
    model.backbone.layer1[1]._sum = lambda x: x  # as code that knows no hooks
    with pytest.raises(RuntimeError, match=r'layer1\.1\.after_add was not seen'):
        model.loss(*batch())


def test_a_weight_of_no_layer_is_refused():
    with pytest.raises(ValueError, match=r"site_loss names 'IWW'.*\['IW'\] \(did you mean"):
        segmentor('iw', site_loss=dict(IWW=1))
    with pytest.raises(ValueError, match=r"names 'IW'.*none"):
        segmentor('ibn_b', site_loss=dict(IW=1))


def test_prediction_and_keys_are_the_parents():
    model, plain = segmentor('iw').eval(), segmentor('iw', 'EncoderDecoder').eval()
    plain.load_state_dict(model.state_dict())
    x = batch()[0]
    assert torch.equal(model(x, mode='tensor'), plain(x, mode='tensor'))
    assert not [
        key for key in model.state_dict() if '.bn1.IN' in key or key == 'backbone.bn1.weight'
    ]


def test_loss_of_a_batch_is_the_mean_over_processes():
    y = torch.randn(4, 6, 5, 5, dtype=torch.float64)
    for layer in (IW(6), IRW(6, relax=3)):
        halves = (layer.loss(y[:2]) + layer.loss(y[2:])) / 2
        assert_close(layer.loss(y), halves)


def test_the_covariance_is_float32_under_autocast():
    y = torch.randn(2, 4, 8, 8)
    with torch.autocast('cpu', torch.bfloat16):
        found = whitening.covariance(y.bfloat16())
    assert found.dtype == torch.float32
    assert_close(found, whitening.covariance(y.bfloat16().float()), rtol=0, atol=0)


def test_white_maps_have_no_loss():
    y = torch.eye(4).repeat(2, 1, 1).view(2, 4, 2, 2)
    assert IW(4).loss(y) == 0


def test_isw_counts_nothing_before_it_is_settled_and_where_no_entry_is_left():
    layer, y = ISW(4), torch.randn(2, 4, 6, 6, requires_grad=True)
    assert layer.loss(y) == 0 and not layer.settled
    layer.observe(y.detach()[:1].repeat(2, 1, 1, 1))  # two equal photos: no entry changes
    layer.settle(0)
    assert layer.settled and not layer.mask.any()
    loss = layer.loss(y)
    loss.backward()
    assert loss == 0 and not y.grad.any()


def test_isw_marks_entries_that_change_within_the_triangle():
    rng = torch.Generator().manual_seed(0)
    one = torch.randn(1, 6, 40, 40, generator=rng, dtype=torch.float64)
    other = one.clone()
    other[:, 3] = 0.5 * other[:, 3] + other[:, 1]  # channels 1 and 3 now go together
    layer = ISW(6)
    for trial in (0, 1):
        layer.observe(layer(torch.cat([other, one])))
        layer.settle(trial)
    assert layer.mask[1, 3]
    assert not layer.mask.tril().any()


def test_isw_refuses_what_it_cannot_observe():
    with pytest.raises(ValueError, match='observes pairs; got 3 images'):
        ISW(4).observe(torch.randn(3, 4, 5, 5))
    with pytest.raises(ValueError, match='has observed nothing'):
        ISW(4).settle(0)
    with pytest.raises(ValueError, match='clusters is 1'):
        ISW(4, clusters=1)
    with pytest.raises(ValueError, match='relax is 0'):
        IRW(4, relax=0)


def best_partition(values, k):
    """The largest member of the lowest cluster, by trying all partitions."""
    values, found = np.sort(values), {}
    for cuts in itertools.combinations(range(1, len(values)), k - 1):
        parts = np.split(values, cuts)
        cost = sum(((part - part.mean()) ** 2).sum() for part in parts)
        found[cost] = parts[0][-1]
    return found[min(found)]


@pytest.mark.parametrize('k', [1, 2, 3, 4])
@pytest.mark.parametrize('seed', range(5))
def test_k_means_is_exact(k, seed):
    values = np.random.default_rng(seed).random(11) ** 3
    values[:3] = 0  # equal ones
    assert clusters.lowest_bound(values, k) == best_partition(values, k)


@pytest.mark.parametrize('k', [2, 3, 20])
def test_k_means_of_many_values(k):
    """Against the plain dynamic program, which looks at every start of every cluster."""
    values = np.sort(np.random.default_rng(k).random(300) ** 4)
    n = len(values)
    cost = np.full((n, n), np.inf)
    for i in range(n):
        part = values[i:]
        count, mean = np.arange(1, n - i + 1), np.cumsum(part) / np.arange(1, n - i + 1)
        cost[i, i:] = np.cumsum(part**2) - count * mean**2
    best, starts = cost[0], []
    for _ in range(k - 1):
        tried = np.concatenate(([np.inf], best[:-1]))[:, None] + cost
        best, start = tried.min(0), tried.argmin(0)
        starts.append(start)
    at = n - 1
    for start in reversed(starts):
        at = start[at] - 1
    assert clusters.lowest_bound(values, k) == values[at]


@pytest.mark.parametrize('values, k, bound', [([2, 2, 2], 3, 2), ([1, 5], 2, 1), ([1, 5], 3, 1)])
def test_k_means_of_few_values(values, k, bound):
    assert clusters.lowest_bound(np.array(values), k) == bound


def test_k_means_refuses_what_has_no_mean():
    for values, k in (([], 2), ([1, np.nan], 2), ([1, 2], 0)):
        with pytest.raises(ValueError, match='expected k >= 1, finite values'):
            clusters.lowest_bound(np.array(values), k)


def test_plain_weights_start_a_network_that_has_no_place_for_the_stems(tmp_path):
    plain = IBNResNet(18, **TINY)
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    for placement in ('iw', 'isw'):
        net = IBNResNet(18, placement=placement, **TINY)
        report = load_weights(net, tmp_path / 'plain.pth')
        assert {key for key in report.dropped if not key.endswith('tracked')} == {
            f'bn1.{name}' for name in ('weight', 'bias', 'running_mean', 'running_var')
        }
        assert torch.equal(net.layer1[0].conv1.weight, plain.layer1[0].conv1.weight)
        assert not [key for key in report.initial if 'mask' not in key and 'settled' not in key]


def test_a_layer_is_a_plain_one_in_other_networks():
    net = hub.build('resnet18', placement='irw', num_classes=3).train()
    with recording(net) as seen:
        net(batch()[0])
    assert [layer.abbr for layer, _ in seen] == ['IRW'] * 3
    assert methods.with_loss(net) == [layer for layer, _ in seen]


WRONG = {
    'at': (dict(at=-1), 'at is -1'),
    'a share above one': (dict(at=1.5), 'at is 1.5'),
    'images': (dict(images=0), 'images is 0'),
    'trials': (dict(trials=1.5), 'trials is 1.5'),
}


@pytest.mark.parametrize('case', WRONG)
def test_a_wrong_pass_is_refused(case):
    arguments, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        StatisticsPass(**arguments)
