import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ibnseg.norms import IBN, LAYERS, InstanceNorm, ParallelIBN, PartialInstanceNorm

RATIOS = [0, 0.1, 0.25, 0.4, 0.5, 0.75, 1]
CHANNELS = [1, 8, 13]  # at 1 a ratio of 0.5 leaves no channel to IN
exact = dict(rtol=0, atol=1e-12)


def maps(channels: int = 8, batch: int = 3) -> torch.Tensor:
    """Maps whose images and channels differ in mean and contrast."""
    shape = (batch, channels, 1, 1)
    x = torch.randn(batch, channels, 5, 4, dtype=torch.float64)
    return x * torch.empty(shape).uniform_(0.5, 4) + 3 * torch.randn(shape)


def randomised(layer: nn.Module) -> nn.Module:
    """The layer in float64 with parameters and statistics that are all different."""
    for name, tensor in layer.double().state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5) if 'var' in name else tensor.normal_()
    return layer


def parts(ibn: IBN, half: int) -> tuple[nn.Module | None, nn.Module | None]:
    """torch's own layers with the weights of an IBN's parts."""
    inorm = nn.InstanceNorm2d(half, affine=True).double() if half else None
    bnorm = nn.BatchNorm2d(ibn.num_features - half).double() if half < ibn.num_features else None
    for mine, torchs in ((ibn.IN, inorm), (ibn.BN, bnorm)):
        assert (mine is None) == (torchs is None)
        if torchs is not None:
            torchs.load_state_dict(mine.state_dict())
    return inorm, bnorm


@pytest.mark.parametrize('channels', CHANNELS)
@pytest.mark.parametrize('ratio', RATIOS)
@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
def test_ibn_is_torchs_layers_on_the_parts(channels, ratio, training):
    ibn = randomised(IBN(channels, ratio)).train(training)
    half = int(channels * ratio)
    inorm, bnorm = (part and part.train(training) for part in parts(ibn, half))
    before = {name: buffer.clone() for name, buffer in ibn.named_buffers()}
    x = maps(channels).requires_grad_()
    y = x.detach().clone().requires_grad_()

    found = ibn(x)
    expected = torch.cat(
        [part(z) for part, z in ((inorm, y[:, :half]), (bnorm, y[:, half:])) if part is not None], 1
    )
    weight = torch.randn_like(found)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()

    assert_close(found, expected, **exact)
    assert_close(x.grad, y.grad, rtol=0, atol=1e-10)
    reference = {'IN': inorm, 'BN': bnorm}
    for name, parameter in ibn.named_parameters():
        part, tensor = name.split('.')
        assert_close(parameter.grad, reference[part].get_parameter(tensor).grad, **exact)
    for name, buffer in ibn.named_buffers():
        assert_close(buffer, bnorm.get_buffer(name.removeprefix('BN.')), **exact)
        assert torch.equal(buffer, before[name]) != training, name


@pytest.mark.parametrize('channels', CHANNELS)
@pytest.mark.parametrize('ratio', RATIOS)
def test_ibn_names_and_sizes(channels, ratio):
    half = int(channels * ratio)
    expected = {f'IN.{tensor}': half for tensor in ('weight', 'bias') if half}
    if half < channels:
        batch_norm = ('weight', 'bias', 'running_mean', 'running_var')
        expected |= {f'BN.{tensor}': channels - half for tensor in batch_norm}
        expected['BN.num_batches_tracked'] = 1
    ibn = IBN(channels, ratio)
    assert {name: tensor.numel() for name, tensor in ibn.state_dict().items()} == expected
    for name, parameter in ibn.named_parameters():
        assert torch.all(parameter == name.endswith('weight')), name


def test_ibn_takes_the_networks_norm():
    ibn = IBN(8, 0.25, norm=lambda n: nn.BatchNorm2d(n, eps=0.1, momentum=0.2))
    assert (ibn.BN.num_features, ibn.BN.eps, ibn.BN.momentum) == (6, 0.1, 0.2)
    assert ibn.IN.eps == 1e-5


@pytest.mark.parametrize('channels', CHANNELS)
@pytest.mark.parametrize('ratio', RATIOS)
@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
def test_bn_first_is_torchs_layers_on_the_parts(channels, ratio, training):
    ibn = randomised(IBN(channels, ratio, bn_first=True)).train(training)
    first = int(channels * (1 - ratio))
    inorm, bnorm = (part and part.train(training) for part in parts(ibn, channels - first))
    x = maps(channels)
    expected = [part(z) for part, z in ((bnorm, x[:, :first]), (inorm, x[:, first:])) if part]
    assert_close(ibn(x), torch.cat(expected, 1), **exact)


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
def test_parallel_ibn_is_torchs_layers_side_by_side(training):
    layer = randomised(ParallelIBN(8)).train(training)
    inorm, bnorm = nn.InstanceNorm2d(8, affine=True).double(), nn.BatchNorm2d(8).double()
    inorm.load_state_dict(layer.IN.state_dict()), bnorm.load_state_dict(layer.BN.state_dict())
    x = maps()
    expected = torch.cat((inorm(x), bnorm.train(training)(x)), 1)
    assert_close(layer(x), expected, **exact)
    assert_close(dict(layer.BN.named_buffers()), dict(bnorm.named_buffers()), **exact)


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
def test_instance_norm_drops_contrast_and_brightness(training):
    x = maps()
    inorm = randomised(InstanceNorm(8, eps=1e-15)).train(training)
    assert_close(inorm(3 * x + 5), inorm(x), rtol=0, atol=1e-10)
    own = torch.rand(3, 8, 1, 1, dtype=torch.float64) + 0.5  # of each image and channel
    assert_close(inorm(own * x - own), inorm(x), rtol=0, atol=1e-10)
    with pytest.raises(AssertionError):  # what it must not drop: the content
        assert_close(inorm(x.flip(-1)), inorm(x), rtol=0, atol=1e-3)


