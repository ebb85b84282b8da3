"""DenseNets whose norms are sites of a placement."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from mmseg.registry import MODELS
from torch import Tensor

from ..blocks import DenseNetwork
from ..placement import Put, install
from .base import IBNBackbone


@MODELS.register_module()
class IBNDenseNet(DenseNetwork, IBNBackbone, BaseModule):
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
        norm_cfg, norm_eval, init_cfg: as those of MMSeg's `ResNet`.
        with_cp: compute the dense layers anew in the backward pass, which saves memory; running
            statistics move once a step.
        placement: a name in `ibnseg.placement.DENSENET_PLACEMENTS`, or a list of Puts; sites are
            `stem`, `norm1`, `norm2` (of the dense layers) and `every_norm`.
        ratio: share of InstanceNorm in IBN layers; None for each layer's default.

    Raises:
        ValueError: as `IBNResNet`; unknown depth, or strides, dilations and out_indices that do
            not go with num_stages.

    Sources: Huang et al., CVPR 2017; Pan et al., "Two at Once", ECCV 2018.
    """

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
        placement: str | Sequence[str | Put | Mapping[str, Any]] = 'bn',
        ratio: float | None = None,
        init_cfg: Any = None,
    ):
        if init_cfg is None:
            init_cfg = [
                dict(type='Kaiming', layer='Conv2d'),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
            ]
        super().__init__(init_cfg)
        _check(num_stages, strides, dilations, out_indices)
        self.depth, self.out_indices = depth, out_indices
        self.frozen_stages, self.norm_eval, self.norm_cfg = frozen_stages, norm_eval, norm_cfg
        widths = dict(in_channels=in_channels, channels=stem_channels, growth=growth)
        form = dict(strides=strides, dilations=dilations, with_cp=with_cp)
        self._build_features(depth, self._build_norm, **widths, **form)
        install(self, placement, ratio=ratio, norm=self._build_norm)
        self._freeze_stages()

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
        if self.frozen_stages < 0:
            return
        last = {0: 'pool0', 4: 'norm5'}.get(self.frozen_stages, f'denseblock{self.frozen_stages}')
        for name, module in self.features.named_children():
            module.eval().requires_grad_(False)
            if name == last:
                break

    def train(self, mode: bool = True) -> 'IBNDenseNet':
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def _check(num_stages: int, strides: Sequence, dilations: Sequence, out_indices: Sequence) -> None:
    if num_stages not in (1, 2, 3, 4):
        raise ValueError(f'num_stages is {num_stages!r}; expected 1, 2, 3 or 4')
    for name, values in (('strides', strides), ('dilations', dilations)):
        if len(values) != num_stages:
            raise ValueError(f'{name} are {values!r}; expected one for each of {num_stages} stages')
    if strides[0] != 1:
        raise ValueError(f'strides are {strides!r}; no transition leads into stage 1: expected 1')
    if not out_indices or not set(out_indices) <= set(range(num_stages)):
        raise ValueError(f'out_indices are {out_indices!r}; expected some of 0..{num_stages - 1}')
