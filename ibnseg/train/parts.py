"""The keys of a config's parts: each is one that its `type` takes, or whoever builds it.

Looked at before anything is built or read: MMEngine builds the loop, the optimiser and the test
hours apart, and passes over some of what it does not know.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import mmengine.registry
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from .. import registered  # noqa: F401
from ..measure.metric import CrossDomainIoU
from ..text import meant, nearest
from . import values
from .keys import RUNNER, walk

#: Keys that whoever builds a part takes, beside those of its `type`; by the part's own key.
_BUILDER = {
    'norm_cfg': {'requires_grad'},
    'dcn': {'fallback_on_stride'},
    'init_cfg': {'override'},
    'override': {'name'},
    'optim_wrapper': {'constructor', 'paramwise_cfg', 'optimizer'},
    'param_scheduler': {'convert_to_iter_based'},
    'default_hooks': {'priority'},
    'custom_hooks': {'priority'},
    'train_cfg': {'by_epoch'},
    'val_cfg': {'by_epoch'},
    'test_cfg': {'by_epoch'},
}
#: Keys of parts that MMEngine and MMSegmentation build as they are. Elsewhere a module of a user's
#: own may take out a key before it builds the rest, so only a key that is near to a right one is
#: refused.
_BUILT = {
    *_BUILDER, 'model', 'backbone', 'neck', 'decode_head', 'auxiliary_head', 'loss_decode',
    'data_preprocessor', 'dataset', 'datasets', 'pipeline', 'sampler',
    'batch_sampler', 'optimizer', 'val_evaluator', 'test_evaluator', 'metrics', 'visualizer',
    'vis_backends', 'log_processor', 'collate_fn', 'act_cfg', 'model_wrapper_cfg',
}  # fmt: skip
#: The `type` of a top-level part that states none.
_DEFAULT = dict(
    val_cfg='ValLoop', test_cfg='TestLoop', visualizer='Visualizer', log_processor='LogProcessor',
    optim_wrapper='OptimWrapper',
)  # fmt: skip
#: What the builder gives.
_GIVEN = {'type', '_scope_', 'self', 'params', 'optimizer', 'runner', 'dataloader', 'evaluator'}
_HOOKS = {
    'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint',
    'visualization',
}  # fmt: skip
_LOADER = {
    'dataset', 'sampler', 'batch_sampler', 'collate_fn', 'worker_init_fn',
    'num_batch_per_epoch', 'seed',
}  # fmt: skip
#: What plain dicts hold.
_PLAIN = {
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'env_cfg.mp_cfg': {'mp_start_method', 'opencv_num_threads'},
    'auto_scale_lr': {'enable', 'base_batch_size'},
}
#: What `DefaultOptimWrapperConstructor` reads.
_PARAMWISE = {
    'custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'flat_decay_mult',
    'dwconv_decay_mult', 'dcn_offset_lr_mult', 'bypass_duplicate',
}  # fmt: skip


def check(config: Config) -> None:
    """Raise ValueError for a key of a part that its `type` does not take, or a `type` unknown."""
    scope = config.get('default_scope', 'mmengine')
    _check_optimiser(config.get('optim_wrapper') or {})
    values.check(config)
    for key in RUNNER & config.keys():
        part = config[key]
        if part and isinstance(part, Mapping) and key in _DEFAULT:
            part = dict(type=_DEFAULT[key]) | part
        for where, value in walk(part, key):
            if isinstance(value, Mapping) and 'type' in value:
                _check(value, where, scope)
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        taken = {*_LOADER, *inspect.signature(torch.utils.data.DataLoader.__init__).parameters}
        _refuse(config.get(key), key, taken, 'a dataloader')
    for key, taken in _PLAIN.items():
        _refuse(_at(config, key), key, taken, key)
    taken = set(inspect.signature(Runner.set_randomness).parameters) - {'self'}
    _refuse(config.get('randomness'), 'randomness', taken, 'randomness')
    _refuse(_at(config, 'model.test_cfg'), 'model.test_cfg', {'mode', 'crop_size', 'stride'}, '')
    _refuse(config.get('default_hooks'), 'default_hooks', _HOOKS, '')
    if config.get('source'):  # what the plug-ins train is measured by its own package
        _check_evaluators(config, scope)


def _check_evaluators(config: Config, scope: str) -> None:
    for key in ('val_evaluator', 'test_evaluator'):
        stated = config.get(key) or []
        metrics = [stated] if isinstance(stated, Mapping) else stated
        if not isinstance(metrics, list | tuple):
            raise ValueError(f"{key} is {stated!r:.60}; expected a dict(type='...')")
        for metric in metrics[:1]:
            kind = metric.get('type') if isinstance(metric, Mapping) else metric
            found = _find(kind, scope) if isinstance(kind, str) else (kind,)
            if not any(inspect.isclass(one) and issubclass(one, CrossDomainIoU) for one in found):
                raise ValueError(
                    f"{key} is {kind!r:.60}; expected 'CrossDomainIoU', which tells domains apart. "
                    'Other metrics may stand behind it, in a list'
                )


def _check_optimiser(wrapper: Mapping[str, Any]) -> None:
    if wrapper.get('constructor', 'DefaultOptimWrapperConstructor').startswith('Default'):
        where = 'optim_wrapper.paramwise_cfg'
        _refuse(wrapper.get('paramwise_cfg'), where, _PARAMWISE, 'paramwise_cfg')
    clip, where = wrapper.get('clip_grad'), 'optim_wrapper.clip_grad'
    if clip is None:
        return
    kind = clip.get('type', 'norm') if isinstance(clip, Mapping) else None
    if kind not in ('norm', 'value'):
        raise ValueError(
            f"{where} is {clip!r}; expected None, dict(max_norm=...), or dict(type='value', "
            'clip_value=...)'
        )
    clips = dict(norm=torch.nn.utils.clip_grad_norm_, value=torch.nn.utils.clip_grad_value_)
    taken = set(inspect.signature(clips[kind]).parameters) - {'parameters'}
    _refuse(clip, where, taken | {'type'}, f'clipping by {kind}')
    needed = dict(norm='max_norm', value='clip_value')[kind]
    if needed not in clip:
        raise ValueError(f'{where} is {dict(clip)}; expected {needed} in it')
    if type(most := clip[needed]) not in (int, float) or most <= 0:
        raise ValueError(f'{where}.{needed} is {most!r:.60}; expected a number above 0')


def _at(config: Config, key: str) -> Any:
    first, *rest = key.split('.')
    value = config.get(first)
    for part in rest:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _check(value: Mapping[str, Any], where: str, scope: str) -> None:
    """Check the keys of a part that states its type; `where` is its dotted key."""
    names = [name for name in where.split('.') if not name.isdigit()]
    name = names[-2] if names[-2:-1] == ['default_hooks'] else names[-1]
    kind, built = value['type'], name in _BUILT
    if not isinstance(kind, str) and not callable(kind):
        raise ValueError(f'{where}.type is {kind!r:.60}; expected the name of a type')
    parts = _find(kind, scope) if isinstance(kind, str) else (kind,)
    if not parts and built and '.' not in kind and kind not in _types():
        raise ValueError(f'{where}.type: no {kind!r} is registered{meant(kind, _types())}')
    if not parts and built and '.' in kind:
        raise ValueError(
            f'{where}.type: there is no {kind!r}, or its package does not work here'
            f'{meant(kind.rpartition(".")[2], _types())}'
        )
    if len(parts) == 1:
        values.check_part(*parts, value, where)
    taken = [_taken(part) for part in parts]
    if taken and None not in taken:
        shown = kind if isinstance(kind, str) else kind.__name__
        extra = {'type', '_scope_'} | _BUILDER.get(name, set())
        _refuse(value, where, set().union(extra, *taken), shown if built else '')


def _refuse(value: Any, where: str, taken: set[str], owner: str) -> None:
    """Raise ValueError for a key that is not among `taken`; without an `owner`, for a near one."""
    for key in value if isinstance(value, Mapping) else ():
        if key in taken or not (owner or nearest(key, taken, 0.85)):
            continue
        raise ValueError(
            f'{where}.{key}: {owner or where} takes no {key!r}{meant(key, taken)}'
            + ('' if nearest(key, taken) else
               f'; it takes {", ".join(sorted(taken - _GIVEN))}. If it was '
               'meant for another type, state the whole part anew, with _delete_=True')
        )  # fmt: skip


def _registries() -> list[mmengine.registry.Registry]:
    found = vars(mmengine.registry).values()
    return [part for part in found if isinstance(part, mmengine.registry.Registry)]


def _types() -> set[str]:
    """Return the name of every registered type."""
    registries = _registries()
    registries += [child for parent in registries for child in parent.children.values()]
    return {name for registry in registries for name in registry.module_dict}


@cache
def _find(kind: str, scope: str) -> tuple[Callable, ...]:
    """Return what is registered under a name, in any registry; () for a package that is absent."""
    found = []
    for parent in _registries():
        try:
            found.append(parent.children.get(scope, parent).get(kind))
        except Exception:  # a package that is not there, or does not work: the builder says which
            continue
    return tuple({id(part): part for part in found if part is not None}.values())


@cache
def _taken(part: Callable) -> set[str] | None:
    """Return the keys that a class or a function takes, None where that can't be told.

    A class that hands `**kwargs` on takes what the next of its bases does.
    """
    if not inspect.isclass(part):
        names, more = _parameters(part)
        return None if more else names
    taken: set[str] = set()
    for owner in part.__mro__:
        begin = vars(owner).get('__init__')
        if begin is None or owner is object:
            continue
        if not inspect.isfunction(begin) or hasattr(begin, '__wrapped__'):
            return None
        names, more = _parameters(begin)
        taken |= names - {'self'}
        if not more:
            return taken
        read = _handed_on(begin, more)
        if read is None:
            return None
        taken |= read
    return None


def _parameters(function: Callable) -> tuple[set[str], str]:
    """Return the names of a function's parameters, and that of its `**kwargs`, '' without."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of C
        return set(), 'kwargs'
    more = [p.name for p in parameters if p.kind is p.VAR_KEYWORD]
    names = {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    return names, more[0] if more else ''


def _handed_on(begin: Callable, more: str) -> set[str] | None:
    """Return the keys that a constructor reads from its `**kwargs`, which it hands to its base's.

    None where it does something else with them.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(begin)))
    except (OSError, TypeError, SyntaxError):
        return None
    read, known, uses, on = set(), 0, 0, False
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr='__init__', value=ast.Call()), keywords=words):
                whole = sum(word.arg is None and _is(word.value, more) for word in words)
                on, known = on or bool(whole), known + whole
            case (
                ast.Call(func=ast.Attribute(value=ast.Name(id=name)), args=[ast.Constant(key), *_])
                | ast.Compare(left=ast.Constant(key), comparators=[ast.Name(id=name)])
                | ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(key))
            ) if name == more:
                read.add(key)
                known += 1
            case ast.Name(id=name) if name == more:
                uses += 1
    return read if on and known == uses else None


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
