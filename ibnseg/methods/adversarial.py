"""AdvStyle: photos in the style that the network does worst on."""

from collections.abc import Callable
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ..blocks import on_copies
from . import ranks
from .segmentor import SiteSegmentor


def restyled(
    x: Tensor, loss: Callable[[Tensor], Tensor], rate: float, eps: float = 1e-6, scale: float = 1
) -> Tensor:
    """Return images whose channels' means and deviations were moved up the gradient of a loss.

    One plain step. Where the gradient is not finite, none is made.

    Args:
        x: (N, C, H, W).
        loss: of such images; its gradient reaches means and deviations alone.
        rate: of the step.
        eps: added to deviations.
        scale: the loss is multiplied by it for the backward pass, against underflow.
    """
    mean = x.mean((2, 3), keepdim=True)
    std = x.std((2, 3), keepdim=True) + eps
    z = (x - mean) / std
    style = [part.detach().requires_grad_() for part in (mean, std)]
    with torch.enable_grad():
        found = scale * loss(z * style[1] + style[0])
    gradients = [grad / scale for grad in torch.autograd.grad(found, style)]
    finite = torch.stack([grad.isfinite().all() for grad in gradients]).all()
    mean, std = (
        part.detach() + torch.where(finite, rate * grad, 0)
        for part, grad in zip(style, gradients, strict=True)
    )
    return z * std + mean


@MODELS.register_module()
class AdvStyleSegmentor(SiteSegmentor):
    """A segmentor that trains on each photo and on the same in an adversarial style.

    Means and deviations of each normalised photo's three channels make one step up the gradient of
    the main head's loss. That pass moves no running statistics and leaves no gradient on weights.
    Processes make the step of the joined batch.

    Args:
        adversarial_rate: of the step.

    Source: Zhong et al., "Adversarial Style Augmentation for Domain Generalized Urban-Scene
    Segmentation", NeurIPS 2022.
    """

    def __init__(self, *args: Any, adversarial_rate: float = 1.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not adversarial_rate >= 0:
            raise ValueError(f'adversarial_rate is {adversarial_rate!r}; expected 0 or more')
        self.adversarial_rate = adversarial_rate

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        def main(x: Tensor) -> Tensor:
            features = self.extract_feat(x)
            losses = self._decode_head_forward_train(features, [*data_samples] * self.times)
            total = sum(value.mean() for key, value in losses.items() if 'loss' in key)
            return total / ranks.place()[1]

        with on_copies(self):
            adversarial = restyled(inputs, main, self.adversarial_rate, scale=self._scale(inputs))
        return super().loss(torch.cat([inputs, adversarial]), [*data_samples] * 2)

    @staticmethod
    def _scale(x: Tensor) -> float:
        kind = x.device.type
        half = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
        return 1024.0 if half else 1.0
