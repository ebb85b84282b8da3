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


def both(ours, x):
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
def test_float32_stays_close_on_large_maps(layout):
    """Where sums that are not compensated drift: 35,000 pixels of mean 1e3."""
    ours = layer(dtype=torch.float32)
    x = (torch.randn(1, CHANNELS, 130, 270) + 1e3).contiguous(memory_format=layout)
    (out, gradients, _), (expected, wanted, _) = both(ours, x)
    assert_close(out.double(), expected, rtol=0, atol=1e-3)
    assert_close(gradients[0].double(), wanted[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize('parameters', [torch.float32, None], ids=['amp', 'whole'])
def test_half_types_are_kept_with_statistics_in_float32(dtype, layout, train, parameters):
    ours = layer(dtype=parameters or dtype, train=train)
    x = (torch.randn(2, CHANNELS, 16, 16) + 4).to(dtype).contiguous(memory_format=layout)
    (out, gradients, buffers), (expected, wanted, expected_buffers) = both(ours, x)
    assert out.dtype == gradients[0].dtype == dtype
    assert out.is_contiguous(memory_format=layout)
    assert gradients[1].dtype == (parameters or dtype)
    precision = torch.finfo(dtype).eps
    assert_close(out.double(), expected, rtol=precision, atol=8 * precision)
    for gradient, other in zip(gradients, wanted, strict=True):
        scale = float(other.abs().max())
        assert_close(gradient.double() / scale, other / scale, rtol=0, atol=4 * precision)
    if parameters:
        assert_close(
            [b.double() for b in buffers], [b.double() for b in expected_buffers], rtol=0, atol=1e-5
        )


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('train', [True, False])
def test_autocast(layout, train):
    """A convolution's bfloat16 output, parameters in float32, as `--amp` runs a CPU."""
    ours = layer(dtype=torch.float32, train=train)
    conv = nn.Conv2d(3, CHANNELS, 3).to(memory_format=layout)
    images = torch.randn(2, 3, 9, 8).contiguous(memory_format=layout)
    with torch.autocast('cpu', torch.bfloat16):
        x = conv(images).detach().requires_grad_()
        other = copy.deepcopy(ours)
        out, expected = ours(x), two_branch(other, x)
    assert x.dtype == out.dtype == expected.dtype == torch.bfloat16
    assert_close(out, expected, rtol=0.01, atol=0.05)
    assert_close(list(ours.buffers()), list(other.buffers()))


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('train', [True, False])
def test_gradcheck(train, layout):
    ours = layer(train=train)
    x = torch.randn(2, CHANNELS, 3, 4, dtype=torch.float64).contiguous(memory_format=layout)
    x.requires_grad_()
    momentless = copy.deepcopy(ours)
    momentless.BN.momentum = 0.0

    def function(x, *_):
        return momentless(x)

    assert torch.autograd.gradcheck(function, (x, *momentless.parameters()))


def inorms(dtype=torch.float64) -> tuple[InstanceNorm, nn.InstanceNorm2d]:
    ours = InstanceNorm(CHANNELS)
    plain = nn.InstanceNorm2d(CHANNELS, affine=True)
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    plain.load_state_dict(ours.state_dict())
    return ours.to(dtype), plain.double()


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('mean', [0, 1e3])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
def test_instance_norm(layout, mean, dtype):
    ours, plain = inorms(dtype)
    x = torch.randn(2, CHANNELS, 25, 26, dtype=torch.float64) + mean
    x = x.to(dtype).contiguous(memory_format=layout).requires_grad_()
    y = x.detach().double().requires_grad_()
    weights = torch.randn(x.shape, dtype=torch.float64)
    out, expected = ours(x), plain(y)
    assert out.is_contiguous(memory_format=layout)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    tolerance = 1e-10 if dtype == torch.float64 else (1e-3 if mean else 1e-5)
    assert_close(out.double(), expected, rtol=0, atol=tolerance)
    assert_close(x.grad.double(), y.grad, rtol=0, atol=tolerance)
    assert_close(ours.weight.grad.double(), plain.weight.grad, rtol=1e-3, atol=10 * tolerance)
    with torch.no_grad():
        assert torch.equal(ours(x), out)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_instance_norm_gradcheck(layout):
    ours, _ = inorms()
    x = torch.randn(2, CHANNELS, 3, 4, dtype=torch.float64).contiguous(memory_format=layout)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: ours(x), (x, *ours.parameters()))


@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize('given', ['slice', 'transposed', 'expanded'])
def test_any_strides(train, given):
    ours = layer(train=train)
    x = torch.randn(2, CHANNELS + 4, 6, 6, dtype=torch.float64)
    x = {
        'slice': x.contiguous(memory_format=torch.channels_last)[:, 2:-2],
        'transposed': x[:, 4:].transpose(2, 3),
        'expanded': x[:1, :CHANNELS].expand(2, -1, -1, -1),
    }[given]
    assert fused.usable(x, ours.IN, ours.BN)
    (out, gradients, _), (expected, wanted, _) = both(ours, x)
    assert_close(out, expected, rtol=0, atol=1e-12)
    assert_close(gradients, wanted, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('given', LAYOUTS)
def test_gradient_of_another_layout(layout, given):
    ours, other = layer(), None
    other = copy.deepcopy(ours)
    x = torch.randn(2, CHANNELS, 5, 4, dtype=torch.float64).contiguous(memory_format=layout)
    gradient = torch.randn(x.shape, dtype=torch.float64).contiguous(memory_format=given)
    x, y = x.requires_grad_(), x.detach().clone().requires_grad_()
    ours(x).backward(gradient)
    two_branch(other, y).backward(gradient)
    assert_close(x.grad, y.grad)
    for one in (x, y):
        one.grad = None
    ours(x).sum().backward()  # a gradient without strides
    two_branch(other, y).sum().backward()
    assert_close(x.grad, y.grad)


@pytest.mark.parametrize('trained', ['IN.weight', 'IN.bias', 'BN.weight', 'BN.bias', 'x'])
def test_only_one_is_trained(trained):
    ours = layer()
    other = copy.deepcopy(ours)
    x = torch.randn(2, CHANNELS, 5, 4, dtype=torch.float64)
    gradients = []
    for net, function in ((ours, ours), (other, lambda x: two_branch(other, x))):
        given = x.clone().requires_grad_(trained == 'x')
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(name == trained)
        function(given).square().sum().backward()
        gradients.append(given.grad if trained == 'x' else net.get_parameter(trained).grad)
    assert_close(*gradients)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_the_input_is_all_that_is_kept(layout, dtype):
    ours = layer(dtype=torch.float32)
    x = torch.randn(2, CHANNELS, 32, 32).to(dtype).contiguous(memory_format=layout)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        ours(x.requires_grad_())
    assert [t.dtype for t in kept if t.numel() == x.numel()] == [dtype]
    assert sum(t.numel() for t in kept) < 1.1 * x.numel()


@pytest.mark.parametrize('layout', LAYOUTS)
def test_an_eps_does_not_drown_what_the_other_sees(layout):
    ours = layer(eps=0.5, dtype=torch.float32)
    x = (torch.randn(2, CHANNELS, 5, 6) * 1e-4).contiguous(memory_format=layout)
    (out, _, buffers), (expected, _, others) = both(ours, x)
    assert_close(out.double(), expected, rtol=0, atol=1e-5)
    assert_close([b.double() for b in buffers], [b.double() for b in others], rtol=1e-4, atol=0)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('shape', [(1, CHANNELS, 67, 71), (3, 700, 5, 3), (2, 4, 1, 9)])
def test_threads_do_not_change_a_bit(layout, dtype, shape):
    """Several blocks and tiles, more channels than a tile, fewer rows than threads."""
    ours, threads, results = IBN(shape[1]), torch.get_num_threads(), []
    x = torch.randn(shape).to(dtype).contiguous(memory_format=layout).requires_grad_()
    weights = torch.randn(shape)
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            x.grad = None
            ours.zero_grad()
            y = copy.deepcopy(ours)(x)
            (y * weights).sum().backward()
            results.append((y, x.grad))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))
    (out, gradients, _), (expected, wanted, _) = both(ours, x)
    atol = 0.1 if dtype == torch.bfloat16 else 1e-4
    assert_close(out.double(), expected, rtol=0.01, atol=atol)
    assert_close(gradients[0].double(), wanted[0], rtol=0.01, atol=atol)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('threads', [1, 2])
