"""Files and addresses -> state dicts, without running any code from the file."""

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import disk, machine
from ..text import meant
from . import cache, plain, table


def locate(source: str | os.PathLike) -> Path:
    """Return the local file of what `read` takes; see `cache.fetch`."""
    text = os.fspath(source)
    if text.startswith('ibn://'):
        name = text.removeprefix('ibn://')
        if name not in table.PUBLISHED:
            near, known = meant(name, table.PUBLISHED), ', '.join(table.PUBLISHED)
            raise ValueError(f'{text}: no such published weights{near}; choose from {known}')
        text = table.PUBLISHED[name].url
    scheme = text.partition('://')[0]
    if scheme != text and scheme not in ('http', 'https'):
        raise ValueError(
            f'{text}: ibnseg reads no {scheme}:// addresses. Expected a file, http(s)://... or '
            f'ibn://NAME; `ibnseg weights list` has the names, e.g. ibn://resnet50'
        )
    path = cache.fetch(text) if text.startswith(('http://', 'https://')) else Path(text)
    if not path.exists() or path.is_dir():
        raise FileNotFoundError(f'{path}: no such weight file')
    disk.opened(path).close()
    return path


def read(source: str | os.PathLike) -> dict[str, Any]:
    """Read a checkpoint: a path, an http(s) address, or `ibn://NAME` of `table.PUBLISHED`.

    Files are read as `plain.load` does, or as safetensors where the name ends so. What is fetched
    is cached under the torch hub directory and verified before every use; a file laid there is used
    offline.

    Raises:
        FileNotFoundError: no such file, or an address that can't be reached.
        OSError, MemoryError: the machine does not let it be read.
        ValueError: the file is damaged, has another hash than its name says, or holds more than
            tensors and plain values.
    """
    path = locate(source)
    try:
        if path.suffix == '.safetensors':
            from safetensors.torch import load_file

            return load_file(path)
        content = plain.load(path)
    except Exception as error:
        if isinstance(error, OSError) and machine.said(error):
            raise
        if why := machine.said(error):
            raise MemoryError(f'{path}: {why}') from error
        raise ValueError(_why(path, error)) from error
    if not isinstance(content, dict):
        raise ValueError(f'{path}: holds a {type(content).__name__}; expected a state dict')
    if fault := plain.fault(content):
        raise ValueError(f'{path}: {fault}. It is no checkpoint, or was changed by hand')
    return content


def metadata(path: Path) -> dict[str, str]:
    """Return what a readable safetensors file says of itself; nothing for other files."""
    if path.suffix != '.safetensors':
        return {}
    from safetensors import safe_open

    with safe_open(path, 'pt') as file:
        return file.metadata() or {}


def trained_on(path: Path) -> str | None:
    """Return the source that a weight file says it was trained on; None where it says nothing."""
    if said := metadata(path).get('trained_on'):
        return said
    try:
        meta = read(path).get('meta')
    except ValueError:  # whoever loads it says why
        return None
    trained = meta.get('trained') if isinstance(meta, Mapping) else None
    source = trained.get('source') if isinstance(trained, Mapping) else None
    return source if isinstance(source, str) else None


def _why(path: Path, error: Exception) -> str:
    text = re.sub(r'\x1b\[[0-9;]*m', '', str(error))
    if 'GLOBAL mmengine.' in text:
        return (
            f"{path}: a checkpoint of MMEngine's own Runner. Beside the weights it holds the "
            'history of the losses as objects (HistoryBuffer), and to read those is to run code '
            'from the file. If you trust whoever made it, take the weights out of it once: '
            f'ibnseg weights convert {shlex.quote(str(path))} '
            f'{shlex.quote(str(path.with_suffix(".weights.pth")))} --trust'
        )
    kind = 'safetensors' if path.suffix == '.safetensors' else 'weight'
    if how := plain.broken(path, f'{type(error).__name__}: {text}'):
        return (
            f'{path}: {how}. Expected a whole {kind} file: delete this one and fetch it again, or '
            'take an older checkpoint of the run'
        )
    if refused := re.search(r'GLOBAL (\S+) was not an allowed|GLOBAL (\S+) whose module', text):
        return (
            f'{path}: not a readable {kind} file. Beside tensors and plain containers it holds '
            f'{refused[1] or refused[2]}, and to read that is to run code from the file, which is '
            'refused. If you trust the file, open it where it was made, and save there the weights '
            "alone: torch.save(checkpoint['state_dict'], 'weights.pth')"
        )
    reason = re.sub(r'.*WeightsUnpickler error:\s*', '', text, flags=re.S).split('\n')[0][:200]
    return (
        f'{path}: not a readable {kind} file ({type(error).__name__}: {reason}). Expected a '
        'torch checkpoint of tensors and plain containers, or safetensors; files that would run '
        'code on loading are refused. If the download broke, delete it and fetch it again'
    )


