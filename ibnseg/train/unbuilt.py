"""What is said of a part of a config that cannot be built: which it is, and why."""

import contextlib
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from .keys import walk

#: MMEngine's functions that build a part, and what they call its config.
_BUILDERS = {
    'build_from_cfg': 'cfg',
    'build_dataloader': 'dataloader',
    'build_optim_wrapper': 'optim_wrapper',
}


@contextlib.contextmanager
def named(config: Config) -> Iterator[None]:
    """Have what is raised while a part is built become a ValueError that names its dotted key.

    Files that are not there, and what is raised later, pass as they are.
    """
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        part = _part(error)
        if part is None:
            raise
        where = next(_places(part, config), None) or _type(part)
        kind = f' ({_type(part)})' if _type(part) not in (None, where) else ''
        raise ValueError(f'{where}{kind} cannot be built: {_reason(error)}') from error


def _part(error: Exception) -> Mapping[str, Any] | None:
    """Return the config of the innermost part that was being built."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = _BUILDERS.get(frame.f_code.co_name)
        part = frame.f_locals.get(name) if name else None
        found = part if isinstance(part, Mapping) else found
    return found


def _type(part: Mapping[str, Any]) -> str | None:
    kind = part.get('type')
    return getattr(kind, '__name__', kind)


def _places(part: Mapping[str, Any], config: Config) -> Iterator[str]:
    """Yield the keys where a config has a part: itself, an equal one, one of its type."""
    parts = [(key, value) for top in config for key, value in walk(config[top], top)]
    parts = [(key, value) for key, value in parts if isinstance(value, Mapping)]
    for same in (
        lambda value: value is part,
        lambda value: value == part,
        lambda value: value.get('type', '') == part.get('type'),
    ):
        yield from (key for key, value in parts if same(value))


def _reason(error: Exception) -> str:
    """Return why, in one line; of a bare assertion, what it asks for."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = ' '.join(text.split()) or traceback.extract_tb(error.__traceback__)[-1].line or ''
    text = text.partition(' Please check whether the value of')[0]  # advice for developers
    kind = '' if isinstance(error, ValueError) else f'{type(error).__name__}: '
    return f'{kind}{text[:400]}'
