"""The fast path against the layers it stands for."""

import copy

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.testing import assert_close

from ibnseg.norms import IBN, InstanceNorm, fused

LAYOUTS = [torch.contiguous_format, torch.channels_last]
CHANNELS = 10


def two_branch(layer: IBN, x):
    """What IBN stands for: split, normalise, concatenate, by torch's own layers."""
    parts = []
    if layer.IN is not None:
        norm = layer.IN
        parts.append(
            nn.functional.instance_norm(
                x[:, layer.in_part], weight=norm.weight, bias=norm.bias, eps=norm.eps
            )
        )
    if layer.BN is not None:
        parts.append(layer.BN(x[:, layer.bn_part]))
    return torch.cat(parts[::-1] if layer.bn_first else parts, 1)


def layer(ratio=0.5, dtype=torch.float64, train=True, **options):
    made = IBN(CHANNELS, ratio, **options).to(dtype).train(train)
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    if made.BN is not None:
        made.BN.running_mean.normal_()
        made.BN.running_var.uniform_(0.5, 2)
    return made


def both(ours, x, train=True):
    """(output, gradients, buffers) of the fast path and of the two branches, in float64."""
    results = []
    for function, module, given in (
        (lambda m, v: m(v), ours, x),
        (two_branch, copy.deepcopy(ours).double(), x.double()),
    ):
        given = given.detach().requires_grad_()
        out = function(module, given)
        weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)
        (out.double() * weights).sum().backward()
        gradients = [given.grad, *(p.grad for p in module.parameters())]
        results.append((out, gradients, list(module.buffers())))
    return results


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize('bn_first', [True, False])
@pytest.mark.parametrize('ratio', [0.1, 0.5, 0.7])
def test_equals_the_two_branches(layout, train, bn_first, ratio):
    ours = layer(ratio, train=train, bn_first=bn_first)
    x = torch.randn(3, CHANNELS, 5, 7, dtype=torch.float64).contiguous(memory_format=layout)
    assert fused.usable(x, ours.IN, ours.BN)
    (out, gradients, buffers), (expected, wanted, expected_buffers) = both(ours, x)
    assert out.is_contiguous(memory_format=layout)
    assert gradients[0].is_contiguous(memory_format=layout)
    assert_close(out, expected, rtol=0, atol=1e-12)
    assert_close(gradients, wanted, rtol=1e-10, atol=1e-11)
    assert_close(buffers, expected_buffers, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize('mean', [0, 1e3])
def test_float32_stays_close_where_the_mean_is_large(layout, train, mean):
    ours = layer(dtype=torch.float32, train=train)
    ours.BN.running_mean.fill_(mean)
    x = (torch.randn(2, CHANNELS, 33, 31) + mean).contiguous(memory_format=layout)
    (out, gradients, _), (expected, wanted, _) = both(ours, x)
    assert_close(out.double(), expected, rtol=0, atol=1e-3 if mean else 1e-5)
    assert_close(gradients[0].double(), wanted[0], rtol=0, atol=1e-3)
    with torch.no_grad():
        assert_close(ours(x).double(), expected, rtol=0, atol=1e-3 if mean else 1e-5)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_bfloat16_keeps_its_type_and_statistics_in_float32(layout):
    ours = layer(dtype=torch.float32)
    x = torch.randn(2, CHANNELS, 16, 16).to(torch.bfloat16).contiguous(memory_format=layout)
    out = ours(x)
    assert out.dtype == torch.bfloat16
    expected = two_branch(copy.deepcopy(ours).double(), x.double())
    assert_close(out.double(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize('train', [True, False])
def test_gradcheck(train):
    ours = layer(train=train)
    x = torch.randn(2, CHANNELS, 3, 4, dtype=torch.float64, requires_grad=True)
    momentless = copy.deepcopy(ours)
    momentless.BN.momentum = 0.0

    def function(x, *_):
        return momentless(x)

    assert torch.autograd.gradcheck(function, (x, *momentless.parameters()))


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('grad', [True, False])
def test_instance_norm(layout, grad):
    ours = InstanceNorm(CHANNELS).double()
    plain = nn.InstanceNorm2d(CHANNELS, affine=True).double()
    for parameter, other in zip(ours.parameters(), plain.parameters(), strict=True):
        nn.init.normal_(parameter)
        other.data.copy_(parameter.data)
    x = torch.randn(2, CHANNELS, 5, 6, dtype=torch.float64).contiguous(memory_format=layout)
    with torch.set_grad_enabled(grad):
        out = ours(x)
        assert out.is_contiguous(memory_format=layout)
        assert_close(out, plain(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize('momentum', [0.1, 0.3, None])
def test_running_statistics_over_steps(momentum):
    ours = layer(norm=lambda n: nn.BatchNorm2d(n, momentum=momentum))
    other = copy.deepcopy(ours)
    for _ in range(3):
        x = torch.randn(2, CHANNELS, 4, 4, dtype=torch.float64)
        ours(x)
        two_branch(other, x)
    assert_close(list(ours.buffers()), list(other.buffers()))
    assert ours.BN.num_batches_tracked == 3


def test_without_running_statistics():
    ours = IBN(CHANNELS, norm=lambda n: nn.BatchNorm2d(n, track_running_stats=False)).double()
    x = torch.randn(2, CHANNELS, 4, 4, dtype=torch.float64)
    assert_close(ours.eval()(x), two_branch(ours, x))


def test_traced_and_hooked_layers_take_the_plain_path():
    ours = layer()
    x = torch.randn(2, CHANNELS, 4, 4, dtype=torch.float64)
    seen = []
    handle = ours.BN.register_forward_hook(lambda *_: seen.append(1))
    ours(x)
    assert seen
    handle.remove()
    traced = torch.jit.trace(ours.eval(), x)
    assert_close(traced(x), ours(x))


def _rank(rank, folder, state):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2
    )
    ours = IBN(CHANNELS, norm=nn.SyncBatchNorm).double()
    ours.load_state_dict(state)
    x = torch.load(f'{folder}/x.pth', weights_only=True)
    mine = x[[0, 1, 2]] if rank == 0 else x[3:]
    mine = mine.requires_grad_()
    out = ours(mine)
    out.square().mul(torch.arange(7.0).view(1, 1, 1, 7)).sum().backward()
    gradients = [p.grad for p in ours.parameters()]
    for gradient in gradients:
        torch.distributed.all_reduce(gradient)
    found = (out.detach(), mine.grad, gradients, list(ours.buffers()))
    torch.save(found, f'{folder}/{rank}.pth')
    torch.distributed.destroy_process_group()


def test_sync_batch_norm_over_two_ranks_equals_the_joined_batch(tmp_path):
    """Ranks of three and two images, so that counts differ."""
    ours = layer()
    x = torch.randn(5, CHANNELS, 6, 7, dtype=torch.float64)
    torch.save(x, tmp_path / 'x.pth')
    mp.spawn(_rank, (str(tmp_path), ours.state_dict()), nprocs=2)
    ranks = [torch.load(tmp_path / f'{r}.pth', weights_only=True) for r in (0, 1)]
    x.requires_grad_()
    out = ours(x)
    out.square().mul(torch.arange(7.0).view(1, 1, 1, 7)).sum().backward()
    assert_close(torch.cat([r[0] for r in ranks]), out.detach())
    assert_close(torch.cat([r[1] for r in ranks]), x.grad)
    for rank in ranks:
        assert_close(rank[2], [p.grad for p in ours.parameters()])
        assert_close(rank[3], list(ours.buffers()))


def test_one_value_a_channel_is_refused():
    with pytest.raises(ValueError, match='one'):
        layer()(torch.zeros(1, CHANNELS, 1, 1, dtype=torch.float64))
