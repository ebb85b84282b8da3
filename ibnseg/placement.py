"""WHERE a layer stands in a network, as data.

A network lists its `Site`s. A placement is a tuple of `Put`s, each a layer and the sites it takes;
`PLACEMENTS` names those of the paper. A new variant is a row.
"""

import functools
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from . import methods, norms
from .methods import DSU, IRW, ISW, IW, NP, SAN, SHM, EFDMix, MixStyle, NPPlus, PAdaIN, SwitchWhiten
from .methods.wild import WildStyle
from .norms import IBN, InstanceNorm, ParallelIBN, PartialInstanceNorm
from .text import meant

#: `stem` and `norm1..3` replace the norm that stands there, `stem_norm1`, `stem_norm2` the first
#: two of a deep stem, `every_norm` all norms of the network. The others insert: before a norm
#: (`before_norms`: all of a block but its shortcut's), in a block between the add and its last ReLU
#: (`after_add`), after the stem's pool, after a stage.
SITES = (
    *('stem', 'stem_norm1', 'stem_norm2', 'norm1', 'norm2', 'norm3', 'every_norm'),
    *('before_stem', 'before_norm1', 'before_norm2', 'before_norm3', 'before_norms'),
    *('after_pool', 'after_add', 'after_stage'),
)
#: Those of the whole network, which take no stages.
_SINGLE = ('stem', 'stem_norm1', 'stem_norm2', 'every_norm', 'before_stem', 'after_pool')
_INSERTED = ('before_', 'after_')

#: Name in a config -> layer.
LAYERS = norms.LAYERS | methods.LAYERS


class Site(NamedTuple):
    """A place in a network where a layer can stand.

    Args:
        at: one of `SITES`, or 'norm': a norm that only `every_norm` reaches (a shortcut's, ...).
        name: unique in the network; messages use it ('layer1.0.norm1').
        channels: of the maps that the layer gets.
        put: lays the layer there.
        stage, block, blocks: 1 to 4, the index in the stage, and how many blocks the stage has; the
            defaults where there is none.
        feeds: the module that alone takes the layer's output, if it is one convolution: it is
            widened for layers that give more channels than they get.
    """

    at: str
    name: str
    channels: int
    put: Callable[[nn.Module], None]
    stage: int = 0
    block: int = 0
    blocks: int = 1
    feeds: nn.Module | None = None


def setter(owner: nn.Module, name: str | None = None) -> Callable[[nn.Module], None]:
    """Return the `put` of a site that is the child `name` of `owner`; None for the layer's own."""
    return lambda layer: owner.add_module(name or layer.abbr, layer)


@dataclass(frozen=True)
class Put:
    """One layer at one kind of site.

    Args:
        layer: a site layer (see `ibnseg.norms`, `ibnseg.methods`), or its name in `LAYERS`.
        at: one of `SITES`.
        stages: stages 1 to 4 in which it stands; () for those of the whole network only: the
            stem's, `every_norm` and `after_pool`.
        blocks: 'all', 'last', 'odd' (of odd index: the second, fourth, ...), or a number n for
            every n-th block of a stage, the first included.
        options: further arguments of the layer.
    """

    layer: type[nn.Module] | str
    at: str
    stages: Sequence[int] = ()
    blocks: str | int = 'all'
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.at not in SITES:
            near = meant(self.at, SITES)
            raise ValueError(f'unknown site {self.at!r}; choose from {SITES}{near}')
        if isinstance(self.layer, str):
            if self.layer not in LAYERS:
                near = meant(self.layer, LAYERS)
                raise ValueError(f'unknown layer {self.layer!r}; choose from {tuple(LAYERS)}{near}')
            object.__setattr__(self, 'layer', LAYERS[self.layer])
        if (self.at in _SINGLE) == bool(self.stages):
            raise ValueError(
                f'{self}: the stem takes no stages, nor do every_norm and after_pool; every other '
                'site takes at least one of 1..4'
            )
        if not isinstance(self.stages, Sequence) or set(self.stages) - {1, 2, 3, 4}:
            raise ValueError(f'stages are {self.stages!r}; expected a list of 1, 2, 3, 4')
        every_nth = isinstance(self.blocks, int) and self.blocks >= 1
        if not (self.blocks in ('all', 'last', 'odd') or every_nth):
            raise ValueError(
                f"blocks is {self.blocks!r}; expected 'all', 'last', 'odd' or a number >= 1"
            )

    def matches(self, site: Site) -> bool:
        """Whether this Put stands at `site`."""
        if self.at == 'every_norm':
            return not site.at.startswith(_INSERTED)
        same = self.at == site.at
        if self.at == 'before_norms':
            same = site.at.startswith('before_norm')
        if not same or (self.stages and site.stage not in self.stages):
            return False
        if self.blocks == 'last':
            return site.block == site.blocks - 1
        if self.blocks == 'odd':
            return site.block % 2 == 1
        return self.blocks == 'all' or site.block % self.blocks == 0


