"""Feature divergence of two sets of images, layer by layer (Pan et al., ECCV 2018, section 4.4).

F is the mean of a channel's map over the image. Over the images of a set it is taken as Gaussian.
KL(A||B) = log(sB / sA) + (sA^2 + (mA - mB)^2) / (2 sB^2) - 1/2, D = KL(A||B) + KL(B||A), and the
divergence of a layer is the mean of D over its channels.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import disk, progress
from ..blocks import DenseLayer, ResidualBlock
from ..errors import DataError
from ..measure import origin
from ..measure.protocols import protocol_hash
from ..pipeline import appearance
from . import networks, plots

#: A standard deviation below this share of the mean is rounding of float32.
_ROUNDING = 1e-6


@dataclass
class Moments:
    """Mean and variance of each channel over any number of images, in float64.

    Batches are joined by Chan, Golub & LeVeque's formula: constant memory, and no cancellation.
    """

    count: int = 0
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(0))  # of deviations, summed

    def add(self, values: np.ndarray) -> None:
        """Add the features of a batch, (images, channels)."""
        values = np.asarray(values, np.float64)
        if not len(values):
            return
        mean = values.mean(0)
        squares = ((values - mean) ** 2).sum(0)
        if not self.count:
            self.count, self.mean, self.squares = len(values), mean, squares
            return
        total = self.count + len(values)
        delta = mean - self.mean
        self.squares = self.squares + squares + delta**2 * (self.count * len(values) / total)
        self.mean = self.mean + delta * (len(values) / total)
        self.count = total

    @property
    def variance(self) -> np.ndarray:
        """Over the images (divided by n); 0 where a channel is constant but for rounding."""
        variance = self.squares / self.count
        return np.where(variance <= (_ROUNDING * self.mean) ** 2, 0, variance)


def divergence(a: Moments, b: Moments) -> np.ndarray:
    """Return the symmetric KL divergence D of each channel, float64.

    A channel that is constant in both sets, at one value, has D = 0. One that is constant in one
    set only, or at two values, has D = inf.
    """
    same = np.abs(a.mean - b.mean) <= _ROUNDING * np.maximum(np.abs(a.mean), np.abs(b.mean))
    va, vb, shift = a.variance, b.variance, (a.mean - b.mean) ** 2
    with np.errstate(divide='ignore', invalid='ignore'):
        # log(sB / sA) and log(sA / sB) cancel out.
        found = (va + shift) / (2 * vb) + (vb + shift) / (2 * va) - 1
    found = np.where((va > 0) & (vb > 0), found, np.inf)
    return np.where((va == 0) & (vb == 0) & same, 0.0, np.maximum(found, 0.0))


def points(trunk: nn.Module, names: Iterable[str] = ()) -> dict[str, tuple[nn.Module, bool]]:
    """Return where features are taken: name -> (module, whether from its input).

    The stem's are those after its ReLU, a block's those that it gives (of a DenseNet's layers:
    the new maps).

    Args:
        names: modules of the trunk instead, whose outputs are taken.

    Raises:
        ValueError: an unknown module, or a network whose blocks are not known.
    """
    modules = dict(trunk.named_modules())
    if names := list(names):
        if unknown := [name for name in names if name not in modules]:
            shown = ', '.join(list(modules)[1:12])
            raise ValueError(f'--at {unknown[0]}: no such module; there are {shown}, ...')
        return {name: (modules[name], False) for name in names}
    stem = [name for name in ('maxpool', 'features.pool0') if name in modules]
    blocks = {n: m for n, m in modules.items() if isinstance(m, ResidualBlock | DenseLayer)}
    blocks = blocks or {
        f'{stage}.{name}': block
        for stage in ('layer1', 'layer2', 'layer3', 'layer4')
        for name, block in getattr(trunk, stage, nn.Sequential()).named_children()
    }
    if not blocks:
        raise ValueError(
            f'{type(trunk).__name__} has no blocks that are known; name modules of it by --at'
        )
    found = {'stem': (modules[stem[0]], True)} if stem else {}
    return found | {name.removeprefix('features.'): (m, False) for name, m in blocks.items()}


@contextlib.contextmanager
def watched(
    places: dict[str, tuple[nn.Module, bool]], see: Callable[[str, np.ndarray], None]
) -> Iterator[None]:
    """Have `see(name, features)` be called with the (images, channels) of each forward pass."""

    def take(name: str, maps: Tensor) -> None:
        see(name, maps.double().mean((2, 3)).numpy(force=True))

    def hook(name: str, module: nn.Module, before: bool) -> Any:
        if before:
            return module.register_forward_pre_hook(lambda _, given: take(name, given[0]))
        return module.register_forward_hook(lambda _, given, maps: take(name, maps))

    handles = [hook(name, *place) for name, place in places.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def moments(
    trunk: nn.Module, batches: Iterable[Tensor], names: Iterable[str] = ()
) -> dict[str, Moments]:
    """Return the moments of a network's features over batches (N, C, H, W) at each point."""
    places = points(trunk, names)
    found = {name: Moments() for name in places}
    with watched(places, lambda name, values: found[name].add(values)):
        for batch in batches:
            trunk(batch.to(next(trunk.parameters()).device))
    return found


