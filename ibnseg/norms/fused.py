"""InstanceNorm, and InstanceNorm beside BatchNorm, without splitting or joining the map.

Whichever norm a channel has, its map becomes `(x - centre) * scale + shift`. BatchNorm's statistics
follow from the per-image ones by the law of total variance, so over ranks they take one small
all-gather, backward one small all-reduce. Saved for the backward pass is the layer's input, in its
own type; the memory layout stays.

For maps on a CPU, by the kernels of `kernels.py`. On a GPU, and where the kernels can't be had, the
layers' own modules are used.
"""

import functools
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


@functools.cache
def _kernels() -> ModuleType | None:
    """Imported when a layer first needs them: numba takes its time."""
    try:
        from . import kernels
    except ImportError:  # hubconf.py needs torch alone; torch may lack GNU OpenMP
        return None
    return kernels


class Layout(NamedTuple):
    """Which channels have which norm; `bn_part` may be empty."""

    in_part: slice
    bn_part: slice


def usable(x: Tensor, *norms: nn.Module) -> bool:
    """Whether the fast path computes what the modules would, which share the channels of x."""
    return (
        x.device.type == 'cpu'
        and x.dim() == 4
        and x.numel() > 0
        and x.dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16)
        and all(_plain(norm) for norm in norms)
        and x.shape[1] == sum(norm.num_features for norm in norms)
        and (torch.compiler.is_compiling() or (in_memory(x) and _kernels() is not None))
    )


def in_memory(x: Tensor) -> bool:
    """Whether x is numbers at an address of the CPU's: nothing that traces, exports or derives.

    Kernels are not seen by torch's tracers, and torch.func and forward-mode gradients can't enter
    them.
    """
    return (
        type(x) in (Tensor, nn.Parameter)
        and x.device.type == 'cpu'
        and not torch.jit.is_tracing()
        and not torch.jit.is_scripting()
        and not torch.onnx.is_in_onnx_export()
        and not torch._C._functorch.peek_interpreter_stack()
        and not torch._C._len_torch_dispatch_stack()
        and torch.autograd.forward_ad._current_level < 0
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
    instance: nn.InstanceNorm2d,
    batch: nn.modules.batchnorm._BatchNorm | None,
) -> Tensor:
    """Return what `instance` and `batch` make of their channels of x (N, C, H, W), as one map.

    Updates the running statistics of `batch` in training mode, as the module itself does.
    """
    if torch.compiler.is_compiling():
        return _formula(x, layout, instance, batch)
    if x.dtype == torch.float16:  # CPUs have no arithmetic for it
        return normalize(x.float(), layout, instance, batch).half()
    affine = (None, None) if batch is None else (batch.weight, batch.bias)
    return _Normalize.apply(x, instance.weight, instance.bias, *affine, layout, instance, batch)


def _group(batch: nn.Module) -> 'torch.distributed.ProcessGroup | None':
    """The ranks that a SyncBN joins its statistics over, or None."""
    if not (isinstance(batch, nn.SyncBatchNorm) and batch.training):
        return None
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    group = batch.process_group or torch.distributed.group.WORLD
    return group if torch.distributed.get_world_size(group) > 1 else None


def _over_ranks(total: Tensor, count: int, group) -> tuple[Tensor, int]:
    """Mean and variance (2, C) of all ranks' pixels, and their number, from this rank's."""
    mine = torch.cat((total.flatten(), total.new_tensor([count])))
    ranks = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size(group))]
    torch.distributed.all_gather(ranks, mine, group=group)
    ranks = torch.stack(ranks)
    means, variances = ranks[:, :-1].chunk(2, 1)
    counts = ranks[:, -1:]
    share = counts / counts.sum()
    mean = (share * means).sum(0)
    variance = (share * (variances + (means - mean).square_())).sum(0)
    return torch.stack((mean, variance)), int(counts.sum())


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


def _is_frozen(batch: nn.modules.batchnorm._BatchNorm) -> bool:
    return not batch.training and batch.running_mean is not None


