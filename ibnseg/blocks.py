"""Blocks and networks that list their sites, in plain torch.

The backbones put them under MMSegmentation's constructors, `ibnseg.hub` under its own.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.fx
import torch.utils.checkpoint as cp
from torch import Tensor, nn

from .placement import DENSENET_PLACEMENTS, Site, setter

Norm = Callable[[int], nn.Module]


@contextlib.contextmanager
def on_copies(module: nn.Module) -> Iterator[None]:
    """Have a module work on copies of its buffers: running statistics stay as they are."""
    kept = [(part, part._buffers) for part in module.modules() if part._buffers]
    for part, buffers in kept:
        part._buffers = {n: b if b is None else b.clone() for n, b in buffers.items()}
    try:
        yield
    finally:
        for part, buffers in kept:
            part._buffers = buffers


def _checkpoint(module: nn.Module, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Call `function`, which runs `module`, and compute it anew in the backward pass.

    The second computation gets copies of the buffers, so that running statistics move once.
    """
    options = dict(context_fn=lambda: (contextlib.nullcontext(), on_copies(module)))
    if torch.compiler.is_compiling():
        options = {}  # a compiled graph writes each buffer once, and takes no such contexts
    return cp.checkpoint(function, *inputs, use_reentrant=False, **options)


class ResidualBlock:
    """A residual block that knows its sites, one of them between the add and the last ReLU.

    MMSeg's blocks fix that order inside `forward`, so it is written anew here. Mixed in before what
    builds `conv1..3`, their norms (`norm1_name`, ...), `downsample` and `relu`; plugins stand where
    MMSeg puts them. A module `se`, if there is one, stands before the add.
    """

    after_add_name: str | None = None

    def _convolutions(self) -> list[nn.Conv2d]:
        return [getattr(self, name) for name in ('conv1', 'conv2', 'conv3') if hasattr(self, name)]

    @property
    def channels(self) -> int:
        """Channels of the block's output."""
        return self._convolutions()[-1].out_channels

    def sites(self, path: str, **place: int) -> Iterator[Site]:
        """Yield the sites of this block; `place` is its stage, index and their number."""
        convs = self._convolutions()
        for i, (conv, following) in enumerate(zip(convs, [*convs[1:], None], strict=True), 1):
            plugged = getattr(self, f'after_conv{i}_plugin_names', ())
            before, channels = f'before_norm{i}', conv.out_channels
            yield Site(before, f'{path}.{before}', channels, setter(self, before), **place)
            yield Site(
                f'norm{i}',
                f'{path}.norm{i}',
                channels,
                setter(self, getattr(self, f'norm{i}_name')),
                feeds=None if plugged else following,
                **place,
            )
        if self.downsample is not None:
            norm = str(len(self.downsample) - 1)
            put = setter(self.downsample, norm)
            yield Site('norm', f'{path}.downsample.{norm}', self.channels, put, **place)
        yield Site('after_add', f'{path}.after_add', self.channels, self.put_after_add, **place)

    def put_after_add(self, layer: nn.Module) -> None:
        if self.after_add_name is not None:
            raise ValueError(f'two layers at one after_add site: {self.after_add_name}, {layer}')
        self.after_add_name = layer.abbr
        self.add_module(layer.abbr, layer)

    def forward(self, x: Tensor) -> Tensor:
        # The identity stays outside the in-place add: with_cp needs `x` as it was.
        if self.with_cp and x.requires_grad:
            out = _checkpoint(self, self._sum, x)
        else:
            out = self._sum(x)
        return self.relu(out)

    def _sum(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        convs, out = self._convolutions(), x
        for i, conv in enumerate(convs, 1):
            out = conv(out)
            if hasattr(self, f'before_norm{i}'):
                out = getattr(self, f'before_norm{i}')(out)
            out = getattr(self, getattr(self, f'norm{i}_name'))(out)
            if i < len(convs):
                out = self.relu(out)
            for plugin in getattr(self, f'after_conv{i}_plugin_names', ()):
                out = getattr(self, plugin)(out)
        if hasattr(self, 'se'):
            out = self.se(out)
        out += identity
        if self.after_add_name is not None:
            out = getattr(self, self.after_add_name)(out)
        return out


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


class ResidualNetwork:
    """The sites of a network of `ResidualBlock`s.

    Mixed in before what builds the stem and the stages (`res_layers` names them) and has
    `deep_stem`.
    """

    # torch.jit.script calls it: the compiler does not know getattr, torch.fx does.
    __prepare_scriptable__ = torch.fx.symbolic_trace

    def add_squeeze_excite(self) -> None:
        """Give each block a `SqueezeExcite` after its last norm, before the add."""
        for block in self.modules():
            if isinstance(block, ResidualBlock):
                block.se = SqueezeExcite(block.channels)

    def sites(self) -> Iterator[Site]:
        """Yield the places of this network where a layer can stand."""
        if self.deep_stem:
            # Its last norm stands where the plain stem's only one does.
            for norm, at in ((1, 'stem_norm1'), (4, 'stem_norm2'), (7, 'stem')):
                name = 'stem' if norm == 7 else f'stem.{norm}'
                yield Site(at, name, self.stem.get_submodule(str(norm - 1)).out_channels,
                           setter(self.stem, str(norm)))  # fmt: skip
            channels = self.stem.get_submodule('6').out_channels
        else:
            channels = self.conv1.out_channels
            yield Site('stem', 'stem', channels, setter(self, self.norm1_name))
        yield Site('before_stem', 'before_stem', channels, self._put_before_stem)
        yield Site('after_pool', 'after_pool', channels, self._put_after_pool)
        for stage, name in enumerate(self.res_layers, 1):
            layer = getattr(self, name)
            blocks = [block for block in layer if isinstance(block, ResidualBlock)]
            for i, block in enumerate(blocks):
                yield from block.sites(f'{name}.{i}', stage=stage, block=i, blocks=len(blocks))
            channels = blocks[-1].channels
            yield Site('after_stage', f'{name}.after_stage', channels, setter(layer), stage)

    def _put_before_stem(self, layer: nn.Module) -> None:
        if not self.deep_stem:
            self.add_module('before_stem', layer)
            return
        kept = [(name, self.stem._modules.pop(name)) for name in ('7', '8')]
        for name, module in (('before_stem', layer), *kept):
            self.stem.add_module(name, module)

    def _put_after_pool(self, layer: nn.Module) -> None:
        self.maxpool = nn.Sequential(OrderedDict([('pool', self.maxpool), (layer.abbr, layer)]))

    def through_stem(self, x: Tensor) -> Tensor:
        """Map images to the maps that the first stage gets."""
        if self.deep_stem:
            return self.maxpool(self.stem(x))
        x = self.conv1(x)
        if hasattr(self, 'before_stem'):
            x = self.before_stem(x)
        return self.maxpool(self.relu(getattr(self, self.norm1_name)(x)))


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
            return _checkpoint(self, self._new, *maps)
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


class DenseNetwork:
    """The `features` of a DenseNet and their sites; mixed in before a module."""

    #: depth -> growth, stem channels, dense layers of each block.
    arch_settings = {
        121: (32, 64, (6, 12, 24, 16)),
        161: (48, 96, (6, 12, 36, 24)),
        169: (32, 64, (6, 12, 32, 32)),
        201: (32, 64, (6, 12, 48, 32)),
    }
    placements = DENSENET_PLACEMENTS
    __prepare_scriptable__ = torch.fx.symbolic_trace

    def _build_features(
        self,
        depth: int,
        norm: Norm,
        in_channels: int = 3,
        channels: int | None = None,
        growth: int | None = None,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        with_cp: bool = False,
    ) -> None:
        """Build a stem of `channels` and a block for each of `strides`; note `out_channels`.

        Raises ValueError for an unknown depth.
        """
        if depth not in self.arch_settings:
            raise ValueError(f'depth is {depth!r}; choose from {list(self.arch_settings)}')
        own_growth, own_channels, layers = self.arch_settings[depth]
        growth, channels = growth or own_growth, channels or own_channels
        self.num_stages = len(strides)
        stem = OrderedDict(
            conv0=nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False),
            norm0=norm(channels),
            relu0=nn.ReLU(inplace=True),
            pool0=nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.features = nn.Sequential(stem)
        self.out_channels = []
        for stage, (stride, dilation) in enumerate(zip(strides, dilations, strict=True), 1):
            if stage > 1:
                transition = OrderedDict(
                    norm=norm(channels),
                    relu=nn.ReLU(inplace=True),
                    conv=nn.Conv2d(channels, channels // 2, 1, bias=False),
                    pool=nn.AvgPool2d(stride) if stride > 1 else nn.Identity(),
                )
                self.features.add_module(f'transition{stage - 1}', nn.Sequential(transition))
                channels //= 2
            block = DenseBlock()
            for i in range(1, layers[stage - 1] + 1):
                block[f'denselayer{i}'] = DenseLayer(channels, growth, dilation, norm, with_cp)
                channels += growth
            self.features.add_module(f'denseblock{stage}', block)
            self.out_channels.append(channels)
        if self.num_stages == 4:
            self.features.add_module('norm5', norm(channels))

    def sites(self) -> Iterator[Site]:
        """Yield the places of this network where a layer can stand."""
        features = self.features
        yield Site('stem', 'stem', features.conv0.out_channels, setter(features, 'norm0'))
        for stage in range(1, self.num_stages + 1):
            if stage > 1:
                name = f'transition{stage - 1}'
                owner = features.get_submodule(name)
                put, channels = setter(owner, 'norm'), owner.conv.in_channels
                yield Site('norm', f'{name}.norm', channels, put, feeds=owner.conv)
            block = features.get_submodule(f'denseblock{stage}')
            for i, (name, layer) in enumerate(block.items()):
                for at, conv in (('norm1', layer.conv1), ('norm2', layer.conv2)):
                    path, put = f'denseblock{stage}.{name}.{at}', setter(layer, at)
                    yield Site(at, path, conv.in_channels, put, stage, i, len(block), conv)
        if self.num_stages == 4:
            yield Site('norm', 'norm5', self.out_channels[-1], setter(features, 'norm5'))
