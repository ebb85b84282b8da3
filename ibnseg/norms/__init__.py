"""Layers that can stand at a site of a network.

A site layer is a module class built as `Layer(num_features, norm=build_norm, **options)`, where
`build_norm(n)` makes the network's own normalisation layer (BatchNorm, SyncBN) for n channels.
Its `abbr` names it where it is inserted (state-dict key `layer1.2.IN.weight`).
"""

from .ibn import IBN
from .instance import InstanceNorm, PartialInstanceNorm

#: Name in a config -> layer.
LAYERS = {layer.__name__: layer for layer in (IBN, InstanceNorm, PartialInstanceNorm)}
LAYERS['IN'] = InstanceNorm

__all__ = ['IBN', 'LAYERS', 'InstanceNorm', 'PartialInstanceNorm']
