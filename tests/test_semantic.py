"""SAN and SAW: parts that work, losses collected, and processes that agree."""

import pytest
import torch
import torch.distributed as dist
from processes import group_of_two
from test_whitening import batch, mmseg_scope, segmentor  # noqa: F401
from torch.nn import functional as F
from torch.testing import assert_close

from ibnseg.methods import SAN, clusters, recording, semantic

CLASSES = (0, 1, 3)


def layer(channels=6, **options) -> SAN:
    torch.manual_seed(2)
    return SAN(channels, CLASSES, num_classes=4, **options)


def maps(n=2, side=8) -> torch.Tensor:
    return torch.randn(n, 6, side, side, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(classes=(0, 4), num_classes=4), 'from 0 to 3'),
        (dict(classes=(1, 1)), 'different ones'),
        (dict(classes=()), 'different ones'),
        (dict(regions='photo'), "choose from 'image'"),
        (dict(num_features=2, saw=True), 'one a class or more'),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        SAN(**dict(num_features=8) | options)


def test_a_prediction_does_not_depend_on_the_other_photos():
    x = maps(3)
    san = layer().eval()
    assert_close(san(x)[:1], san(x[:1]))
    together = layer(regions='batch').eval()
    assert not torch.allclose(together(x)[:1], together(x[:1]))


def test_each_class_has_its_own_convolution():
    for as_released in (False, True):
        san = layer(as_released=as_released)
        san(maps()).square().sum().backward()
        trained = [branch.weight.grad is not None for branch in san.branches]
        assert trained == [True, not as_released, not as_released]


def test_regions_leave_out_the_lowest_cluster():
    values = torch.tensor([0.0, 0.1, 3, 3.1, 6, 6.1, 9, 9.1, 12, 12.1]).view(1, 1, 2, 5)
    found = layer()._region(values)
    assert found.flatten().tolist() == [False] * 2 + [True] * 8


def test_many_values_are_rounded_before_they_are_clustered():
    centres = torch.tensor([-4.0, 1, 3, 5, 8])
    values = (centres[:, None] + torch.rand(5, 2000) * 0.5).view(1, 1, 100, 100)
    assert values.unique().numel() > semantic._LEVELS
    assert torch.equal(layer()._region(values), values > 0)
    assert not layer()._region(torch.full((1, 1, 50, 50), 2.0)).any()


@pytest.mark.parametrize('k', [2, 3, 5])
@pytest.mark.parametrize('shape', [(50, 4, 5), (4, 20, 25), (2, 30, 40), (1, 1, 1)])
def test_the_clusters_are_those_of_the_least_spread(k, shape):
    """Of few values exactly: rounding alone would change a mask in forty."""
    values = torch.randn(shape).exp()
    low, high = values.flatten(1).aminmax(dim=1)
    found = semantic._lowest(values.flatten(1), k)
    for one, a, b, bound in zip(values, low, high, found, strict=True):
        step = float((b - a) / (semantic._LEVELS - 1)) or 1.0
        levels = one if one.numel() <= semantic._FEW else ((one - a) / step).round()
        expected = levels <= clusters.lowest_bound(levels.numpy(), k)
        assert torch.equal(one <= bound, expected)


def test_what_is_not_a_number_ends_nothing():
    values = torch.tensor([[0.0, float('nan'), 2.0], [0.0, 1.0, float('inf')]])
    assert semantic._lowest(values, 5).shape == (2, 1)


def test_the_loss_is_of_target_and_classifier():
    san, x = layer(), maps()
    labels = torch.randint(4, (2, 16, 16))
    labels[0, :4] = 255
    y = san(x)
    logits = F.interpolate(san.classifier(x), (16, 16), mode='bilinear', align_corners=True)
    told = F.cross_entropy(logits, labels, ignore_index=255) * (labels != 255).float().mean()
    expected = told + F.smooth_l1_loss(y, san.target(x, labels))
    assert_close(san.loss((x, y), labels), expected)
    san.saw = True
    assert_close(san.loss((x, y), labels), expected + san.whitening(y))
    nothing = torch.full_like(labels, 255)
    assert san.loss((x, y), nothing).isfinite()


def test_whitening_of_equal_channels_is_larger():
    san = layer(saw=True)
    x = maps()
    equal = x[:, :1].expand_as(x) * 4
    assert san.whitening(equal) > san.whitening(x)


@pytest.mark.parametrize('saw', [False, True])
def test_the_segmentor_adds_the_mean_over_sites(saw):
    options = dict(classes=CLASSES, num_classes=4, saw=saw)
    put = dict(layer='SAN', at='after_stage', stages=(1, 2), options=options)
    model = segmentor([put], site_loss=dict(SAN=0.5))
    x, samples = batch()
    losses = model.loss(x, samples)
    labels = torch.stack([sample.gt_sem_seg.data[0] for sample in samples])
    with recording(model.backbone) as seen:
        model.backbone(x)
    expected = 0.5 * sum(site.loss(y, labels) for site, y in seen) / 2
    assert_close(losses['loss_SAN'], expected)
    model.parse_losses(losses)[0].backward()
    for site, _ in seen:
        assert all(p.grad.any() for p in site.parameters())


def _grads(san, x, labels) -> list[torch.Tensor]:
    y = san(x)
    (san.loss((x, y), labels) + y.square().mean()).backward()
    return [p.grad for p in san.parameters()]


def _rank(rank, folder):
    x, labels = torch.load(f'{folder}/batch.pth')
    grads = _grads(layer(saw=True), x[rank::2], labels[rank::2])
    for grad in grads:
        dist.all_reduce(grad)
    if rank == 0:
        torch.save([grad / 2 for grad in grads], f'{folder}/grads.pth')


def test_two_processes_are_one(tmp_path):
    x, labels = maps(4), torch.randint(4, (4, 16, 16))
    labels[0, :8] = 255
    torch.save((x, labels), tmp_path / 'batch.pth')
    group_of_two(_rank, tmp_path)
    for one, both in zip(
        _grads(layer(saw=True), x, labels), torch.load(tmp_path / 'grads.pth'), strict=True
    ):
        assert_close(both, one, rtol=1e-4, atol=1e-6)
