"""InstanceNorm, and InstanceNorm beside BatchNorm, without splitting or joining the map.

Whichever norm a channel has, its map becomes `x * scale + shift` with one scale and shift an image
and channel. BatchNorm's statistics follow from the per-image ones by the law of total variance, so
over ranks they take one small all-gather, backward one small all-reduce. Saved for the backward
pass is the layer's input, in its own type; the memory layout stays.

For CPU tensors: torch's kernels for whole maps, called so that they see what is wanted here. In a
contiguous map each (image, channel) is a row of memory, so a group norm with one channel a group,
or a batch norm of the map seen as (1, N * C, H, W), works row by row. In a channels_last map
each image is a block, which the batch norm kernels take one by one. On a GPU the layers' own
kernels are used.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Layout(NamedTuple):
    """Which channels have which norm; `bn_part` may be empty."""

    in_part: slice
    bn_part: slice


def usable(x: Tensor, *norms: nn.Module) -> bool:
    """Whether the fast path computes what the modules would: a plain 4-d map on a CPU."""
    return (
        not torch.jit.is_tracing()
        and x.device.type == 'cpu'
        and x.dim() == 4
        and x.numel() > 0
        and x.dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16)
        and all(_plain(norm) for norm in norms)
        and _comparable(*(norm.eps for norm in norms))
        and (torch.compiler.is_compiling() or _eager())
    )


def _eager() -> bool:
    """Neither scripted, exported nor under torch.func, which custom gradients cannot enter."""
    return not (
        torch.jit.is_scripting()
        or torch.onnx.is_in_onnx_export()
        or torch._C._functorch.peek_interpreter_stack()
    )


def _plain(norm: nn.Module) -> bool:
    """Nothing but the statistics, scale and shift: no hooks, no forward of a stranger's."""
    hooked = norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks
    known = isinstance(norm, nn.InstanceNorm2d) or type(norm).forward in (
        nn.BatchNorm2d.forward,
        nn.SyncBatchNorm.forward,
    )
    return known and norm.affine and not hooked


def _comparable(*eps: float) -> bool:
    """Variances are read off 1 / sqrt(variance + eps): no eps may drown what the other sees."""
    return max(eps) <= 100 * min(eps)


def normalize(
    x: Tensor,
    layout: Layout,
    instance: nn.InstanceNorm2d,
    batch: nn.modules.batchnorm._BatchNorm | None,
) -> Tensor:
    """Return what `instance` and `batch` make of their channels of x (N, C, H, W), as one map.

    Updates the running statistics of `batch` in training mode, as the module itself does.
    """
    weight, bias = instance.weight, instance.bias
    if batch is not None:
        weight = _join(layout, weight, batch.weight)
        bias = _join(layout, bias, batch.bias)
    path = _formula if torch.compiler.is_compiling() else _Normalize.apply
    return path(x, weight, bias, layout, instance, batch)


def _join(layout: Layout, of_in: Tensor, of_bn: Tensor) -> Tensor:
    """One tensor (..., C) from those of the parts, in the order of the channels."""
    return torch.cat((of_bn, of_in) if layout.bn_part.start is None else (of_in, of_bn), -1)


def _group(batch: nn.Module) -> 'torch.distributed.ProcessGroup | None':
    """The ranks that a SyncBN joins its statistics over, or None."""
    if not (isinstance(batch, nn.SyncBatchNorm) and batch.training):
        return None
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    group = batch.process_group or torch.distributed.group.WORLD
    return group if torch.distributed.get_world_size(group) > 1 else None


def _precise(dtype: torch.dtype) -> torch.dtype:
    """The type of the statistics. The kernels take it beside maps of half the bits."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _arrange(x: Tensor, rows: bool) -> Tensor:
    """x as rows (contiguous) or as blocks (channels_last)."""
    return x.contiguous(memory_format=torch.contiguous_format if rows else torch.channels_last)


def _blocks(x: Tensor, rows: bool) -> Sequence[Tensor]:
    """Cut x into maps (1, channels, H, W) in which a kernel treats each channel for itself."""
    n, c, h, w = x.shape
    return [x.view(1, n * c, h, w)] if rows and x.is_contiguous() else x.split(1)


def _each(values: Tensor) -> Tensor:
    """(N, C) or (C,), to be multiplied with a map (N, C, H, W)."""
    return values[..., None, None]


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (N, C) of a channels_last map."""
    dtype = _precise(x.dtype)
    unused = torch.zeros(x.shape[1], dtype=dtype), torch.ones(x.shape[1], dtype=dtype)
    found = [torch.batch_norm_update_stats(image, *unused, 0.0) for image in x.split(1)]
    mean, variance = (torch.stack(values) for values in zip(*found, strict=True))
    if dtype == x.dtype:
        # The kernel's mean is a plain sum in float32: good enough to centre by, not to return.
        mean = x.sum((2, 3)) / (x.shape[2] * x.shape[3])
    return mean, variance


