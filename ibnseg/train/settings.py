"""What of a config decides a result: runs that differ in it are not seeds of one model."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import disk
from .config import domain_names

# What tells most comes first. Not here: the seed, folders, logging, what is measured at the end.
_PARTS = (
    *('train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr', 'load_from'),
    *('train_dataloader', 'model', 'custom_hooks', 'val_evaluator'),
)
_WORKERS = (
    *('num_workers', 'persistent_workers', 'pin_memory', 'pin_memory_device', 'prefetch_factor'),
    *('timeout', 'multiprocessing_context'),
)
# Which files these lead to is said by the source and by the pairs.
_DATA = ('data_root', 'skip_lists', 'odd_pairs', 'domain', 'domains', 'mixing')
_LEFT_OUT = {
    *(f'train_dataloader.{key}' for key in (*_WORKERS, 'seed', 'sampler.seed')),
    *(f'{part}_dataloader.dataset.{key}' for part in ('train', 'val') for key in _DATA),
}
_HOOKS = {'ProgressHook', 'EmptyCacheHook', 'MemoryProfilerHook', 'ProfilerHook'}  # change nothing
_FILES = ('checkpoint', 'pretrained', 'load_from')  # keys of weight files


def of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a training as {dotted key: plain value}.

    Local weight files are named by their hash, since a path says nothing of what is in them.
    """
    validation = config['val_dataloader']['dataset']
    parts = _parts(config) | dict(val_dataloader=dict(dataset=validation))
    return dict(_flat(parts)) | {'val_dataloader.dataset.domains': [*domain_names(validation)]}


def of_plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a config of another project, which selects no checkpoint by its scores."""
    parts = _parts(config)
    del parts['val_evaluator']
    return dict(_flat(parts))


def _parts(config: Mapping[str, Any]) -> dict[str, Any]:
    parts = {key: config.get(key) for key in _PARTS}
    hooks = parts['custom_hooks'] or []
    idle = [hook for hook in hooks if isinstance(hook, Mapping) and hook.get('type') in _HOOKS]
    parts['custom_hooks'] = [hook for hook in hooks if hook not in idle]
    return parts


def _flat(value: Any, key: str = '') -> Iterator[tuple[str, Any]]:
    if key in _LEFT_OUT:
        return
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(v, Mapping | list) for v in value):
        items = enumerate(value)
    else:
        yield key, _plain(value, key.rpartition('.')[2])
        return
    for name, item in items:
        yield from _flat(item, f'{key}.{name}' if key else str(name))


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item, '') for item in value]
    if name in _FILES and isinstance(value, str) and Path(value).is_file():
        return f'sha256 {disk.sha256(value)[:8]}'
    if value is None or type(value) in (bool, int, float, str):
        return value
    return getattr(value, '__qualname__', None) or str(value)
