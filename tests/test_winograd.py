"""Convolutions in fewer multiplications, against torch's in float64."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ibnseg.measure import predict

winograd = pytest.importorskip('ibnseg.winograd', reason='needs numba and GNU OpenMP')


def conv(channels=(64, 96), dilation=1, **options):
    options = dict(padding=dilation, dilation=dilation) | options
    return nn.Conv2d(*channels, 3, **options)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('dilation', [1, 2, 4])
@pytest.mark.parametrize('shape', [(1, 64, 16, 32), (2, 64, 17, 7), (1, 64, 3, 11)])
def test_equals_the_convolution(shape, dilation, bias, layout, monkeypatch):
    monkeypatch.setattr(winograd, '_EXCESS', float('inf'))
    given = conv(dilation=dilation, bias=bias)
    x = torch.randn(shape).contiguous(memory_format=layout)
    with torch.no_grad():
        found = winograd.WinogradConv2d(given)(x)
        expected = given.double()(x.double())
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert_close(found.double(), expected, rtol=0, atol=1e-4)
    assert (found.double() - expected).std() < 1e-5 * expected.std()


def test_more_tiles_than_are_taken_at_once(monkeypatch):
    given = conv()
    x = torch.randn(2, 64, 30, 21)
    with torch.no_grad():
        whole = winograd.WinogradConv2d(given)(x)
        monkeypatch.setattr(winograd, '_SPACE', 36 * (64 + 96) * 5)
        assert_close(winograd.WinogradConv2d(given)(x), whole)


@pytest.mark.parametrize(
    ('layer', 'taken'),
    [
        (conv((256, 256)), True),
        (conv((256, 512), dilation=4, bias=False), True),
        (conv((128, 256)), False),
        (conv((256, 256), stride=2), False),
        (conv((256, 256), padding=0), False),
        (conv((256, 256), dilation=(1, 2)), False),
        (conv((256, 256), groups=2), False),
        (conv((256, 256), padding_mode='reflect'), False),
        (conv((256, 256)).double(), False),
        (nn.Conv2d(256, 256, 1), False),
        (nn.Conv2d(256, 256, (3, 1), padding=(1, 0)), False),
        (nn.BatchNorm2d(256), False),
    ],
    ids=str,
)
def test_what_is_taken(layer, taken):
    assert winograd.suits(layer) == taken
    copied = predict.for_inference(nn.Sequential(layer))
    assert isinstance(copied[0], winograd.WinogradConv2d) == taken


def test_with_gradients_or_in_bfloat16_it_is_the_plain_one():
    given = conv()
    ours, x = winograd.WinogradConv2d(given), torch.randn(1, 64, 8, 8)
    assert torch.equal(ours(x), given(x))
    assert ours(x).requires_grad
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(ours(x), given(x))
        assert ours(x).dtype == torch.bfloat16
    with torch.no_grad():
        assert not torch.equal(ours(x), given(x))
        for dtype in (torch.float64, torch.bfloat16):
            ours, given = ours.to(dtype), given.to(dtype)
            assert torch.equal(ours(x.to(dtype)), given(x.to(dtype)))


@pytest.mark.parametrize(
    ('size', 'dilation', 'taken'),
    [((64, 128), 4, True), ((33, 65), 2, True), ((64, 64), 12, False), ((97, 97), 36, False)],
)
def test_maps_that_tiles_exceed_by_far_are_not_taken(size, dilation, taken):
    given = conv(dilation=dilation)
    ours, x = winograd.WinogradConv2d(given), torch.randn(1, 64, *size)
    with torch.no_grad():
        assert torch.equal(ours(x), given(x)) != taken


def test_other_maps_are_the_convolutions_to_refuse():
    ours = winograd.WinogradConv2d(conv())
    with torch.no_grad(), pytest.raises(RuntimeError, match='64 channels'):
        ours(torch.randn(1, 3, 8, 8))
    with torch.no_grad():
        assert ours(torch.randn(64, 8, 8)).shape == (96, 8, 8)


def test_traced():
    given, x = conv(), torch.randn(1, 64, 8, 12)
    with torch.no_grad():
        traced = torch.jit.trace(winograd.WinogradConv2d(given), x)
        assert_close(traced(2 * x), given(2 * x))


def test_in_a_network():
    """Behind a BatchNorm that is folded, with the numbers of the network as it was."""
    torch.manual_seed(0)
    net = nn.Sequential(conv((256, 256)), nn.BatchNorm2d(256), nn.ReLU(), nn.Conv2d(256, 3, 1))
    net[1].running_var.uniform_(0.5, 2)
    net[1].running_mean.normal_()
    x = torch.randn(1, 256, 9, 14)
    with torch.no_grad():
        assert_close(predict.for_inference(net)(x), net.eval()(x), rtol=0, atol=1e-4)