def _total(mean: Tensor, variance: Tensor, pixels: int, group) -> tuple[Tensor, Tensor, int]:
    """Statistics (C,) over all images from theirs (N, C), and over the ranks of `group`."""
    spread, total = torch.var_mean(mean, 0, correction=0)
    spread = spread + variance.mean(0)
    count = mean.shape[0] * pixels
    if group is None:
        return total, spread, count
    mine = torch.cat((total, spread, total.new_tensor([count])))
    ranks = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size(group))]
    torch.distributed.all_gather(ranks, mine, group=group)
    ranks = torch.stack(ranks)
    means, variances = ranks[:, :-1].chunk(2, 1)
    counts = ranks[:, -1:]
    share = counts / counts.sum()
    total = (share * means).sum(0)
    return total, (share * (variances + (means - total).square_())).sum(0), int(counts.sum())


def _track(batch: nn.modules.batchnorm._BatchNorm, mean: Tensor, variance: Tensor, count: int):
    """Move the running statistics, with the unbiased variance, as nn.BatchNorm2d does."""
    if batch.running_mean is None:
        return
    batch.num_batches_tracked.add_(1)
    momentum = batch.momentum
    if momentum is None:
        momentum = 1.0 / float(batch.num_batches_tracked)
    batch.running_mean.lerp_(mean.to(batch.running_mean.dtype), momentum)
    unbiased = variance * (count / (count - 1))
    batch.running_var.lerp_(unbiased.to(batch.running_var.dtype), momentum)


class _Normalizer(NamedTuple):
    """What each image and channel is normalised by, (N, C), and where BatchNorm's part is from."""

    centre: Tensor
    rstd: Tensor
    frozen: bool = False
    group: 'torch.distributed.ProcessGroup | None' = None
    count: int = 0


def _normalizer(mean, variance, layout, instance, batch, pixels: int) -> _Normalizer:
    """Choose between the image's statistics (N, C), the batch's and the running ones."""
    if batch is None:
        return _Normalizer(mean, (variance + instance.eps).rsqrt())
    frozen, group, count = not batch.training and batch.running_mean is not None, None, 0
    part = layout.bn_part
    if frozen:
        total, spread = batch.running_mean.to(mean), batch.running_var.to(mean)
    else:
        group = _group(batch)
        total, spread, count = _total(mean[:, part], variance[:, part], pixels, group)
        _track(batch, total.detach(), spread.detach(), count)
    part, images = layout.in_part, len(mean)
    rstd = (variance[:, part] + instance.eps).rsqrt(), (spread + batch.eps).rsqrt()
    centre = _join(layout, mean[:, part], total.expand(images, -1))
    rstd = _join(layout, rstd[0], rstd[1].expand(images, -1))
    return _Normalizer(centre, rstd, frozen, group, count)


def _formula(x, weight, bias, layout, instance, batch) -> Tensor:
    """The layer in plain operations: torch.compile fuses them and derives the gradient."""
    work = x.to(_precise(x.dtype))
    variance, mean = torch.var_mean(work, (2, 3), correction=0)
    pixels = x.shape[2] * x.shape[3]
    by = _normalizer(mean, variance, layout, instance, batch, pixels)
    scale = weight.to(work.dtype) * by.rstd
    return ((work - _each(by.centre)) * _each(scale) + _each(bias.to(work.dtype))).to(x.dtype)


def _sums(g: Tensor, x: Tensor, centre: Tensor, rows: bool) -> tuple[Tensor, Tensor]:
    """Sums (N, C) of g and of g * (x - centre), by the kernel that BatchNorm's gradients take."""
    g, x = _blocks(g, rows), _blocks(x, rows)
    centres = centre.view(len(x), -1)
    one = torch.ones_like(centres[0])
    found = [
        torch.ops.aten.native_batch_norm_backward(
            *block, one, None, None, centre, one, True, 0.0, [False, True, True]
        )
        for *block, centre in zip(g, x, centres, strict=True)
    ]
    _, dots, sums = zip(*found, strict=True)
    return torch.stack(sums).view_as(centre), torch.stack(dots).view_as(centre)