def _a(*stages: int) -> tuple[Put, ...]:
    return (Put(IBN, 'norm1', stages),)


#: Of residual networks. Figures and tables are those of Pan et al., ECCV 2018; `ratio=` makes the
#: rows of its table of ratios.
PLACEMENTS: dict[str, tuple[Put, ...]] = {
    # Plain network, the baseline of every table.
    'bn': (),
    # Fig. 3a: the first norm of every block of layer1-3.
    'ibn_a': _a(1, 2, 3),
    # Fig. 3b: stem, and after the add in the last block of layer1 and layer2.
    'ibn_b': (Put(InstanceNorm, 'stem'), Put(InstanceNorm, 'after_add', (1, 2), 'last')),
    # Fig. 3c, table of variants: at a's place IN and BN side by side, both of all channels.
    'ibn_c': (Put(ParallelIBN, 'norm1', (1, 2, 3)),),
    # Fig. 3d, table of variants: b's place after the add, IN on half of the channels; no stem. The
    # release has no code for it. The place named for it is b's, so it is read as b's blocks, the
    # last of layer1 and layer2, too; blocks='all' is the other reading.
    'ibn_d': (Put(PartialInstanceNorm, 'after_add', (1, 2), 'last'),),
    # Table of variants, "a&d".
    'ibn_ad': (*_a(1, 2, 3), Put(PartialInstanceNorm, 'after_add', (1, 2), 'last')),
    # Table of variants, "a x 2": also the second norm of a's blocks.
    'ibn_ax2': (*_a(1, 2, 3), Put(IBN, 'norm2', (1, 2, 3))),
    # Table of stages with a; none is 'bn', 1-3 is 'ibn_a'.
    'ibn_a_stage1': _a(1),
    'ibn_a_stage1-2': _a(1, 2),
    'ibn_a_stage1-4': _a(1, 2, 3, 4),
    # Table of ratios, "full": every BN an IN, those of the stem and the shortcuts included.
    'in_full': (Put(InstanceNorm, 'every_norm'),),
}

#: Of DenseNets, whose stages are the dense blocks and whose blocks are the dense layers.
DENSENET_PLACEMENTS: dict[str, tuple[Put, ...]] = {
    'bn': (),
    # The release's densenet*_ibn_a: norm1 of every third layer of denseblock1-3, 40 % IN, last.
    'ibn_a': (Put(IBN, 'norm1', (1, 2, 3), 3, dict(ratio=0.4, bn_first=True)),),
}


def _at_b(layer: type[nn.Module], **options: Any) -> tuple[Put, ...]:
    """Variant b's places, which are RobustNet's, too."""
    return (
        Put(layer, 'stem', options=options),
        Put(layer, 'after_add', (1, 2), 'last', options),
    )


#: Of residual networks: other methods (`ibnseg.methods`, docs/methods.md), which may be added to
#: one above: placement=('ibn_b', 'mixstyle').
METHODS: dict[str, tuple[Put, ...]] = {
    'mixstyle': (Put(MixStyle, 'after_stage', (1, 2)),),
    'efdmix': (Put(EFDMix, 'after_stage', (1, 2)),),
    'dsu': (
        *(Put(DSU, 'before_stem'), Put(DSU, 'after_pool')),
        Put(DSU, 'after_stage', (1, 2, 3, 4)),
    ),
    'padain': (Put(PAdaIN, 'before_norms', (1, 2, 3, 4)),),
    'np': (Put(NP, 'after_pool'), Put(NP, 'after_stage', (1,))),
    'np_plus': (Put(NPPlus, 'after_pool'), Put(NPPlus, 'after_stage', (1,))),
    # As released for ResNet-50, and as RobustNet places it.
    'sw': (Put(SwitchWhiten, 'stem'), Put(SwitchWhiten, 'norm2', (1, 2, 3), 'odd')),
    'sw_b': _at_b(SwitchWhiten),
    'iw': _at_b(IW),
    'irw': _at_b(IRW),
    'isw': _at_b(ISW),
    'san': (Put(SAN, 'after_stage', (1, 2)),),
    'shade': (Put(SHM, 'after_pool'),),
    'san_saw': (Put(SAN, 'after_stage', (1, 2), options=dict(saw=True)),),
    'wildnet': _at_b(WildStyle),
}
LAYERS |= {put.layer.__name__: put.layer for row in METHODS.values() for put in row}


