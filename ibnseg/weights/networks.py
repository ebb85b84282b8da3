"""Names and state dicts -> backbone configs."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .. import _stack
from ..placement import PLACEMENTS
from ..text import meant
from .table import PUBLISHED

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
            f'{name!r} names no network{meant(name, PUBLISHED)}; expected one of '
            f'{", ".join(_TYPES)}, a depth and a placement: resnet50_ibn_a, '
            'resnext101_32x8d, densenet121'
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
    shapes = shapes_of(tensors)
    plain = _densenet(shapes) or _resnet(shapes)
    # No placement changes the number of a convolution's filters.
    if plain is None or _filters(_built(plain)) != _filters(shapes):
        return None
    placements = getattr(models().get(plain['type']), 'placements', PLACEMENTS)
    # Without a ratio first: it is each layer's own.
    for ratio in ({}, *_ratios(shapes)):
        for placement in placements:
            config = plain | dict(placement=placement) | ratio
            if _built(config) == shapes:
                return config
    return None


_Shapes = Mapping[str, tuple[int, ...]]


def shapes_of(state: Mapping[str, Tensor]) -> _Shapes:
    """Return the shapes of tensors, but for counters of batches, which older files lack."""
    counter = 'num_batches_tracked'
    return {key: tuple(t.shape) for key, t in state.items() if not key.endswith(counter)}


def _filters(shapes: _Shapes) -> dict[str, int]:
    return {key: shape[0] for key, shape in shapes.items() if len(shape) == 4}


def _built(config: Mapping[str, Any]) -> _Shapes:
    """Return the shapes of a backbone; none if no network has this config."""
    try:
        with torch.device('meta'):
            return shapes_of(models().build(dict(config)).state_dict())
    except Exception:  # a placement that this network does not know, or widths of no network
        return {}


def _ratios(shapes: _Shapes) -> list[dict[str, float]]:
    """Return the ratio that the widest IBN layer has, and the whole per cent next to it."""
    parts: dict[str, dict[str, int]] = {}
    for key, shape in shapes.items():
        if match := re.fullmatch(r'(.*\.(?:bn|norm)\d)\.(IN|BN)\.weight', key):
            parts.setdefault(match[1], {})[match[2]] = math.prod(shape)
    widest = max(parts.values(), key=lambda part: sum(part.values()), default={})
    if not sum(widest.values()):
        return []
    share = widest.get('IN', 0) / sum(widest.values())
    return [dict(ratio=round(share, 2)), dict(ratio=share)]


def _unusual(**found_and_usual: tuple[Any, Any]) -> dict[str, Any]:
    return {name: found for name, (found, usual) in found_and_usual.items() if found != usual}


def _kernel(shapes: _Shapes, key: str) -> tuple[int, ...]:
    shape = shapes.get(key, ())
    return shape if len(shape) == 4 and all(shape) else ()


def _stages(shapes: _Shapes, pattern: str) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Return how many blocks each stage has, and the arguments for fewer stages than four.

    `pattern` finds (stage) and (index) at the start of a block's keys.
    """
    blocks = {match.groups() for key in shapes if (match := re.match(pattern, key))}
    count = Counter(stage for stage, _ in sorted(blocks))
    n = len(count)
    fewer = dict(num_stages=n, strides=(1, 2, 2, 2)[:n], dilations=(1,) * n, out_indices=(n - 1,))
    return tuple(count.values()), {} if n == 4 else fewer


def _densenet(shapes: _Shapes) -> dict[str, Any] | None:
    growth = _kernel(shapes, 'features.denseblock1.denselayer1.conv2.weight')
    stem = _kernel(shapes, 'features.conv0.weight')
    if not (growth and stem):
        return None
    counts, fewer = _stages(shapes, r'features\.denseblock(\d)\.denselayer(\d+)\.')
    for depth, row in models().get('IBNDenseNet').arch_settings.items():
        if row[2][: len(counts)] == counts:
            widths = _unusual(growth=(growth[0], row[0]), stem_channels=(stem[0], row[1]))
            return dict(type='IBNDenseNet', depth=depth) | widths | fewer
    return None


def _resnet(shapes: _Shapes) -> dict[str, Any] | None:
    deep = 'stem.6.weight' in shapes
    stem = _kernel(shapes, 'stem.6.weight' if deep else 'conv1.weight')
    conv2, conv3 = (_kernel(shapes, f'layer1.0.conv{i}.weight') for i in (2, 3))
    if not (stem and conv2):
        return None
    base = conv3[0] // 4 if conv3 else conv2[0]
    # Each filter of a grouped convolution sees one group; variant c's see twice the channels.
    groups = max(1, conv2[0] // conv2[1])
    options = _unusual(
        base_channels=(base, _BASE),
        stem_channels=(stem[0], _BASE),
        deep_stem=(deep, False),
        avg_down=(any(key.endswith('.downsample.2.weight') for key in shapes), False),
    )
    if groups > 1 and (groups, conv2[1]) != (32, 4):
        options |= dict(groups=groups, base_width=conv2[1] * _BASE // max(base, 1))
    squeezed = any('.se.fc.' in key for key in shapes)
    kind = f'IBN{"SE" if squeezed else ""}{"ResNeXt" if groups > 1 else "ResNet"}'
    counts, fewer = _stages(shapes, r'layer(\d)\.(\d+)\.')
    for depth, (block, blocks) in models().get(kind).arch_settings.items():
        if (block.expansion == 4) == bool(conv3) and blocks[: len(counts)] == counts:
            return dict(type=kind, depth=depth) | options | fewer
    return None
