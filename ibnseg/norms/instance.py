"""InstanceNorm, whole and on a part of the channels."""

import torch
from torch import Tensor, nn

from . import fused


def in_channels(num_features: int, ratio: float) -> int:
    """Return how many of `num_features` channels a ratio gives to InstanceNorm.

    `int(num_features * ratio)`, as the original release counts. Raises ValueError where ratio is
    outside [0, 1].
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f'ratio is {ratio!r}; expected a number from 0 (no IN) to 1 (only IN)')
    return int(num_features * ratio)


class InstanceNorm(nn.InstanceNorm2d):
    """Affine InstanceNorm without running statistics (Pan et al., ECCV 2018, sec. 3).

    Maps (N, C, H, W) to the same shape, each image and channel to mean `bias` and standard
    deviation `weight`. Raises ValueError on maps of one pixel, whose deviation is not defined; the
    message names the layer by `site`, which `placement.install` sets.
    """

    abbr = 'IN'
    site = ''

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = True, norm=None):
        super().__init__(num_features, eps=eps, affine=affine)

    def check(self, input: Tensor) -> None:
        """Raise ValueError for maps of one pixel."""
        if input.shape[-1] * input.shape[-2] == 1:
            raise ValueError(
                f'{self.site or "InstanceNorm"}: got a {tuple(input.shape)} map; InstanceNorm '
                'needs more than one pixel a channel. Use a larger input or crop, or a smaller '
                'output stride (strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))'
            )

    def forward(self, input: Tensor) -> Tensor:
        self.check(input)
        if fused.usable(input, self):
            return fused.normalize(input, fused.Layout(slice(None), slice(0)), self, None)
        y = super().forward(input)
        if y.requires_grad and fused.in_memory(y):
            # torch 2.13 takes a channels_last gradient's numbers in the wrong order.
            y.register_hook(Tensor.contiguous)
        return y


class PartialInstanceNorm(nn.Module):
    """InstanceNorm on the first `int(num_features * ratio)` channels; the rest passes unchanged.

    The layer of the paper's variant d. Parameters: `IN.weight`, `IN.bias`.
    """

    abbr = 'PIN'

    def __init__(self, num_features: int, ratio: float = 0.5, eps: float = 1e-5, norm=None):
        super().__init__()
        self.num_features = num_features
        self.num_in = in_channels(num_features, ratio)
        self.IN = InstanceNorm(self.num_in, eps) if self.num_in else None

    def forward(self, input: Tensor) -> Tensor:
        if self.IN is None:
            return input
        if self.num_in == self.num_features:
            return self.IN(input)
        return torch.cat((self.IN(input[:, : self.num_in]), input[:, self.num_in :]), 1)