def resolve(
    placement: str | Sequence[str | Put | Mapping[str, Any]],
    table: Mapping[str, tuple[Put, ...]] = PLACEMENTS | METHODS,
) -> tuple[Put, ...]:
    """Return the Puts of a placement.

    Args:
        placement: a name in `table`, or a list of names, Puts and mappings of Put's arguments,
            which add up.

    Raises ValueError for an unknown name, and for a Put that is not in a list.
    """
    if isinstance(placement, str):
        if placement not in table:
            raise ValueError(
                f'unknown placement {placement!r}; choose from {tuple(table)}, or spell the '
                "Puts: [dict(layer='IBN', at='norm1', stages=(1, 2, 3))]" + meant(placement, table)
            )
        return table[placement]
    if not isinstance(placement, Sequence):
        raise ValueError(f'placement is {placement!r}; expected a name or a list of Puts')
    puts: list[Put] = []
    for part in placement:
        if isinstance(part, str):
            puts += resolve(part, table)
        else:
            puts.append(part if isinstance(part, Put) else Put(**part))
    return tuple(puts)


def clash(puts: Sequence[Put]) -> tuple[Put, Put] | None:
    """Return two Puts that would take one site of every network, None where none surely do."""
    for put, other in itertools.combinations(puts, 2):
        alike = put.blocks == other.blocks or 'all' in (put.blocks, other.blocks)
        shared = set(put.stages) & set(other.stages) or put.at in _SINGLE
        if put.at == other.at and shared and alike:
            return put, other
    return None


def install(
    network: nn.Module,
    placement: str | Sequence[str | Put | Mapping[str, Any]],
    *,
    ratio: float | None = None,
    norm: Callable[[int], nn.Module] | None = None,
) -> None:
    """Put the layers of `placement` into `network`, in place.

    `network.sites()` yields its `Site`s. Names are those of `network.placements` if it has a table
    of its own, else of `PLACEMENTS` and `METHODS`.

    Args:
        ratio: share of InstanceNorm for the layers that have one; None keeps each layer's own.
        norm: makes the BatchNorm part of a layer for n channels.

    Raises:
        ValueError: the network's family has no such placement, a Put matches no site, two match
            the same one, `ratio` is given and no layer takes it, or a layer gives more channels
            than it gets where no plain convolution takes them.
    """
    kind = type(network).__name__
    try:
        puts = resolve(placement, getattr(network, 'placements', PLACEMENTS | METHODS))
    except ValueError as error:
        raise ValueError(f'{kind}: {error}') from None
    takes_ratio = [put for put in puts if 'ratio' in inspect.signature(put.layer).parameters]
    if ratio is not None and not takes_ratio:
        raise ValueError(
            f'ratio={ratio} has no effect: no layer of placement {placement!r} takes one'
        )
    sites = list(network.sites())
    taken, first = {}, {}
    for put in puts:
        options = dict(put.options)
        if ratio is not None and put in takes_ratio:
            options['ratio'] = ratio
        matches = [site for site in sites if put.matches(site)]
        if not matches:
            raise ValueError(f'{put} matches no site of this {kind}')
        for site in matches:
            if site.name in taken:
                raise ValueError(
                    f'two layers at one site, {site.name}: {taken[site.name]} and '
                    f'{put.layer.__name__}. Name one of the two in placement {placement!r}'
                )
            taken[site.name] = put.layer.__name__
            layer = put.layer(site.channels, norm=norm, **options)
            for module in layer.modules():
                module.site = site.name
            layer.inserted = site.at.startswith(_INSERTED)
            if hasattr(layer, 'joins'):
                layer.joins(first.setdefault(put.layer, layer))
            if getattr(layer, 'expansion', 1) != 1:
                _widen(site, layer)
            site.put(layer)


def _widen(site: Site, layer: nn.Module) -> None:
    """Rebuild the convolution after `site` for the `expansion` times wider maps of `layer`."""
    conv, times = site.feeds, layer.expansion
    if not isinstance(conv, nn.Conv2d) or conv.groups != 1:
        raise ValueError(
            f'{site.name}: {type(layer).__name__} gives {times} times the channels it gets, so it '
            'can only stand where an ordinary convolution of one group takes its output; found '
            f'{conv if isinstance(conv, nn.Conv2d) else type(conv).__name__}'
        )
    out, channels, *kernel = conv.weight.shape
    conv.in_channels = channels * times
    conv.weight = nn.Parameter(conv.weight.new_empty(out, channels * times, *kernel))
    conv.reset_parameters()
    conv.from_plain = functools.partial(_repeated, times=times)


def _repeated(plain: Mapping[str, Tensor], times: int) -> dict[str, Tensor]:
    """Weights of a convolution that sees `times` copies of its maps, and takes their mean."""
    return dict(plain, weight=torch.cat([plain['weight'] / times] * times, 1))
