"""Anyone's network: how it is opened, and what it says of its classes and its input."""

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import disk, weights
from ..errors import DataError
from . import engines
from .formats import need


@dataclass
class Foreign:
    """A network from elsewhere.

    Args:
        network: float32 (N, 3, H, W), normalised, to (N, C, h, w).
        sha256: over its weights.
        name: for records and tables.
        classes: names of its outputs in order; () where it states none.
        facts: what it says of its input: `mean`, `std`, `order`, `photo`, `keep_ratio`; of the kind
            that a file of classes has.
        engine: what runs it; {} for torch.
        raw: it takes RGB from 0 to 255, and normalises itself.
    """

    network: Callable[[Tensor], Tensor] = field(repr=False)
    sha256: str
    name: str
    classes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    raw: bool = False


def open_spec(spec: str, engine: str | None = None, precision: str = 'float32') -> Foreign:
    """Open a network by what a person typed.

    Args:
        spec: 'onnx:FILE'; 'torchvision:NAME' or 'torchvision:NAME=FILE' (weights);
            'hf:FOLDER or name' of transformers, safetensors only and no code from there;
            'smp:FOLDER' of segmentation_models.pytorch; or 'package.module:function', own code
            that returns a torch module.
        engine, precision: of an ONNX file, see `engines.open_file`.

    Raises:
        ValueError: no such kind, or a package that is not installed.
        FileNotFoundError, DataError: no such file, or one that is refused.
    """
    kind, _, rest = spec.partition(':')
    if not rest:
        raise ValueError(
            f'--model {spec}: expected onnx:FILE, torchvision:NAME, hf:PATH, smp:FOLDER or '
            'package.module:function'
        )
    if kind == 'onnx':
        return _onnx(Path(rest), engine, precision)
    if engine:
        raise ValueError(f'--engine {engine} runs ONNX files; {kind} networks are run by torch')
    found = dict(torchvision=_torchvision, hf=_transformers, smp=_smp).get(kind)
    return found(rest) if found else _function(kind, rest)


def _onnx(path: Path, engine: str | None, precision: str) -> Foreign:
    from ..train.subject import in_torch

    opened = engines.open_file(path, engine or 'onnxruntime', precision)
    about, given = opened.about, opened.about.get('input', {})
    facts: dict[str, Any] = {}
    if given:
        facts = dict(mean=given['mean'], std=given['std'], order=given['channels'].lower())
        protocol = about.get('protocol')
        if isinstance(protocol, Mapping):
            facts |= {key: protocol[key] for key in ('photo', 'keep_ratio') if key in protocol}
    said = dict(name=opened.name, version=opened.version, precision=opened.precision)
    return Foreign(
        in_torch(opened),
        disk.sha256(path),
        about.get('model') or path.name.removesuffix('.onnx'),
        tuple(map(str, about.get('classes', ()))),
        facts,
        said,
        raw=opened.kind == 'uint8',
    )


def _torchvision(text: str) -> Foreign:
    (models,) = _package('torchvision.models', 'torchvision')
    name, _, file = text.partition('=')
    known = models.list_models(module=models.segmentation)
    if name not in known:
        raise ValueError(f'torchvision:{name}: choose from {", ".join(known)}')
    if not file:
        chosen = models.get_model_weights(name).DEFAULT
        network = models.get_model(name, weights=chosen)
        return _of_torch(network, name, tuple(chosen.meta['categories']))
    state = weights.unwrapped(_state(Path(file)))
    heads = [value for key, value in state.items() if key.startswith('classifier.')]
    extra = any(key.startswith('aux_classifier.') for key in state)
    network = models.get_model(
        name, weights=None, weights_backbone=None, num_classes=len(heads[-1]), aux_loss=extra
    ) if heads else models.get_model(name, weights=None, weights_backbone=None)  # fmt: skip
    _fill(network, state, file)
    return _of_torch(network, name)


