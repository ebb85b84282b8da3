"""InstanceNorm."""

from collections.abc import Mapping

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional as F


def in_channels(num_features: int, ratio: float) -> int:
    """Return how many of `num_features` channels a ratio gives to InstanceNorm.

    `int(num_features * ratio)`, as the original release counts. Raises ValueError where ratio is
    outside [0, 1].
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f'ratio is {ratio!r}; expected a number from 0 (no IN) to 1 (only IN)')
    return int(num_features * ratio)


@torch.fx.wrap  # its branches ask for layout and device, which symbolic tracing does not know
def _instance_norm(input: Tensor, weight: Tensor, bias: Tensor, eps: float, site: str) -> Tensor:
    if input.shape[-1] * input.shape[-2] == 1:
        raise ValueError(
            f'{site}: got a ({input.shape[0]}, {input.shape[1]}, 1, 1) map; InstanceNorm needs '
            'more than one pixel a channel. Use a larger input or crop, or a smaller output stride '
            '(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))'
        )
    if input.is_cpu:
        # group_norm, groups of one channel, is faster and keeps channels_last. It takes the
        # variance as the difference of two squares, which is far off where the mean is large;
        # the shift changes no output.
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        x = x - x[:, :, :1, :1].detach()
        y = F.group_norm(x, x.shape[1], weight.to(x.dtype), bias.to(x.dtype), eps).to(input.dtype)
    else:
        # Contiguous: torch 2.13 has wrong gradients for channels_last.
        y = F.instance_norm(input.contiguous(), weight=weight, bias=bias, eps=eps)
    if input.stride(1) == 1 and y.stride(1) != 1:
        y = y.contiguous(memory_format=torch.channels_last)
    return y


class InstanceNorm(nn.InstanceNorm2d):
    """Affine InstanceNorm without running statistics (Pan et al., ECCV 2018, sec. 3).

    Maps (N, C, H, W) to the same shape and layout, each image and channel to mean `bias` and
    standard deviation `weight`. Raises ValueError on maps of one pixel, whose deviation is not
    defined; the message names the layer by `site`, which `placement.install` sets.
    `torch.func.vmap` and forward-mode derivatives need contiguous maps.
    """

    abbr = 'IN'

    def __init__(self, num_features: int, eps: float = 1e-5, norm=None):
        super().__init__(num_features, eps=eps, affine=True)
        self.site = 'InstanceNorm'

    def forward(self, input: Tensor) -> Tensor:
        return _instance_norm(input, self.weight, self.bias, self.eps, self.site)

    def from_plain(self, plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Keep scale and shift; there are no running statistics."""
        return {name: plain[name] for name in ('weight', 'bias') if name in plain}
