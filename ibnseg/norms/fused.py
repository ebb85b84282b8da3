"""InstanceNorm, and InstanceNorm beside BatchNorm, in one pass over the map each way.

A map is normalised as `d * scale + shift`, with `d` the map less its mean and one scale and shift
an image and channel, whichever norm the channel has: nothing is split, copied apart or
concatenated, and the memory layout stays. BatchNorm's statistics follow from the per-image ones
by the law of total variance, so over ranks they take two small all-reduces, backward one.

For CPU tensors; on a GPU the native kernels of the parts are used.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Layout(NamedTuple):
    """Which channels have which norm; `bn_part` may be empty."""

    in_part: slice
    bn_part: slice


def usable(x: Tensor, *norms: nn.Module) -> bool:
    """Whether the fast path computes what the modules would: a plain 4-d map on a CPU, eager."""
    return (
        not torch.jit.is_tracing()
        and x.device.type == 'cpu'
        and x.dim() == 4
        and x.numel() > 0
        and x.dtype in (torch.float32, torch.float64, torch.bfloat16)
        and all(_plain(norm) for norm in norms)
        and not torch.jit.is_scripting()
        and not torch.compiler.is_compiling()
        and not torch.onnx.is_in_onnx_export()
        and not torch._C._functorch.peek_interpreter_stack()
    )


def _plain(norm: nn.Module) -> bool:
    """Nothing but the statistics, scale and shift: no hooks, no forward of a stranger's."""
    hooked = norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks
    known = isinstance(norm, nn.InstanceNorm2d) or type(norm).forward in (
        nn.BatchNorm2d.forward,
        nn.SyncBatchNorm.forward,
    )
    return known and norm.affine and not hooked


def normalize(
    x: Tensor,
    layout: Layout,
    instance: nn.InstanceNorm2d | None,
    batch: nn.modules.batchnorm._BatchNorm | None,
) -> Tensor:
    """Return what `instance` and `batch` make of their channels of x (N, C, H, W), as one map.

    Updates the running statistics of `batch` in training mode, as the module itself does.
    """
    channels = x.shape[1]
    work = x.float() if x.dtype == torch.bfloat16 else x
    frozen = batch is not None and not batch.training and batch.running_mean is not None
    weight, bias = _affine(layout, instance, batch, channels)
    if torch.is_grad_enabled() and (work.requires_grad or weight.requires_grad):
        group = _group(batch)
        y = _Normalize.apply(work, weight, bias, layout, instance, batch, frozen, group)
    else:
        y = _infer(work, weight, bias, layout, instance, batch, frozen)
    return y.to(x.dtype)


def _affine(layout, instance, batch, channels) -> tuple[Tensor, Tensor]:
    """Join the parts' scale and shift in the order of the channels."""
    parts = sorted(
        (part.indices(channels)[0], norm)
        for part, norm in ((layout.in_part, instance), (layout.bn_part, batch))
        if norm is not None
    )
    weights, biases = zip(*((norm.weight, norm.bias) for _, norm in parts), strict=True)
    return (weights[0], biases[0]) if len(parts) == 1 else (torch.cat(weights), torch.cat(biases))


def _group(batch) -> 'torch.distributed.ProcessGroup | None':
    """The ranks that a SyncBN joins its statistics over, or None."""
    if not (isinstance(batch, nn.SyncBatchNorm) and batch.training):
        return None
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    group = batch.process_group or torch.distributed.group.WORLD
    return group if torch.distributed.get_world_size(group) > 1 else None


def _sum(x: Tensor) -> Tensor:
    return x.sum((2, 3))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum of products an image and channel: (N, C)."""
    return (a * b).sum((2, 3))


def _centre(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return d = x - mean (N, C, H, W), mean and biased variance (N, C).

    The variance is that of d: E[x^2] - E[x]^2 would cancel where the mean is large.
    """
    pixels = x.shape[2] * x.shape[3]
    mean = _sum(x) / pixels
    d = x - mean[..., None, None]
    if d.is_contiguous():
        variance = torch.linalg.vector_norm(d, 2, (2, 3)).square_() / pixels
    else:
        variance = _dot(d, d) / pixels
    return d, mean, variance


