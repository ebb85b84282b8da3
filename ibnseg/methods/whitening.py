"""Whitening losses of RobustNet: IW, IRW and ISW."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..norms import instance
from . import clusters, ranks

_PAPER = (
    'Choi et al., "RobustNet: Improving Domain Generalization in Urban-Scene Segmentation via '
    'Instance Selective Whitening", CVPR 2021'
)


def covariance(y: Tensor, eps: float = 1e-5) -> Tensor:
    """Return the channels' covariance of each image, (N, C, C), of standardised maps (N, C, H, W).

    In float32 or wider, whatever autocast says. Divided by HW - 1; eps is added to the diagonal.
    """
    with torch.autocast(y.device.type, enabled=False):
        f = y.to(torch.promote_types(y.dtype, torch.float32)).flatten(2)
        unit = torch.eye(f.shape[1], dtype=f.dtype, device=f.device)
        return f @ f.mT / (f.shape[2] - 1) + eps * unit


class IW(instance.InstanceNorm):
    """InstanceNorm without scale and shift, and the loss of what its output is not white in.

    Instance whitening: the loss is the mean absolute covariance of two different channels. Maps
    (N, C, H, W) to the same shape, alike in training and evaluation; no parameters.

    Source: Choi et al., "RobustNet", CVPR 2021.
    """

    abbr = 'IW'
    loss_weight = 0.8
    paper = _PAPER
    cost = 'no parameters; C x C covariances at each site in training, an InstanceNorm at test time'
    needs = ''

    def __init__(self, num_features: int, eps: float = 1e-5, norm=None):
        nn.InstanceNorm2d.__init__(self, num_features, eps=eps)
        self.site = type(self).__name__

    def forward(self, input: Tensor) -> Tensor:
        c = self.num_features
        unit, nothing = input.new_ones(c), input.new_zeros(c)
        return instance._instance_norm(input, unit, nothing, self.eps, self.site)

    def from_plain(self, plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """There is nothing to take."""
        return {}

    def pairs(self) -> Tensor:
        """Return the mask (C, C) of the entries that the loss counts, within the upper triangle."""
        return torch.ones(self.num_features, self.num_features, dtype=torch.bool).triu(1)

    def margin(self, count: Tensor) -> Tensor:
        """Return how large the sum of `count` entries may be without a loss."""
        return torch.zeros_like(count)

    def loss(self, y: Tensor) -> Tensor:
        """Return the mean over images of max(0, sum of counted |covariances| - margin) / count.

        Args:
            y: the layer's output (N, C, H, W).
        """
        counted = self.pairs().to(y.device)
        count = counted.sum()
        found = (covariance(y, self.eps).abs() * counted).sum((1, 2))
        return ((found - self.margin(count)) / count.clamp_min(1)).clamp_min(0).mean()


class IRW(IW):
    """As `IW`, with a margin: instance-relaxed whitening.

    Args:
        relax: the sum of the |covariances| may be as large as their number divided by this, whole
            part, without a loss; 64 where RobustNet trains on GTA5, 32 on Cityscapes.
    """

    abbr = 'IRW'
    loss_weight = 0.6

    def __init__(self, num_features: int, relax: float = 64, eps: float = 1e-5, norm=None):
        super().__init__(num_features, eps)
        if not relax > 0:
            raise ValueError(f'IRW: relax is {relax!r}; expected more than 0')
        self.relax = relax

    def margin(self, count: Tensor) -> Tensor:
        return torch.floor(count.double() / self.relax)


class ISW(IW):
    """As `IW`, of those entries alone that change with the appearance of a photo.

    Which they are is found once, by a `StatisticsPass`: the variance of each entry over a photo
    and the same one with other colours is clustered, and those above the lowest cluster count.
    Until then the loss is 0; it stays 0 where no entry is left.

    Buffers, in the state dict: `mask` (C, C) bool, within the upper triangle, and `settled` ().

    Args:
        clusters: of the variances; 3 where RobustNet trains on GTA5, 2 on Cityscapes.
    """

    abbr = 'ISW'
    loss_weight = 0.6
    cost = f'{IW.cost}; 5,000 pairs of whole photos once'
    needs = "custom_hooks with dict(type='StatisticsPass')"
    statistics: dict = {}  # the defaults of StatisticsPass

    def __init__(self, num_features: int, clusters: int = 3, eps: float = 1e-5, norm=None):
        super().__init__(num_features, eps)
        if not (isinstance(clusters, int) and clusters >= 2):
            raise ValueError(f'ISW: clusters is {clusters!r}; expected a whole number from 2')
        self.clusters = clusters
        mask = torch.zeros(num_features, num_features, dtype=torch.bool)
        self.register_buffer('mask', mask)
        self.register_buffer('settled', torch.tensor(False))
        self._variance, self._seen = None, 0

    def pairs(self) -> Tensor:
        return self.mask

    def observe(self, y: Tensor) -> None:
        """Take in a photo and its changed copy, the two images of y (2, C, H, W)."""
        if len(y) != 2:
            raise ValueError(f'{self.site}: ISW observes pairs; got {len(y)} images')
        one, other = covariance(y, self.eps).double()
        found = ((one - other).square() / 2).triu(1)
        self._variance = found if self._variance is None else self._variance + found
        self._seen += 1

    def settle(self, trial: int) -> None:
        """Make the mask of what was observed since the last call, in all processes together.

        Args:
            trial: 0 begins a new mask; later ones keep what is in all of them.
        """
        if self._variance is None:  # this process had no photo
            c = self.num_features
            self._variance = self.mask.new_zeros(c, c, dtype=torch.float64)
        total, seen = ranks.summed(self._variance), ranks.summed(torch.tensor(float(self._seen)))
        self._variance, self._seen = None, 0
        if not seen:
            raise ValueError(f'{self.site}: ISW is to settle and has observed nothing')
        found = sensitive(total / seen.to(total), self.clusters).to(self.mask.device)
        self.mask.copy_(found if trial == 0 else self.mask & found)
        self.settled.fill_(True)


def sensitive(variance: Tensor, k: int) -> Tensor:
    """Return the mask (C, C) of the variances above the lowest of k clusters.

    Args:
        variance: (C, C), zero outside of the upper triangle; these zeros are clustered, too, as in
            RobustNet. They are never in the mask.
    """
    bound = clusters.lowest_bound(variance.cpu().numpy(), k)
    return (variance > bound).triu(1)
