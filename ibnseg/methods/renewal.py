"""Running statistics of weights that no training has made."""

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from . import ranks
from .switching import SwitchWhiten

_NAMES = ('running_mean', 'running_var', 'running_cov')


def renew(
    model: nn.Module, photos: Iterator[dict], batches: int, step: Callable[[int, int], None]
) -> list[str]:
    """Give a segmentor the statistics of `batches` training batches; returns their keys.

    They are the plain mean over batches and processes. Those of layers in evaluation mode are left
    as they are.

    Args:
        model: a segmentor in training mode.
        photos: yields batches of the training's loader.
        step: told how many of how many are done.

    Raises ValueError for statistics that are not finite.
    """
    layers = [(name, m) for name, m in model.named_modules() if _gathers(m)]
    momenta = [layer.momentum for _, layer in layers]
    with torch.no_grad():
        for i in range(batches):
            for _, layer in layers:  # of the new value, SwitchWhiten's of the old one
                kept = i / (i + 1)
                layer.momentum = kept if isinstance(layer, SwitchWhiten) else 1 - kept
            torch.manual_seed(i)
            data = model.data_preprocessor(next(photos), training=True)
            model(**data, mode='loss')
            step(i + 1, batches)
    keys = []
    for (name, layer), momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        for one in filter(lambda one: hasattr(layer, one), _NAMES):
            found = getattr(layer, one)
            found.copy_(ranks.mean(found))
            keys.append(f'{name}.{one}')
            if not found.isfinite().all():
                raise ValueError(
                    f'{keys[-1]} is not finite after the pass. These weights do not work'
                )
    return keys


def _gathers(layer: nn.Module) -> bool:
    known = isinstance(layer, _BatchNorm | SwitchWhiten)
    return known and layer.training and layer.running_mean is not None
