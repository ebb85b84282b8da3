"""Several configs, several seeds: what is to be run, and running it one after another."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mmengine.config import Config

from ..config import below_configs
from .states import Planned, planned

_NOTE = 'sweep.config'


def plan(
    configs: Sequence[str],
    seeds: Sequence[int],
    out: str | Path,
    load: Callable[[str, Path], Config],
) -> list[Planned]:
    """Say what a sweep has to run, in this order, and what of it is there already.

    Args:
        configs: files.
        seeds: each config is run with each.
        out: a run has the folder `<config>/seed-<seed>` in it.
        load: (config file, folder of the run) -> config, with what the command line says.

    Raises:
        ValueError: a seed or config twice, two configs whose records could not be told apart, or a
            folder with a run of another config or seed. What `load` and `records.read` raise.
    """
    if len(set(seeds)) < len(seeds):
        raise ValueError(f'--seeds {" ".join(map(str, seeds))}: one is named twice')
    runs, who, where = [], {}, {}
    for path in configs:
        folder = Path(out, *below_configs(path))  # as train's own folders
        config = load(path, folder)
        identity = (config.model_name, config.source)
        for key, taken in ((identity, who), (folder, where)):
            other = taken.setdefault(key, path)
            if other != path or len(set(configs)) < len(configs):
                raise ValueError(
                    f'{other} and {path}: no two configs of a sweep may have one model name and '
                    'source, or one folder. Name each once, or give one a model_name'
                )
        for seed in seeds:
            runs.append(planned(path, config, seed, folder / f'seed-{seed}', _NOTE))
    return runs
