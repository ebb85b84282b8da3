"""Names and state dicts -> backbone configs."""

import functools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from .. import _stack
from ..placement import PLACEMENTS

_TYPES = {
    'resnet': 'IBNResNet',
    'resnext': 'IBNResNeXt',
    'se_resnet': 'IBNSEResNet',
    'se_resnext': 'IBNSEResNeXt',
    'densenet': 'IBNDenseNet',
}
_BASE = 64  # channels of the stem and of the first stage, unless a config says otherwise


def models() -> Any:
    """Return the registry of backbones; only this needs the MM packages."""
    from mmseg.registry import MODELS

    return MODELS


def network(name: str) -> dict[str, Any]:
    """Return the config of a backbone by its name: `resnet50_ibn_a`, `resnext101_32x8d`.

    Any depth and any placement of the family can be named, published or not. Raises ValueError
    for other names; an unknown depth or placement raises when the config is built.
    """
    form = rf'({"|".join(_TYPES)})(\d+)(?:_(\d+)x(\d+)d)?(?:_(\w.*))?'
    match = re.fullmatch(form, name)
    if match is None or (match[3] and 'resnext' not in match[1]):
        raise ValueError(
            f'{name!r} names no network; expected one of {", ".join(_TYPES)}, a depth and a '
            'placement: resnet50_ibn_a, resnext101_32x8d, densenet121'
        )
    config = dict(type=_TYPES[match[1]], depth=int(match[2]), placement=match[5] or 'bn')
    if match[3] and (match[3], match[4]) != ('32', '4'):
        config |= dict(groups=int(match[3]), base_width=int(match[4]))
    return config


def spell(config: Mapping[str, Any]) -> str:
    """Return a config in one line: `IBNResNet(depth=50, placement='ibn_a')`."""
    options = ', '.join(f'{key}={value!r}' for key, value in config.items() if key != 'type')
    return f'{config["type"]}({options})'


def guess(tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Return the config of the backbone that tensors of the original's names fit exactly.

    None where no network of the family has just these keys and shapes, or none can be built for
    lack of the MM packages. Strides and dilations leave no trace in them.
    """
    if _stack.absent():
        return None
    shapes = _shapes(tensors)
    return next((config for config in _candidates(shapes) if _built(config) == shapes), None)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Older files have no counters of batches, so they are left out."""
    return {
        key: tuple(tensor.shape)
        for key, tensor in state.items()
        if not key.endswith('num_batches_tracked')
    }


def _built(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]] | None:
    """Return the shapes of a backbone; None if there is none for the config."""
    return _remembered(tuple(config.items()))


@functools.lru_cache(maxsize=64)
def _remembered(config: tuple[tuple[str, Any], ...]) -> dict[str, tuple[int, ...]] | None:
    try:
        with torch.device('meta'):
            return _shapes(models().build(dict(config)).state_dict())
    except Exception:  # a placement that this network does not know, or widths of no network
        return None


_Shapes = Mapping[str, tuple[int, ...]]


def _candidates(shapes: _Shapes) -> Iterator[dict[str, Any]]:
    """Yield the configs whose depth and widths agree with some of the shapes."""
    for config in (*_resnets(shapes), *_densenets(shapes)):
        if _convolutions(_built(config) or {}) != _convolutions(shapes):
            continue  # no placement will mend it
        placements = getattr(models().get(config['type']), 'placements', PLACEMENTS)
        # Without a ratio first: it is each layer's own.
        for ratio in ({}, *({'ratio': share} for share in _ratios(shapes))):
            for placement in placements:
                yield config | dict(placement=placement) | ratio


def _convolutions(shapes: _Shapes) -> dict[str, int]:
    """Return the number of filters of each convolution; no placement changes it."""
    return {key: shape[0] for key, shape in shapes.items() if len(shape) == 4}


