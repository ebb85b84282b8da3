"""InstanceNorm on a part of the channels, and BatchNorm on the rest or side by side."""

from collections.abc import Callable, Mapping

import torch
import torch.fx
from torch import Tensor, nn

from .instance import InstanceNorm, in_channels


# In training, BatchNorm is slow on slices, forward and backward; a clone is dense, in the same
# layout. Compilers see to that themselves, and know no hooks.
@torch.fx.wrap
def _dense(x: Tensor) -> Tensor:
    if torch.jit.is_scripting() or torch.compiler.is_compiling():
        return x
    return x.clone()


@torch.fx.wrap
def _dense_gradient(x: Tensor) -> Tensor:
    if not (torch.jit.is_scripting() or torch.compiler.is_compiling()) and x.requires_grad:
        x.register_hook(_cloned)
    return x


def _cloned(grad: Tensor | None) -> Tensor | None:
    return grad if grad is None else grad.clone()


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
        bn_first: BatchNorm on the first `int(num_features * (1 - ratio))` channels, InstanceNorm
            on the rest, as in the release's DenseNets.
    """

    abbr = 'IBN'

    def __init__(
        self,
        num_features: int,
        ratio: float = 0.5,
        norm: Callable[[int], nn.Module] | None = None,
        eps: float = 1e-5,
        bn_first: bool = False,
    ):
        super().__init__()
        self.num_features, self.bn_first = num_features, bn_first
        self.num_in = in_channels(num_features, ratio)
        if bn_first:
            self.num_in = num_features - in_channels(num_features, 1 - ratio)
        rest = num_features - self.num_in
        self.in_part = slice(rest, None) if bn_first else slice(self.num_in)
        self.bn_part = slice(rest) if bn_first else slice(self.num_in, None)
        self.IN = InstanceNorm(self.num_in, eps) if self.num_in else None
        self.BN = (norm or nn.BatchNorm2d)(rest) if rest else None

    def forward(self, input: Tensor) -> Tensor:
        if self.IN is None:
            return self.BN(input)
        if self.BN is None:
            return self.IN(input)
        rest = self.num_features - self.num_in
        if self.bn_first:
            of_bn, of_in = input.split([rest, self.num_in], 1)
        else:
            of_in, of_bn = input.split([self.num_in, rest], 1)
        if self.training:
            of_bn = _dense(of_bn)
        of_in, of_bn = self.IN(of_in), self.BN(of_bn)
        if self.training:
            of_bn = _dense_gradient(of_bn)
        return torch.cat([of_bn, of_in] if self.bn_first else [of_in, of_bn], 1)

    def from_plain(self, plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give each part its channels: of scale and shift, BN also of the statistics."""
        own = {}
        for key in self.state_dict():
            part, name = key.split('.', 1)
            if name in plain:
                channels = self.in_part if part == 'IN' else self.bn_part
                own[key] = plain[name][channels] if plain[name].ndim else plain[name]
        return own


class PartialInstanceNorm(IBN):
    """InstanceNorm on the first `int(num_features * ratio)` channels; the rest passes unchanged.

    The layer of the paper's variant d. Parameters: `IN.weight`, `IN.bias`.
    """

    abbr = 'PIN'

    def __init__(self, num_features: int, ratio: float = 0.5, eps: float = 1e-5, norm=None):
        super().__init__(num_features, ratio, nn.Identity, eps)


class ParallelIBN(nn.Module):
    """InstanceNorm and BatchNorm, each of all channels, one after the other.

    The layer of variant c (Pan et al., ECCV 2018, fig. 3c). Maps (N, C, H, W) to (N, 2C, H, W), IN
    first. Parameters: `IN.*` and `BN.*`, of C channels each.
    """

    abbr = 'PIBN'
    expansion = 2

    def __init__(
        self, num_features: int, norm: Callable[[int], nn.Module] | None = None, eps: float = 1e-5
    ):
        super().__init__()
        self.num_features = num_features
        self.IN = InstanceNorm(num_features, eps)
        self.BN = (norm or nn.BatchNorm2d)(num_features)

    def forward(self, input: Tensor) -> Tensor:
        return torch.cat((self.IN(input), self.BN(input)), 1)

    def from_plain(self, plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give both parts all channels; the next convolution then takes the mean of the two."""
        own = {f'IN.{name}': tensor for name, tensor in self.IN.from_plain(plain).items()}
        return own | {f'BN.{name}': tensor for name, tensor in plain.items()}
