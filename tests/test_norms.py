import copy
import math

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing import assert_close

from ibnseg.norms import IBN, LAYERS, InstanceNorm, ParallelIBN, PartialInstanceNorm

RATIOS = [0, 0.1, 0.25, 0.4, 0.5, 0.75, 1]
CHANNELS = [1, 8, 13]  # at 1 a ratio of 0.5 leaves no channel to IN
LAYOUTS = [torch.contiguous_format, torch.channels_last]
MODES = pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
exact = dict(rtol=0, atol=1e-12)


def maps(channels: int = 8, batch: int = 3) -> torch.Tensor:
    """Maps whose images and channels differ in mean and contrast."""
    shape = (batch, channels, 1, 1)
    x = torch.randn(batch, channels, 5, 4, dtype=torch.float64)
    return x * torch.empty(shape).uniform_(0.5, 4) + 3 * torch.randn(shape)


def randomised(layer: nn.Module, dtype=torch.float64) -> nn.Module:
    """The layer with parameters and statistics that are all different."""
    for name, tensor in layer.to(dtype).state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5) if 'var' in name else tensor.normal_()
    return layer


def by_definition(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a norm computes; running statistics are moved as by torch's BatchNorm."""
    over = (2, 3) if isinstance(norm, nn.InstanceNorm2d) else (0, 2, 3)
    var, mean = torch.var_mean(x, over, correction=0, keepdim=True)
    if over == (0, 2, 3):
        copied = copy.deepcopy(norm)
        norm(x.detach())
        if not norm.training:
            mean, var = (copied.get_buffer(f'running_{n}')[:, None, None] for n in ('mean', 'var'))
    weight, bias = norm.weight[:, None, None], norm.bias[:, None, None]
    return (x - mean) / (var + norm.eps).sqrt() * weight + bias


def expected(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a layer stands for, of its parts."""
    if isinstance(layer, InstanceNorm):
        return by_definition(layer, x)
    if isinstance(layer, ParallelIBN):
        return torch.cat([by_definition(part, x) for part in (layer.IN, layer.BN)], 1)
    first, parts = layer.num_in, [layer.IN, layer.BN]
    if layer.bn_first:
        first, parts = layer.num_features - first, parts[::-1]
    done = [
        z if isinstance(part, nn.Identity) else by_definition(part, z)
        for part, z in zip(parts, (x[:, :first], x[:, first:]), strict=True)
        if part is not None
    ]
    return torch.cat(done, 1)


def both(layer: nn.Module, x: torch.Tensor, gradient=None):
    """(output, gradients, buffers) of the layer, and by definition in float64, contiguous."""
    results = []
    for function, module, given in (
        (lambda m, v: m(v), layer, x.detach()),
        (expected, copy.deepcopy(layer).double(), x.detach().double().contiguous().clone()),
    ):
        out = function(module, given.requires_grad_())
        if gradient is None:
            gradient = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)
        out.backward(gradient.to(out.dtype))
        gradients = [given.grad, *(p.grad for p in module.parameters())]
        results.append((out.detach(), gradients, list(module.buffers())))
    return results


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('channels', CHANNELS)
@pytest.mark.parametrize('ratio', RATIOS)
@pytest.mark.parametrize('bn_first', [True, False])
@MODES
def test_ibn_at_every_ratio(channels, ratio, bn_first, training, layout):
    ibn = randomised(IBN(channels, ratio, bn_first=bn_first)).train(training)
    assert ibn.num_in == (
        channels - int(channels * (1 - ratio)) if bn_first else int(channels * ratio)
    )
    x = maps(channels).contiguous(memory_format=layout)
    (out, gradients, buffers), (wanted, others, moved) = both(ibn, x)
    assert out.is_contiguous(memory_format=layout)
    assert_close(out, wanted, **exact)
    assert_close(gradients, others, rtol=1e-10, atol=1e-10)
    assert_close(buffers, moved, **exact)


STRIDES = {
    'contiguous': torch.Tensor.contiguous,
    'channels_last': lambda x: x.contiguous(memory_format=torch.channels_last),
    'slice': lambda x: x.repeat(1, 2, 1, 1)[:, x.shape[1] :],
    'channels_last slice': lambda x: STRIDES['channels_last'](x.repeat(1, 2, 1, 1))[
        :, x.shape[1] :
    ],
    'transposed': lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    'expanded': lambda x: x.sum().expand(x.shape),
}


@pytest.mark.parametrize('name', LAYERS)
@pytest.mark.parametrize('given', [name for name in STRIDES if name != 'expanded'])
@pytest.mark.parametrize('back', STRIDES)
@pytest.mark.parametrize('batch', [1, 3])
@MODES
def test_every_layer_whatever_the_strides(name, given, back, batch, training):
    """torch 2.13's InstanceNorm has wrong gradients for one image in channels_last."""
    layer = randomised(LAYERS[name](8, norm=nn.BatchNorm2d)).train(training)
    x = STRIDES[given](maps(batch=batch))
    gradient = torch.randn(batch, 8 * getattr(layer, 'expansion', 1), 5, 4, dtype=torch.float64)
    (out, gradients, buffers), (wanted, others, moved) = both(layer, x, STRIDES[back](gradient))
    assert_close(out, wanted, **exact)
    assert_close(gradients, others, rtol=1e-10, atol=1e-10)
    assert_close(buffers, moved, **exact)
    if given in ('contiguous', 'channels_last'):
        layout = LAYOUTS[given == 'channels_last']
        assert out.is_contiguous(memory_format=layout)
        assert back != given or gradients[0].is_contiguous(memory_format=layout)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('name', LAYERS)
@MODES
def test_first_and_second_derivatives(name, training, layout):
    layer = randomised(LAYERS[name](4, norm=lambda n: nn.BatchNorm2d(n, momentum=0.0)))
    x = maps(4, batch=2).contiguous(memory_format=layout).requires_grad_()
    layer.train(training)
    forward = layout == torch.contiguous_format
    names = [name for name, _ in layer.named_parameters()]

    def call(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    inputs = x, *layer.parameters()
    assert torch.autograd.gradcheck(call, inputs, check_forward_ad=forward)
    assert torch.autograd.gradgradcheck(call, inputs)
    # Against the definition, contiguous.
    wanted = expected(copy.deepcopy(layer), given := maps(4, batch=2).requires_grad_())
    other = layer(ours := given.detach().contiguous(memory_format=layout).requires_grad_())
    seconds = []
    for out, z in ((wanted, given), (other, ours)):
        (first,) = torch.autograd.grad(out.pow(3).sum(), z, create_graph=True)
        seconds.append((first, torch.autograd.grad(first.pow(2).sum(), z)[0]))
    assert_close(seconds[1], seconds[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('shape', [(2, 10, 33, 31), (1, 10, 130, 270)])
@pytest.mark.parametrize('mean', [0, 1e3])
def test_float32_stays_close_where_the_mean_is_large(layout, shape, mean):
    """Of InstanceNorm; BatchNorm is torch's own."""
    layer = randomised(InstanceNorm(10), torch.float32)
    x = (torch.randn(shape) + mean).contiguous(memory_format=layout)
    (out, gradients, _), (wanted, others, _) = both(layer, x)
    assert_close(out.double(), wanted, rtol=0, atol=1e-3 if mean else 5e-5)
    assert_close(gradients[0].double(), others[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('parameters', [torch.float32, None], ids=['amp', 'whole'])
def test_half_types_are_kept_with_statistics_in_float32(dtype, layout, parameters):
    """Of InstanceNorm; BatchNorm is torch's own."""
    layer = randomised(InstanceNorm(10), parameters or dtype)
    x = (torch.randn(2, 10, 16, 16) + 4).to(dtype).contiguous(memory_format=layout)
    (out, gradients, _), (wanted, others, _) = both(layer, x)
    assert out.dtype == gradients[0].dtype == dtype
    assert out.is_contiguous(memory_format=layout)
    assert gradients[1].dtype == (parameters or dtype)
    precision = torch.finfo(dtype).eps
    assert_close(out.double(), wanted, rtol=precision, atol=8 * precision)
    for gradient, other in zip(gradients, others, strict=True):
        scale = float(other.abs().max())
        assert_close(gradient.double() / scale, other / scale, rtol=0, atol=8 * precision)


@pytest.mark.parametrize('name', LAYERS)
def test_autocast_keeps_the_type(name):
    layer = LAYERS[name](8, norm=nn.BatchNorm2d)
    with torch.autocast('cpu', torch.bfloat16):
        x = nn.Conv2d(3, 8, 3)(torch.randn(2, 3, 9, 8))
        assert x.dtype == layer(x).dtype == torch.bfloat16


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize(('dtype', 'most'), [(torch.float32, 1.1), (torch.bfloat16, 1.6)])
def test_as_much_as_the_input_is_kept_for_backward(layout, dtype, most):
    """Of half types on a CPU, InstanceNorm's part is kept in float32."""
    x = torch.randn(2, 8, 32, 32).to(dtype).contiguous(memory_format=layout)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        IBN(8)(x.requires_grad_())
    assert sum(t.nbytes for t in kept) < most * x.nbytes


@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_run_gives_the_same_bits(layout):
    ibn, runs = IBN(32), []
    x = torch.randn(2, 32, 40, 30).contiguous(memory_format=layout)
    for _ in range(3):
        ours, given = copy.deepcopy(ibn), x.clone().requires_grad_()
        out = ours(given)
        out.square().sum().backward()
        runs.append([out, given.grad, *(p.grad for p in ours.parameters()), *ours.buffers()])
    for run in runs[1:]:
        assert all(map(torch.equal, runs[0], run))


@pytest.mark.parametrize('name', LAYERS)
@MODES
def test_what_is_traced_and_scripted(name, training):
    layer, x = randomised(LAYERS[name](8, norm=nn.BatchNorm2d)).train(training), maps()
    traced = torch.fx.symbolic_trace(layer)
    for made in (traced, torch.jit.script(layer), torch.jit.script(traced)):
        for z in (x, maps(batch=2).contiguous(memory_format=torch.channels_last)):
            assert_close(made(z), layer(z))
        with pytest.raises(Exception, match=r'InstanceNorm: got a \(2, \d, 1, 1\) map'):
            made(torch.ones(2, 8, 1, 1, dtype=x.dtype))


@pytest.mark.parametrize('name', LAYERS)
def test_onnx_with_a_free_batch(name, tmp_path):
    pytest.importorskip('onnxscript', reason='onnxscript is not installed')
    runtime = pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    layer = randomised(LAYERS[name](8, norm=nn.BatchNorm2d), torch.float32).eval()
    batch = {0: torch.export.Dim('n')}
    program = torch.onnx.export(
        layer, (maps().float(),), dynamo=True, dynamic_shapes=(batch,), verbose=False
    )
    program.save(tmp_path / 'x.onnx')
    session = runtime.InferenceSession(tmp_path / 'x.onnx')
    x = maps(batch=5).float()
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert_close(torch.from_numpy(found), layer(x).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', LAYERS)
def test_what_traces_and_transforms(name):
    layer, x = randomised(LAYERS[name](8, norm=nn.BatchNorm2d)).eval(), maps()
    out = layer(x)
    assert_close(make_fx(layer)(x)(x), out)
    assert_close(torch.jit.trace(layer, x)(x), out)
    assert_close(torch.func.vmap(layer)(x[None])[0], out)
    assert_close(torch.func.jacfwd(layer)(x), torch.func.jacrev(layer)(x))
    sizes = {i: torch.export.Dim(n, min=2, max=64) for i, n in ((0, 'n'), (2, 'h'), (3, 'w'))}
    exported = torch.export.export(layer, (x,), dynamic_shapes=(sizes,)).module()
    other = torch.randn(2, 8, 7, 9, dtype=torch.float64)
    assert_close(exported(other), layer(other))


@pytest.mark.parametrize('layout', LAYOUTS)
@MODES
def test_compiled_without_a_break(training, layout):
    """By dynamo and autograd's tracer; what inductor makes of it is for tests of the tools."""
    ibn = randomised(IBN(8)).train(training)
    other = copy.deepcopy(ibn)
    x = maps().contiguous(memory_format=layout)
    x, y = x.clone().requires_grad_(), x.requires_grad_()
    out = torch.compile(ibn, backend='aot_eager', fullgraph=True)(x)
    assert out.is_contiguous(memory_format=layout)
    for z in (out, other(y)):
        z.pow(3).sum().backward()
    assert_close(x.grad, y.grad)
    assert_close(list(ibn.buffers()), list(other.buffers()))


@pytest.mark.parametrize('kind', [nn.BatchNorm2d, nn.SyncBatchNorm])
@MODES
def test_the_networks_norm_is_called_as_it_is(kind, training):
    """SyncBN of several ranks is torch's own, which needs GPUs; of one rank it is BatchNorm."""
    ibn = IBN(8, 0.25, norm=lambda n: kind(n, eps=0.1, momentum=0.2)).double().train(training)
    assert type(ibn.BN) is kind and ibn.IN.eps == 1e-5
    x, seen = maps(), []
    ibn.BN.register_forward_hook(lambda _, inputs, out: seen.append((inputs[0], out)))
    out, other = ibn(x), nn.BatchNorm2d(6, eps=0.1, momentum=0.2).double().train(training)
    assert torch.equal(seen[0][0], x[:, 2:]) and torch.equal(seen[0][1], out[:, 2:])
    assert_close(out[:, 2:], other(x[:, 2:]), **exact)
    assert_close(dict(ibn.BN.named_buffers()), dict(other.named_buffers()), **exact)


@pytest.mark.parametrize('channels', CHANNELS)
@pytest.mark.parametrize('ratio', RATIOS)
def test_ibn_names_and_sizes(channels, ratio):
    half = int(channels * ratio)
    sizes = {f'IN.{tensor}': half for tensor in ('weight', 'bias') if half}
    if half < channels:
        batch_norm = ('weight', 'bias', 'running_mean', 'running_var')
        sizes |= {f'BN.{tensor}': channels - half for tensor in batch_norm}
        sizes['BN.num_batches_tracked'] = 1
    ibn = IBN(channels, ratio)
    assert {name: tensor.numel() for name, tensor in ibn.state_dict().items()} == sizes
    for name, parameter in ibn.named_parameters():
        assert torch.all(parameter == name.endswith('weight')), name
    partial = PartialInstanceNorm(channels, ratio)
    assert list(partial.state_dict()) == (['IN.weight', 'IN.bias'] if half else [])


@MODES
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


@pytest.mark.parametrize('kind', [InstanceNorm, IBN, PartialInstanceNorm])
def test_eps_is_added_to_the_variance(kind):
    x = maps()
    mean, var = x.mean((2, 3), True), x.var((2, 3), correction=0, keepdim=True)
    out = kind(8, eps=0.7).double()(x)[:, :4]
    assert_close(out, ((x - mean) / (var + 0.7).sqrt())[:, :4], **exact)


@pytest.mark.parametrize('layer', [IBN, PartialInstanceNorm])
@pytest.mark.parametrize('ratio', [-0.1, 1.01, 50, math.nan, math.inf])
def test_ratio_outside_is_named(layer, ratio):
    with pytest.raises(ValueError, match=rf'ratio is {ratio!r}.*from 0'):
        layer(8, ratio)


@pytest.mark.parametrize('name', LAYERS)
def test_every_layer_keeps_the_promises_of_a_module(name):
    layer = LAYERS[name](8, norm=nn.BatchNorm2d)
    assert layer.train() is layer and layer.eval() is layer
    assert all(p.dtype == torch.float16 for p in layer.half().parameters())


@pytest.mark.parametrize('name', LAYERS)
@MODES
def test_one_pixel_is_refused_in_both_modes(name, training):
    layer = LAYERS[name](8, norm=nn.BatchNorm2d).train(training)
    with pytest.raises(ValueError, match=r'\(2, \d, 1, 1\) map.*more than one pixel'):
        layer(torch.ones(2, 8, 1, 1))
    layer(torch.ones(2, 8, 1, 2))


@pytest.mark.parametrize('layer', [IBN, PartialInstanceNorm])
def test_one_pixel_is_no_matter_without_instance_norm(layer):
    assert layer(8, 0)(torch.ones(2, 8, 1, 1)).shape == (2, 8, 1, 1)


@pytest.mark.parametrize('name', LAYERS)
@pytest.mark.parametrize('channels', [4, 16])
def test_a_map_of_other_channels_is_refused(name, channels):
    with pytest.raises((ValueError, RuntimeError), match=rf'8|{channels}'):
        LAYERS[name](8, norm=nn.BatchNorm2d)(torch.randn(2, channels, 4, 4))
