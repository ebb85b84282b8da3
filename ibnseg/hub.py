"""ImageNet classifiers of the whole family in plain torch, as the original release has them.

MMSegmentation builds the backbones; these need torch alone. Blocks, sites, placements and
norms are the same code (`ibnseg.blocks`, `placement`, `norms`), keys and outputs the original's.
"""

import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from . import weights
from .blocks import DenseNetwork, ResidualBlock, ResidualNetwork, SEBlock
from .placement import Put, install
from .weights import cache, dialects

_Placement = str | Sequence[Put | Mapping[str, Any]]


class _Block(ResidualBlock, nn.Module):
    """Convolutions with a norm each, and a shortcut where the shape changes."""

    with_cp = False

    def __init__(
        self, inplanes: int, planes: int, stride: int = 1, groups: int = 1, base_width: int = 64
    ):
        super().__init__()
        self.convs = []
        width = planes * base_width // 64 * groups
        for i, conv in enumerate(self._convolutions(inplanes, planes, width, stride, groups), 1):
            self.add_module(f'conv{i}', conv)
            self.add_module(f'bn{i}', nn.BatchNorm2d(conv.out_channels))
            setattr(self, f'norm{i}_name', f'bn{i}')
            self.convs.append(f'conv{i}')
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inplanes != conv.out_channels:
            shortcut = _conv(inplanes, conv.out_channels, 1, stride)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(conv.out_channels))

    def residual(self, x: Tensor) -> Tensor:
        for name in self.convs:
            if name != 'conv1':
                x = self.relu(x)
            x = getattr(self, name.replace('conv', 'bn'))(getattr(self, name)(x))
        return x


class _BasicBlock(_Block):
    expansion = 1

    @staticmethod
    def _convolutions(inplanes, planes, width, stride, groups) -> tuple[nn.Conv2d, ...]:
        return _conv(inplanes, planes, 3, stride), _conv(planes, planes, 3)


class _Bottleneck(_Block):
    expansion = 4

    @staticmethod
    def _convolutions(inplanes, planes, width, stride, groups) -> tuple[nn.Conv2d, ...]:
        return (
            _conv(inplanes, width, 1),
            _conv(width, width, 3, stride, groups),
            _conv(width, planes * 4, 1),
        )


class _SEBasicBlock(SEBlock, _BasicBlock):
    pass


class _SEBottleneck(SEBlock, _Bottleneck):
    pass