def test_no_variance_and_no_eps_give_the_shift(layout, threads):
    ours, before = layer(eps=0, dtype=torch.float32), torch.get_num_threads()
    x = torch.randn(2, CHANNELS, 6, 6).contiguous(memory_format=layout)
    x[0, 0] = 1
    try:
        torch.set_num_threads(threads)
        y = ours(x.requires_grad_())
        y.sum().backward()
    finally:
        torch.set_num_threads(before)
    assert (y[0, 0] == ours.IN.bias[0]).all()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize('made', [IBN, InstanceNorm])
@pytest.mark.parametrize('channels', [4, 12])
def test_a_map_of_other_channels_is_refused(made, channels):
    with pytest.raises((ValueError, RuntimeError), match=f'{CHANNELS}|{CHANNELS // 2}'):
        made(CHANNELS)(torch.randn(2, channels, 4, 4))


def test_within_another_default_device():
    ours, x = layer(), torch.randn(2, CHANNELS, 4, 4, dtype=torch.float64)
    expected = copy.deepcopy(ours)(x)
    with torch.device('meta'):
        assert torch.equal(ours(x), expected)


def test_what_traces_does_not_see_the_kernels():
    from torch.fx.experimental.proxy_tensor import make_fx

    ours = layer(train=False)
    x = torch.randn(2, CHANNELS, 4, 4, dtype=torch.float64)
    expected = ours(x)
    assert_close(make_fx(ours)(x)(x), expected)
    assert_close(torch.func.vmap(ours)(x[None])[0], expected)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        assert_close(torch.autograd.forward_ad.unpack_dual(ours(dual)).primal, expected)


