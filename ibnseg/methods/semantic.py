"""Semantic-aware normalisation and whitening (SAN, SAW)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..norms import instance

#: The values of a map that its regions are told by are rounded to so many levels.
_LEVELS = 256
#: Up to so many values are not rounded.
_FEW = 512


class SAN(nn.Module):
    """Normalise the pixels of each of some classes by themselves.

    Maps (N, C, H, W) to the same shape, alike in training and evaluation. A 1x1 classifier says
    which pixels are of a class; of these, an attention of the class and the region of large
    values count. The sum of the classes' normalised maps takes the map's place.

    The loss is that of the normalised map to the one that the labels would give, and of the
    classifier; with `saw`, also the covariance within groups of one channel a class.

    Parameters: `weight`, `bias` (C) of the InstanceNorm; `classifier`; a convolution a class.

    Args:
        num_features: C.
        classes: indices to normalise; default: road, sky, building, sidewalk, vegetation.
        num_classes: of the classifier and the labels.
        saw: semantic-aware whitening, too.
        regions: whose values are clustered: an 'image', the whole 'batch', or 'none': every pixel
            is in the region. Default: 'image', or as released: 'none'.
        as_released: as the released code works: its clustering fails, and the convolution of the
            first class serves all. For files trained by it.

    Raises ValueError for classes that are none of `num_classes`, and an unknown `regions`.

    Source: Peng et al., "Semantic-Aware Domain Generalized Segmentation", CVPR 2022.
    """

    abbr = 'SAN'
    with_labels = True
    with_input = True
    loss_weight = 0.2  # 0.1 a site, as released
    paper = 'Peng et al., "Semantic-Aware Domain Generalized Segmentation", CVPR 2022'
    cost = '2C + 19 (C + 1) + 735 parameters a site; five maps more a site, at test time, too'
    needs = ''

    def __init__(
        self,
        num_features: int,
        classes: Sequence[int] = (0, 10, 2, 1, 8),
        num_classes: int = 19,
        saw: bool = False,
        regions: str | None = None,
        eps: float = 1e-5,
        as_released: bool = False,
        norm=None,
    ):
        super().__init__()
        if not classes or len({*classes} & {*range(num_classes)}) < len(classes):
            raise ValueError(
                f'SAN: classes are {classes!r}; expected different ones, from 0 to '
                f'{num_classes - 1} (num_classes)'
            )
        regions = regions or ('none' if as_released else 'image')
        if regions not in ('image', 'batch', 'none'):
            raise ValueError(f"SAN: regions is {regions!r}; choose from 'image', 'batch', 'none'")
        if saw and num_features < len(classes):
            raise ValueError(f'SAN: saw with {num_features} channels; expected one a class or more')
        self.classes, self.saw, self.regions, self.eps = tuple(classes), saw, regions, eps
        self.as_released, self.site = as_released, type(self).__name__
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.classifier = nn.Conv2d(num_features, num_classes, 1)
        self.branches = nn.ModuleList(nn.Conv2d(3, 1, 7, padding=3, bias=False) for _ in classes)
        if as_released:  # no gradient comes to the others
            self.branches[1:].requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.normalised(x, self.classifier(x.detach())).to(x.dtype)

    def normalised(self, x: Tensor, logits: Tensor) -> Tensor:
        """Return the layer's output for the logits (N, num_classes, H, W) of its classifier."""
        shares, total = logits.softmax(1), 0
        for i, k in enumerate(self.classes):
            share = shares[:, k : k + 1]
            z = x * share
            said = torch.cat([z.mean(1, keepdim=True), z.amax(1, keepdim=True), share], 1)
            z = z * self.branches[0 if self.as_released else i](said).sigmoid()
            if self.regions != 'none':
                z = z * self._region(z.detach().mean(1, keepdim=True))
            total = total + self._norm(z)
        return total.relu()

    def target(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return the output that labels (N, H', W') would give, their nearest to each pixel."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        near = F.interpolate(labels[:, None].to(x.dtype), x.shape[2:])
        return sum(self._norm(x * (near == k)) for k in self.classes).relu()

    def loss(self, maps: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
        """Return the loss of a site.

        Args:
            maps: the layer's input and output (N, C, H, W).
            labels: (N, H', W') of class indices, 255 where none counts.
        """
        x, y = maps
        logits = self.classifier(x.detach())
        logits = F.interpolate(logits, labels.shape[1:], mode='bilinear', align_corners=True)
        told = F.cross_entropy(logits, labels.long(), ignore_index=255, reduction='sum')
        like_labels = F.smooth_l1_loss(y, self.target(x, labels))
        white = self.whitening(y) if self.saw else 0
        # Over all pixels, as MMSegmentation's own: processes with equal batches are one batch.
        return told / labels.numel() + like_labels + white

    def whitening(self, y: Tensor, relax: float = 2) -> Tensor:
        """Return SAW's loss of a map (N, C, H, W).

        Group r has the channel that is r-th in |weight| for each class's classifier, times the
        sigmoid of that weight. Its covariances may have a sum of their number / `relax`, whole
        part; what is above it counts, over their number, summed over groups.
        """
        size = self.classifier.weight.detach()[list(self.classes)].flatten(1).abs()
        size, order = size.sort(dim=1, descending=True, stable=True)
        with torch.autocast(y.device.type, enabled=False):
            flat = y.to(torch.promote_types(y.dtype, torch.float32)).flatten(2)
            size = size.to(flat.dtype).sigmoid()
            groups = y.shape[1] // len(self.classes)
            f = flat[:, order.T[:groups]] * size.T[:groups, :, None]  # (N, groups, classes, HW)
            found = (f @ f.mT / (f.shape[-1] - 1)).abs().triu(1).sum((2, 3))
        count = len(self.classes) * (len(self.classes) - 1) // 2
        return ((found - count // relax) / max(count, 1)).clamp_min(0).mean(0).sum()

    def _norm(self, z: Tensor) -> Tensor:
        return instance._instance_norm(z, self.weight, self.bias, self.eps, self.site)

    def _region(self, values: Tensor) -> Tensor:
        """Return the mask of what lies above the lowest of five clusters of values (N, 1, H, W)."""
        together = values.flatten()[None] if self.regions == 'batch' else values.flatten(1)
        return values > _lowest(together, 5)[..., None, None]


def _lowest(values: Tensor, k: int) -> Tensor:
    """Return an upper bound (N, 1) of the lowest of k clusters of each row of values (N, P).

    The clusters are those of the least sum of squared distances over all partitions of the values,
    of many values rounded, in tensors alone, so that nothing waits for a GPU and exporters can
    follow.
    """
    low, high = values.aminmax(dim=1, keepdim=True)
    step = (high - low) / (_LEVELS - 1)
    step = torch.where(step > 0, step, torch.ones_like(step))
    if values.shape[1] <= _FEW:
        bounds = values.sort(dim=1).values
        position = ((bounds.double() - low) / (step * (_LEVELS - 1)) - 0.5).nan_to_num(0)
        counts = torch.ones_like(position)
    else:
        level = ((values - low) / step).round().nan_to_num(0).clamp(0, _LEVELS - 1).long()
        position = torch.linspace(-0.5, 0.5, _LEVELS, dtype=torch.float64, device=values.device)
        counts = torch.zeros_like(level[:, :1], dtype=torch.float64).repeat(1, _LEVELS)
        counts = counts.scatter_add(1, level, torch.ones_like(level, dtype=torch.float64))
        levels = torch.arange(_LEVELS, dtype=step.dtype, device=values.device)
        bounds = low + (levels + 0.5) * step
    sums = [F.pad((counts * position**i).cumsum(1), (1, 0)) for i in (0, 1, 2)]
    number, sum_, square = (one[:, None, 1:] - one[:, :-1, None] for one in sums)
    spread = (square - sum_**2 / number.clamp_min(1)).clamp_min(0)  # of points first..last
    backwards = torch.ones_like(spread[0], dtype=torch.bool).tril(-1)
    spread = spread.masked_fill(backwards, float('inf'))
    rest = spread[:, :, -1]  # the least of all from a point on, in one cluster, then in more
    for _ in range(k - 2):
        rest = (spread + _after(rest)[:, None]).amin(2)
    return bounds.gather(1, (spread[:, 0] + _after(rest)).argmin(1, keepdim=True))


def _after(rest: Tensor) -> Tensor:
    return F.pad(rest[:, 1:], (0, 1), value=float('inf'))
