"""Layers that can stand at a site of a network.

A site layer is a module class built as `Layer(num_features, norm=build_norm, **options)`, where
`build_norm(n)` makes the network's own normalisation layer (BatchNorm, SyncBN) for n channels.
Its `abbr` names it where it is inserted (state-dict key `layer1.2.IN.weight`). A layer that gives
n times the channels it gets says so with `expansion = n`; the convolution after it is widened.
"""

from .ibn import IBN, ParallelIBN
from .instance import InstanceNorm, PartialInstanceNorm

#: Name in a config -> layer.
LAYERS = {layer.__name__: layer for layer in (IBN, InstanceNorm, ParallelIBN, PartialInstanceNorm)}
LAYERS['IN'] = InstanceNorm

__all__ = ['IBN', 'LAYERS', 'InstanceNorm', 'ParallelIBN', 'PartialInstanceNorm']
