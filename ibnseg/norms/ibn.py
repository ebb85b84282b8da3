"""The IBN layer: InstanceNorm on some channels, BatchNorm on the others."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .instance import InstanceNorm, in_channels


class IBN(nn.Module):
    """InstanceNorm on the first `int(num_features * ratio)` channels, BatchNorm on the rest.

    The layer of variant a (Pan et al., ECCV 2018, fig. 3a): IN drops appearance, BN keeps
    content. Maps (N, C, H, W) to the same shape. Parameters are named as in the original release,
    `IN.*` and `BN.*`; at ratio 0 (1) there is no `IN` (`BN`).

    Args:
        num_features: C.
        ratio: share of InstanceNorm, any number in [0, 1]; else ValueError.
        norm: makes the BatchNorm part for n channels (`nn.BatchNorm2d`, `nn.SyncBatchNorm`, ...).
        eps: of the InstanceNorm part; the BatchNorm part has its own.
    """

    abbr = 'IBN'

    def __init__(
        self,
        num_features: int,
        ratio: float = 0.5,
        norm: Callable[[int], nn.Module] | None = None,
        eps: float = 1e-5,
    ):
        super().__init__()
        self.num_features = num_features
        self.num_in = in_channels(num_features, ratio)
        rest = num_features - self.num_in
        self.IN = InstanceNorm(self.num_in, eps) if self.num_in else None
        self.BN = (norm or nn.BatchNorm2d)(rest) if rest else None

    def forward(self, input: Tensor) -> Tensor:
        if self.IN is None:
            return self.BN(input)
        if self.BN is None:
            return self.IN(input)
        return torch.cat((self.IN(input[:, : self.num_in]), self.BN(input[:, self.num_in :])), 1)

    def extra_repr(self) -> str:
        return f'{self.num_features}, num_in={self.num_in}'
