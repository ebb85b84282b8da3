"""Pickled files of tensors and plain values, read without running any code of theirs."""

import argparse
import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch


class _Dtype:
    """What reading a file makes of a numpy dtype: its name and byte order."""

    def __init__(self, name: str, *_: bool):
        self.name, self.order = name, '='

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1].replace('|', '=')


def _scalar_in(module: str) -> Any:
    def scalar(dtype: _Dtype, data: bytes) -> Any:
        """Return the plain value of a numpy number; numpy sees no more than its bytes."""
        kind = np.dtype(dtype.name).newbyteorder(dtype.order)
        if kind.kind not in 'biufcSU':
            raise ValueError(f'a numpy scalar of type {dtype.name}')
        return np.frombuffer(data, kind, 1)[0].item()

    # torch knows a function by its own name.
    scalar.__module__, scalar.__qualname__ = module, scalar.__name__
    return scalar


_Dtype.__module__, _Dtype.__name__, _Dtype.__qualname__ = 'numpy', 'dtype', 'dtype'
#: Beside what torch allows: numbers of numpy, which become Python's, and a command line's options.
_SAFE = [
    *(_scalar_in(f'numpy.{core}.multiarray') for core in ('core', '_core')),
    *(_Dtype, argparse.Namespace),
]


def load(file: Path | io.BytesIO) -> Any:
    """Read with torch's `weights_only=True`, never otherwise; numpy's numbers become Python's.

    Raises zipfile.BadZipFile for a part that does not fit its checksum; torch compares none.
    """
    if isinstance(file, Path) and zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as parts:
            if damaged := parts.testzip():
                raise zipfile.BadZipFile(f'{damaged} does not fit its checksum')
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([*before, *_SAFE])
    try:
        return torch.load(file, map_location='cpu', weights_only=True)
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def unreadable(value: Any) -> str:
    """Return what of a value could not be read back from a file; '' where all can."""
    buffer = io.BytesIO()
    try:
        torch.save(value, buffer)
        buffer.seek(0)
        load(buffer)
    except Exception as error:  # whatever a stranger's class does when it is pickled
        found = re.search(r'GLOBAL (\S+) was not', str(error))
        return found[1] if found else type(error).__name__
    return ''


def kept(value: Any) -> Any:
    """Return a value without what `load` would not read: tensors, plain values, containers stay."""
    if isinstance(value, Mapping):
        items = ((key, kept(item)) for key, item in value.items() if type(key) in _PLAIN)
        return {key: item for key, item in items if item is not None}
    if isinstance(value, list | tuple | set):
        return [kept(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value if isinstance(value, torch.Tensor) or type(value) in _PLAIN else None


_PLAIN = (bool, int, float, str, type(None))


_LONGEST = 1000  # characters of a tensor's name


def fault(content: dict[Any, Any]) -> str:
    """Return what of a checkpoint's content has the wrong type, '' where nothing has.

    `meta` may be None, as where it is absent; it is taken out then.
    """
    if content.get('meta', {}) is None:
        del content['meta']
    for key in ('meta', 'state_dict'):
        if not isinstance(content.get(key, {}), Mapping):
            return f'{key} is a {type(content[key]).__name__}; expected a dict'
    for names in (content, content.get('state_dict', {})):
        for name, value in names.items():
            if not isinstance(name, str):
                if names is content and not isinstance(value, torch.Tensor):
                    continue
                return f'a key is {name!r:.60}; expected a name'
            if len(name) > _LONGEST:
                return f'a name has {len(name):,} characters ({name!r:.60}...)'
    return ''


#: What is said of a file that ends too early.
_TOO_SHORT = re.compile(
    r'EOF|IndexError|truncated|incomplete metadata|header too small|Ran out of input'
)


def broken(path: Path, text: str) -> str:
    """Return how a file is empty or cut off, '' where it is neither."""
    size = path.stat().st_size
    if not size:
        return 'the file is empty (0 bytes)'
    with open(path, 'rb') as file:
        is_zip = b'PK\x03\x04'.startswith(file.read(4))
    if (is_zip and not zipfile.is_zipfile(path)) or _TOO_SHORT.search(text):
        return f'the file is cut off (after {size:,} bytes)'
    return ''
