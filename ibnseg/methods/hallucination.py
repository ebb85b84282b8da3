"""Style hallucination: a training batch, and the same in styles that the training photos span."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import ranks


class SHM(nn.Module):
    """Give a training batch twice: as it is, and in new styles.

    Maps (N, C, H, W) to (2N, C, H, W) in training, the second half with means and deviations that
    are random mixtures of the basis styles; in evaluation to its input. The basis styles are those
    of the training photos that lie farthest from one another, found by a `StatisticsPass`.

    Buffers, in the state dict: `proto_mean`, `proto_std` (styles, C), `settled` ().

    Args:
        num_features: C.
        styles: number of basis styles.
        concentration: of the Dirichlet distribution that mixes them; default: 1 / styles.
        eps: added to deviations.

    Raises:
        ValueError: fewer than two styles; maps of one pixel.
        RuntimeError: in training, where no basis styles were found.

    Source: Zhao et al., "Style-Hallucinated Dual Consistency Learning for Domain Generalized
    Semantic Segmentation", ECCV 2022. Gradients do not run through the statistics, as there.
    """

    abbr = 'SHM'
    training_only = True
    times = 2
    segmentor = 'SHADESegmentor'
    segmentor_loss = dict(consistency=10, retrospection=1)
    # Every 3 of the paper's 51.7 epochs, not in the last twentieth.
    statistics = dict(at=0, every=0.058, until=0.95, images=None, trials=1, change=None)
    paper = (
        'Zhao et al., "Style-Hallucinated Dual Consistency Learning for Domain Generalized '
        'Semantic Segmentation", ECCV 2022'
    )
    cost = 'no parameters; about twice the computing and memory of training, nothing at test time'
    needs = (
        "model.type='SHADESegmentor'; custom_hooks with dict(type='StatisticsPass', change=None, "
        'trials=1)'
    )

    def __init__(
        self,
        num_features: int,
        styles: int = 64,
        concentration: float | None = None,
        eps: float = 1e-7,
        norm=None,
    ):
        super().__init__()
        if not (isinstance(styles, int) and styles >= 2):
            raise ValueError(f'SHM: styles is {styles!r}; expected a whole number from 2')
        self.concentration, self.eps = concentration or 1 / styles, eps
        self.site = type(self).__name__
        self.register_buffer('proto_mean', torch.zeros(styles, num_features))
        self.register_buffer('proto_std', torch.ones(styles, num_features))
        self.register_buffer('settled', torch.tensor(False))
        self._seen: list[Tensor] = []

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return input
        if not self.settled:
            raise RuntimeError(
                f"{self.site}: SHM has no basis styles yet. Add dict(type='StatisticsPass', at=0, "
                'change=None, trials=1) to custom_hooks; elsewhere call observe(maps) for training '
                'photos in evaluation, then settle(0)'
            )
        if input.shape[-1] * input.shape[-2] == 1:
            raise ValueError(f'{self.site}: SHM needs more than one pixel a channel')
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        return torch.cat([input, self.restyle(x, **self.draw(x)).to(input.dtype)])

    def draw(self, x: Tensor) -> dict[str, Tensor]:
        """Draw how much of each basis style each image gets, (N, styles)."""
        alpha = torch.full((len(x), len(self.proto_mean)), self.concentration, dtype=torch.float64)
        share = torch.distributions.Dirichlet(alpha, validate_args=False).sample()
        return dict(share=share.to(x))

    def restyle(self, x: Tensor, share: Tensor) -> Tensor:
        """Return maps (N, C, H, W) in the styles of which each image has a share (N, styles)."""
        mean = x.mean((2, 3), keepdim=True).detach()
        std = x.std((2, 3), keepdim=True).detach() + self.eps
        new_mean, new_std = (
            (share @ basis.to(share))[:, :, None, None]
            for basis in (self.proto_mean, self.proto_std)
        )
        return (x - mean) / std * new_std + new_mean

    def observe(self, y: Tensor) -> None:
        """Note the styles of photos, from their maps (N, C, H, W)."""
        y = y.double()
        std = (y.var((2, 3)) + 1e-7).sqrt()
        self._seen.append(torch.cat([y.mean((2, 3)), std], 1).cpu())

    def settle(self, trial: int) -> None:
        """Choose the basis styles among those observed since the last call, in all processes.

        The first one is that of the first photo, whose order is random.

        Raises ValueError for fewer photos than styles.
        """
        count, channels = self.proto_mean.shape
        points = torch.cat([torch.zeros(0, 2 * channels, dtype=torch.float64), *self._seen])
        points, self._seen = ranks.dealt(points), []
        if len(points) < count:
            raise ValueError(
                f'{self.site}: {count} basis styles are to be chosen among {len(points)} photos. '
                f'Have the StatisticsPass see more images, or lower styles to {len(points)}'
            )
        chosen = points[farthest(points, count)].to(self.proto_mean)
        self.proto_mean.copy_(chosen[:, :channels])
        self.proto_std.copy_(chosen[:, channels:])
        self.settled.fill_(True)


def farthest(points: Tensor, count: int, start: int = 0) -> Tensor:
    """Return indices of `count` points (M, D), each the farthest from all chosen before."""
    chosen = [start]
    distance = (points - points[start]).square().sum(1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = distance.minimum((points - points[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen)


def consistency(logits: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of two predictions, the mean over images and pixels.

    Args:
        logits: (2N, K, H, W), those of one and the same photo N apart.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    one, other = wide.softmax(1).chunk(2)
    mean = ((one + other) / 2).clamp(1e-7, 1).log()
    total = sum(F.kl_div(mean, p, reduction='sum') for p in (one, other)) / 2
    return total / (one.numel() / one.shape[1])


def retrospection(
    features: Tensor, teacher: Tensor, labels: Tensor, classes: Sequence[int], least: float = 0.75
) -> Tensor:
    """Return the mean squared distance of features to a teacher's, on pixels of some classes.

    A pixel counts where one of the classes has a share of `least` or more of the labels below it;
    0 where none counts. Processes count the pixels of all.

    Args:
        features, teacher: (N, C, h, w).
        labels: (N, H, W).
    """
    told = torch.stack([labels == k for k in classes], 1).float()
    counts = (F.adaptive_avg_pool2d(told, features.shape[2:]) >= least).any(1)
    wide = torch.promote_types(features.dtype, torch.float32)
    distance = (features.to(wide) - teacher.to(wide)).square().mean(1)
    total = ranks.mean(counts.sum().to(wide))
    return (distance * counts).sum() / total.clamp_min(1 / ranks.place()[1])
