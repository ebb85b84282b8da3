"""Residual networks whose norms and adds are sites of a placement: ResNet, ResNeXt, with SE."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch.utils.checkpoint as cp
from mmseg.models.backbones.resnet import BasicBlock, Bottleneck, ResNet
from mmseg.models.backbones.resnext import Bottleneck as NeXtBottleneck
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..placement import Put, Site, install, setter
from .base import IBNBackbone


class _Sites:
    """A residual block that knows its sites, one of them between the add and the last ReLU.

    MMSeg's blocks fix that order inside `forward`, so it is written anew here; all else is theirs.
    """

    after_add_name: str | None = None

    def sites(self, path: str, **place: int) -> Iterator[Site]:
        """Yield the sites of this block; `place` is its stage, index and their number."""
        convs = [getattr(self, name) for name in ('conv1', 'conv2', 'conv3') if hasattr(self, name)]
        for i, (conv, following) in enumerate(zip(convs, [*convs[1:], None], strict=True), 1):
            plugged = getattr(self, f'after_conv{i}_plugin_names', ())
            yield Site(
                f'norm{i}',
                f'{path}.norm{i}',
                conv.out_channels,
                setter(self, getattr(self, f'norm{i}_name')),
                feeds=None if plugged else following,
                **place,
            )
        if self.downsample is not None:
            conv, norm = len(self.downsample) - 2, str(len(self.downsample) - 1)
            channels = self.downsample[conv].out_channels
            put = setter(self.downsample, norm)
            yield Site('norm', f'{path}.downsample.{norm}', channels, put, **place)
        channels = convs[-1].out_channels
        yield Site('after_add', f'{path}.after_add', channels, self.put_after_add, **place)

    def put_after_add(self, layer: nn.Module) -> None:
        if self.after_add_name is not None:
            raise ValueError(f'two layers at one after_add site: {self.after_add_name}, {layer}')
        self.after_add_name = layer.abbr
        self.add_module(layer.abbr, layer)

    def forward(self, x: Tensor) -> Tensor:
        # The identity stays outside the in-place add: with_cp needs `x` as it was.
        if self.with_cp and x.requires_grad:
            out = cp.checkpoint(self._sum, x, use_reentrant=False)
        else:
            out = self._sum(x)
        return self.relu(out)

    def _sum(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.residual(x)
        out += identity
        if self.after_add_name is not None:
            out = getattr(self, self.after_add_name)(out)
        return out


class IBNBasicBlock(_Sites, BasicBlock):
    """MMSeg's BasicBlock with the site `after_add`."""

    def residual(self, x: Tensor) -> Tensor:
        out = self.relu(self.norm1(self.conv1(x)))
        return self.norm2(self.conv2(out))


class IBNBottleneck(_Sites, Bottleneck):
    """MMSeg's Bottleneck with the site `after_add`; plugins stand where MMSeg puts them."""

    def residual(self, x: Tensor) -> Tensor:
        out = self._plug(self.relu(self.norm1(self.conv1(x))), 1)
        out = self._plug(self.relu(self.norm2(self.conv2(out))), 2)
        return self._plug(self.norm3(self.conv3(out)), 3)

    def _plug(self, x: Tensor, conv: int) -> Tensor:
        if not self.with_plugins:
            return x
        return self.forward_plugin(x, getattr(self, f'after_conv{conv}_plugin_names'))


class IBNNeXtBottleneck(IBNBottleneck, NeXtBottleneck):
    """MMSeg's ResNeXt block with its sites."""


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate that sees all channels' means (Hu et al., CVPR 2018).

    Maps (N, C, H, W) to the same shape. Two linear layers without bias, as in the original
    IBN-Net release: `fc.0`, `fc.2`.
    """

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        hidden = max(1, channels // reduction)
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class _SE:
    """Mixed into a block: squeeze-and-excite after its last norm, before the add."""

    def __init__(self, inplanes: int, planes: int, **kwargs: Any):
        super().__init__(inplanes, planes, **kwargs)
        self.se = SqueezeExcite(planes * self.expansion)

    def residual(self, x: Tensor) -> Tensor:
        return self.se(super().residual(x))


class IBNSEBasicBlock(_SE, IBNBasicBlock):
    pass


class IBNSEBottleneck(_SE, IBNBottleneck):
    pass


class IBNSENeXtBottleneck(_SE, IBNNeXtBottleneck):
    pass


def _settings(basic: type | None, bottleneck: type) -> dict[int, tuple[type, tuple[int, ...]]]:
    """MMSeg's depths with blocks of ours; `basic` None leaves out the depths that use it."""
    ours = {BasicBlock: basic, Bottleneck: bottleneck}
    settings = {depth: (ours[block], n) for depth, (block, n) in ResNet.arch_settings.items()}
    return {depth: (block, n) for depth, (block, n) in settings.items() if block is not None}