@pytest.mark.parametrize('given', LAYOUTS)
@pytest.mark.parametrize('layout', LAYOUTS)
def test_torch_without_the_kernels_gets_gradients_in_its_layout(layout, given, monkeypatch):
    """torch 2.13's InstanceNorm misreads a channels_last gradient."""
    x = torch.randn(1, CHANNELS, 16, 5, dtype=torch.float64).contiguous(memory_format=layout)
    gradient = torch.randn(x.shape, dtype=torch.float64).contiguous(memory_format=given)
    ours, _ = inorms()
    found = []
    for kernels in (fused._kernels(), None):
        monkeypatch.setattr(fused, '_kernels', lambda kernels=kernels: kernels)
        y = x.clone().requires_grad_()
        ours.zero_grad()
        ours(y).backward(gradient)
        found.append((y.grad, *(p.grad.clone() for p in ours.parameters())))
    assert_close(*found)
    assert_close(found[0][-1], gradient.sum((0, 2, 3)))


def test_nothing_is_hidden_by_rounding_up():
    """Infinities and NaNs come out as NaNs in bfloat16, too, whose rounding adds to the bits."""
    for bad in (float('nan'), float('inf'), -float('inf')):
        x = torch.ones(1, CHANNELS, 4, 4, dtype=torch.bfloat16)
        x[0, :, 1, 2] = bad
        assert layer(dtype=torch.float32)(x).isnan().all()


@pytest.mark.parametrize('layout', LAYOUTS)
def test_without_the_kernels_torch_does_it(layout, monkeypatch):
    monkeypatch.setattr(fused, '_kernels', lambda: None)
    ours = layer()
    x = torch.randn(2, CHANNELS, 5, 4, dtype=torch.float64).contiguous(memory_format=layout)
    assert not fused.usable(x, ours.IN, ours.BN)
    assert_close(*both(ours, x))


@pytest.mark.parametrize('layout', LAYOUTS)
def test_constant_maps(layout):
    """Where the variance is nothing, no gradient is, and the output is the shift."""
    ours = layer(dtype=torch.float32)
    x = torch.full((2, CHANNELS, 8, 8), 3.7).contiguous(memory_format=layout)
    (out, gradients, buffers), (expected, _, _) = both(ours, x)
    assert_close(out.double(), expected, rtol=0, atol=1e-3)  # 1 / sqrt(eps) times the rounding
    assert all(tensor.isfinite().all() for tensor in (*gradients, *buffers))
    assert (buffers[1] >= 0).all()


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize('bn_first', [True, False])
def test_the_formula_that_is_compiled(layout, train, bn_first, monkeypatch):
    ours = layer(train=train, bn_first=bn_first)
    x = torch.randn(3, CHANNELS, 5, 7, dtype=torch.float64).contiguous(memory_format=layout)
    monkeypatch.setattr(torch.compiler, 'is_compiling', lambda: True)
    monkeypatch.setattr(fused._Normalize, 'apply', None)
    (out, gradients, buffers), (expected, wanted, expected_buffers) = both(ours, x)
    assert out.is_contiguous(memory_format=layout)
    assert_close(out, expected, rtol=0, atol=1e-12)
    assert_close(gradients, wanted, rtol=1e-10, atol=1e-11)
    assert_close(buffers, expected_buffers, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('train', [True, False])
def test_compiled_without_a_break(train):
    """By dynamo and autograd's tracer; what inductor makes of it is for tests of the tools."""
    ours = layer(train=train)
    other = copy.deepcopy(ours)
    x = torch.randn(2, CHANNELS, 4, 5, dtype=torch.float64)
    x, y = x.clone().requires_grad_(), x.requires_grad_()
    compiled = torch.compile(ours, backend='aot_eager', fullgraph=True)
    compiled(x).square().sum().backward()
    two_branch(other, y).square().sum().backward()
    assert_close(x.grad, y.grad)
    assert_close(list(ours.buffers()), list(other.buffers()))


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
