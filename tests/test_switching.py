"""Switchable whitening: over processes, in networks, from plain weights."""

import tempfile

import pytest
import torch
from processes import group_of_two
from torch import nn
from torch.testing import assert_close

from ibnseg.backbones import IBNResNet
from ibnseg.methods import SwitchWhiten, ranks
from ibnseg.methods.switching import KINDS
from ibnseg.weights import load_weights

TINY = dict(stem_channels=16, base_channels=8)
exact = dict(rtol=0, atol=1e-12)


def layer(**options) -> SwitchWhiten:
    torch.manual_seed(2)
    made = SwitchWhiten(8, group=4, **options).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made


def maps() -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(5, 8, 6, 4, generator=rng, dtype=torch.float64)
    return x * torch.arange(1, 6).view(5, 1, 1, 1)


def step(made: nn.Module, x: torch.Tensor, cotangent: torch.Tensor) -> dict[str, torch.Tensor]:
    x = x.clone().requires_grad_()
    y = made(x)
    y.backward(cotangent)
    grads = {name: p.grad for name, p in made.named_parameters()}
    return dict(y=y.detach(), x=x.grad) | grads | dict(made.named_buffers())


def _rank(rank: int, folder: str, kind: int) -> None:
    own = slice(0, 2) if rank == 0 else slice(2, 5)  # batches of two sizes
    found = step(layer(kind=kind), maps()[own], maps().flip(0)[own])
    for name, _ in layer(kind=kind).named_parameters():
        found[name] = ranks.summed(found[name])
    torch.save(found, f'{folder}/{rank}.pth')


@pytest.mark.parametrize('kind', KINDS)
def test_two_processes_are_one_batch(kind):
    """Outputs, gradients and buffers; also where the processes' batches are not equally large."""
    whole = step(layer(kind=kind), maps(), maps().flip(0))
    with tempfile.TemporaryDirectory() as folder:
        group_of_two(_rank, folder, kind)
        parts = [torch.load(f'{folder}/{rank}.pth') for rank in (0, 1)]
    for name in ('y', 'x'):
        assert_close(torch.cat([part[name] for part in parts]), whole.pop(name), **exact)
    for name, expected in whole.items():
        for part in parts:
            assert_close(part[name], expected, **exact)


def test_a_batch_that_is_white_stays_as_it_is():
    x = torch.randn(1, 4, 500, 1, dtype=torch.float64)
    x = x - x.mean((0, 2, 3), keepdim=True)
    cov = (x[0, :, :, 0] @ x[0, :, :, 0].T) / 500
    values, vectors = torch.linalg.eigh(cov)
    white = (vectors / values.sqrt()) @ vectors.T @ x[0, :, :, 0]
    y = SwitchWhiten(4, group=4, eps=0).double()(white.view(1, 4, 500, 1))
    assert_close(y, white.view(1, 4, 500, 1), rtol=0, atol=1e-5)


def test_many_steps_of_newton_whiten():
    made = SwitchWhiten(8, group=4, iterations=11, eps=0).double()
    with torch.no_grad():
        made.sw_mean_weight.copy_(torch.tensor([-50.0, 50]))  # the image's own statistics alone
        made.sw_var_weight.copy_(torch.tensor([-50.0, 50]))
    y = made(maps()).view(5, 2, 4, 24)
    unit = torch.eye(4, dtype=torch.float64).expand(5, 2, 4, 4)
    assert_close(y @ y.mT / 24, unit, rtol=0, atol=1e-4)


def test_variances_of_kind_five_have_weights_of_their_own_unless_as_released():
    """With all weight on IN, an image is normalised and not whitened."""
    mixed, released = layer(kind=5), layer(kind=5, as_released=True)
    for made in (mixed, released):
        with torch.no_grad():
            made.weight.fill_(1), made.bias.fill_(0)
            made.sw_mean_weight.copy_(torch.tensor([0.0, 0, 0, 50, 0]))
            made.sw_var_weight.copy_(torch.tensor([0.0, 0, 0, 50, 0]))
            made.iterations = 9
    x = maps()
    assert_close(mixed(x), nn.functional.instance_norm(x), rtol=0, atol=1e-3)
    with pytest.raises(AssertionError):
        assert_close(released(x), nn.functional.instance_norm(x), rtol=0, atol=1e-3)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_layout_and_dtype_are_kept(layout, dtype):
    x = maps().to(dtype).to(memory_format=layout)
    y = layer().float()(x)
    assert y.dtype == dtype and y.stride() == x.stride()
    assert y.isfinite().all()


ROWS = {
    'sw': ['bn1', 'layer1.1.bn2', 'layer2.1.bn2', 'layer2.3.bn2',
           'layer3.1.bn2', 'layer3.3.bn2', 'layer3.5.bn2'],
    'sw_b': ['bn1', 'layer1.2.SW', 'layer2.3.SW'],
}  # fmt: skip


@pytest.mark.parametrize('row', ROWS)
def test_layers_stand_where_the_releases_put_them(row):
    net = IBNResNet(50, placement=row, **TINY)
    assert [p for p, m in net.named_modules() if isinstance(m, SwitchWhiten)] == ROWS[row]


@pytest.mark.parametrize('row', ROWS)
def test_plain_weights_start_it(row, tmp_path):
    plain = IBNResNet(50, **TINY)
    for tensor in plain.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1)
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    net = IBNResNet(50, placement=row, **TINY)
    load_weights(net, tmp_path / 'plain.pth')
    assert torch.equal(net.bn1.weight, plain.bn1.weight)
    assert torch.equal(net.bn1.running_mean.flatten(), plain.bn1.running_mean)
    variances = net.bn1.running_cov.diagonal(dim1=1, dim2=2).flatten()
    assert torch.equal(variances, plain.bn1.running_var)
    assert torch.equal(net.bn1.sw_mean_weight, torch.ones(2))
    other = IBNResNet(50, placement=row, **TINY)
    torch.save(net.state_dict(), tmp_path / 'own.pth')
    load_weights(other, tmp_path / 'own.pth')
    for key, tensor in net.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[key]), key


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r'kind is 4; choose from \[2, 3, 5\]'):
        SwitchWhiten(8, kind=4)
    with pytest.raises(ValueError, match='group is 3; expected a divisor of the 8 channels'):
        SwitchWhiten(8, group=3)
