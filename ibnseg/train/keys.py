"""The names in a config file and in `--cfg-options`: one that nothing reads is refused.

Needs no torch, so that a slip is said at once. What the parts of a config take is in `parts`.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import load

from .. import disk
from ..text import nearest

#: What MMEngine's Runner builds or reads.
RUNNER = {
    'model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg',
    'val_cfg', 'test_cfg', 'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator',
    'test_evaluator', 'default_hooks', 'custom_hooks', 'data_preprocessor', 'load_from',
    'resume', 'launcher', 'env_cfg', 'log_processor', 'log_level', 'visualizer',
    'default_scope', 'randomness', 'experiment_name', 'custom_imports', 'model_wrapper_cfg',
    'sync_bn', 'find_unused_parameters', 'activation_checkpointing', 'efficient_conv_bn_eval',
    'compile',
}  # fmt: skip
#: What ibnseg reads.
OURS = {
    'source', 'mixing', 'protocol', 'class_set', 'select', 'model_name', 'method', 'skipped',
    'fine_tuned', 'compile_backbone', 'odd_pairs', 'domain_files',
}  # fmt: skip
#: What tools and APIs of the MM packages read from a config, beside the Runner.
_TOOLS = {
    'tta_model', 'tta_pipeline', 'test_pipeline', 'strategy', 'runner_type',
}  # fmt: skip
_KNOWN = RUNNER | OURS | _TOOLS
#: Variables of MMSegmentation's configs, some of which leave one of them unused.
_VARIABLES = {
    'norm_cfg', 'backbone_norm_cfg', 'img_norm_cfg', 'crop_size', 'num_classes', 'num_stages',
    'conv_kernel_size', 'img_ratios', 'dataset_type', 'data_root',
}  # fmt: skip
_BASE = re.compile(r'_base_\.(\w+)')
_TEMPLATE = re.compile(r'\{\{.*?\}\}', re.DOTALL)


@dataclass(frozen=True)
class _File:
    """A config file: the names that it gives a value, and those that it reads."""

    path: Path
    values: Mapping[str, str]
    read: frozenset[str]
    of_bases: frozenset[str]
    literal: bool

    @property
    def dumped(self) -> bool:
        """Whether a run wrote it: plain values, and what only a run states."""
        return self.literal and {'launcher', 'work_dir'} <= self.values.keys()


def check(path: str | Path, config: Config) -> None:
    """Raise ValueError for a name in a config file, or in one it inherits from, without effect.

    A name has an effect where MMEngine, MMSegmentation or ibnseg knows it, where its file uses it,
    or where a file that inherits it does. One that begins with an underscore passes.
    """
    files = list(_files(Path(path)))
    of_bases = frozenset().union(*(file.of_bases for file in files))
    for file in files:
        for name in file.values:
            if name in _KNOWN or name[0] == '_' or name not in config:
                continue
            if name in file.read or name in of_bases or _harmless(name, file, files, config):
                continue
            users = [other.path for other in files if name in other.read]
            if users:
                raise ValueError(
                    f'{file.path}: {name} has no effect, since {users[0]} used its own before. '
                    f'State here what shall use it, too; in the place of '
                    f'{_places(name, config) or "what used it there"}'
                )
            raise ValueError(
                f'{file.path}: nothing reads {name!r}{_meant(name, config)}. A variable of your '
                'own is used in its file, or begins with an underscore'
            )


def _harmless(name: str, file: _File, files: list[_File], config: Config) -> bool:
    if file.dumped:  # holds the variables of the config that was run, no more what used them
        return nearest(name, RUNNER | OURS, 0.8) is None or _occurs(config[name], name, config)
    others = {other.values[name] for other in files if name in other.values}
    return name in _VARIABLES and len(others) == 1


def _occurs(value: Any, name: str, config: Config) -> bool:
    rest = (config[key] for key in config if key != name)
    return any(value == found for part in rest for _, found in walk(part))


def _files(path: Path) -> Iterator[_File]:
    """Yield a config file and those that it inherits from, without those of installed packages."""
    if '.mim' in path.parts:
        return
    if path.suffix != '.py':
        values = {name: repr(value) for name, value in load(str(path)).items()}
        yield _File(path, values, frozenset(), frozenset(), True)
    else:
        yield _parse(path)
    if path.suffix == '.py' and Config._is_lazy_import(str(path)):
        return
    for base in Config._get_base_files(str(path)):
        yield from _files(Path(Config._get_cfg_path(base, str(path))[0]))


def _parse(path: Path) -> _File:
    text = disk.read(path).decode()
    tree = ast.parse(_TEMPLATE.sub('0', text))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    read = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    values = {node.id: '' for node in names if isinstance(node.ctx, ast.Store)}
    for line in tree.body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            values[line.targets[0].id] = ast.unparse(line.value)
    of_bases = frozenset(_BASE.findall(text))
    return _File(path, values, frozenset(read), of_bases, read <= {'dict'} and not of_bases)


def merge(config: Config, options: Mapping[str, Any]) -> None:
    """Lay options (dotted keys -> values) over a config, in place.

    Raises ValueError for a key that names nothing: what it begins with, or what lies on its way. A
    last part that is new is for `parts.check`.
    """
    whole = tuple(key.removesuffix('_delete_') for key in options if key.endswith('._delete_'))
    for key, value in options.items():
        first = key.partition('.')[0]
        if first not in _KNOWN and not first.startswith('_'):
            if first in config:
                raise ValueError(
                    f'--cfg-options {key}: {first} is a variable, and was used when the config '
                    f'file was read. Name {_places(first, config) or "what it was used for"}'
                )
            raise ValueError(f'--cfg-options {key}: nothing reads {first!r}{_meant(key, config)}')
        if not key.startswith(whole):
            _check_way(config, key, value)
    try:
        config.merge_from_dict(dict(options))
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError) as error:
        given = ' '.join(f'{key}={value}' for key, value in options.items())
        raise ValueError(
            f'--cfg-options {given:.200}: cannot be laid over this config ({error}). A part of a '
            'list takes a dict, and is given by its keys, as part.0.key=value'
        ) from error


def _check_way(config: Config, key: str, value: Any) -> None:
    """Raise ValueError where a dotted key goes through what is neither a dict nor a list."""
    at: Any = config
    *way, last = key.split('.')
    for done, part in enumerate(way, 1):
        if isinstance(at, list | tuple):
            if not part.isdigit() or int(part) >= len(at):
                raise ValueError(
                    f'--cfg-options {key}: {".".join(way[: done - 1])} is a list of {len(at)}; '
                    f'expected a number from 0 in the place of {part!r}'
                )
            at = at[int(part)]
        elif part not in at:
            return
        else:
            at = at[part]
        if not isinstance(at, Mapping | list | tuple):
            where = '.'.join(way[:done])
            raise ValueError(
                f'--cfg-options {key}={value}: {where} is {at!r:.60}, so there is no {last} to '
                f'change. To put a new dict there, say also {where}._delete_=True'
            )


def _meant(key: str, config: Config) -> str:
    """Return ' (did you mean X?)' with the dotted key that a person may have meant, or ''."""
    first, *rest = key.split('.')
    places = dict(reversed([(path.rpartition('.')[2], path) for path in _paths(config)]))
    name = first if first in places else nearest(first, _KNOWN, 0.75)
    name = name or nearest(first, {*_KNOWN, *places})
    if name is None:
        return ''
    return f' (did you mean {".".join([name if name in _KNOWN else places[name], *rest])}?)'


def _places(name: str, config: Config) -> str:
    """Return the dotted keys that end with a name."""
    return ' or '.join([path for path in _paths(config) if path.endswith(f'.{name}')][:3])


def _paths(config: Config) -> list[str]:
    return [path for key in config if key in RUNNER for path, _ in walk(config[key], key)]


def walk(value: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of a value and of all that lies in it."""
    yield path, value
    if isinstance(value, Mapping):
        items = value.items()
    else:
        items = enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in items:
        yield from walk(item, f'{path}.{key}')
