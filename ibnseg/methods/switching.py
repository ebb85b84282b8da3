"""Switchable Whitening."""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

#: Number of components -> their names. B and I are of the batch and of the image, W whitening with
#: a covariance, N normalising with variances, L of all channels of an image.
KINDS = {2: ('BW', 'IW'), 3: ('BW', 'IW', 'LN'), 5: ('BW', 'IW', 'BN', 'IN', 'LN')}


class SwitchWhiten(nn.Module):
    """Whiten groups of channels by a learnt mixture of batch, image and layer statistics.

    Maps (N, C, H, W) to the same shape. In training the batch's statistics are those of all
    processes together, and move the running ones, which evaluation takes in their place.

    Parameters: `weight`, `bias` (C), and the logits of the mixture, `sw_mean_weight` and, unless
    tied, `sw_var_weight`. Buffers: `running_mean` (G, c, 1), `running_cov` (G, c, c).

    Args:
        num_features: C.
        kind: components, see `KINDS`.
        group: c, channels that are whitened together; all where there are fewer.
        momentum: of the old running statistics.
        tied: mix covariances by the weights of the means.
        iterations: of Newton's method for the inverse square root.
        eps: added to the diagonal.
        sync: False for the statistics of each process alone.
        as_released: mix kind 5's variances as the released code does, whose shares do not sum to
            1: those of BW and IW serve BN and IN, too. For files trained by it.

    Raises:
        ValueError: an unknown kind, or C is no multiple of c.

    Source: Pan et al., "Switchable Whitening for Deep Representation Learning", ICCV 2019.
    """

    abbr = 'SW'
    paper = 'Pan et al., "Switchable Whitening for Deep Representation Learning", ICCV 2019'
    cost = '2C + 4 parameters a site; at test time, too, and no convolution can take it in'
    needs = ''

    def __init__(
        self,
        num_features: int,
        kind: int = 2,
        group: int = 16,
        momentum: float = 0.99,
        tied: bool = False,
        iterations: int = 5,
        eps: float = 1e-5,
        sync: bool = True,
        as_released: bool = False,
        norm=None,
    ):
        super().__init__()
        group = min(group, num_features)
        if kind not in KINDS:
            raise ValueError(f'SwitchWhiten: kind is {kind!r}; choose from {list(KINDS)}')
        if group < 1 or num_features % group:
            raise ValueError(
                f'SwitchWhiten: group is {group}; expected a divisor of the {num_features} channels'
            )
        self.num_features, self.kind, self.group, self.momentum = (
            num_features,
            kind,
            group,
            momentum,
        )
        self.iterations, self.eps, self.sync, self.as_released = iterations, eps, sync, as_released
        self.site = type(self).__name__
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.sw_mean_weight = nn.Parameter(torch.ones(kind))
        self.sw_var_weight = None if tied else nn.Parameter(torch.ones(kind))
        groups = num_features // group
        self.register_buffer('running_mean', torch.zeros(groups, group, 1))
        self.register_buffer('running_cov', torch.zeros(groups, group, group))

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            wide = input.to(torch.promote_types(input.dtype, self.weight.dtype))
            y = self._whitened(wide).to(input.dtype)
        if input.stride(1) == 1 and y.stride(1) != 1:
            y = y.contiguous(memory_format=torch.channels_last)
        return y

    def _whitened(self, input: Tensor) -> Tensor:
        n, channels, height, width = input.shape
        x = input.reshape(n, channels // self.group, self.group, height * width)
        mean, cov = self._mixed(x)
        y = self._inverse_root(cov) @ (x - mean)
        y = y.reshape(n, channels, height, width)
        return y * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)

    def _mixed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return means (N, G, c, 1) and covariances (N, G, c, c) of maps (N, G, c, HW)."""
        batch_mean, batch_cov = self._of_batch(x)
        image_mean = x.mean(-1, keepdim=True)
        centred = x - image_mean
        image_cov = centred @ centred.mT / x.shape[-1]
        unit = torch.eye(self.group, dtype=x.dtype, device=x.device)
        layer_mean = x.mean((1, 2, 3), keepdim=True)
        layer_cov = x.var((1, 2, 3), keepdim=True) * unit
        means = dict(BW=batch_mean, IW=image_mean, BN=batch_mean, IN=image_mean, LN=layer_mean)
        covs = dict(BW=batch_cov, IW=image_cov, BN=batch_cov * unit, IN=image_cov * unit)
        covs['LN'] = layer_cov
        names = KINDS[self.kind]
        of_means = self.sw_mean_weight.softmax(0)
        of_covs = of_means if self.sw_var_weight is None else self.sw_var_weight.softmax(0)
        if self.kind == 5 and self.as_released:
            of_covs = of_covs[[0, 1, 0, 1, 4]]
        mean = sum(share * means[name] for share, name in zip(of_means, names, strict=True))
        cov = sum(share * covs[name] for share, name in zip(of_covs, names, strict=True))
        return mean, cov + self.eps * unit

    def _of_batch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean (G, c, 1) and covariance (G, c, c): the batch's or the running ones."""
        if not self.training:
            return self.running_mean, self.running_cov
        flat = x.permute(1, 2, 0, 3).flatten(2)
        count = self._total(flat.new_tensor(float(flat.shape[-1])))
        mean = self._total(flat.sum(-1, keepdim=True)) / count
        centred = flat - mean
        cov = self._total(centred @ centred.mT) / count
        with torch.no_grad():
            for running, new in ((self.running_mean, mean), (self.running_cov, cov)):
                running.mul_(self.momentum).add_(new, alpha=1 - self.momentum)
        return mean, cov

    def _total(self, x: Tensor) -> Tensor:
        if not (self.sync and dist.is_available() and dist.is_initialized()):
            return x
        from torch.distributed.nn.functional import all_reduce  # not in every build of torch

        return all_reduce(x) if dist.get_world_size() > 1 else x

    def _inverse_root(self, cov: Tensor) -> Tensor:
        trace = cov.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
        scaled = cov / trace
        root = torch.eye(self.group, dtype=cov.dtype, device=cov.device)
        for _ in range(self.iterations):
            root = 1.5 * root - 0.5 * root @ root @ root @ scaled
        return root / trace.sqrt()

    def from_plain(self, plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take scale and shift; running statistics start from the norm's where it has them."""
        own = {name: value.clone() for name, value in self.state_dict().items()}
        own |= {name: plain[name] for name in ('weight', 'bias') if name in plain}
        if 'running_mean' in plain and 'running_var' in plain:
            own['running_mean'] = plain['running_mean'].view(self.running_mean.shape)
            own['running_cov'] = plain['running_var'].view(-1, self.group).diag_embed()
        return own

    def extra_repr(self) -> str:
        return f'{self.num_features}, kind={self.kind}, group={self.group}'
