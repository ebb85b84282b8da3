"""The mean of the weights of several trainings of one network (model soup, ReVT)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import disk
from . import files

#: Ends of the keys of statistics that a layer gathers in training, for use in evaluation.
_RUNNING = ('.running_mean', '.running_var', '.running_cov')


@dataclass
class Average:
    """Mean weights and how they came about.

    Args:
        state: a whole model's state dict.
        meta: of the new checkpoint: what all its files say of their training.
        averaged: keys whose tensors are means.
        differing: other keys whose tensors are not the same in all files; those of the first.
        stale: keys of statistics that belong to none of the averaged weights, until a pass over
            training photos has renewed them (`ibnseg.train.refresh`).
    """

    state: dict[str, Tensor]
    meta: dict[str, Any] = field(default_factory=dict)
    averaged: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)

    def save(self, out: str | Path) -> None:
        """Write a checkpoint that `ibnseg test` and `init_cfg` take, whole or not at all."""
        content = dict(state_dict=self.state, meta=self.meta)
        disk.write_by(out, lambda file: torch.save(content, file))


def mean(states: Sequence[Mapping[str, Tensor]], keys: str = '.*') -> Average:
    """Return the mean of state dicts.

    Args:
        keys: regular expression that a key matches from its start; tensors of floating point of
            these keys are averaged, all else is the first's.

    Raises ValueError for `keys` that match nothing, and for means that are not finite.

    Source: Wortsman et al., "Model soups", ICML 2022; of encoders alone ('backbone.*'): Termoehlen
    et al., "A Re-Parameterized Vision Transformer (ReVT) for Domain-Generalized Semantic
    Segmentation", WACV 2024.
    """
    try:
        pattern = re.compile(keys)
    except re.error as error:
        raise ValueError(f'--keys {keys!r} is no regular expression ({error})') from None
    result = Average(dict(states[0]))
    for key, first in states[0].items():
        all_of_it = [state[key] for state in states]
        if first.is_floating_point() and pattern.match(key):
            total = sum(one.double() for one in all_of_it)
            result.state[key] = (total / len(states)).to(first.dtype)
            result.averaged.append(key)
            if not result.state[key].isfinite().all():
                raise ValueError(f'the mean of {key} is not finite. Leave out the file it is from')
        elif not all(torch.equal(first, one) for one in all_of_it):
            result.differing.append(key)
    if not result.averaged:
        raise ValueError(
            f'--keys {keys!r} matches no weights, from the start of a key; the first keys are '
            f'{files.some(list(states[0]))}'
        )
    moved = {k for k in states[0] if not all(torch.equal(states[0][k], s[k]) for s in states)}
    if moved & set(result.averaged):
        # Statistics that are the same in all files are frozen ones.
        result.stale = [key for key in states[0] if key.endswith(_RUNNING) and key in moved]
    return result


def average(sources: Sequence[str | Path], keys: str = '.*') -> Average:
    """Return the mean of the weights in files; see `mean`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: fewer than two files or one twice, another network than the first's, files
            trained on different sources or selected by different rules, and as `mean`.
    """
    if len(sources) < 2:
        raise ValueError(f'got {len(sources)} file; expected two or more to average')
    contents = [files.read(source) for source in sources]
    states = [files.unwrapped(_state(content)) for content in contents]
    origin = [dict(file=Path(s).name, sha256=disk.sha256(files.locate(s))) for s in sources]
    for i, (source, state) in enumerate(zip(sources, states, strict=True)):
        if problems := files.misfits(states[0], state):
            raise ValueError(f'{source} is another network than {sources[0]}: {problems[0]}')
        same = [j for j in range(i) if origin[j]['sha256'] == origin[i]['sha256']]
        if same:
            raise ValueError(f'{source} is the same file as {sources[same[0]]}')
    result = mean(states, keys)
    result.meta = _meta(sources, [content.get('meta') or {} for content in contents])
    result.meta['averaged'] = dict(keys=keys, files=origin)
    return result


def _state(content: Mapping[str, Any]) -> dict[str, Tensor]:
    held = content.get('state_dict', content)
    return {key: value for key, value in held.items() if isinstance(value, Tensor)}


def _meta(sources: Sequence[str | Path], metas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is true of all trainings; what any of them has looked at is named."""
    trained = [meta.get('trained') or {} for meta in metas]
    scored = [i for i, meta in enumerate(metas) if 'score' in meta]
    for key, among in (('source', range(len(metas))), ('selection', scored)):
        values = {i: trained[i].get(key) for i in among}
        for i, value in values.items():
            if value != (first := values[min(values)]):
                raise ValueError(
                    f'{sources[i]} has {key} {value!r}, {sources[min(values)]} {first!r}. A record '
                    f'has one {key}: average files of one'
                )
    # Without an iteration and a seed: it has several.
    result = {'score': None, 'metric': metas[scored[0]].get('metric')} if scored else {}
    if not any(trained):
        return result
    together = {k: v for k, v in trained[0].items() if all(one.get(k) == v for one in trained)}
    for key in ('validated', 'weights', 'replaced'):
        named = [value for one in trained for value in one.get(key) or []]
        together[key] = [value for i, value in enumerate(named) if value not in named[:i]]
    skipped = [one.get('skipped') or {} for one in trained]
    together['skipped'] = {name: value for one in skipped for name, value in one.items()}
    return result | dict(trained=together)
