"""WHERE a layer stands in a residual network, as data.

A placement is a tuple of `Put`s; `PLACEMENTS` names those of the paper. A new variant is a row.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from .norms import IBN, LAYERS, InstanceNorm

#: `stem` and `norm1..3` replace the norm that stands there; `after_add` (in a block, before its
#: last ReLU) and `after_stage` insert.
SITES = ('stem', 'norm1', 'norm2', 'norm3', 'after_add', 'after_stage')


@dataclass(frozen=True)
class Put:
    """One layer at one kind of site.

    Args:
        layer: a site layer (see `ibnseg.norms`), or its name in `norms.LAYERS`.
        at: one of `SITES`.
        stages: stages 1 to 4 in which it stands; () for the stem only.
        blocks: 'all', 'last', or a number n for every n-th block of a stage, the first included.
        options: further arguments of the layer.
    """

    layer: type[nn.Module] | str
    at: str
    stages: Sequence[int] = ()
    blocks: str | int = 'all'
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.at not in SITES:
            raise ValueError(f'unknown site {self.at!r}; choose from {SITES}')
        if isinstance(self.layer, str):
            if self.layer not in LAYERS:
                raise ValueError(f'unknown layer {self.layer!r}; choose from {tuple(LAYERS)}')
            object.__setattr__(self, 'layer', LAYERS[self.layer])
        if (self.at == 'stem') == bool(self.stages):
            raise ValueError(
                f'{self}: the stem takes no stages, every other site takes at least one of 1..4'
            )
        if not isinstance(self.stages, Sequence) or set(self.stages) - {1, 2, 3, 4}:
            raise ValueError(f'stages are {self.stages!r}; expected a list of 1, 2, 3, 4')
        every_nth = isinstance(self.blocks, int) and self.blocks >= 1
        if not (self.blocks in ('all', 'last') or every_nth):
            raise ValueError(f"blocks is {self.blocks!r}; expected 'all', 'last' or a number >= 1")

    def picks(self, index: int, depth: int) -> bool:
        """Whether this Put stands in block `index` (from 0) of a stage of `depth` blocks."""
        if self.blocks == 'last':
            return index == depth - 1
        return self.blocks == 'all' or index % self.blocks == 0


PLACEMENTS: dict[str, tuple[Put, ...]] = {
    # Plain network, the baseline of every table.
    'bn': (),
    # Fig. 3a: the first norm of every block of layer1-3.
    'ibn_a': (Put(IBN, 'norm1', (1, 2, 3)),),
    # Fig. 3b: stem, and after the add in the last block of layer1 and layer2.
    'ibn_b': (Put(InstanceNorm, 'stem'), Put(InstanceNorm, 'after_add', (1, 2), 'last')),
}


def resolve(placement: str | Sequence[Put | Mapping[str, Any]]) -> tuple[Put, ...]:
    """Return the Puts of a placement: its name, or Puts, or mappings of a Put's arguments.

    Raises ValueError for an unknown name, and for a Put that is not in a list.
    """
    if isinstance(placement, str):
        if placement not in PLACEMENTS:
            raise ValueError(
                f'unknown placement {placement!r}; choose from {tuple(PLACEMENTS)}, or spell '
                "the Puts: [dict(layer='IBN', at='norm1', stages=(1, 2, 3))]"
            )
        return PLACEMENTS[placement]
    if not isinstance(placement, Sequence):
        raise ValueError(f'placement is {placement!r}; expected a name or a list of Puts')
    return tuple(put if isinstance(put, Put) else Put(**put) for put in placement)


def install(
    network: nn.Module,
    placement: str | Sequence[Put | Mapping[str, Any]],
    *,
    ratio: float | None = None,
    norm: Callable[[int], nn.Module] | None = None,
) -> None:
    """Put the layers of `placement` into `network`, in place.

    `network.sites(put)` yields `(name, channels, set_layer)` for each place that a Put matches;
    `IBNResNet` is one such network.

    Args:
        ratio: share of InstanceNorm for the layers that have one; None keeps each layer's own.
        norm: makes the BatchNorm part of a layer for n channels.

    Raises:
        ValueError: a Put matches no site, two match the same one, or `ratio` is given and no layer
            takes it.
    """
    puts = resolve(placement)
    takes_ratio = [put for put in puts if 'ratio' in inspect.signature(put.layer).parameters]
    if ratio is not None and not takes_ratio:
        raise ValueError(
            f'ratio={ratio} has no effect: no layer of placement {placement!r} takes one'
        )
    taken = set()
    for put in puts:
        options = dict(put.options)
        if ratio is not None and put in takes_ratio:
            options['ratio'] = ratio
        matches = list(network.sites(put))
        if not matches:
            raise ValueError(f'{put} matches no site of this {type(network).__name__}')
        for name, channels, set_layer in matches:
            if name in taken:
                raise ValueError(f'two layers at one site, {name}: the second is of {put}')
            taken.add(name)
            layer = put.layer(channels, norm=norm, **options)
            for module in layer.modules():
                if isinstance(module, InstanceNorm):
                    module.site = name
            set_layer(layer)
