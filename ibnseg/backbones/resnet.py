"""Residual networks whose norms and adds are sites of a placement."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch.utils.checkpoint as cp
from mmcv.cnn import build_norm_layer
from mmengine.model import PretrainedInit
from mmseg.models.backbones.resnet import BasicBlock, Bottleneck, ResNet
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..placement import Put, install
from ..weights import load_weights


class _Sites:
    """A residual block with a site between the add and the last ReLU.

    MMSeg's blocks fix that order inside `forward`, so it is written anew here; all else is theirs.
    """

    after_add_name: str | None = None

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


@MODELS.register_module()
class IBNResNet(ResNet):
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

    arch_settings = {
        depth: (IBNBasicBlock if block is BasicBlock else IBNBottleneck, blocks)
        for depth, (block, blocks) in ResNet.arch_settings.items()
    }

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
            last = 'norm2' if self.block is IBNBasicBlock else 'norm3'
            for block in self._blocks():
                block.init_cfg = dict(type='Constant', val=0, override=dict(name=last))
        install(self, placement, ratio=ratio, norm=self._build_norm)
        self._freeze_stages()

    def _build_norm(self, channels: int) -> nn.Module:
        return build_norm_layer(self.norm_cfg, channels)[1]

    def _blocks(self) -> Iterator[nn.Module]:
        for name in self.res_layers:
            yield from (block for block in getattr(self, name) if isinstance(block, _Sites))

    def sites(self, put: Put) -> Iterator[tuple[str, int, Callable[[nn.Module], None]]]:
        """Yield (name, channels, setter) of each place in this network that `put` matches."""
        if put.at == 'stem':
            # A deep stem's last norm stands where the plain stem's only one does.
            owner, name = (self.stem, '7') if self.deep_stem else (self, self.norm1_name)
            norm = getattr(owner, name)
            yield 'stem', norm.num_features, _setter(owner, name)
            return
        for stage in put.stages:
            if stage > self.num_stages:
                continue
            layer = getattr(self, f'layer{stage}')
            blocks = [block for block in layer if isinstance(block, _Sites)]
            out_channels = self.base_channels * 2 ** (stage - 1) * self.block.expansion
            if put.at == 'after_stage':
                yield f'layer{stage}.after_stage', out_channels, _appender(layer)
                continue
            for i, block in enumerate(blocks):
                if not put.picks(i, len(blocks)):
                    continue
                name = f'layer{stage}.{i}.{put.at}'
                if put.at == 'after_add':
                    yield name, out_channels, block.put_after_add
                elif hasattr(block, f'{put.at}_name'):
                    attribute = getattr(block, f'{put.at}_name')
                    channels = getattr(block, attribute).num_features
                    yield name, channels, _setter(block, attribute)

    def init_weights(self) -> None:
        """As MMSeg's, but a checkpoint is read safely and plain weights are converted."""
        given = self.init_cfg
        configs = [given] if isinstance(given, dict) else list(given or ())
        pretrained = [c for c in configs if c['type'] in ('Pretrained', PretrainedInit)]
        first_call = not self.is_init
        self.init_cfg = [c for c in configs if c not in pretrained]
        super().init_weights()
        self.init_cfg = given
        self._is_init = False  # a load that failed can be repeated
        for config in pretrained if first_call else ():
            load_weights(self, config['checkpoint'], prefix=config.get('prefix'))
        self._is_init = True

    def train(self, mode: bool = True) -> 'IBNResNet':
        super().train(mode)
        return self  # MMSeg's returns None, which breaks `net.eval()(x)`


def _setter(owner: nn.Module, name: str) -> Callable[[nn.Module], None]:
    return lambda layer: owner.add_module(name, layer)


def _appender(stage: nn.Sequential) -> Callable[[nn.Module], None]:
    return lambda layer: stage.add_module(layer.abbr, layer)
