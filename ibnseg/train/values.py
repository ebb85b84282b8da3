"""The values in a config: each is of the kind that its key takes.

Looked at before anything is built: torch and the MM packages find some of them late, and say what
they could not do with a value, but not which key holds it.
"""

import inspect
import numbers
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from mmengine.config import Config

from .config import schedulers
from .keys import walk

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
#: Whole numbers, and the smallest that makes sense.
_AT_LEAST = {
    'train_cfg.max_iters': 1,
    'train_cfg.max_epochs': 1,
    'train_cfg.val_begin': 0,
    'train_cfg.val_interval': 1,
    'optim_wrapper.accumulative_counts': 1,
    'default_hooks.checkpoint.interval': 1,
    'default_hooks.checkpoint.keep': 1,
    'default_hooks.logger.interval': 1,
    'randomness.seed': 0,
    'model.backbone.base_channels': 1,
    'model.backbone.stem_channels': 1,
    'model.decode_head.num_classes': 1,
    'model.decode_head.channels': 1,
    'model.decode_head.num_convs': 0,
} | {
    f'{key}.{name}': least
    for key in _LOADERS
    for name, least in (('batch_size', 1), ('num_workers', 0))
}
_LEVELS = ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL')
_MAY_BE_NONE = {'randomness.seed', 'default_hooks.checkpoint.keep'}
#: Which no code takes None or a list for.
_NUMBERS = {'lr', 'momentum', 'weight_decay', 'loss_weight', 'power', 'eta_min', 'dropout_ratio'}
_WORDS = {
    int: 'a whole number', float: 'a number', str: 'a text', bool: 'True or False',
    list: 'a list', dict: 'a dict', types.NoneType: 'None',
}  # fmt: skip


#: Of these one is taken for the other, also where the code states but one.
_ALIKE = ({int, float, bool}, {list, dict}, {str}, {types.NoneType})
#: What a default number alone says: that no text is meant.
_NO_TEXT = frozenset({int, float, bool, list, dict, types.NoneType})


def check(config: Config) -> None:
    """Raise ValueError for a value of the wrong kind, or out of range, at a key that all know."""
    for key in ('model', 'randomness', 'env_cfg'):
        if not isinstance(value := config.get(key, {}), Mapping):
            raise ValueError(f'{key} is {value!r:.60}; expected a dict, as in configs/_base_')
    for key, least in _AT_LEAST.items():
        value = at(config, key, least)
        if value is None and key in _MAY_BE_NONE:
            continue
        if type(value) is not int or value < least:
            raise ValueError(f'{key} is {value!r:.60}; expected a whole number from {least} on')
    hooks = config.get('custom_hooks') or ()
    if not isinstance(hooks, list | tuple) or not all(isinstance(h, Mapping) for h in hooks):
        raise ValueError(f"custom_hooks is {hooks!r:.60}; expected a list: [dict(type='...')]")
    given = schedulers(config)
    if not isinstance(given, list | tuple) or not all(isinstance(one, Mapping) for one in given):
        given = config.param_scheduler
        raise ValueError(
            f"param_scheduler is {given!r:.60}; expected a dict(type='...'), or a list of them"
        )
    if not isinstance(path := config.get('load_from') or '', str):
        raise ValueError(f'load_from is {path!r:.60}; expected a file or an address')
    if (config.get('auto_scale_lr') or {}).get('enable') and not config.auto_scale_lr.get(
        'base_batch_size'
    ):
        raise ValueError('auto_scale_lr.enable is True; expected base_batch_size beside it')
    if str(level := config.get('log_level', 'INFO')).upper() not in _LEVELS:
        raise ValueError(f"log_level is {level!r:.60}; expected 'INFO', 'WARNING' or 'ERROR'")
    for key, value in walk(config.get('model', {}), 'model'):
        if key.endswith('.init_cfg') and isinstance(value, Mapping) and 'type' not in value:
            raise ValueError(f"{key} is {value!r:.60}; expected a type in it, as 'Pretrained'")
    if (sync := config.get('sync_bn')) not in (None, 'torch', 'mmcv'):
        raise ValueError(f"sync_bn is {sync!r:.60}; expected None, 'torch' or 'mmcv'")
    if not isinstance(unused := config.get('find_unused_parameters', False), bool):
        raise ValueError(f'find_unused_parameters is {unused!r:.60}; expected True or False')
    check_photos(config.get('model', {}))
    _check_maps(config.get('model', {}))
    _check_test_cfg(at(config, 'model.test_cfg', {}))


def check_photos(model: Mapping[str, Any], where: str = '') -> None:
    """Raise ValueError, which begins with `where`, for a mean or std of too many numbers or none.

    OpenMMLab's preprocessor would say so of the first photo, or divide it in a way of its own.
    """
    channels = at(model, 'backbone.in_channels', 3)
    for key in ('mean', 'std'):
        value = at(model, f'data_preprocessor.{key}')
        listed = isinstance(value, list | tuple) and len(value) in (1, channels)
        numbers_ = listed and all(isinstance(one, numbers.Real) for one in value)
        if value is not None and not numbers_:
            raise ValueError(
                f'{where}model.data_preprocessor.{key} is {value!r:.60}; expected '
                f'{channels} numbers, one for each channel, or one'
            )