def misfits(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """Return in words what keeps a state dict from being loaded; nothing if it fits."""
    wrong = [
        f'{key} {_shape(given[key])}, expected {tuple(wanted[key].shape)}'
        for key in wanted
        if key in given and getattr(given[key], 'shape', None) != wanted[key].shape
    ]
    return listed(
        {
            'keys with no place in the model': [key for key in given if key not in wanted],
            'keys the model needs and the file lacks': [k for k in wanted if k not in given],
            'wrong shapes': wrong,
        }
    )


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f'is a {type(value).__name__}'


def listed(found: Mapping[str, list[str]], most: int = 8) -> list[str]:
    """Return one text for each list that has something in it."""
    return [f'{what}: {some(keys, most)}' for what, keys in found.items() if keys]


def some(keys: list[str], most: int = 4) -> str:
    return ', '.join(keys[:most]) + (', ...' if len(keys) > most else '')


#: First parts of the keys of heads, in any dialect.
HEADS = (
    *('fc', 'classifier', 'heads', 'head', 'bottleneck', 'gap', 'decode_head', 'auxiliary_head'),
    *('aux_classifier', 'neck', 'rpn_head', 'roi_head', 'decoder', 'segmentation_head'),
    *('projection_head', 'prototypes', 'projector', 'predictor'),
)

_WRAPPERS = ('state_dict', 'model')
#: What DataParallel and torch.compile put before every key.
_PARALLEL = ('module.', '_orig_mod.')
_PREFIXES = (*_PARALLEL, 'backbone.', 'base.')
#: The key of a backbone's first convolution or norm below its prefix, in any dialect.
_FIRST = re.compile(
    r'(|.*\.)(?:layer1\.0\.(?:convbnin\.)?conv1|features\.denseblock1\.denselayer1\.norm\.?1|'
    r'features\.stage1\.unit1\.(?:body\.)?conv1\.conv)\.weight'
)


@dataclass(frozen=True)
class Network:
    """A backbone within a checkpoint: below `prefix` in the mapping at `path`."""

    path: tuple[str, ...]
    prefix: str
    tensors: dict[str, Tensor]

    def __str__(self) -> str:
        return '.'.join([*self.path, self.prefix.rstrip('.')]).rstrip('.')


def is_head(key: str) -> bool:
    return key.split('.')[0] in HEADS


def strip(key: str) -> str:
    """Return a key without the prefixes that wrappers of a network add."""
    for start in _PREFIXES:
        key = key.removeprefix(start)
    return key


def unwrap(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint's content by the names they have there.

    Raises ValueError where it holds several networks.
    """
    if network := _only(_networks(content)):
        return network.tensors
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    return _tensors(content)


def unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a whole model's state dict without what DataParallel or torch.compile adds."""
    result = dict(state)
    for start in _PARALLEL:
        if result and all(key.startswith(start) for key in result):
            result = {key.removeprefix(start): value for key, value in result.items()}
    return result


def state_dict_of(content: Mapping[str, Any], prefix: str | None = None) -> dict[str, Tensor]:
    """Return the tensors of the network in a checkpoint's content by its own names, and of heads.

    As `select`, which says what is left out.
    """
    return select(content, prefix)[0]


def select(
    content: Mapping[str, Any], prefix: str | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """Find the network in a checkpoint's content.

    Returns its tensors, and those of heads, by names without wrapper and prefix; and the names of
    the other parts beside it.

    Args:
        prefix: take only what is below it; also the name of a wrapper, say 'teacher'.

    Raises:
        ValueError: several networks, of which `prefix` chooses one; or nothing below `prefix`.
    """
    if prefix:
        below = _below(content, prefix.rstrip('.'))
        network = _only(_networks(below))
        start = network.prefix if network else ''
        return {k.removeprefix(start): v for k, v in below.items() if k.startswith(start)}, []
    tensors, network = unwrap(content), _only(_networks(content))
    own = network.prefix if network else ''
    if not re.sub('|'.join(map(re.escape, _PARALLEL)), '', own):
        own = ''  # of all keys, so nothing lies beside it
    parts = {key.removeprefix(own).split('.')[0] for key in tensors if key.startswith(own)}
    names: dict[str, str] = {}
    beside = []
    for key in tensors:
        inside = own and key.startswith(own)
        name = key.removeprefix(own) if inside else strip(key)
        if own and not inside and not is_head(name) and name.split('.')[0] not in parts:
            beside.append(name)
            continue
        if (other := names.setdefault(name, key)) != key:
            raise ValueError(f'{other}, {key}: two networks in one file. {_CHOOSE}')
    return {name: tensors[key] for name, key in names.items()}, beside


def layout(content: Mapping[str, Any]) -> str:
    """Say what the top level of a checkpoint's content holds, and which networks lie in it."""
    kinds: dict[str, str] = {}
    for key, value in content.items():
        if isinstance(value, Tensor):
            first, dot, _ = str(key).partition('.')
            kinds[first + dot + '*' * bool(dot)] = 'tensors' if dot else 'a tensor'
        else:
            size = f' of {len(value)}' if isinstance(value, Mapping | list | tuple) else ''
            kinds[str(key)] = type(value).__name__ + size
    shown = ', '.join(f'{key} ({kind})' for key, kind in list(kinds.items())[:12])
    text = f'At its top the file holds {shown or "nothing"}{", ..." if len(kinds) > 12 else ""}'
    if found := [str(network) for network in _networks(content) if str(network)]:
        text += '. Of a backbone are the keys below ' + ', '.join(f'prefix={n!r}' for n in found)
    return text


_CHOOSE = (
    "Choose one with prefix=, or in a config init_cfg=dict(type='Pretrained', checkpoint=..., "
    "prefix='...')"
)


def _tensors(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def _holders(
    content: Mapping[Any, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Yield (path, tensors) of each mapping within a content that holds tensors."""
    if tensors := _tensors(content):
        yield path, tensors
    for key, value in content.items():
        if isinstance(value, Mapping) and isinstance(key, str) and len(path) < 4:
            yield from _holders(value, (*path, key))


def _networks(content: Mapping[str, Any]) -> list[Network]:
    """Return the backbones in a content; of those below a usual wrapper, only these."""
    found = [
        Network(path, prefix, tensors)
        for path, tensors in _holders(content)
        for prefix in sorted({match[1] for match in map(_FIRST.fullmatch, tensors) if match})
    ]
    for wrapper in _WRAPPERS:
        found = [network for network in found if network.path[:1] == (wrapper,)] or found
    return found


def _only(found: list[Network]) -> Network | None:
    if len(found) > 1:
        names = ', '.join(f'prefix={str(n)!r}' if str(n) else 'one without prefix' for n in found)
        raise ValueError(f'{len(found)} networks in one file: {names}. {_CHOOSE}')
    return found[0] if found else None


def _below(content: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    """Return the tensors below a prefix, by what follows it."""
    usual = '|'.join(re.escape(name) for name in (*_WRAPPERS, 'module', '_orig_mod'))
    start = re.compile(rf'(?:(?:{usual})\.)*?{re.escape(prefix)}\.')
    below: dict[str, Tensor] = {}
    for path, tensors in _holders(content):
        for key, tensor in tensors.items():
            full = '.'.join([*path, key])
            match = start.match(full)
            if match and below.setdefault(full[match.end() :], tensor) is not tensor:
                raise ValueError(f'prefix={prefix!r} begins two networks. {layout(content)}')
    if not below:
        raise ValueError(f'no key begins with prefix={prefix!r}. {layout(content)}')
    return below