def _total(mean: Tensor, variance: Tensor, pixels: int, group) -> tuple[Tensor, Tensor, int]:
    """Statistics (C,) over all images from theirs (N, C), and over the ranks of `group`."""
    count = mean.shape[0] * pixels
    if group is None:
        total = mean.mean(0)
        return total, variance.mean(0) + (mean - total).square().mean(0), count
    row = torch.cat((mean.sum(0) * pixels, mean.new_tensor([count])))
    torch.distributed.all_reduce(row, group=group)
    count = int(row[-1])
    total = row[:-1] / count
    spread = (variance.sum(0) + (mean - total).square().sum(0)) * pixels
    torch.distributed.all_reduce(spread, group=group)
    return total, spread / count, count


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


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, layout, instance, batch, frozen, group):
        d, mean, variance = _centre(x)
        pixels = x.shape[2] * x.shape[3]
        rstd = torch.empty_like(mean)
        # How far the mean that a channel is normalised by lies from the image's own.
        offset = torch.zeros_like(mean)
        count = 0
        if instance is not None:
            rstd[:, layout.in_part] = (variance[:, layout.in_part] + instance.eps).rsqrt()
        if batch is not None:
            part = layout.bn_part
            if frozen:
                total, spread = batch.running_mean.to(x), batch.running_var.to(x)
            else:
                total, spread, count = _total(mean[:, part], variance[:, part], pixels, group)
                _check(count)
                _track(batch, total, spread, count)
            rstd[:, part] = (spread + batch.eps).rsqrt()
            offset[:, part] = mean[:, part] - total
        scale = weight * rstd
        shift = offset * scale + bias
        ctx.save_for_backward(d, rstd, offset, weight)
        ctx.settings = layout, instance is not None, batch is not None, frozen, group, count
        return torch.addcmul(shift[..., None, None], d, scale[..., None, None])

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        d, rstd, offset, weight = ctx.saved_tensors
        layout, has_in, has_bn, frozen, group, count = ctx.settings
        pixels = d.shape[2] * d.shape[3]
        g_sum, g_dot = _sum(g), _dot(g, d)
        # Gradient of x: a * g + b * d + c.
        a = weight * rstd
        b, c = torch.zeros_like(a), torch.zeros_like(a)
        if has_in:
            part = layout.in_part
            b[:, part] = -a[:, part] * rstd[:, part].square() * g_dot[:, part] / pixels
            c[:, part] = -a[:, part] * g_sum[:, part] / pixels
        # Sum of g * (x - mean normalised by), an image and channel.
        g_dot_all = torch.addcmul(g_dot, offset, g_sum)
        if has_bn and not frozen:
            part = layout.bn_part
            sums = torch.stack((g_sum[:, part].sum(0), g_dot_all[:, part].sum(0)))
            if group is not None:
                torch.distributed.all_reduce(sums, group=group)
            b[:, part] = -a[:, part] * rstd[:, part].square() * sums[1] / count
            c[:, part] = -a[:, part] * sums[0] / count + b[:, part] * offset[:, part]
        grad_weight = (rstd * g_dot_all).sum(0) if ctx.needs_input_grad[1] else None
        grad_bias = g_sum.sum(0) if ctx.needs_input_grad[2] else None
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.addcmul(c[..., None, None], d, b[..., None, None])
            grad_x.addcmul_(g, a[..., None, None])
        return grad_x, grad_weight, grad_bias, *[None] * 5


def _check(count: int) -> None:
    if count == 1:
        raise ValueError('BatchNorm in training needs more than one value a channel, got one')


def _infer(x, weight, bias, layout, instance, batch, frozen) -> Tensor:
    """Without gradients: only what is needed of the statistics, two reads and one write."""
    if batch is not None and not frozen:
        return _Normalize.apply(x, weight, bias, layout, instance, batch, frozen, _group(batch))
    scale = x.new_empty(x.shape[:2])
    mean = torch.empty_like(scale)
    if instance is not None:
        part = layout.in_part
        _, mean[:, part], variance = _centre(x[:, part])
        scale[:, part] = (variance + instance.eps).rsqrt()
    if batch is not None:
        mean[:, layout.bn_part] = batch.running_mean
        scale[:, layout.bn_part] = (batch.running_var.to(x) + batch.eps).rsqrt()
    scale *= weight
    shift = bias - mean * scale
    return torch.addcmul(shift[..., None, None], x, scale[..., None, None])