def by_layer(a: dict[str, Moments], b: dict[str, Moments]) -> list[dict[str, Any]]:
    """Return of each point: name, channels, D over the channels.

    `divergence` is the mean over the channels whose D is finite, `infinite` how many are not;
    `median` is over all. `means` and `variances` of F are of both sets.
    """
    rows = []
    for name in a:
        each = divergence(a[name], b[name])
        finite = each[np.isfinite(each)]
        middle = float(np.median(each))
        rows.append(
            dict(
                point=name,
                channels=len(each),
                divergence=float(finite.mean()) if len(finite) else None,
                median=middle if np.isfinite(middle) else None,
                infinite=int(len(each) - len(finite)),
                each=[float(d) if np.isfinite(d) else None for d in each],
                means=[one[name].mean.tolist() for one in (a, b)],
                variances=[one[name].variance.tolist() for one in (a, b)],
            )
        )
    return rows


def with_instance_norm(trunk: nn.Module) -> set[str]:
    """Return the points whose features come from an InstanceNorm of all channels (and a ReLU)."""
    norms = (m for m in trunk.modules() if isinstance(m, nn.InstanceNorm2d))
    # Only a site's own layer, not the part of an IBN layer, says whether it was inserted.
    return {norm.site.removesuffix('.after_add') for norm in norms if hasattr(norm, 'inserted')}


@dataclass(frozen=True)
class ImageSet:
    """Images to compare.

    Args:
        name: domain ('name:split'), folder or list.
        files, digest: see `appearance.image_files` and `digest_of`.
        domain: the name where it is a domain.
        change: name of what is done to them (`appearance.describe`).
    """

    name: str
    files: tuple[Path, ...] = field(repr=False)
    digest: str
    domain: str | None
    change: str = 'none'

    def __str__(self) -> str:
        changed = '' if self.change == 'none' else f', {self.change}'
        return f'{self.name}{changed} ({len(self.files):,} images)'

    def facts(self) -> dict[str, Any]:
        """Return what a data file says of it."""
        count = len(self.files)
        return dict(name=self.name, digest=self.digest, change=self.change, images=count)


def image_set(name: str, data_root: str, change: str = 'none', most: int | None = None) -> ImageSet:
    """Return a set of images; `most` of them, evenly spaced.

    Raises DataError: as `appearance.image_files`, or a single image.
    """
    files = appearance.image_files(name, data_root)
    if most is not None and most < len(files):
        kept = np.linspace(0, len(files) - 1, most).round().astype(int)
        files = tuple(files[i] for i in kept)
    if len(files) < 2:
        raise DataError(f'{name}: {len(files)} image; expected at least 2, for a variance')
    domain = name if appearance.is_domain(name) else None
    return ImageSet(name, files, appearance.digest_of(name, data_root), domain, change)


def of_chance(a: int, b: int) -> float:
    """Return about what D is of two samples of one Gaussian, of a and b images."""
    return 2 * (1 / a + 1 / b)


def run(
    specs: Sequence[str],
    sets: tuple[ImageSet, ImageSet],
    out: str | Path,
    data_root: str | None = None,
    changes: Callable[[networks.Network, str], Any] = lambda network, name: None,
    at: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure the divergence of two sets in several networks; write JSON, text and figure.

    Args:
        specs: see `networks.load`.
        out: folder.
        changes: gives the pipeline step of a set's `change` for a network.
        at: see `points`.

    Returns:
        The content of `divergence.json`.
    """
    for spec in specs:  # one that is not there is said at once
        networks.is_run(spec)
    measured = []
    for spec in specs:
        network = networks.load(spec, data_root)
        both, stated = [], dict(size=network.size, at=list(at), sets=[])
        for one in sets:
            step = changes(network, one.change)
            stated['sets'].append(one.facts() | dict(step=appearance.without_place(step)))
            files = progress.track(one.files, f'{network.name} {one.name}', len(one.files))
            batches = (network.prepare(f, i, one.domain, step) for i, f in enumerate(files))
            both.append(moments(network.trunk, batches, at))
        after_in = with_instance_norm(network.trunk)
        rows = [row | dict(after_in=row['point'] in after_in) for row in by_layer(*both)]
        facts = dict(name=network.name, file=network.file, sha256=network.sha256)
        facts |= dict(compared=stated, hash=protocol_hash(stated))
        measured.append(facts | dict(points=rows))
    networks.tell_apart(measured)
    found = dict(
        schema='ibnseg-divergence-1',
        sets=[one.facts() for one in sets],
        compared=f'{sets[0]} and {sets[1]}',
        of_chance=of_chance(*(len(one.files) for one in sets)),
        networks=measured,
        **origin.here(),
    )
    out = Path(out)
    disk.write_atomically(out / 'divergence.json', json.dumps(found, indent=1) + '\n')
    disk.write_atomically(out / 'divergence.md', text(found))
    plots.divergence(found, out / 'divergence.png')
    return found


def text(found: dict[str, Any]) -> str:
    """Return the Markdown of what `run` measured."""
    names = [one['name'] for one in found['networks']]
    lines = [
        f'Feature divergence between {found["compared"]}: mean of the symmetric KL divergence over '
        'the channels of a layer. Brackets: median over the channels. *: an InstanceNorm of all '
        f'channels stands right before. Two samples of one Gaussian would give about '
        f'{found["of_chance"]:.2g}.',
        '',
        f'| after | {" | ".join(names)} |',
        f'| :-- |{" --: |" * len(names)}',
    ]
    tables = [{row['point']: row for row in one['points']} for one in found['networks']]
    for point in dict.fromkeys(name for table in tables for name in table):
        cells = [_cell(table.get(point)) for table in tables]
        lines.append(f'| {point} | {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ''
    mean, median = (
        'inf' if value is None else f'{value:.3g}' for value in (row['divergence'], row['median'])
    )
    left_out = f', {row["infinite"]} of {row["channels"]} left out' if row['infinite'] else ''
    return f'{mean} ({median}{left_out})' + '*' * row['after_in']
