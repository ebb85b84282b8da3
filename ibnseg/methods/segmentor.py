"""A segmentor that adds the losses of site layers to its own."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..text import meant
from .recorder import recording, with_loss


@MODELS.register_module()
class SiteSegmentor(EncoderDecoder):
    """MMSeg's EncoderDecoder, and in training the losses of the layers of a placement.

    Those of one kind count as their mean over sites, as in RobustNet, and are logged as
    `loss_<abbr>`. Features, predictions and state-dict keys are the parent's. Where a layer gives
    its batch several times over (`times`), the labels are repeated, too.

    Args:
        site_loss: weight of a kind's loss by its `abbr`, say dict(IW=0.8); default: the layer's
            own `loss_weight`.

    Raises:
        ValueError: `site_loss` names a kind that the backbone does not have.
    """

    def __init__(self, *args: Any, site_loss: Mapping[str, float] | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.site_loss = dict(site_loss or {})
        kinds = {layer.abbr for layer in with_loss(self.backbone)}
        for name in self.site_loss.keys() - kinds:
            raise ValueError(
                f'site_loss names {name!r}; the layers of this backbone that have a loss are '
                f'{sorted(kinds) or "none"}{meant(name, kinds)}'
            )

    @property
    def times(self) -> int:
        """How often a training batch comes out of the backbone."""
        return math.prod(layer.times for layer in with_loss(self.backbone, 'times'))

    def own_losses(self, inputs: Tensor, samples: list) -> dict[str, Tensor]:
        """Return the losses but for those of layers; `samples` are those of the heads' batch."""
        return super().loss(inputs, samples)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        data_samples = [*data_samples] * self.times
        with recording(self.backbone) as seen:
            losses = self.own_losses(inputs, data_samples)
        unseen = [layer.site for layer in with_loss(self.backbone) if layer not in dict(seen)]
        if unseen:  # say, a backbone that was compiled by hand, and runs no hooks
            raise RuntimeError(
                f'the output of {", ".join(unseen)} was not seen, so its loss would be left out. '
                'Compile by --compile alone, and call the layers in no other way than by forward'
            )
        labels = torch.stack([sample.gt_sem_seg.data[0] for sample in data_samples])
        by_kind: dict[str, list[Tensor]] = {}
        for layer, y in seen:
            given = (y,)
            if getattr(layer, 'with_labels', False):  # before a layer with `times`: the first ones
                given = y, labels[: len(y[0] if isinstance(y, tuple) else y)]
            weight = self.site_loss.get(layer.abbr, layer.loss_weight)
            by_kind.setdefault(layer.abbr, []).append(weight * layer.loss(*given))
        return losses | {f'loss_{kind}': sum(each) / len(each) for kind, each in by_kind.items()}


def check_collected(model: nn.Module) -> None:
    """Raise ValueError where layers of a model have a loss that its training would pass over."""
    kinds = sorted({m.abbr for name in ('loss', 'times') for m in with_loss(model, name)})
    if kinds and not isinstance(model, SiteSegmentor):
        what = 'a loss' if with_loss(model) else 'a batch that is doubled'
        raise ValueError(
            f'the placement of model.backbone has layers with {what} ({", ".join(kinds)}), which '
            f'{type(model).__name__} would not collect. Set model.type=SiteSegmentor; with a '
            'segmentor of your own, inherit from ibnseg.methods.segmentor.SiteSegmentor'
        )
