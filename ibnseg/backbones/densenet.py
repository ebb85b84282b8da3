"""DenseNets whose norms are sites of a placement."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
import torch.utils.checkpoint as cp
from mmengine.model import BaseModule
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..placement import DENSENET_PLACEMENTS, Put, Site, install, setter
from .base import IBNBackbone

Norm = Callable[[int], nn.Module]


class DenseLayer(nn.Module):
    """norm1, ReLU, 1x1 to 4 `growth`; norm2, ReLU, 3x3 to `growth`.

    Maps all maps so far, a list of (N, C_i, H, W), to the next `growth` channels. With `with_cp`
    their concatenation and all after it is computed anew in the backward pass: memory then grows
    linearly with the layers of a block, not with their square.
    """

    def __init__(self, channels: int, growth: int, dilation: int, norm: Norm, with_cp: bool):
        super().__init__()
        self.norm1 = norm(channels)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.norm2 = norm(4 * growth)
        self.conv2 = nn.Conv2d(
            4 * growth, growth, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.relu = nn.ReLU(inplace=True)
        self.with_cp = with_cp

    def forward(self, maps: list[Tensor]) -> Tensor:
        if self.with_cp and any(x.requires_grad for x in maps):
            return cp.checkpoint(self._new, *maps, use_reentrant=False)
        return self._new(*maps)

    def _new(self, *maps: Tensor) -> Tensor:
        x = self.conv1(self.relu(self.norm1(torch.cat(maps, 1))))
        return self.conv2(self.relu(self.norm2(x)))


class DenseBlock(nn.ModuleDict):
    """Dense layers by name; gives the input and all their outputs, concatenated."""

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self.values():
            maps.append(layer(maps))
        return torch.cat(maps, 1)


def _transition(channels: int, stride: int, norm: Norm) -> nn.Sequential:
    pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
    conv = nn.Conv2d(channels, channels // 2, 1, bias=False)
    layers = dict(norm=norm(channels), relu=nn.ReLU(inplace=True), conv=conv, pool=pool)
    return nn.Sequential(OrderedDict(layers))


@MODELS.register_module()
class IBNDenseNet(IBNBackbone, BaseModule):
    """DenseNet 121/161/169/201 with normalisation layers placed by `placement`.

    Stages are the dense blocks. `forward` gives a tuple of maps, one for each of `out_indices`:
    for 0 to 2 the output of denseblock 1 to 3 before its transition, unrectified as the
    transition's norm gets it; for 3 that of denseblock 4 after `norm5` and ReLU, as the original's
    classifier gets it. Their channels are `out_channels` (256, 512, 1024, 1024 at depth 121).

    State-dict keys are those of the original IBN-Net release (and torchvision), `features.*`,
    without `classifier`; `init_cfg=dict(type='Pretrained', ...)` reads both.

    Args:
        depth: 121, 161, 169 or 201.
        in_channels: of the image.
        stem_channels, growth: width; None for the depth's own.
        num_stages: how many dense blocks are built, 1 to 4; `norm5` belongs to the fourth.
        strides: of the transition into each stage, an average pool that is left out at 1; the
            first, which has none, is 1. (1, 2, 2, 1) gives output stride 16, (1, 2, 1, 1) 8.
        dilations: of the 3x3 convolutions of each stage; (1, 1, 1, 2) and (1, 1, 2, 4) go with
            the above.
        out_indices: stages, from 0, whose maps are given.
        frozen_stages: the stem (0) and stages up to this one, each with the transition into it,
            are not trained and keep their statistics; -1 for none.
        norm_cfg, norm_eval, with_cp, init_cfg: as those of MMSeg's `ResNet`.
        placement: a name in `ibnseg.placement.DENSENET_PLACEMENTS`, or a list of Puts; sites are
            `stem`, `norm1`, `norm2` (of the dense layers) and `every_norm`.
        ratio: share of InstanceNorm in IBN layers; None for each layer's default.

    Raises:
        ValueError: as `IBNResNet`; unknown depth, or strides, dilations and out_indices that do
            not go with num_stages.

    Sources: Huang et al., CVPR 2017; Pan et al., "Two at Once", ECCV 2018.
    """

    #: depth -> growth, stem channels, dense layers of each block.
    arch_settings = {
        121: (32, 64, (6, 12, 24, 16)),
        161: (48, 96, (6, 12, 36, 24)),
        169: (32, 64, (6, 12, 32, 32)),
        201: (32, 64, (6, 12, 48, 32)),
    }
    placements = DENSENET_PLACEMENTS

    def __init__(
        self,
        depth: int,
        in_channels: int = 3,
        stem_channels: int | None = None,
        growth: int | None = None,
        num_stages: int = 4,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_cfg: Mapping[str, Any] = dict(type='BN', requires_grad=True),
        norm_eval: bool = False,
        with_cp: bool = False,
        placement: str | Sequence[Put | Mapping[str, Any]] = 'bn',
        ratio: float | None = None,
        init_cfg: Any = None,
    ):
        if init_cfg is None:
            init_cfg = [
                dict(type='Kaiming', layer='Conv2d'),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
            ]
        super().__init__(init_cfg)
        _check(self.arch_settings, depth, num_stages, strides, dilations, out_indices)
        self.depth, self.num_stages, self.out_indices = depth, num_stages, out_indices
        self.frozen_stages, self.norm_eval, self.norm_cfg = frozen_stages, norm_eval, norm_cfg
        own_growth, own_stem, layers = self.arch_settings[depth]
        growth, channels = growth or own_growth, stem_channels or own_stem

        self.features = nn.Sequential(
            OrderedDict(
                conv0=nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False),
                norm0=self._build_norm(channels),
                relu0=nn.ReLU(inplace=True),
                pool0=nn.MaxPool2d(3, stride=2, padding=1),
            )
        )
        self.out_channels = []
        for stage in range(1, num_stages + 1):
            if stage > 1:
                transition = _transition(channels, strides[stage - 1], self._build_norm)
                self.features.add_module(f'transition{stage - 1}', transition)
                channels //= 2
            block = DenseBlock()
            for i in range(1, layers[stage - 1] + 1):
                block[f'denselayer{i}'] = DenseLayer(
                    channels, growth, dilations[stage - 1], self._build_norm, with_cp
                )
                channels += growth
            self.features.add_module(f'denseblock{stage}', block)
            self.out_channels.append(channels)
        if num_stages == 4:
            self.features.add_module('norm5', self._build_norm(channels))
        install(self, placement, ratio=ratio, norm=self._build_norm)
        self._freeze_stages()

    def sites(self) -> Iterator[Site]:
        """Yield the places of this network where a layer can stand."""
        features = self.features
        yield Site('stem', 'stem', features.conv0.out_channels, setter(features, 'norm0'))
        for stage in range(1, self.num_stages + 1):
            if stage > 1:
                name = f'transition{stage - 1}'
                transition = features.get_submodule(name)
                yield _before(transition.conv, 'norm', f'{name}.norm', setter(transition, 'norm'))
            block = features.get_submodule(f'denseblock{stage}')
            for i, (name, layer) in enumerate(block.items()):
                place = dict(stage=stage, block=i, blocks=len(block))
                for at, conv in (('norm1', layer.conv1), ('norm2', layer.conv2)):
                    path = f'denseblock{stage}.{name}.{at}'
                    yield _before(conv, at, path, setter(layer, at), **place)
        if self.num_stages == 4:
            yield Site('norm', 'norm5', self.out_channels[-1], setter(features, 'norm5'))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outs = []
        for name, module in self.features.named_children():
            x = module(x)
            if name == 'norm5':
                x = F.relu(x)
            if name == 'norm5' or (name.startswith('denseblock') and name != 'denseblock4'):
                outs.append(x)
        return tuple(outs[i] for i in sorted(self.out_indices))

    def _freeze_stages(self) -> None:
        frozen = {'conv0', 'norm0'} if self.frozen_stages >= 0 else set()
        for stage in range(1, self.frozen_stages + 1):
            frozen |= {f'transition{stage - 1}', f'denseblock{stage}'}
        if self.frozen_stages == 4:
            frozen.add('norm5')
        for name, module in self.features.named_children():
            if name in frozen:
                module.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> 'IBNDenseNet':
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def _before(
    conv: nn.Conv2d, at: str, name: str, put: Callable[[nn.Module], None], **place: int
) -> Site:
    return Site(at, name, conv.in_channels, put, feeds=conv, **place)


def _check(
    settings: Mapping[int, Any],
    depth: int,
    num_stages: int,
    strides: Sequence[int],
    dilations: Sequence[int],
    out_indices: Sequence[int],
) -> None:
    if depth not in settings:
        raise ValueError(f'depth is {depth!r}; choose from {tuple(settings)}')
    if num_stages not in (1, 2, 3, 4):
        raise ValueError(f'num_stages is {num_stages!r}; expected 1, 2, 3 or 4')
    for name, values in (('strides', strides), ('dilations', dilations)):
        if len(values) != num_stages:
            raise ValueError(f'{name} are {values!r}; expected one for each of {num_stages} stages')
    if strides[0] != 1:
        raise ValueError(f'strides are {strides!r}; no transition leads into stage 1: expected 1')
    if not out_indices or not set(out_indices) <= set(range(num_stages)):
        raise ValueError(f'out_indices are {out_indices!r}; expected some of 0..{num_stages - 1}')