def _instance_gradients(g, x, weight, centre, rstd, ctx) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, scale and shift where each row is normalised by its own statistics."""
    wanted = [ctx.needs_input_grad[0], True, True]
    (g,), (x,), scale = _blocks(g, True), _blocks(x, True), weight.to(rstd.dtype).repeat(len(rstd))
    grad_x, dots, sums = torch.ops.aten.native_batch_norm_backward(
        g, x, scale, None, None, centre.view(-1), rstd.view(-1), True, 0.0, wanted
    )
    affine = [total.view_as(rstd).sum(0).to(weight.dtype) for total in (dots, sums)]
    return None if grad_x is None else grad_x.view(*rstd.shape, *x.shape[2:]), *affine


def _multiply_add(
    x: Tensor, scale: Tensor, shift: Tensor, rows: bool, out: Tensor | None = None
) -> Tensor:
    """x * scale + shift, of (N, C, H, W) and (N, C), in one pass."""
    if not rows and x.dtype == scale.dtype:
        return torch.addcmul(_each(shift), x, _each(scale))
    out = torch.empty_like(x) if out is None else out
    blocks = _blocks(x, rows), _blocks(out, rows)
    scales, shifts = (values.reshape(len(blocks[0]), -1) for values in (scale, shift))
    zero, one, unused = torch.zeros_like(scales[0]), torch.ones_like(scales[0]), scale.new_empty(0)
    for block, written, *affine in zip(*blocks, scales, shifts, strict=True):
        # In evaluation: (x - 0) / sqrt(1 + 0) * scale + shift.
        torch.ops.aten.native_batch_norm.out(
            block, *affine, zero, one, False, 0.0, 0.0,
            out=written, save_mean=unused, save_invstd=unused,
        )  # fmt: skip
    return out


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, layout, instance, batch):
        # A slice of a channels_last map is neither, and best made channels_last.
        rows = x.is_contiguous() or x.stride(1) != 1
        work = _arrange(x, rows)
        dtype = _precise(x.dtype)
        scale, shift = weight.to(dtype), bias.to(dtype)
        n, c, h, w = x.shape
        if rows:
            y, mean, rstd = torch.native_group_norm(
                work, scale, shift, n, c, h * w, c, instance.eps
            )
            variance = rstd.pow(-2).sub_(instance.eps).clamp_min_(0)
        else:
            mean, variance = _statistics(work)
        by = _normalizer(mean, variance, layout, instance, batch, h * w)
        scale = scale * by.rstd
        shift = torch.addcmul(shift, by.centre, scale, value=-1)
        if not rows:
            y = _multiply_add(work, scale, shift, rows)
        elif batch is not None:
            part = layout.bn_part
            given, rest = work[:, part], y[:, part]
            if dtype == x.dtype:
                torch.mul(given, _each(scale[0, part]), out=rest).add_(_each(shift[0, part]))
            else:
                _multiply_add(given, scale[:, part], shift[:, part], rows, out=rest)
        ctx.save_for_backward(x, weight, by.centre, by.rstd)
        ctx.settings = rows, layout if batch is not None else None, by[2:]
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, weight, centre, rstd = ctx.saved_tensors
        rows, layout, (frozen, group, count) = ctx.settings
        work, g = _arrange(x, rows), _arrange(g, rows)
        if rows and layout is None:
            return *_instance_gradients(g, work, weight, centre, rstd, ctx), None, None, None
        sums, dots = _sums(g, work, centre, rows)
        grad_weight = (dots * rstd).sum(0).to(weight.dtype)
        grad_bias = sums.sum(0).to(weight.dtype)
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, grad_bias, None, None, None
        mean, dot = (total / (x.shape[2] * x.shape[3]) for total in (sums, dots))
        if layout is not None:
            part = layout.bn_part
            if frozen:
                mean[:, part] = dot[:, part] = 0
            else:
                both = torch.stack((sums[:, part].sum(0), dots[:, part].sum(0)))
                if group is not None:
                    torch.distributed.all_reduce(both, group=group)
                mean[:, part], dot[:, part] = both / count
        # The gradient of x is a * g + b * x + c.
        a = weight.to(rstd.dtype) * rstd
        b = (a * rstd.square()).mul_(dot).neg_()
        c = (a * mean).addcmul_(b, centre).neg_()
        grad_x = _multiply_add(work, b, c, rows)
        if a.dtype == g.dtype:
            grad_x.addcmul_(g, _each(a))
        else:
            grad_x.add_(_multiply_add(g, a, torch.zeros_like(a), rows))
        return grad_x, grad_weight, grad_bias, None, None, None