def _formula(x, layout, instance, batch) -> Tensor:
    """The layer in plain operations: torch.compile fuses them and derives the gradient."""
    work = x.to(torch.promote_types(x.dtype, torch.float32))
    variance, mean = torch.var_mean(work, (2, 3), correction=0)
    rstd = (variance + instance.eps).rsqrt()
    weight, bias = instance.weight, instance.bias
    if batch is not None:
        part, pixels = layout.bn_part, x.shape[2] * x.shape[3]
        if _is_frozen(batch):
            total, spread = batch.running_mean.to(mean), batch.running_var.to(mean)
        else:
            spread, total = torch.var_mean(mean[:, part], 0, correction=0)
            spread = spread + variance[:, part].mean(0)
            count, group = len(mean) * pixels, _group(batch)
            if group is not None:
                (total, spread), count = _over_ranks(torch.stack((total, spread)), count, group)
            _track(batch, total.detach(), spread.detach(), count)
        mean = _join(layout, mean[:, layout.in_part], total.expand(len(mean), -1))
        rstd = _join(
            layout, rstd[:, layout.in_part], (spread + batch.eps).rsqrt().expand(len(mean), -1)
        )
        weight, bias = _join(layout, weight, batch.weight), _join(layout, bias, batch.bias)
    scale, shift = weight.to(work.dtype) * rstd, bias.to(work.dtype)
    y = (work - mean[..., None, None]) * scale[..., None, None] + shift[:, None, None]
    return y.to(x.dtype)


def _join(layout: Layout, of_in: Tensor, of_bn: Tensor) -> Tensor:
    """One tensor (..., C) from those of the parts, in the order of the channels."""
    return torch.cat((of_bn, of_in) if layout.bn_part.start is None else (of_in, of_bn), -1)


def _arrange(x: Tensor, rows: bool) -> Tensor:
    return x.contiguous(memory_format=torch.contiguous_format if rows else torch.channels_last)


def _numbers(x: Tensor, **parameters: Tensor) -> dict[str, Tensor]:
    """Parameters in the type that the kernels take beside maps like x."""
    number = _kernels().TYPES[x.dtype][1]
    return {k: v.to(number).contiguous() for k, v in parameters.items() if v is not None}


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, bn_weight, bn_bias, layout, instance, batch):
        # A slice of a channels_last map is neither, and best made channels_last.
        ctx.rows = x.is_contiguous() or x.stride(1) != 1
        ctx.part, ctx.live, ctx.group = layout.in_part, False, None
        ctx.count, eps, join = len(x) * x.shape[2] * x.shape[3], instance.eps, None
        total = x.new_empty((2, 0), dtype=torch.float64)
        if batch is not None:
            eps, ctx.group = batch.eps, _group(batch)
            ctx.live = not _is_frozen(batch)
            if ctx.live:
                total = x.new_empty((2, batch.num_features), dtype=torch.float64)
            else:
                total = torch.stack((batch.running_mean, batch.running_var)).double()
        if ctx.group is not None:

            def join(total: Tensor) -> None:
                joined, ctx.count = _over_ranks(total, ctx.count, ctx.group)
                total.copy_(joined)

        affine = _numbers(x, weight=weight, bias=bias, bn_weight=bn_weight, bn_bias=bn_bias)
        y, statistics = _kernels().forward(
            _arrange(x, ctx.rows), ctx.part, (instance.eps, eps), affine, total, ctx.live, join
        )
        if ctx.live:
            _track(batch, *total, ctx.count)
        ctx.save_for_backward(x, weight, bn_weight, statistics)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, weight, bn_weight, statistics = ctx.saved_tensors

        def join(total: Tensor) -> None:
            torch.distributed.all_reduce(total, group=ctx.group)

        grad_x, (scale, shift) = _kernels().backward(
            _arrange(g, ctx.rows), _arrange(x, ctx.rows), ctx.part,
            _numbers(x, weight=weight, bn_weight=bn_weight), statistics, ctx.live, ctx.count,
            ctx.needs_input_grad[0], None if ctx.group is None else join,
        )  # fmt: skip
        own = [values[ctx.part].to(weight.dtype) for values in (scale, shift)]
        if bn_weight is None:
            return grad_x, *own, *[None] * 5
        rest = slice(len(weight), None) if ctx.part.start is None else slice(ctx.part.start)
        of_bn = [values[rest].to(bn_weight.dtype) for values in (scale, shift)]
        return grad_x, *own, *of_bn, None, None, None