@MODELS.register_module()
class IBNResNet(IBNBackbone, ResNet):
    """ResNet 18/34/50/101/152 with normalisation layers placed by `placement`.

    Takes every argument of MMSeg's `ResNet`. State-dict keys are those of the original IBN-Net
    release without `fc`; `init_cfg=dict(type='Pretrained', checkpoint=...)` reads the release's
    files and plain ImageNet weights alike (`ibnseg.weights.load_weights`).

    Args:
        depth: 18, 34, 50, 101 or 152.
        placement: a name in `ibnseg.placement.PLACEMENTS`, or a list of Puts (as dicts in a
            config).
        ratio: share of InstanceNorm in IBN layers; None for each layer's default (0.5).

    Raises:
        ValueError: unknown placement or site, a Put that matches nothing, ratio outside [0, 1].

    Source: Pan et al., "Two at Once", ECCV 2018.
    """

    arch_settings = _settings(IBNBasicBlock, IBNBottleneck)

    def __init__(
        self,
        depth: int,
        *args: Any,
        placement: str | Sequence[Put | Mapping[str, Any]] = 'bn',
        ratio: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(depth, *args, **kwargs)
        default_init = kwargs.get('init_cfg') is None and kwargs.get('pretrained') is None
        if self.zero_init_residual and default_init:
            # MMSeg compares with its own block classes and so would skip ours.
            last = 'norm2' if issubclass(self.block, BasicBlock) else 'norm3'
            for _, _, block, _ in self._blocks():
                block.init_cfg = dict(type='Constant', val=0, override=dict(name=last))
        install(self, placement, ratio=ratio, norm=self._build_norm)
        self._freeze_stages()

    def _blocks(self) -> Iterator[tuple[int, int, nn.Module, int]]:
        """Yield (stage, index, block, how many the stage has)."""
        for stage, name in enumerate(self.res_layers, 1):
            blocks = [block for block in getattr(self, name) if isinstance(block, _Sites)]
            for i, block in enumerate(blocks):
                yield stage, i, block, len(blocks)

    def sites(self) -> Iterator[Site]:
        """Yield the places of this network where a layer can stand."""
        if self.deep_stem:
            for norm in (1, 4, 7):
                # Its last norm stands where the plain stem's only one does.
                at, name = ('stem', 'stem') if norm == 7 else ('norm', f'stem.{norm}')
                channels = self.stem[norm - 1].out_channels
                yield Site(at, name, channels, setter(self.stem, str(norm)))
        else:
            yield Site('stem', 'stem', self.conv1.out_channels, setter(self, self.norm1_name))
        for stage, i, block, blocks in self._blocks():
            yield from block.sites(f'layer{stage}.{i}', stage=stage, block=i, blocks=blocks)
        for stage, name in enumerate(self.res_layers, 1):
            channels = self.base_channels * 2 ** (stage - 1) * self.block.expansion
            put = _appender(getattr(self, name))
            yield Site('after_stage', f'{name}.after_stage', channels, put, stage)


def _appender(stage: nn.Sequential) -> Callable[[nn.Module], None]:
    return lambda layer: stage.add_module(layer.abbr, layer)


@MODELS.register_module()
class IBNResNeXt(IBNResNet):
    """ResNeXt 50/101/152, 32x4d unless `groups` and `base_width` say otherwise.

    All else as `IBNResNet`. Source: Xie et al., CVPR 2017; Pan et al., ECCV 2018.
    """

    arch_settings = _settings(None, IBNNeXtBottleneck)

    def __init__(self, depth: int, groups: int = 32, base_width: int = 4, **kwargs: Any):
        self.groups, self.base_width = groups, base_width
        super().__init__(depth, **kwargs)

    def make_res_layer(self, **kwargs: Any) -> nn.Module:
        return super().make_res_layer(
            groups=self.groups,
            base_width=self.base_width,
            base_channels=self.base_channels,
            **kwargs,
        )


@MODELS.register_module()
class IBNSEResNet(IBNResNet):
    """SE-ResNet 18/34/50/101/152 (Hu et al., CVPR 2018); all else as `IBNResNet`."""

    arch_settings = _settings(IBNSEBasicBlock, IBNSEBottleneck)


@MODELS.register_module()
class IBNSEResNeXt(IBNResNeXt):
    """SE-ResNeXt 50/101/152 32x4d; all else as `IBNResNeXt`."""

    arch_settings = _settings(None, IBNSENeXtBottleneck)
