"""Weights from files: read without running their code, fitted to a backbone, accounted for.

Every key of a file is loaded, converted or dropped for a stated reason; anything else raises.
"""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from .norms import IBN, InstanceNorm, ParallelIBN

_PREFIXES = ('module.', 'backbone.', 'base.')
_OLD_DENSENET = re.compile(r'(denselayer\d+\.(?:norm|conv))\.(?=\d\.)')  # torchvision's files
_HEADS = ('fc', 'classifier', 'heads', 'head', 'bottleneck', 'decode_head', 'auxiliary_head')


@dataclass
class Report:
    """What became of a file's tensors, by key. `initial`: the backbone's own, left as they were."""

    loaded: list[str] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    initial: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = f'{len(self.loaded)} tensors loaded'
        for verb, keys in (('converted', self.converted), ('dropped', self.dropped)):
            if keys:
                text += f', {len(keys)} {verb} ({_some(keys)})'
        if self.initial:
            text += f', {len(self.initial)} left at their initial value ({_some(self.initial)})'
        return text


def _some(keys: list[str], most: int = 4) -> str:
    return ', '.join(keys[:most]) + (', ...' if len(keys) > most else '')


def read(source: str | os.PathLike) -> dict[str, Any]:
    """Read a checkpoint file or http(s) address with `weights_only=True`, never otherwise.

    An address is cached under the torch hub directory; a file laid there is used offline.

    Raises:
        FileNotFoundError: no such file, or an address that can't be reached.
        ValueError: the file is damaged, or holds more than tensors and plain containers.
    """
    text = os.fspath(source)
    path = _download(text) if text.startswith(('http://', 'https://')) else Path(text)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such weight file')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        refused = re.search(r'WeightsUnpickler error: (.*?)(?: by default|$)', str(error), re.M)
        reason = (refused[1] if refused else str(error).split('\n')[0])[:200]
        raise ValueError(
            f'{path}: not a readable weight file ({type(error).__name__}: {reason}). Expected a '
            'torch checkpoint of tensors and plain containers; files that would run code on '
            'loading are refused. If the download broke, delete it and fetch it again'
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f'{path}: holds a {type(content).__name__}; expected a state dict')
    return content


def _download(url: str) -> Path:
    path = Path(torch.hub.get_dir()) / 'checkpoints' / url.rsplit('/', 1)[-1]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = re.search(r'-([0-9a-f]{8,})\.', path.name)
        try:
            torch.hub.download_url_to_file(
                url, str(path), hash_prefix=digest and digest[1], progress=False
            )
        except Exception as error:
            raise FileNotFoundError(
                f'{url}: could not be fetched ({error}). Without a network, lay the file at '
                f'{path}, or train from scratch with '
                '--cfg-options model.backbone.init_cfg=None'
            ) from error
    return path


