"""Methods of domain generalisation beyond IBN, as layers at the sites of a placement.

A layer is built as those of `ibnseg.norms`: `Layer(num_features, norm=None, **options)`. What it
may have besides, all optional, is found by name:

- `training_only = True`: in evaluation it gives its input, the same tensor.
- `loss(y) -> scalar`, with `loss_weight`: a loss of the layer's own output y. `SiteSegmentor` adds
  the mean over sites to the segmentor's losses; in other frameworks `recording` gives what to
  add. It is a function of a map and never of what a forward left behind, so that activation
  checkpointing, which runs forwards twice, and torch.compile change nothing.
- `with_labels = True`: its loss is `loss(y, labels)`, labels (N, H, W) of class indices, 255 where
  none counts.
- `with_input = True`: the y of its loss is the pair of its input and its output.
- `times`: in training its output holds the batch so often; `SiteSegmentor` repeats the labels.
- `observe(y)`, `settle(trial)` and a buffer `settled`: see `passes.StatisticsPass`.
- `segmentor`, `segmentor_loss`: the `model.type` that it needs, and what that adds, by weight.
- `photos`: a step that `--method` adds to the end of the training pipeline. One with a method
  `unlabelled(data_root)` says which photos it reads, for the record and the report.
- `statistics`: arguments of the `StatisticsPass` that `--method` adds.
- `joins(first)`: called by `install` with the first layer of the same class in the network.

What `ibnseg methods` lists comes from `paper`, `cost` and `needs` of the class.
"""

from .hallucination import SHM
from .recorder import recording, with_loss
from .semantic import SAN
from .style import DSU, NP, EFDMix, MixStyle, NPPlus, PAdaIN
from .switching import SwitchWhiten
from .whitening import IRW, ISW, IW

_ALL = (DSU, IRW, ISW, IW, NP, EFDMix, MixStyle, NPPlus, PAdaIN, SAN, SHM, SwitchWhiten)
#: Name in a config -> layer.
LAYERS = {layer.__name__: layer for layer in _ALL}

__all__ = ['LAYERS', 'recording', 'with_loss', *LAYERS]
