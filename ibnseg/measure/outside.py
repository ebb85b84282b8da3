"""A place in MMSeg's segmentor for a network that something else runs: its logits are the head's.

Resizes, windows, the argmax and the loop around it stay those of every measurement.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class Outside(nn.Module):
    """A backbone whose one map is the logits of `network`, which is set after it is built.

    Attributes:
        network: float32 (N, 3, H, W), as the segmentor's preprocessor gives it, to (N, C, h, w);
            a module moves with this one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network: Callable[[Tensor], Tensor] | None = None
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)  # says the device

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.network(images),)


@MODELS.register_module()
class GivenLogits(BaseDecodeHead):
    """A head that passes on what a backbone gives.

    Args:
        num_classes: of the logits.
        align_corners: how they are brought to the photo's size.
    """

    def __init__(self, num_classes: int, align_corners: bool = False):
        super().__init__(1, 1, num_classes=num_classes, align_corners=align_corners)
        self.conv_seg = self.dropout = None

    def init_weights(self) -> None:
        """It has none."""

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        return inputs[-1]


def segmentor(
    preprocessor: Mapping[str, Any], test_cfg: Mapping[str, Any], classes: int, align_corners: bool
) -> dict[str, Any]:
    """Return the config of a segmentor around an `Outside`."""
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(preprocessor),
        backbone=dict(type='Outside'),
        decode_head=dict(type='GivenLogits', num_classes=classes, align_corners=align_corners),
        test_cfg=dict(test_cfg),
    )


def is_outside(model: nn.Module) -> bool:
    """Whether something else runs the network of a segmentor."""
    return isinstance(getattr(model, 'backbone', None), Outside)
