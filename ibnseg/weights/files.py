"""Files and addresses -> state dicts, without running any code from the file."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..text import meant
from . import cache, table

_WRAPPERS = ('state_dict', 'model')
_PREFIXES = ('module.', 'backbone.', 'base.')


def locate(source: str | os.PathLike) -> Path:
    """Return the local file of what `read` takes; see `cache.fetch`."""
    text = os.fspath(source)
    if text.startswith('ibn://'):
        name = text.removeprefix('ibn://')
        if name not in table.PUBLISHED:
            near, known = meant(name, table.PUBLISHED), ', '.join(table.PUBLISHED)
            raise ValueError(f'{text}: no such published weights{near}; choose from {known}')
        text = table.PUBLISHED[name].url
    path = cache.fetch(text) if text.startswith(('http://', 'https://')) else Path(text)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such weight file')
    return path


def read(source: str | os.PathLike) -> dict[str, Any]:
    """Read a checkpoint: a path, an http(s) address, or `ibn://NAME` of `table.PUBLISHED`.

    Files are read with `weights_only=True`, never otherwise, or as safetensors where the name ends
    so. What is fetched is cached under the torch hub directory and verified before every use; a
    file laid there is used offline.

    Raises:
        FileNotFoundError: no such file, or an address that can't be reached.
        ValueError: the file is damaged, has another hash than its name says, or holds more than
            tensors and plain containers.
    """
    path = locate(source)
    try:
        if path.suffix == '.safetensors':
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        raise ValueError(_why(path, error)) from error
    if not isinstance(content, dict):
        raise ValueError(f'{path}: holds a {type(content).__name__}; expected a state dict')
    return content


def metadata(path: Path) -> dict[str, str]:
    """Return what a readable safetensors file says of itself; nothing for other files."""
    if path.suffix != '.safetensors':
        return {}
    from safetensors import safe_open

    with safe_open(path, 'pt') as file:
        return file.metadata() or {}


def _why(path: Path, error: Exception) -> str:
    text = re.sub(r'\x1b\[[0-9;]*m', '', str(error))
    if 'GLOBAL mmengine.' in text:
        return (
            f"{path}: a checkpoint of MMEngine's own Runner. Beside the weights it holds the "
            'history of the losses as objects (HistoryBuffer), and to read those is to run code '
            'from the file, which ibnseg never does. If you trust the file, take the weights '
            'out of it yourself, once, in Python: '
            f"state = torch.load({str(path)!r}, weights_only=False, map_location='cpu')"
            f"['state_dict']; torch.save(state, {str(path.with_suffix('.weights.pth'))!r})"
        )
    refused = re.search(r'WeightsUnpickler error: (.*?)(?: by default|$)', text, re.M)
    reason = (refused[1] if refused else text.split('\n')[0])[:200]
    kind = 'safetensors' if path.suffix == '.safetensors' else 'weight'
    return (
        f'{path}: not a readable {kind} file ({type(error).__name__}: {reason}). Expected a '
        'torch checkpoint of tensors and plain containers, or safetensors; files that would run '
        'code on loading are refused. If the download broke, delete it and fetch it again'
    )


def state_dict_of(content: Mapping[str, Any], prefix: str | None = None) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint's content, without wrappers and common prefixes.

    `state_dict` and `model` are unwrapped; `module.`, `backbone.`, `base.` stripped; with
    `prefix`, only the keys below it are taken. Raises ValueError where two keys become one.
    """
    tensors = unwrap(content)
    if prefix:
        prefix = prefix.rstrip('.') + '.'
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    # A whole segmentor has heads beside `backbone.`; those keep their names and are dropped.
    names: dict[str, str] = {}
    for key in tensors:
        if (other := names.setdefault(strip(key), key)) != key:
            raise ValueError(
                f'{other}, {key}: two networks in one file. Choose one with prefix=, or in a '
                "config init_cfg=dict(type='Pretrained', checkpoint=..., prefix='...')"
            )
    return {name: tensors[key] for name, key in names.items()}


def unwrap(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint's content by the names they have there."""
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def strip(key: str) -> str:
    """Return a key without the prefixes that wrappers of a network add."""
    for start in _PREFIXES:
        key = key.removeprefix(start)
    return key
