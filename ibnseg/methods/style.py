"""Layers that change the styles of training images inside the network; no parameters, no loss.

All draws come from torch's generator of the CPU, so they follow from the seed on any device, and
are the same when activation checkpointing computes a map anew.
"""

import torch
from torch import Tensor, nn


def moments(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return mean and sqrt(unbiased variance + eps) over the pixels of maps, each (N, C, 1, 1)."""
    return x.mean((2, 3), keepdim=True), (x.var((2, 3), keepdim=True) + eps).sqrt()


class StyleLayer(nn.Module):
    """What the layers share: with probability `p` a training batch (N, C, H, W) gets new styles.

    A subclass has `draw(x)`, the random numbers for a batch by name, and `restyle(x, **draws)`,
    which maps x in float32 or wider to the same shape. In evaluation the layer gives its input.

    Raises:
        ValueError: p outside [0, 1]; in training, maps of one pixel, whose deviation is not
            defined, or a batch of fewer than `least` images.
    """

    training_only = True
    least = 2
    cost = 'no parameters; a pass over the map in training, nothing at test time'
    needs = 'two images or more a process'

    def __init__(self, p: float):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f'{type(self).__name__}: p is {p!r}; expected a number from 0 to 1')
        self.p, self.site = p, type(self).__name__

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return input
        self._check(input)  # in every step: a layer that acts seldom would fail after hours
        if not self.acts():
            return input
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        draws = {name: value.to(x.device) for name, value in self.draw(x).items()}
        return self.restyle(x, **draws).to(input.dtype)

    def acts(self) -> bool:
        """Draw whether this batch gets new styles."""
        return bool(torch.rand((), device='cpu') < self.p)

    def _check(self, x: Tensor) -> None:
        what = f'{self.site}: {type(self).__name__} got maps of {tuple(x.shape)}'
        if x.shape[-1] * x.shape[-2] == 1:
            raise ValueError(f'{what}; it needs more than one pixel a channel: use larger images')
        if len(x) < self.least:
            raise ValueError(
                f'{what}; it takes styles from other images of the batch and needs {self.least} or '
                'more in each process: use a larger train_dataloader.batch_size'
            )

    def extra_repr(self) -> str:
        return f'p={self.p}'


def _shuffled(x: Tensor) -> Tensor:
    return torch.randperm(len(x), device='cpu')


class MixStyle(StyleLayer):
    """Mix the mean and deviation of each image and channel with another image's.

    Args:
        num_features: C; any.
        p: probability that a batch is mixed.
        alpha: of Beta(alpha, alpha), which draws the own share of each image.
        eps: added to variances.

    Source: Zhou et al., "Domain Generalization with MixStyle", ICLR 2021. Gradients do not run
    through the statistics, as there.
    """

    abbr = 'MixStyle'
    paper = 'Zhou et al., "Domain Generalization with MixStyle", ICLR 2021'

    def __init__(self, num_features: int, p=0.5, alpha: float = 0.1, eps: float = 1e-6, norm=None):
        super().__init__(p)
        if not alpha > 0:
            raise ValueError(f'{type(self).__name__}: alpha is {alpha!r}; expected more than 0')
        self.alpha, self.eps = alpha, eps

    def draw(self, x: Tensor) -> dict[str, Tensor]:
        alpha = torch.full((len(x), 1, 1, 1), self.alpha, dtype=x.dtype, device='cpu')
        share = torch.distributions.Beta(alpha, alpha, validate_args=False).sample()
        return dict(share=share, partner=_shuffled(x))

    def restyle(self, x: Tensor, share: Tensor, partner: Tensor) -> Tensor:
        mean, std = (part.detach() for part in moments(x, self.eps))
        new_mean = share * mean + (1 - share) * mean[partner]
        new_std = share * std + (1 - share) * std[partner]
        return (x - mean) / std * new_std + new_mean


class EFDMix(MixStyle):
    """Mix whole distributions: each value with the one of its rank in another image.

    Arguments as `MixStyle`; `eps` has no effect. The borrowed values keep their gradient.

    Source: Zhang et al., "Exact Feature Distribution Matching", CVPR 2022.
    """

    abbr = 'EFDMix'
    paper = (
        'Zhang et al., "Exact Feature Distribution Matching for Arbitrary Style Transfer and '
        'Domain Generalization", CVPR 2022'
    )
    cost = 'no parameters; two sorts of each channel in training, nothing at test time'

    def restyle(self, x: Tensor, share: Tensor, partner: Tensor) -> Tensor:
        values, order = x.flatten(2).sort(-1)
        ranks = order.argsort(-1)
        borrowed = values[partner].gather(-1, ranks).view(x.shape)
        return x + (1 - share) * (borrowed - x.detach())


class DSU(StyleLayer):
    """Draw each image's mean and deviation anew, as far from its own as the batch's are spread.

    Args:
        p: probability that a batch is changed.
        factor: of the spread.
        eps: added to variances.

    Source: Li et al., "Uncertainty Modeling for Out-of-Distribution Generalization", ICLR 2022.
    Gradients run through all statistics, as there. The new deviation can be negative.
    """

    abbr = 'DSU'
    paper = 'Li et al., "Uncertainty Modeling for Out-of-Distribution Generalization", ICLR 2022'

    def __init__(self, num_features: int, p=0.5, factor: float = 1, eps: float = 1e-6, norm=None):
        super().__init__(p)
        self.factor, self.eps = factor, eps

    def draw(self, x: Tensor) -> dict[str, Tensor]:
        shape = (*x.shape[:2], 1, 1)
        names = 'mean_noise', 'std_noise'  # in this order
        return {name: torch.randn(shape, dtype=x.dtype, device='cpu') for name in names}

    def restyle(self, x: Tensor, mean_noise: Tensor, std_noise: Tensor) -> Tensor:
        mean, std = moments(x, self.eps)
        mean_spread, std_spread = (
            (part.var(0, keepdim=True) + self.eps).sqrt() * self.factor for part in (mean, std)
        )
        return (x - mean) / std * (std + std_noise * std_spread) + mean + mean_noise * mean_spread


class PAdaIN(StyleLayer):
    """Give each image the mean and deviation of another one, seldom.

    Args:
        p: probability that a batch is changed; the default is the paper's, for a layer before
            every norm of a network.
        eps: added to the variance, and to the own deviation once more, as in the release.

    Source: Nuriel et al., "Permuted AdaIN", CVPR 2021. Gradients do not run through the other
    image's statistics, and do through the own.
    """

    abbr = 'PAdaIN'
    paper = (
        'Nuriel et al., "Permuted AdaIN: Reducing the Bias Towards Global Statistics in Image '
        'Classification", CVPR 2021'
    )

    def __init__(self, num_features: int, p: float = 0.01, eps: float = 1e-5, norm=None):
        super().__init__(p)
        self.eps = eps

    def draw(self, x: Tensor) -> dict[str, Tensor]:
        return dict(partner=_shuffled(x))

    def restyle(self, x: Tensor, partner: Tensor) -> Tensor:
        mean, std = moments(x, self.eps)
        other_mean, other_std = mean.detach()[partner], std.detach()[partner]
        return (x - mean) / (std + self.eps) * other_std + other_mean


class _Coin:
    """One decision a step for several layers: the first one flips it."""

    up = False


class NP(StyleLayer):
    """Multiply each image's deviation and mean, channel by channel, by numbers around 1.

    All layers of a network change a batch together, or none does: the first one, by `sites()`,
    decides. It has to run before the others.

    Args:
        p: probability that a batch is changed.
        std: standard deviation of both factors.

    Source: Fan et al., "Towards Robust Object Detection Invariant to Real-World Domain Shifts",
    ICLR 2023. Gradients run through all statistics.
    """

    abbr = 'NP'
    least = 1
    needs = ''
    paper = (
        'Fan et al., "Towards Robust Object Detection Invariant to Real-World Domain Shifts", '
        'ICLR 2023 (arXiv 2211.04393)'
    )

    def __init__(self, num_features: int, p: float = 0.5, std: float = 0.75, norm=None):
        super().__init__(p)
        self.std, self.coin, self.leads = std, _Coin(), True

    def joins(self, first: 'NP') -> None:
        """Leave the decision to `first`."""
        self.coin, self.leads = first.coin, self is first

    def acts(self) -> bool:
        if self.leads:
            self.coin.up = super().acts()
        return self.coin.up

    def draw(self, x: Tensor) -> dict[str, Tensor]:
        shape = (*x.shape[:2], 1, 1)
        names = 'std_noise', 'mean_noise'  # in this order
        return {name: torch.randn(shape, dtype=x.dtype, device='cpu') for name in names}

    def restyle(self, x: Tensor, std_noise: Tensor, mean_noise: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        by_mean = 1 + self.std * mean_noise * self.reach(mean)
        return (1 + self.std * std_noise) * (x - mean) + by_mean * mean

    def reach(self, mean: Tensor) -> Tensor | float:
        """How far each channel's mean may go, of means (N, C, 1, 1)."""
        return 1.0


class NPPlus(NP):
    """As `NP`, with the means of those channels moved most that differ most within the batch.

    Args:
        cap: the reach of the channel whose mean differs most.

    Source: as `NP`.
    """

    abbr = 'NPPlus'
    least = 2
    needs = StyleLayer.needs

    def __init__(self, num_features: int, p=0.5, std=0.75, cap: float = 1.5, norm=None):
        super().__init__(num_features, p, std)
        self.cap = cap

    def reach(self, mean: Tensor) -> Tensor:
        # A batch of equal images has no spread: then no mean moves.
        spread = mean.var(0, keepdim=True).clamp_min(torch.finfo(mean.dtype).tiny).sqrt()
        return self.cap * spread / spread.amax(1, keepdim=True)