def _conv(inplanes: int, planes: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inplanes, planes, kernel, stride, kernel // 2, groups=groups, bias=False)


def _initialise(network: nn.Module) -> None:
    """Convolutions N(0, sqrt(2 / (k * k * out))) as in the original; norms are at 1 and 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')


class ResNet(ResidualNetwork, nn.Module):
    """ResNet, ResNeXt, SE-ResNet or SE-ResNeXt with a classifier `fc`.

    Maps images (N, 3, H, W) to logits (N, num_classes).

    Args:
        depth: 18, 34, 50, 101 or 152; with groups, from 50.
        groups, base_width: 32 and 4 for ResNeXt 32x4d.
        se: squeeze-and-excite before each add.
        num_classes: of the classifier.
        placement, ratio: as those of `ibnseg.backbones.IBNResNet`.

    Raises:
        ValueError: unknown depth, or as `ibnseg.placement.install`.
    """

    depths = {
        18: (_BasicBlock, _SEBasicBlock, (2, 2, 2, 2)),
        34: (_BasicBlock, _SEBasicBlock, (3, 4, 6, 3)),
        50: (_Bottleneck, _SEBottleneck, (3, 4, 6, 3)),
        101: (_Bottleneck, _SEBottleneck, (3, 4, 23, 3)),
        152: (_Bottleneck, _SEBottleneck, (3, 8, 36, 3)),
    }
    # What `ResidualNetwork` asks for:
    deep_stem = False
    norm1_name = 'bn1'
    base_channels = 64
    res_layers = ('layer1', 'layer2', 'layer3', 'layer4')

    def __init__(
        self,
        depth: int,
        num_classes: int = 1000,
        *,
        placement: _Placement = 'bn',
        ratio: float | None = None,
        groups: int = 1,
        base_width: int = 64,
        se: bool = False,
    ):
        super().__init__()
        depths = [d for d, (block, *_) in self.depths.items() if groups == 1 or block.expansion > 1]
        if depth not in depths:
            raise ValueError(f'depth is {depth!r}; choose from {depths}')
        plain, squeezed, counts = self.depths[depth]
        self.block = squeezed if se else plain
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inplanes = 64
        for i, (name, count) in enumerate(zip(self.res_layers, counts, strict=True)):
            blocks = []
            for stride in (1 if i == 0 else 2, *(count - 1) * (1,)):
                options = dict(stride=stride, groups=groups, base_width=base_width)
                blocks.append(self.block(inplanes, 64 * 2**i, **options))
                inplanes = 64 * 2**i * self.block.expansion
            self.add_module(name, nn.Sequential(*blocks))
        self.fc = nn.Linear(inplanes, num_classes)
        install(self, placement, ratio=ratio)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for name in self.res_layers:
            x = getattr(self, name)(x)
        return self.fc(x.mean((2, 3)))


class DenseNet(DenseNetwork, nn.Module):
    """DenseNet 121/161/169/201 with a classifier `classifier`; all else as `ResNet`."""

    def __init__(
        self,
        depth: int,
        num_classes: int = 1000,
        *,
        placement: _Placement = 'bn',
        ratio: float | None = None,
    ):
        super().__init__()
        if depth not in self.arch_settings:
            raise ValueError(f'depth is {depth!r}; choose from {list(self.arch_settings)}')
        growth, stem, layers = self.arch_settings[depth]
        self._build_features(3, stem, growth, layers, nn.BatchNorm2d)
        self.classifier = nn.Linear(self.out_channels[-1], num_classes)
        install(self, placement, ratio=ratio)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(F.relu(self.features(x)).mean((2, 3)))


_NETWORKS = {
    'IBNResNet': ResNet,
    'IBNResNeXt': functools.partial(ResNet, groups=32, base_width=4),
    'IBNSEResNet': functools.partial(ResNet, se=True),
    'IBNSEResNeXt': functools.partial(ResNet, groups=32, base_width=4, se=True),
    'IBNDenseNet': DenseNet,
}

#: Family -> depths, with the widths that have a name of their own.
_FAMILIES = {
    'resnet': ('18', '34', '50', '101', '152'),
    'resnext': ('50', '101', '152', '50_32x4d', '101_32x8d'),
    'se_resnet': ('18', '34', '50', '101', '152'),
    'se_resnext': ('50', '101', '152'),
    'densenet': ('121', '161', '169', '201'),
}

#: Entry points of `hubconf.py`; `placement=` makes the variants that have none.
NAMES = tuple(
    f'{family}{depth}{variant}'
    for family, depths in _FAMILIES.items()
    for depth in depths
    for variant in ('', '_ibn_a', '_ibn_b')
    if (family, variant) != ('densenet', '_ibn_b')
)


def build(name: str, pretrained: bool = False, **options: Any) -> nn.Module:
    """Return a classifier by its name (`weights.network`), say 'resnet50_ibn_a'.

    Args:
        pretrained: load the published ImageNet weights, fetched once and verified before every use
            (`weights.cache.fetch`); a file never runs code.
        options: `num_classes`, `placement`, `ratio`; for residual networks `groups`, `base_width`.

    Raises:
        ValueError: unknown name, depth or placement; pretrained where no weights are published, or
            with another number of classes than theirs.
        FileNotFoundError: the weights are not in the cache and can't be fetched.
    """
    config = weights.network(name) | options
    classes = config.pop('num_classes', 1000)
    row = _published(name, config) if pretrained else None
    head = 'classifier' if config['type'] == 'IBNDenseNet' else 'fc'
    if row and classes != 1000:
        raise ValueError(
            f'{name}: the published weights are of 1000 classes, not num_classes={classes}. Load '
            f'them with 1000 and replace `model.{head}`, or leave pretrained away'
        )
    arguments = {key: value for key, value in config.items() if key != 'type'}
    try:
        net = _NETWORKS[config['type']](num_classes=classes, **arguments)
    except ValueError as error:
        raise ValueError(f'{name}: {error}') from None
    if row:
        _load(net, row)
    return net


def _published(name: str, config: Mapping[str, Any]) -> weights.Published:
    """Find the row by what it is: `resnext50` and `resnext50_32x4d` are one network."""
    rows = [row for row in weights.PUBLISHED.values() if weights.network(row.name) == config]
    if not rows:
        raise ValueError(
            f'{name}: no weights are published of this network. Leave pretrained away, or choose '
            f'one of {", ".join(weights.PUBLISHED)}'
        )
    return rows[0]


def _load(net: nn.Module, row: weights.Published) -> None:
    if not cache.place(row.url).is_file():
        print(f'fetching {row.url} to {cache.place(row.url)}', file=sys.stderr)
    state = weights.state_dict_of(weights.read(f'ibn://{row.name}'))
    try:
        net.load_state_dict(dialects.translate(state, weights.detect(state)).tensors)
    except RuntimeError as error:
        raise ValueError(f'{cache.place(row.url)}: {" ".join(str(error).split())}') from None