def state_dict_of(content: Mapping[str, Any], prefix: str | None = None) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint's content, without wrappers and common prefixes.

    `state_dict` and `model` are unwrapped; `module.`, `backbone.`, `base.` stripped; with
    `prefix`, only the keys below it are taken.
    """
    for wrapper in ('state_dict', 'model'):
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = {
        _OLD_DENSENET.sub(r'\1', key): value
        for key, value in content.items()
        if isinstance(value, Tensor)
    }
    if prefix:
        prefix = prefix.rstrip('.') + '.'
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    for start in _PREFIXES:
        # A whole segmentor has heads beside `backbone.`; those keep their names and are dropped.
        tensors = {key.removeprefix(start): value for key, value in tensors.items()}
    return tensors


def load_weights(
    backbone: nn.Module,
    source: str | os.PathLike | Mapping[str, Any],
    prefix: str | None = None,
) -> Report:
    """Load a file (or address, or mapping) into an IBN backbone and say what became of each key.

    Takes the original release's state dicts as they are, and plain ImageNet ones: where the
    backbone has an IBN layer and the file a plain norm, the first part of its scale and shift goes
    to IN, all of the rest to BN; where the backbone has an IN, scale and shift are kept and the
    statistics dropped; inserted layers that the file does not know stay as they were built. Where
    IN and BN see the same channels (variant c) both get the plain norm's values, and the next
    convolution's weights are halved and repeated: it sees the mean of the two. Heads are dropped,
    and stages that the backbone does not have.

    Raises:
        FileNotFoundError, ValueError: as `read`; keys left unexplained, missing keys and wrong
            shapes are all listed in one ValueError, and the backbone is left untouched.
    """
    name = 'the mapping' if isinstance(source, Mapping) else os.fspath(source)
    content = source if isinstance(source, Mapping) else read(source)
    given = state_dict_of(content, prefix)
    wanted = backbone.state_dict()
    report = Report()

    result = _convert(backbone, given, report)
    unexplained = [key for key in result if key not in wanted]
    for key in list(unexplained):
        if key.split('.')[0] in _HEADS or _stage_not_built(key, wanted):
            report.dropped.append(key)
            unexplained.remove(key)
            del result[key]
    missing = [key for key in wanted if key not in result]
    # Only inserted layers may go without: one that replaces a norm has that norm's values.
    inserted = {
        key
        for path, module in backbone.named_modules()
        if getattr(module, 'inserted', False)
        and not any(key.startswith(f'{path}.') for key in result)
        for key in missing
        if key.startswith(f'{path}.')
    }
    counters = {key for key in missing if key.endswith('num_batches_tracked')}
    report.initial = [key for key in missing if key in inserted]
    missing = [key for key in missing if key not in inserted | counters]
    wrong = [
        f'{key} {tuple(result[key].shape)}, expected {tuple(wanted[key].shape)}'
        for key in result
        if key in wanted and result[key].shape != wanted[key].shape
    ]
    problems = [
        f'{what}: {_some(keys, 8)}'
        for what, keys in (
            ('keys with no place in the backbone', unexplained),
            ('keys the backbone needs and the file lacks', missing),
            ('wrong shapes', wrong),
        )
        if keys
    ]
    if problems:
        raise ValueError(
            f'{name} does not fit this {type(backbone).__name__}. '
            + '; '.join(problems)
            + '. Check depth, placement, ratio and deep_stem against the file'
        )
    backbone.load_state_dict(result, strict=False)
    report.loaded = [key for key in result if key in given and key not in report.converted]
    print_log(f'{name}: {report}', logger='current', level=logging.INFO)
    return report


def _stage_not_built(key: str, wanted: Mapping[str, Tensor]) -> bool:
    stage = re.match(r'(layer|features\.(denseblock|transition))[1-4]\.|features\.norm5\.', key)
    return bool(stage) and not any(other.startswith(stage[0]) for other in wanted)


def _convert(backbone: nn.Module, given: dict[str, Tensor], report: Report) -> dict[str, Tensor]:
    """Split or strip the plain norms that stand where the backbone has IBN or IN."""
    result = dict(given)
    for path, module in backbone.named_modules():
        norm = {
            name: result[f'{path}.{name}']
            for name in ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')
            if f'{path}.{name}' in result
        }
        if isinstance(module, (IBN, ParallelIBN)) and 'weight' in norm:
            for name, tensor in norm.items():
                del result[f'{path}.{name}']
                if module.IN is not None and name in ('weight', 'bias'):
                    result[f'{path}.IN.{name}'] = tensor[module.in_part]
                if module.BN is not None:
                    part = tensor[module.bn_part] if tensor.ndim else tensor
                    result[f'{path}.BN.{name}'] = part
                report.converted.append(f'{path}.{name}')
        elif isinstance(module, InstanceNorm) and 'running_mean' in norm:
            for name in norm:
                if name not in ('weight', 'bias'):
                    del result[f'{path}.{name}']
                    report.dropped.append(f'{path}.{name}')
        elif hasattr(module, 'copies') and 'weight' in norm:
            shares = [norm['weight'] / module.copies] * module.copies
            if norm['weight'].ndim == 4 and module.in_channels == sum(w.shape[1] for w in shares):
                result[f'{path}.weight'] = torch.cat(shares, 1)
                report.converted.append(f'{path}.weight')
    return result
