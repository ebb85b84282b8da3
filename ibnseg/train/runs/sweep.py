"""Several configs, several seeds: what is to be run, and running it one after another."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from mmengine.config import Config

from .. import formatted
from ..config import below_configs
from .states import Planned, planned

_NOTE = 'sweep.config'


@formatted.once()
def plan(
    configs: Sequence[str],
    seeds: Sequence[int],
    out: str | Path,
    load: Callable[..., Config],
    methods: Sequence[str] = (),
) -> list[Planned]:
    """Say what a sweep has to run, in this order, and what of it is there already.

    Args:
        configs: files.
        seeds: each config is run with each.
        out: a run has the folder `<config>/seed-<seed>` in it.
        load: (config file, folder of the run[, method]) -> config, with what the command line says.
        methods: each config is run with each, in `<config>-<method>/`; none: with its own.

    Raises:
        ValueError: a seed, method or config twice, two configs whose records could not be told
            apart, or a folder with a run of another config or seed. What `load` and `records.read`
            raise.
    """
    if len(set(seeds)) < len(seeds):
        raise ValueError(f'--seeds {" ".join(map(str, seeds))}: one is named twice')
    if len(set(methods)) < len(methods):
        raise ValueError(f'--methods {" ".join(methods)}: one is named twice')
    runs, who, where = [], {}, {}
    for path, method in itertools.product(configs, methods or ['']):
        folder = Path(out, *below_configs(path))  # as train's own folders
        if method:
            folder = folder.with_name(f'{folder.name}-{method}')
        config = load(path, folder, *[method] * bool(method))
        identity = (config.model_name, config.source)
        for key, taken in ((identity, who), (folder, where)):
            other = taken.setdefault(key, path)
            if other != path or len(set(configs)) < len(configs):
                raise ValueError(
                    f'{other} and {path}: no two configs of a sweep may have one model name and '
                    'source, or one folder. Name each once, or give one a model_name'
                )
        for seed in seeds:
            run = planned(path, config, seed, folder / f'seed-{seed}', _NOTE)
            runs.append(dataclasses.replace(run, method=method))
    return runs