def _ratios(shapes: _Shapes) -> list[float]:
    """Return the ratios, in whole per cent, that may have made the IBN layers."""
    shares = {}
    for key, shape in shapes.items():
        if match := re.fullmatch(r'(.*\.(?:bn|norm)\d)\.(IN|BN)\.weight', key):
            shares.setdefault(match[1], {})[match[2]] = math.prod(shape)
    pairs = {(found.get('IN', 0), sum(found.values())) for found in shares.values()}
    per_cent = (i / 100 for i in range(101)) if pairs else ()
    return [
        ratio
        for ratio in per_cent
        if all(part in (int(n * ratio), n - int(n * (1 - ratio))) for part, n in pairs)
    ]


def _lengths(shapes: _Shapes, pattern: str) -> list[int]:
    """Return how many blocks each stage has, by a pattern of (stage) and (index)."""
    found: dict[int, set[str]] = {}
    for key in shapes:
        if match := re.match(pattern, key):
            found.setdefault(int(match[1]), set()).add(match[2])
    return [len(found[stage]) for stage in sorted(found)]


def _stages(stages: int) -> dict[str, Any]:
    if stages == 4:
        return {}
    return dict(
        num_stages=stages,
        strides=(1, 2, 2, 2)[:stages],
        dilations=(1,) * stages,
        out_indices=(stages - 1,),
    )


def _kernel(shapes: _Shapes, key: str) -> tuple[int, ...]:
    """Return the shape of a convolution's weight, empty if there is none."""
    shape = shapes.get(key, ())
    return shape if len(shape) == 4 and all(shape) else ()


def _densenets(shapes: _Shapes) -> Iterator[dict[str, Any]]:
    lengths = _lengths(shapes, r'features\.denseblock(\d)\.denselayer(\d+)\.')
    growth = _kernel(shapes, 'features.denseblock1.denselayer1.conv2.weight')
    stem = _kernel(shapes, 'features.conv0.weight')
    if not (growth and stem):
        return
    for depth, (own_growth, own_stem, layers) in models().get('IBNDenseNet').arch_settings.items():
        if lengths == list(layers[: len(lengths)]):
            config = dict(type='IBNDenseNet', depth=depth)
            config |= {} if growth[0] == own_growth else dict(growth=growth[0])
            config |= {} if stem[0] == own_stem else dict(stem_channels=stem[0])
            yield config | _stages(len(lengths))


def _resnets(shapes: _Shapes) -> Iterator[dict[str, Any]]:
    lengths = _lengths(shapes, r'layer(\d)\.(\d+)\.')
    deep = 'stem.6.weight' in shapes
    stem = _kernel(shapes, 'stem.6.weight' if deep else 'conv1.weight')
    conv2, conv3 = (_kernel(shapes, f'layer1.0.conv{i}.weight') for i in (2, 3))
    if not (stem and conv2):
        return
    base = conv3[0] // 4 if conv3 else conv2[0]
    # Each filter of a grouped convolution sees one group; variant c's see twice the channels.
    groups = max(1, conv2[0] // conv2[1])
    options: dict[str, Any] = {}
    if groups > 1 and (groups, conv2[1]) != (32, 4):
        options |= dict(groups=groups, base_width=conv2[1] * _BASE // base)
    if base != _BASE:
        options |= dict(base_channels=base)
    if stem[0] != _BASE:
        options |= dict(stem_channels=stem[0])
    if deep:
        options |= dict(deep_stem=True)
    if any(key.endswith('.downsample.2.weight') for key in shapes):
        options |= dict(avg_down=True)
    squeezed = any('.se.fc.' in key for key in shapes)
    kind = f'IBN{"SE" if squeezed else ""}{"ResNeXt" if groups > 1 else "ResNet"}'
    for depth, (block, counts) in models().get(kind).arch_settings.items():
        if (block.expansion == 4) == bool(conv3) and lengths == list(counts[: len(lengths)]):
            yield dict(type=kind, depth=depth) | options | _stages(len(lengths))