def _check_maps(model: Mapping[str, Any]) -> None:
    """Raise ValueError for a head that takes a map which its backbone, a ResNet, does not give."""
    backbone = model.get('backbone')
    if not isinstance(backbone, Mapping) or 'ResNe' not in str(backbone.get('type')):
        return
    stages = backbone.get('num_stages', 4)
    given = backbone.get('out_indices', range(stages) if type(stages) is int else ())
    if model.get('neck') or not isinstance(given, list | tuple | range):
        return
    for where, index in walk(model, 'model'):
        if not where.endswith('head.in_index'):
            continue
        for one in index if isinstance(index, list | tuple) else [index]:
            if type(one) is int and not -len(given) <= one < len(given):
                raise ValueError(
                    f'{where} is {index!r:.60}; the backbone gives {len(given)} maps, 0 to '
                    f'{len(given) - 1} (backbone.out_indices)'
                )


def _check_test_cfg(stated: Mapping[str, Any] | None) -> None:
    stated = stated if isinstance(stated, Mapping) else {}
    mode = stated.get('mode', 'whole')
    if mode not in ('whole', 'slide'):
        raise ValueError(f"model.test_cfg.mode is {mode!r:.60}; expected 'whole' or 'slide'")
    for key in ('crop_size', 'stride') if mode == 'slide' else ():
        size = stated.get(key)
        pair = isinstance(size, list | tuple) and len(size) == 2
        if not pair or not all(type(n) is int and n > 0 for n in size):
            raise ValueError(
                f"model.test_cfg.{key} is {size!r:.60}; mode 'slide' expects (height, width)"
            )


def at(config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """Return the value at a dotted key; `default` where there is none."""
    first, *rest = key.split('.')
    value = config.get(first, default)
    for part in rest:
        if not isinstance(value, Mapping) or part not in value:
            return default
        value = value[part]
    return value


def check_part(part: Callable, value: Mapping[str, Any], where: str) -> None:
    """Raise ValueError for a value of another kind than the part with this `type` states.

    Args:
        part: what the type stands for.
        where: dotted key of the part in the config.
    """
    stated = _parameters(part)
    for key, given in value.items():
        if key not in stated:
            continue
        kinds, default = stated[key]
        if kinds and _kind(given) is not None and not _fits(given, kinds):
            if kinds == _NO_TEXT:
                kinds = {type(default)} - {int} or {float}
            elif kinds >= {int, float}:
                kinds = kinds - {int}
            words = ' or '.join(sorted(_WORDS[kind] for kind in kinds))
            like = '' if default in (None, inspect.Parameter.empty) else f', as {default!r:.40}'
            raise ValueError(f'{where}.{key} is {given!r:.60}; expected {words}{like}')


def _kind(value: Any) -> type | None:
    """Return which of the kinds in `_WORDS` a value is of."""
    if isinstance(value, Mapping):
        return dict
    if isinstance(value, list | tuple):
        return list
    return type(value) if type(value) in _WORDS else None


def _fits(value: Any, kinds: frozenset[type]) -> bool:
    kind = _kind(value)
    if kind is float and float not in kinds and int in kinds:
        return value.is_integer()
    return any(kind in alike for alike in _ALIKE if alike & kinds)


@cache
def _parameters(part: Callable) -> Mapping[str, tuple[frozenset[type] | None, Any]]:
    """Return name -> (kinds that it takes, None where that is not known; default) of a part."""
    owners = part.__mro__ if inspect.isclass(part) else (part,)
    found: dict[str, tuple[frozenset[type] | None, Any]] = {}
    for owner in owners:
        begin = vars(owner).get('__init__') if inspect.isclass(owner) else owner
        if not inspect.isfunction(begin):
            continue
        for name, parameter in inspect.signature(begin).parameters.items():
            found.setdefault(name, (_kinds(parameter), parameter.default))
    return found


def _kinds(parameter: inspect.Parameter) -> frozenset[type] | None:
    """Return the kinds that a parameter states; of one without annotation, by its default."""
    kinds = _of_annotation(parameter.annotation)
    if kinds is not None and kinds - {types.NoneType} != {str}:  # loss_scale takes numbers, too
        return kinds | {types.NoneType} if parameter.default is None else kinds
    if parameter.name in _NUMBERS:
        return frozenset({int, float})
    plain = parameter.annotation is parameter.empty and type(parameter.default) in (
        int,
        float,
        bool,
    )
    return _NO_TEXT if plain else None


def _of_annotation(stated: Any) -> frozenset[type] | None:
    origin = typing.get_origin(stated)
    if origin in (typing.Union, types.UnionType):
        found = [_of_annotation(one) for one in typing.get_args(stated)]
        return None if None in found else frozenset().union(*found)
    stated = origin or stated
    if stated in (None, types.NoneType):
        return frozenset({types.NoneType})
    if stated is numbers.Number:
        return frozenset({int, float})
    if stated in (bool, int, float, str):
        return frozenset({stated})
    if inspect.isclass(stated) and issubclass(stated, Mapping):
        return frozenset({dict})
    if stated in (list, tuple, Sequence):
        return frozenset({list})
    return None
