"""What `ibnseg methods` says of each method, from its row and its layers."""

from collections.abc import Sequence
from typing import Any

from ..placement import METHODS, Put
from .others import OTHERS, Other


def rows() -> list[dict[str, Any]]:
    """Return {name, layers, paper, sites, loss, cost, needs, training_only, config} of each.

    `sites` of a method that is no layer is what it changes: ['photos'], ['weights'], ['adapters'].
    """
    layers = [_row(name, puts) for name, puts in METHODS.items()]
    return layers + [_other(name, other) for name, other in OTHERS.items()]


def _row(name: str, puts: Sequence[Put]) -> dict[str, Any]:
    layers = list(dict.fromkeys(put.layer for put in puts))
    lossy = [layer for layer in layers if hasattr(layer, 'loss')]
    loss = {layer.abbr: layer.loss_weight for layer in lossy}
    for layer in layers:
        loss |= getattr(layer, 'segmentor_loss', {})
    return dict(
        name=name,
        layers=[layer.__name__ for layer in layers],
        paper='; '.join(dict.fromkeys(layer.paper for layer in layers)),
        sites=[_site(put) for put in puts],
        loss=loss,
        cost='; '.join(dict.fromkeys(layer.cost for layer in layers)),
        needs='; '.join(
            [*dict.fromkeys(layer.needs for layer in layers if layer.needs)]
            + ["model.type='SiteSegmentor'"] * bool(lossy)
        ),
        training_only=all(getattr(layer, 'training_only', False) for layer in layers),
        config=f'configs/methods/{name}.py',
    )


def _other(name: str, other: Other) -> dict[str, Any]:
    return dict(
        name=name,
        layers=[],
        paper=other.paper,
        sites=[other.at],
        loss={},
        cost=other.cost,
        needs=other.needs,
        training_only=other.at != 'adapters',
        config=other.config,
    )


def _site(put: Put) -> str:
    stages = ', '.join(map(str, put.stages))
    which = dict(all='', last=' (last block)', odd=' (blocks 2, 4, ...)')
    return f'{put.at} {stages}'.strip() + which.get(put.blocks, f' (every {put.blocks} blocks)')


def lines() -> list[str]:
    """Return the list for a terminal."""
    found = []
    for row in rows():
        loss = ', '.join(f'{kind} x {weight}' for kind, weight in row['loss'].items()) or 'none'
        if row['training_only'] and row['layers']:
            loss += '; the identity in evaluation'
        found += [
            f'{row["name"]:9} {row["paper"]}',
            f'{"":9} sites  {"; ".join(row["sites"])}',
            f'{"":9} loss   {loss}',
            f'{"":9} cost   {row["cost"]}',
            f'{"":9} needs  {row["needs"] or "nothing"}',
            f'{"":9} config {row["config"]}',
        ]
    return found