@pytest.mark.parametrize('ratio', [0.25, 0.5, 0.75])
def test_only_the_first_part_of_ibn_drops_appearance(ratio):
    x, half = maps(), int(8 * ratio)
    ibn = randomised(IBN(8, ratio, eps=1e-15)).eval()
    plain, changed = ibn(x), ibn(3 * x + 5)
    assert_close(changed[:, :half], plain[:, :half], rtol=0, atol=1e-10)
    assert ((changed - plain)[:, half:].abs().amax((0, 2, 3)) > 1e-2).all()


def test_instance_norm_normalises_each_image_and_channel():
    out = InstanceNorm(8, eps=1e-15).double()(maps())
    assert_close(out.mean((2, 3)), torch.zeros(3, 8, dtype=torch.float64), **exact)
    assert_close(out.var((2, 3), correction=0), torch.ones(3, 8, dtype=torch.float64), **exact)


@pytest.mark.parametrize(
    'layer', [InstanceNorm(8, eps=0.7), IBN(8, 1, eps=0.7), PartialInstanceNorm(8, 1, eps=0.7)]
)
def test_eps_is_added_to_the_variance(layer):
    x = maps()
    mean, var = x.mean((2, 3), True), x.var((2, 3), correction=0, keepdim=True)
    assert_close(layer.double()(x), (x - mean) / (var + 0.7).sqrt(), **exact)


@pytest.mark.parametrize('channels', CHANNELS)
@pytest.mark.parametrize('ratio', RATIOS)
def test_partial_instance_norm(channels, ratio):
    x, half = maps(channels), int(channels * ratio)
    layer = randomised(PartialInstanceNorm(channels, ratio))
    out = layer(x)
    assert torch.equal(out[:, half:], x[:, half:])
    names = ['IN.weight', 'IN.bias'] if half else []
    assert [name for name, _ in layer.named_parameters()] == names
    if half:
        inorm = nn.InstanceNorm2d(half, affine=True).double()
        inorm.load_state_dict(layer.IN.state_dict())
        assert_close(out[:, :half], inorm(x[:, :half]), **exact)


@pytest.mark.parametrize('layer', [IBN, PartialInstanceNorm])
@pytest.mark.parametrize('ratio', [-0.1, 1.01, 50, math.nan, math.inf])
def test_ratio_outside_is_named(layer, ratio):
    with pytest.raises(ValueError, match=rf'ratio is {ratio!r}.*from 0'):
        layer(8, ratio)


@pytest.mark.parametrize('name', LAYERS)
@pytest.mark.parametrize('batch', [1, 2])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_every_layer_keeps_its_promised_shape_and_type(name, batch, dtype):
    layer = LAYERS[name](8, norm=nn.BatchNorm2d).to(dtype)
    x = maps(batch=batch).to(dtype).requires_grad_()
    out = layer(x)
    assert (out.shape, out.dtype) == ((batch, 8 * getattr(layer, 'expansion', 1), 5, 4), dtype)
    (out**2 * out.detach()).sum().backward()
    for gradient in (x.grad, *(p.grad for p in layer.parameters())):
        assert gradient is not None and gradient.isfinite().all()


@pytest.mark.parametrize('name', LAYERS)
def test_every_layer_keeps_the_promises_of_a_module(name):
    layer = LAYERS[name](8, norm=nn.BatchNorm2d)
    assert layer.train() is layer and layer.eval() is layer
    assert all(p.dtype == torch.float16 for p in layer.half().parameters())


@pytest.mark.parametrize('name', LAYERS)
@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
def test_one_pixel_is_refused_in_both_modes(name, training):
    layer = LAYERS[name](8, norm=nn.BatchNorm2d).train(training)
    with pytest.raises(ValueError, match=r'\(2, \d, 1, 1\) map.*more than one pixel'):
        layer(torch.ones(2, 8, 1, 1))
    layer(torch.ones(2, 8, 1, 2))


@pytest.mark.parametrize('layer', [IBN, PartialInstanceNorm])
def test_one_pixel_is_no_matter_without_instance_norm(layer):
    assert layer(8, 0)(torch.ones(2, 8, 1, 1)).shape == (2, 8, 1, 1)
