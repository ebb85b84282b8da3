"""WildNet's layer and losses: styles of wild photos in the features, and their contents."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .style import moments

#: Numbers in the largest matrix of similarities that is made at once.
_AT_ONCE = 1 << 25


class WildStyle(nn.Module):
    """Give features the means and deviations of those of wild photos, beside the features as such.

    The first one of a network, by `sites()`, gives a training batch (N, C, H, W) twice, the second
    time in the styles; further ones restyle the second half. In evaluation, each gives its input.
    Photo n takes the style of wild photo n, which the layer saw last while it was `watching`.

    Args:
        num_features: C; any.
        eps: added to variances.

    Raises RuntimeError in training, where it saw no wild photos.

    Source: Lee et al., "WildNet: Learning Domain Generalized Semantic Segmentation from the Wild",
    CVPR 2022. No gradient runs through the styles.
    """

    abbr = 'WildStyle'
    training_only = True
    segmentor = 'WildNetSegmentor'
    segmentor_loss = dict(consistency=10, extension=0.1)
    photos = dict(type='WildPhoto')
    paper = (
        'Lee et al., "WildNet: Learning Domain Generalized Semantic Segmentation from the Wild", '
        'CVPR 2022'
    )
    cost = (
        'two linear layers and a dictionary (403 MB as published) in training, about three times '
        'the computing; at test time a stem without norm'
    )
    needs = "model.type='WildNetSegmentor'; dict(type='WildPhoto', photos=FOLDER) behind the crop"

    def __init__(self, num_features: int, eps: float = 1e-5, norm=None):
        super().__init__()
        self.num_features, self.eps = num_features, eps
        self.leads, self.watching = True, False
        self.site = type(self).__name__
        self.style: tuple[Tensor, Tensor] | None = None

    @property
    def times(self) -> int:
        return 2 if self.leads else 1

    def joins(self, first: 'WildStyle') -> None:
        """Leave it to `first` to double the batch."""
        self.leads = self is first

    def from_plain(self, plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """There is nothing to take."""
        return {}

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return input
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        if self.watching:
            self.style = tuple(part.detach() for part in moments(x, self.eps))
            return input
        if self.style is None:
            raise RuntimeError(
                f"{self.site}: WildStyle has seen no wild photos. Set model.type='WildNetSegmentor'"
            )
        half = len(x) if self.leads else len(x) // 2
        styled = self.restyle(x[-half:], *self.style).to(input.dtype)
        return torch.cat([input[:half], styled])

    def restyle(self, x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Return maps (N, C, H, W) with other means and deviations, (N, C, 1, 1) each."""
        own_mean, own_std = moments(x, self.eps)
        return (x - own_mean) / own_std * std + mean


def divergence(logits: Tensor, styled: Tensor) -> Tensor:
    """Return KL(p || p of the styled), a mean over images, classes and pixels.

    Args:
        logits, styled: (N, K, H, W), both with gradient.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    one, other = (part.to(wide).log_softmax(1) for part in (logits, styled))
    return (one.exp() * (one - other)).mean().clamp_min(0)


def on_grid(features: Tensor, side: int) -> Tensor:
    """Return the nearest of maps (N, C, H, W) on a grid (N, C, side, side), of unit length."""
    wide = torch.promote_types(features.dtype, torch.float32)
    found = F.interpolate(features.to(wide), (side, side), mode='nearest')
    return F.normalize(found, dim=1)


def extension(
    features: Tensor,
    styled: Tensor,
    labels: Tensor,
    dictionary: Tensor,
    temperature: float = 0.07,
    ignored: int = 255,
) -> Tensor:
    """Return the loss of content extension.

    A pixel's feature is to be nearer to its own styled one than to those of other classes, and so
    to the content of the wild photos that is nearest to the styled one.

    Args:
        features, styled: (N, C, H, W), of unit length.
        labels: (N, H, W).
        dictionary: (C, K), columns of unit length.
        ignored: the label of pixels that do not count.
    """
    with torch.autocast(features.device.type, enabled=False):
        total = features.new_zeros(())
        for rows in zip(features, styled, labels, strict=True):
            s, w = (part.flatten(1).T for part in rows[:2])
            near = dictionary[:, nearest(w.detach(), dictionary)].T
            # The matrices of one photo at a time, in the backward pass, too.
            total = total + checkpoint(
                _of_photo, s, w, near, rows[2].flatten(), temperature, ignored, use_reentrant=False
            )
        return total / len(features)


def _of_photo(
    s: Tensor, w: Tensor, near: Tensor, labels: Tensor, temperature: float, ignored: int
) -> Tensor:
    known = labels != ignored
    # As released; it gives 0 where no pixel has a label.
    count = known.sum().to(s.dtype) + 1e-5
    logits = (s @ w.T).clamp(-1, 1) / temperature
    other = (labels[:, None] != labels) & known
    own = torch.eye(len(s), dtype=torch.bool, device=s.device)
    own_index = torch.arange(len(s), device=s.device)
    among = logits.masked_fill(~(other | own), -1 / temperature)[known]
    first = F.cross_entropy(among, own_index[known], reduction='sum')
    wanted = (s * near).sum(1, keepdim=True) / temperature
    rest = logits.masked_fill(~other, -torch.inf)
    second = torch.cat([wanted, rest], 1).logsumexp(1) - wanted[:, 0]
    return (first + second[known].sum()) / count


def nearest(rows: Tensor, dictionary: Tensor) -> Tensor:
    """Return the index of the column of a dictionary (C, K) nearest to each of rows (M, C)."""
    count = max(1, _AT_ONCE // dictionary.shape[1])
    return torch.cat([(part @ dictionary).argmax(1) for part in rows.split(count)])


def replace_oldest(dictionary: Tensor, pointer: Tensor, rows: Tensor) -> None:
    """Put rows (M, C) in the place of a dictionary's (C, K) oldest columns, those at `pointer`."""
    columns = dictionary.shape[1]
    places = (pointer + torch.arange(len(rows), device=rows.device)) % columns
    kept = slice(max(0, len(rows) - columns), None)
    dictionary[:, places[kept]] = rows[kept].T.to(dictionary)
    pointer.copy_((pointer + len(rows)) % columns)


def layers(network: nn.Module) -> Iterator[WildStyle]:
    """Yield the layers of a network."""
    return (module for module in network.modules() if isinstance(module, WildStyle))
