"""Residual networks whose norms and adds are sites of a placement: ResNet, ResNeXt, with SE."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmseg.models.backbones.resnet import BasicBlock, Bottleneck, ResNet
from mmseg.models.backbones.resnext import Bottleneck as NeXtBottleneck
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..blocks import ResidualBlock, ResidualNetwork
from ..placement import Put, install
from .base import IBNBackbone


class IBNBasicBlock(ResidualBlock, BasicBlock):
    """MMSeg's BasicBlock with the site `after_add`."""


class IBNBottleneck(ResidualBlock, Bottleneck):
    """MMSeg's Bottleneck with the site `after_add`."""


class IBNNeXtBottleneck(ResidualBlock, NeXtBottleneck):
    """MMSeg's ResNeXt block with the site `after_add`."""


@MODELS.register_module()
class IBNResNet(ResidualNetwork, IBNBackbone, ResNet):
    """ResNet 18/34/50/101/152 with normalisation layers placed by `placement`.

    Takes every argument of MMSeg's `ResNet`. With `with_cp`, running statistics move once a step;
    those of MMSeg's move twice. State-dict keys are those of the original IBN-Net
    release without `fc`; `init_cfg=dict(type='Pretrained', checkpoint=...)` reads the release's
    files and plain ImageNet weights alike (`ibnseg.weights.load_weights`).

    Args:
        depth: 18, 34, 50, 101 or 152.
        placement: a name in `ibnseg.placement.PLACEMENTS` or `METHODS`, or a list of names and
            Puts (as dicts in a config), which add up.
        ratio: share of InstanceNorm in IBN layers; None for each layer's default (0.5).

    Raises:
        ValueError: unknown placement or site, a Put that matches nothing, ratio outside [0, 1].

    Source: Pan et al., "Two at Once", ECCV 2018.
    """

    arch_settings = {
        depth: (IBNBasicBlock if block is BasicBlock else IBNBottleneck, blocks)
        for depth, (block, blocks) in ResNet.arch_settings.items()
    }
    squeeze_excite = False

    def __init__(
        self,
        depth: int,
        *args: Any,
        placement: str | Sequence[str | Put | Mapping[str, Any]] = 'bn',
        ratio: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(depth, *args, **kwargs)
        default_init = kwargs.get('init_cfg') is None and kwargs.get('pretrained') is None
        if self.zero_init_residual and default_init:
            # MMSeg compares with its own block classes and so would skip ours.
            last = 'norm2' if issubclass(self.block, BasicBlock) else 'norm3'
            for block in self.modules():
                if isinstance(block, ResidualBlock):
                    block.init_cfg = dict(type='Constant', val=0, override=dict(name=last))
        if self.squeeze_excite:
            self.add_squeeze_excite()
        install(self, placement, ratio=ratio, norm=self._build_norm)
        self._freeze_stages()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x, outs = self.through_stem(x), []
        for i, name in enumerate(self.res_layers):
            x = getattr(self, name)(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)


@MODELS.register_module()
class IBNResNeXt(IBNResNet):
    """ResNeXt 50/101/152, 32x4d unless `groups` and `base_width` say otherwise.

    All else as `IBNResNet`. Source: Xie et al., CVPR 2017; Pan et al., ECCV 2018.
    """

    arch_settings = {
        depth: (IBNNeXtBottleneck, blocks)
        for depth, (block, blocks) in ResNet.arch_settings.items()
        if block is Bottleneck
    }

    def __init__(self, depth: int, groups: int = 32, base_width: int = 4, **kwargs: Any):
        self.groups, self.base_width = groups, base_width
        super().__init__(depth, **kwargs)

    def make_res_layer(self, **kwargs: Any) -> nn.Module:
        widths = dict(base_width=self.base_width, base_channels=self.base_channels)
        return super().make_res_layer(groups=self.groups, **widths, **kwargs)


@MODELS.register_module()
class IBNSEResNet(IBNResNet):
    """SE-ResNet 18/34/50/101/152 (Hu et al., CVPR 2018); all else as `IBNResNet`."""

    squeeze_excite = True


@MODELS.register_module()
class IBNSEResNeXt(IBNResNeXt):
    """SE-ResNeXt 50/101/152 32x4d; all else as `IBNResNeXt`."""

    squeeze_excite = True
