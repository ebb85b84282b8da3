"""Frozen vision transformers of timm with an adapter, and the maps that a head takes of them."""

import contextlib
import inspect
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from .. import _stack, disk, weights
from ..command import say_once
from ..methods.adapters import Rein, soma
from ..text import check_options, meant
from ..weights import dialects

#: The options that an adapter takes here.
OPTIONS = {
    'rein': [*inspect.signature(Rein).parameters][2:],  # after the network's depth and width
    'soma': ['rank', 'first', 'alpha'],
}
ADAPTERS = tuple(OPTIONS)
_DIGEST = 8  # bytes


@MODELS.register_module()
class FrozenViT(nn.Module):
    """A vision transformer of timm whose own weights are never trained, and an adapter.

    Images (N, 3, H, W), sides multiples of the patch, to maps (N, D, H / patch, W / patch) of some
    layers, and behind them the queries (m, query_dims) of a Rein that makes some. The transformer
    stays in evaluation mode.

    A checkpoint holds what is trained (the adapter, with SoMA the biases, too) and a hash of the
    file `pretrained`, which it is loaded with again. Without a file it holds everything.

    Args:
        name: of timm: 'vit_large_patch14_dinov2', 'vit_large_patch16_dinov3', 'eva02_...', ...
        pretrained: file of its weights, in timm's or the authors' names. Patches and positions are
            resized to `options`: bicubic, as Rein and SoMA do it; where they have other names than
            timm's (CLIP's and SAM's own files), as timm does it.
        adapter: 'rein', 'soma', None, or dict(kind=...) with options of `Rein`, or of SoMA `rank`,
            `alpha` and `first` (block; default: a third of them); `pretrained` there is a file that
            holds a trained adapter.
        out_indices: layers; default: those of Rein, (7, 11, 15, 23) of 24.
        options: of `timm.create_model`, say dict(img_size=512, patch_size=16).

    Raises:
        ValueError: timm or a torchvision that fits torch is missing, an unknown adapter or
            option, weights of another network, or a checkpoint whose adapter was trained on other
            weights.
    """

    def __init__(
        self,
        name: str,
        pretrained: str | None = None,
        adapter: str | Mapping[str, Any] | None = None,
        out_indices: Sequence[int] | None = None,
        options: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.net = _network(name, dict(options or {}))
        depth, width = len(self.net.blocks), self.net.embed_dim
        default = ((i + 1) * depth // 24 - 1 for i in (7, 11, 15, 23))
        self.out_indices = tuple(default if out_indices is None else out_indices)
        if sorted(set(self.out_indices) & {*range(depth)}) != [*self.out_indices]:
            raise ValueError(
                f'FrozenViT: out_indices is {self.out_indices}; expected rising ones below the '
                f'{depth} layers of {name}'
            )
        self.whole = pretrained is None
        if pretrained is not None:
            _load(self.net, pretrained)
            digest = bytes.fromhex(disk.sha256(weights.locate(pretrained)))[:_DIGEST]
            self.register_buffer('digest', torch.tensor([*digest], dtype=torch.uint8))
        self.net.requires_grad_(False).eval()
        kind, self._trained, stated = _adapter(adapter)
        self.reins = Rein(depth, width, **stated) if kind == 'rein' else None
        if kind == 'soma':
            first = stated.pop('first', depth // 3)
            if first not in range(depth):
                raise ValueError(
                    f'FrozenViT: first of SoMA is {first!r}; expected 0 to {depth - 1}, a block of '
                    f'{name}'
                )
            for block in self.net.blocks[first:]:
                soma(block, **stated)

    def init_weights(self) -> None:
        """Take a trained adapter; the transformer has its weights already."""
        if self._trained is not None:
            self.load_adapter(self._trained)

    def load_adapter(self, file: str) -> None:
        """Load a trained adapter: of a checkpoint of ibnseg, or Rein's or SoMA's as released.

        Raises ValueError where it is of another network, or was trained on other weights. Without
        `query_dims` those parts of Rein that make queries are passed over.
        """
        content = weights.read(file)
        state = weights.unwrapped(content.get('state_dict', content))
        start = 'backbone.' if any(key.startswith('backbone.') for key in state) else ''
        own = {
            k.removeprefix(start): t
            for k, t in state.items()
            if k.startswith(start) and isinstance(t, Tensor)
        }
        try:
            own = dialects.translate(own, dialects.detect(own)).tensors
        except ValueError as error:
            raise ValueError(f'{file}: {error}') from None
        trained = {key: p.detach() for key, p in self.named_parameters() if p.requires_grad}
        found = {k: t for k, t in own.items() if k in trained or k.startswith('reins.')}
        if self.reins is not None and not hasattr(self.reins, 'merge'):
            unused = ('reins.transform.', 'reins.merge.')
            found = {k: t for k, t in found.items() if not k.startswith(unused)}
        for key in found.keys() & trained:  # parts of a layer lie one below the other in a release
            if trained[key].ndim == 3 and found[key].shape == trained[key].flatten(0, 1).shape:
                found[key] = found[key].reshape(trained[key].shape)
        if problems := weights.misfits(trained, found):
            raise ValueError(f'{file} has no adapter for this network: {"; ".join(problems)}')
        self._check_frozen(file, {key: t for key, t in own.items() if key not in trained})
        with torch.no_grad():
            for key, tensor in trained.items():
                tensor.copy_(found[key])

    def _check_frozen(self, file: str, given: Mapping[str, Tensor]) -> None:
        """Raise ValueError where frozen vectors, which are never resized, or the hash differ."""
        self._check_digest(f'{file}: model.backbone.', given.get('digest'))
        frozen = {f'net.{key}': t for key, t in nn.Module.state_dict(self.net).items()}
        for key in given.keys() & frozen:
            own = frozen[key]
            if own.ndim == 1 and not torch.equal(own, given[key].to(own)):
                raise ValueError(
                    f'{file} was trained on other weights than those of model.backbone.pretrained: '
                    f'{key} differs. Name the file that it was trained on'
                )

    def _check_digest(self, prefix: str, digest: Tensor | None) -> None:
        """Raise ValueError where an adapter was trained on another file than `pretrained`."""
        if self.whole or digest is None or torch.equal(digest.cpu(), self.digest.cpu()):
            return
        raise ValueError(
            f'{prefix}pretrained is a file with hash {bytes(self.digest.tolist()).hex()}...; '
            f'the adapter was trained on {bytes(digest.tolist()).hex()}.... Name that file'
        )

    def train(self, mode: bool = True) -> 'FrozenViT':
        super().train(mode)
        self.net.eval()
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        patch = self.net.patch_embed.patch_size
        if any(side % one for side, one in zip(x.shape[2:], patch, strict=True)):
            raise ValueError(
                f'FrozenViT got images of {x.shape[3]}x{x.shape[2]}; expected multiples of its '
                f"patch of {patch[1]}x{patch[0]}. Set model.test_cfg = dict(mode='slide', "
                'crop_size=(512, 512), stride=(341, 341)), and such a crop in training'
            )
        with self._refined():
            maps = self.net.forward_intermediates(
                x, indices=[*self.out_indices], intermediates_only=True, norm=False,
                output_fmt='NCHW',
            )  # fmt: skip
        return [*maps, self.reins.queries()] if hasattr(self.reins, 'merge') else maps

    @contextlib.contextmanager
    def _refined(self) -> Iterator[None]:
        """Have Rein refine what each block gives; not for longer, so that a copy is its own."""
        prefix = getattr(self.net, 'num_prefix_tokens', 0)

        def refine(layer: int, y: Tensor) -> Tensor:
            if y.ndim == 3:
                return self.reins(y, layer, prefix)
            return self.reins(y.flatten(1, 2), layer, 0).view(y.shape)  # SAM's (N, H, W, D)

        blocks = enumerate(self.net.blocks if self.reins is not None else ())
        handles = [
            block.register_forward_hook(lambda module, given, y, i=i: refine(i, y))
            for i, block in blocks
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _frozen(self) -> list[str]:
        """Return the keys that a checkpoint leaves out."""
        if self.whole:
            return []
        trained = {key for key, p in self.net.named_parameters() if p.requires_grad}
        return [f'net.{key}' for key in nn.Module.state_dict(self.net) if key not in trained]

    def state_dict(self, *args: Any, destination=None, prefix: str = '', keep_vars: bool = False):
        found = super().state_dict(destination=destination, prefix=prefix, keep_vars=keep_vars)
        for key in self._frozen():
            found.pop(prefix + key, None)
        return found

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        self._check_digest(prefix, state_dict.get(f'{prefix}digest'))
        own = nn.Module.state_dict(self.net, prefix=f'{prefix}net.')
        for key in self._frozen():
            state_dict.setdefault(prefix + key, own[prefix + key])
        super()._load_from_state_dict(state_dict, prefix, *args)


def _adapter(
    stated: str | Mapping[str, Any] | None,
) -> tuple[str | None, str | None, dict[str, Any]]:
    """Return an adapter's kind, the file of its trained weights and its options."""
    options = dict(kind=stated) if isinstance(stated, str) else dict(stated or {})
    kind, trained = options.pop('kind', None), options.pop('pretrained', None)
    if kind not in (None, *ADAPTERS):
        near = meant(str(kind), ADAPTERS)
        raise ValueError(f'FrozenViT: adapter is {kind!r}; choose from {ADAPTERS}, None{near}')
    check_options(f'FrozenViT: adapter {kind!r}', options, OPTIONS.get(kind, []))
    return kind, trained, options


def _network(name: str, options: dict[str, Any]) -> nn.Module:
    try:
        import timm
    except Exception as error:
        if text := _stack.unfit_torchvision(error):
            raise ValueError(f'FrozenViT needs timm, and {text}') from None
        if not isinstance(error, ImportError):
            raise
        raise ValueError(
            f"FrozenViT needs timm ({error}). Install it: pip install 'ibnseg[timm]'"
        ) from None
    if name not in (known := timm.list_models()):
        raise ValueError(f'timm has no network {name!r}{meant(name, known)}')
    net = timm.create_model(name, pretrained=False, num_classes=0, **options)
    if not hasattr(net, 'forward_intermediates') or not hasattr(net, 'blocks'):
        raise ValueError(f'{name} is no vision transformer of one width; expected one')
    return net


def _load(net: nn.Module, file: str) -> None:
    """Load weights as published. Raises ValueError where some lack."""
    content = weights.read(file)
    inner = next((content[k] for k in ('state_dict', 'model') if k in content), content)
    state = _resized(weights.unwrapped(inner), net)
    renamed = getattr(sys.modules[type(net).__module__], 'checkpoint_filter_fn', None)
    try:
        if renamed is not None:
            state = renamed(state, net)
        missing, others = net.load_state_dict(state, strict=False)
    except (RuntimeError, KeyError) as error:
        raise ValueError(f'{file} does not fit {type(net).__name__}: {error}') from None
    if missing:
        raise ValueError(
            f'{file} lacks {len(missing)} tensors of this {type(net).__name__}, such as '
            f'{missing[0]}. Expected the weights of the network that `name` says'
        )
    if others:
        say_once(f'{Path(file).name}: {len(others)} tensors are not used, such as {others[0]}')


def _resized(state: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Return weights with patches and positions of the network's size, as Rein and SoMA do it.

    timm would keep a patch's response instead (FlexiViT, CVPR 2023): other maps, to which no
    released adapter was trained.
    """
    state = dict(state)

    def bicubic(y: Tensor, size: Sequence[int]) -> Tensor:
        return F.interpolate(y.float(), tuple(size), mode='bicubic', align_corners=False).to(y)

    patch = state.get('patch_embed.proj.weight')
    size = net.patch_embed.patch_size
    if patch is not None and patch.ndim == 4 and patch.shape[2:] != size:
        state['patch_embed.proj.weight'] = bicubic(patch, size)
    grid, positions = net.patch_embed.grid_size, state.get('pos_embed')
    if positions is not None and positions.ndim == 3:
        number = positions.shape[1]
        side = math.isqrt(number)
        first = number - side**2  # the class token's
        if number - math.prod(grid) not in (0, 1) and first in (0, 1):
            square = positions[:, first:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
            rest = bicubic(square, grid).flatten(2).mT
            state['pos_embed'] = torch.cat([positions[:, :first], rest], 1)
    return state


@MODELS.register_module()
class Rescale(nn.Module):
    """A neck without parameters: the same map at several scales, for heads of a pyramid.

    Queries (m, C) behind the maps pass as they are.

    Args:
        scales: of each map; above 1 bilinear, below 1 by the maximum.
    """

    def __init__(self, scales: Sequence[float] = (4, 2, 1, 0.5)):
        super().__init__()
        self.scales = tuple(scales)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        queries = [y for y in maps if y.ndim == 2]
        maps = maps[: len(maps) - len(queries)]
        return [*(_rescaled(y, s) for y, s in zip(maps, self.scales, strict=True)), *queries]


def _rescaled(y: Tensor, scale: float) -> Tensor:
    if scale < 1:
        return F.max_pool2d(y, round(1 / scale))
    if scale == 1:
        return y
    return F.interpolate(y, scale_factor=scale, mode='bilinear', align_corners=False)
