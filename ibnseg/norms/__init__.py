"""Layers that can stand at a site of a network.

A site layer is a module class built as `Layer(num_features, norm=build_norm, **options)`, where
`build_norm(n)` makes the network's own normalisation layer (BatchNorm, SyncBN) for n channels.
Its `abbr` names it where it is inserted (state-dict key `layer1.2.IN.weight`). A layer that gives
n times the channels it gets says so with `expansion = n`; the convolution after it is widened.

A layer that replaces a norm says how it starts from plain weights, those of a network with a
BatchNorm in its place: `from_plain(plain)` takes that norm's tensors by name (`weight`, `bias`,
`running_mean`, `running_var`, `num_batches_tracked`, as far as the file has them) and returns the
layer's own by name. Those that no plain norm has (a gate) may be left out, and stay as they were
built. `weights.load_weights` calls it where the file has a plain norm and not the layer's own
tensors.
"""

from .ibn import IBN, ParallelIBN, PartialInstanceNorm
from .instance import InstanceNorm

#: Name in a config -> layer.
LAYERS = {layer.__name__: layer for layer in (IBN, InstanceNorm, ParallelIBN, PartialInstanceNorm)}
LAYERS['IN'] = InstanceNorm

__all__ = ['IBN', 'LAYERS', 'InstanceNorm', 'ParallelIBN', 'PartialInstanceNorm']
