"""What a weight file is, and the same weights as safetensors, by the original's names or ours."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import disk
from . import dialects, files, load, networks, plain

NAMINGS = ('original', 'ours')
_STEMS = {'stem.6.weight': 'three 3x3', 'conv1.weight': '7x7', 'features.conv0.weight': '7x7'}
_STATISTICS = ('running_mean', 'running_var', 'num_batches_tracked')


@dataclass(frozen=True)
class Description:
    """What can be told of a weight file.

    Args:
        network: config of the backbone that the keys fit; None: not one of the family's.
        tensors, parameters: of the backbone; running statistics are no parameters.
        others: names in the file of what is not the backbone's.
        metadata: what a safetensors file says of itself.
    """

    path: Path
    sha256: str
    dialect: dialects.Dialect
    network: dict[str, Any] | None
    tensors: int
    parameters: int
    others: tuple[str, ...]
    file: dialects.Translation
    metadata: dict[str, str]

    @property
    def stem(self) -> str:
        """The stem in words."""
        for key, kind in _STEMS.items():
            if key in self.file.tensors:
                return f'{kind}, {len(self.file.tensors[key])} channels'
        return 'not found'


def describe(source: str | os.PathLike) -> Description:
    """Find out what a weight file holds.

    Raises:
        FileNotFoundError, ValueError: as `files.read`; or no tensors are in it.
    """
    path = files.locate(source)
    content = files.read(path)
    try:
        given, beside = files.select(content)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from None
    if not given:
        raise ValueError(f'{path}: no tensors. {files.layout(content)}')
    dialect = dialects.detect([*files.unwrap(content), *given])
    file = dialects.translate(given, dialect)
    body = dialects.without_heads(file.tensors)
    heads = (key for key in file.tensors if key not in body)
    return Description(
        path=path,
        sha256=disk.sha256(path),
        dialect=dialect,
        network=networks.guess(body),
        tensors=len(body),
        parameters=sum(v.numel() for key, v in body.items() if not key.endswith(_STATISTICS)),
        others=(*(key for new in heads for key in file.sources[new]), *file.dropped, *beside),
        file=file,
        metadata=files.metadata(path),
    )


def convert(
    source: str | os.PathLike, out: str | os.PathLike, to: str = 'ours', arch: str | None = None
) -> load.Report:
    """Write the weights of any readable file as safetensors, whole or not at all.

    The file's metadata say where it comes from: name and SHA-256 of the source, its dialect, the
    network, the naming and the account of what became of its keys.

    Args:
        to: 'ours': the backbone's own names, no head; 'original': those of the IBN-Net release,
            with the ImageNet classifier if the source has one.
        arch: name of a network (`networks.network`) that the weights are fitted to, say
            'resnet50_ibn_b' for plain ones; default: the one that they are of.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: as `files.read` and `load_weights`; the
            network can't be told from the keys; the original has no such names; `out` exists
            already or can't be written.
    """
    if to not in NAMINGS:
        raise ValueError(f'to={to!r}; choose from {NAMINGS}')
    out = Path(out)
    check_place(out)
    found = describe(source)
    config = networks.network(arch) if arch else found.network
    if config is None:
        raise ValueError(
            f'{found.path}: its keys ({found.dialect.name}) are not just those of any network of '
            'ours. Name the one that it should fit with --arch, e.g. --arch resnet50_ibn_a; what '
            'does not fit will be listed'
        )
    from .. import __version__  # is set after this module is imported

    net = networks.models().build(dict(config))
    report = load.load_weights(net, found.path)
    state = net.state_dict()
    if to == 'original':
        head = _original_head(state, found)
        state |= head
        for key in (key for new in head for key in found.file.sources[new]):
            report.dropped.remove(key)
            report.loaded.append(key)
    metadata = dict(
        format='pt',
        ibnseg=__version__,
        source=found.path.name,
        source_sha256=found.sha256,
        dialect=found.dialect.name,
        network=json.dumps(config),
        naming=to,
        report=str(report),
    )
    if trained_on := files.trained_on(found.path):
        metadata['trained_on'] = trained_on
    _write(state, metadata, out)
    return report


def unpickle(source: str | os.PathLike, out: str | os.PathLike) -> list[str]:
    """Write the weights of a file that holds objects as one that `files.read` takes.

    This runs whatever code the file holds: for files of one's own only. Weights and plain values of
    `meta` are kept, whole or not at all.

    Returns: the names of what was left out, beside the weights.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: no such file, or no weights in it; `out`
            exists already or can't be written.
    """
    out, path = Path(out), files.locate(source)
    check_place(out, ('.pth', '.pt'))
    try:
        held = torch.load(path, map_location='cpu', weights_only=False)
    except Exception as error:  # it may run anything
        raise ValueError(
            f'{path}: cannot be unpickled ({type(error).__name__}: {error})'
        ) from error
    held = held if isinstance(held, Mapping) else {}
    state = plain.kept(held.get('state_dict', held))
    if not any(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f'{path}: no weights in it; expected a checkpoint with a state_dict')
    content = dict(state_dict=state, meta=plain.kept(held.get('meta') or {}))
    disk.write_by(out, lambda file: torch.save(content, file))
    return [str(key) for key in held if 'state_dict' in held and key not in content]


def _original_head(state: Mapping[str, Tensor], found: Description) -> dict[str, Tensor]:
    newer = [key for key in state if key.startswith('stem.') or key.endswith('downsample.2.weight')]
    if newer:
        raise ValueError(
            f'{found.path}: the original release has no deep stem and no avg_down, so no names '
            f'for {newer[0]}, ... Use --to ours'
        )
    heads = ('classifier.' if 'features.conv0.weight' in state else 'fc.',)
    return {key: value for key, value in found.file.tensors.items() if key.startswith(heads)}


def check_place(out: Path, suffixes: tuple[str, ...] = ('.safetensors',)) -> None:
    """Raise ValueError, FileNotFoundError or FileExistsError where no new file may be written."""
    if out.suffix not in suffixes:
        raise ValueError(f'{out}: expected a name that ends in {" or ".join(suffixes)}')
    if not out.parent.is_dir():
        raise FileNotFoundError(f'{out.parent}: no such folder')
    if out.exists():
        raise FileExistsError(f'{out} exists already; delete it or choose another name')


def _write(state: Mapping[str, Tensor], metadata: dict[str, str], out: Path) -> None:
    from safetensors.torch import save

    # Copies: safetensors refuses tensors that share memory.
    state = {key: value.detach().clone().contiguous() for key, value in state.items()}
    disk.write_atomically(out, save(state, metadata))