def _transformers(text: str) -> Foreign:
    (transformers,) = _package('transformers', 'transformers')
    folder = Path(text)
    if folder.is_dir() and not [*folder.glob('*.safetensors')]:
        raise DataError(
            f'{folder}: no *.safetensors there; other files of weights can hold code and are not '
            'read. Save the network with safe_serialization=True'
        )
    if not folder.is_dir() and (folder.is_absolute() or text.startswith('.')):
        raise FileNotFoundError(f'{folder}: no such folder of a network')
    try:
        network = transformers.AutoModelForSemanticSegmentation.from_pretrained(
            text, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise ValueError(f'hf:{text}: {" ".join(str(error).split())[:300]}') from error
    labels = network.config.id2label
    facts = _processor(folder / 'preprocessor_config.json')
    return _of_torch(network, folder.name, tuple(labels[i] for i in sorted(labels)), facts)


def _processor(path: Path) -> dict[str, Any]:
    """Return mean and deviation that a folder of transformers states, of values from 0 to 255."""
    try:
        said = json.loads(path.read_text(encoding='utf-8'))
        scale = 1 / float(said.get('rescale_factor', 1 / 255))
        pair = [[scale * float(v) for v in said[key]] for key in ('image_mean', 'image_std')]
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return dict(mean=pair[0], std=pair[1], order='rgb')


def _smp(text: str) -> Foreign:
    (smp,) = _package('segmentation_models_pytorch', 'segmentation-models-pytorch')
    folder = Path(text)
    if not (folder / 'model.safetensors').is_file():
        raise DataError(
            f'{folder}: no model.safetensors there; expected a folder of save_pretrained. Other '
            'files of weights can hold code and are not read'
        )
    return _of_torch(smp.from_pretrained(str(folder)), folder.name)


def _function(module: str, name: str) -> Foreign:
    try:
        make = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f'--model {module}:{name}: {error}. Expected onnx:, torchvision:, hf:, smp:, or a '
            'function that Python can import from here'
        ) from error
    network = make()
    if not isinstance(network, nn.Module):
        raise ValueError(
            f'{module}:{name} returns {type(network).__name__}; expected a torch module'
        )
    return _of_torch(network, name, tuple(map(str, getattr(network, 'classes', ()) or ())))


class _Logits(nn.Module):
    """A network whose output may be a dict, a tuple or an object that holds the logits."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        found = self.network(images)
        if isinstance(found, Mapping):
            found = next((found[key] for key in ('out', 'logits') if key in found), None)
        elif isinstance(found, tuple | list):
            found = found[0]
        if not isinstance(found, Tensor) or found.ndim != 4:
            what = getattr(found, 'shape', type(found).__name__)
            raise ValueError(
                f'{type(self.network).__name__} gives {what}; expected logits (N, classes, H, W), '
                "alone, first of a tuple, or as 'out' or 'logits'"
            )
        return found.float()


def _of_torch(
    network: nn.Module, name: str, classes: tuple[str, ...] = (), facts: Mapping[str, Any] = {}
) -> Foreign:  # fmt: skip
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(f'{key} {value.dtype} {tuple(value.shape)}\n'.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return Foreign(_Logits(network.eval()), digest.hexdigest(), name, classes, dict(facts))


def _state(file: Path) -> Mapping[str, Tensor]:
    held = weights.read(file)
    return held.get('state_dict', held)


def _fill(network: nn.Module, state: Mapping[str, Tensor], file: str) -> None:
    if problems := weights.misfits(network.state_dict(), state):
        raise ValueError(f'{file} does not fit {type(network).__name__}. {"; ".join(problems)}')
    network.load_state_dict(state)


def _package(module: str, distribution: str) -> list[Any]:
    try:
        return need(module)
    except ValueError as error:
        raise ValueError(
            f'{distribution} is not installed, which this network needs: pip install {distribution}'
        ) from error
