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
from .blocks import DenseNetwork, ResidualBlock, ResidualNetwork
from .placement import Put, install
from .weights import cache, dialects, files, table

_Placement = str | Sequence[str | Put | Mapping[str, Any]]


class _Block(ResidualBlock, nn.Module):
    """Two 3x3 convolutions, or a bottleneck of three; a shortcut where the shape changes."""

    with_cp = False
    norm1_name, norm2_name, norm3_name = 'bn1', 'bn2', 'bn3'

    def __init__(
        self, inplanes: int, planes: int, width: int, stride: int, groups: int, bottleneck: bool
    ):
        super().__init__()
        out = planes * 4 if bottleneck else planes
        if bottleneck:
            convs = [(inplanes, width, 1), (width, width, 3, stride, groups), (width, out, 1)]
        else:
            convs = [(inplanes, out, 3, stride), (out, out, 3)]
        for i, sizes in enumerate(convs, 1):
            self.add_module(f'conv{i}', _conv(*sizes))
            self.add_module(f'bn{i}', nn.BatchNorm2d(sizes[1]))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inplanes != out:
            self.downsample = nn.Sequential(_conv(inplanes, out, 1, stride), nn.BatchNorm2d(out))


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

    #: depth -> blocks of each stage; bottlenecks from 50.
    depths = {
        18: (2, 2, 2, 2),
        34: (3, 4, 6, 3),
        50: (3, 4, 6, 3),
        101: (3, 4, 23, 3),
        152: (3, 8, 36, 3),
    }
    # What `ResidualNetwork` asks for:
    deep_stem = False
    norm1_name = 'bn1'
    res_layers = ('layer1', 'layer2', 'layer3', 'layer4')

    def __init__(
        self,
        depth: int,
        num_classes: int,
        placement: _Placement = 'bn',
        ratio: float | None = None,
        groups: int = 1,
        base_width: int = 64,
        se: bool = False,
    ):
        super().__init__()
        depths = [known for known in self.depths if groups == 1 or known >= 50]
        if depth not in depths:
            raise ValueError(f'depth is {depth!r}; choose from {depths}')
        self.conv1 = _conv(3, 64, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inplanes = 64
        for i, (name, count) in enumerate(zip(self.res_layers, self.depths[depth], strict=True)):
            planes, stage = 64 * 2**i, nn.Sequential()
            for stride in (1 if i == 0 else 2, *(count - 1) * (1,)):
                width = planes * base_width // 64 * groups
                stage.append(_Block(inplanes, planes, width, stride, groups, depth >= 50))
                inplanes = stage[-1].channels
            self.add_module(name, stage)
        if se:
            self.add_squeeze_excite()
        self.fc = nn.Linear(inplanes, num_classes)
        install(self, placement, ratio=ratio)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.through_stem(x)
        for name in self.res_layers:
            x = getattr(self, name)(x)
        return self.fc(x.mean((2, 3)))


class DenseNet(DenseNetwork, nn.Module):
    """DenseNet 121/161/169/201 with a classifier `classifier`; all else as `ResNet`."""

    def __init__(
        self, depth: int, num_classes: int, placement: _Placement = 'bn', ratio: float | None = None
    ):
        super().__init__()
        self._build_features(depth, nn.BatchNorm2d)
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

#: Entry points of `hubconf.py`; `placement=` makes the variants that have none.
NAMES = tuple(
    f'{network}{variant}'
    for family, depths in {
        'resnet': ('18', '34', '50', '101', '152'),
        'resnext': ('50', '101', '152', '50_32x4d', '101_32x8d'),
        'se_resnet': ('18', '34', '50', '101', '152'),
        'se_resnext': ('50', '101', '152'),
        'densenet': ('121', '161', '169', '201'),
    }.items()
    for network in (family + depth for depth in depths)
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
    # `resnext50` and `resnext50_32x4d` are one network.
    rows = [row for row in weights.PUBLISHED.values() if weights.network(row.name) == config]
    kind = config.pop('type')
    if pretrained and not rows:
        raise ValueError(
            f'{name}: no weights are published of this network. Leave pretrained away, or choose '
            f'one of {", ".join(weights.PUBLISHED)}'
        )
    if pretrained and classes != 1000:
        head = 'classifier' if kind == 'IBNDenseNet' else 'fc'
        raise ValueError(
            f'{name}: the published weights are of 1000 classes, not num_classes={classes}. Load '
            f'them with 1000 and replace `model.{head}`, or leave pretrained away'
        )
    try:
        net = _NETWORKS[kind](num_classes=classes, **config)
    except ValueError as error:
        raise ValueError(f'{name}: {error}') from None
    if pretrained:
        _load(net, rows[0])
    return net


def _load(net: nn.Module, row: table.Published) -> None:
    path = cache.place(row.url)
    if not path.is_file():
        print(f'fetching {row.url} to {path}', file=sys.stderr)
    state = files.state_dict_of(weights.read(f'ibn://{row.name}'))
    try:
        net.load_state_dict(dialects.translate(state, dialects.detect(state)).tensors)
    except RuntimeError as error:
        raise ValueError(f'{path}: {" ".join(str(error).split())}') from None
