"""Whether a checkpoint holds all that a run needs to go on as it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..command import say_once

_PARTS = {'optimizer': Mapping, 'message_hub': Mapping, 'param_schedulers': list}
_META = {'iter': int, 'seed': int, 'epoch': int, 'trained': Mapping}
#: Those of 'trained' that are there.
_TRAINED = {'settings': Mapping, 'pairs': Mapping, 'weights': list, 'source': str, 'selection': str}
_KINDS = {int: 'a count', Mapping: 'a dict', list: 'a list', str: 'a text'}


def check(path: Path, content: Mapping[str, Any]) -> None:
    """Raise ValueError where something that decides how a run goes on is absent, or no such thing.

    Args:
        content: of `weights.read`.
    """
    meta = content.get('meta', {})
    meta = dict(trained={}) | meta  # an older version's has none
    stated = meta['trained'] if isinstance(meta['trained'], Mapping) else {}
    pairs = stated.get('pairs') if isinstance(stated.get('pairs'), Mapping) else {}
    parts = [(key, content.get(key), kind) for key, kind in _PARTS.items()]
    parts += [(f'meta.{key}', meta.get(key), kind) for key, kind in _META.items()]
    parts += [(f'meta.trained.{k}', stated[k], kind) for k, kind in _TRAINED.items() if k in stated]
    parts += [(f'meta.trained.pairs.{key!s:.40}', one, Mapping) for key, one in pairs.items()]
    for name, value, kind in parts:
        fits = isinstance(value, kind) and not isinstance(value, bool)
        if not fits or (kind is int and not 0 <= value < 2**63):
            raise ValueError(
                f'{path}: {name} is {value!r:.60}; expected {_KINDS[kind]}. A training cannot go '
                'on from it: take an older checkpoint of the run, or begin another run with its '
                'weights (load_from)'
            )


def say_threads(path: Path, meta: Mapping[str, Any]) -> None:
    """Say so where the sums of a CPU will be rounded in another way than before a resume."""
    before, now = meta.get('threads'), torch.get_num_threads()
    if isinstance(before, int) and before != now and not torch.cuda.is_available():
        say_once(
            f'{path} was written by {before} threads of torch, this process has {now}: the weights '
            'will differ in their last bits from those of an uninterrupted run. For the same bits '
            f'set OMP_NUM_THREADS={before}'
        )
