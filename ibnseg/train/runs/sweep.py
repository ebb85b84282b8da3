"""Several configs, several seeds: what is to be run, and running it one after another."""

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from ... import disk
from ...measure import records
from ..config import below_configs
from .states import BEGUN, FINISHED, NEW, train

_NOTE = 'sweep.config'  # in each run's folder, its config as the sweep began it
# Where a run is kept and how it went on there; its seed is compared by itself.
_NOT_THE_RUN = ('work_dir', 'randomness', 'resume', 'load_from', 'launcher')


@dataclass(frozen=True)
class Planned:
    """A run of a sweep: its config file and seed, its folder, how far it is, and its config."""

    config: str
    model: str
    seed: int
    folder: Path
    record: Path
    state: str
    text: str = ''

    def __str__(self) -> str:
        return f'{self.config}, seed {self.seed}'


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
            at = folder / f'seed-{seed}'
            record = at / f'{config.model_name}.record.json'
            state = _state(config, seed, at, record)
            runs.append(
                Planned(path, config.model_name, seed, at, record, state, config.pretty_text)
            )
    return runs


def _state(config: Config, seed: int, folder: Path, record: Path) -> str:
    if record.is_file():
        found = records.read(record).provenance.get('seed')
        if found != seed:
            raise ValueError(
                f'{record}: of seed {found!r:.20}, expected {seed}. Move the folder away, or name '
                'another with --work-dir'
            )
        state = FINISHED
    elif any(folder.glob('*iter_*.pth')):
        state = BEGUN
    else:
        return NEW
    note = folder / _NOTE
    if not note.is_file():
        raise ValueError(
            f'{folder} holds a {state} run that no sweep began (no {_NOTE}). Name another folder '
            'with --work-dir, or delete that one'
        )
    before = _content(note.read_bytes(), note, folder)
    now = _content(config.pretty_text, config.filename, folder)
    other = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if other:
        raise ValueError(
            f'{folder} holds a {state} run of another config; they differ in {", ".join(other)}. '
            'Name another folder with --work-dir, or delete that one'
        )
    return state


def _content(text: str | bytes, origin: str | Path, folder: Path) -> dict[str, str]:
    """Return the config's values by name, without running it.

    Raises ValueError where it is anything but names and values: what can't be read can't be
    compared.
    """
    try:
        values = {line.targets[0].id: ast.unparse(line.value) for line in ast.parse(text).body}
    except (SyntaxError, ValueError, RecursionError, MemoryError, AttributeError):
        raise ValueError(
            f'{origin}: its values do not read as lines of name = value, so whether {folder} holds '
            'a run of this config is not known. Name another folder with --work-dir, or delete '
            'that one'
        ) from None
    return {name: value for name, value in values.items() if name not in _NOT_THE_RUN}


def begin(run: Planned, script: str | Path, words: Sequence[str]) -> int:
    """Train a planned run, and return its exit code.

    Args:
        script: tools/train.py.
        words: of its command line.
    """
    if run.state == NEW:
        disk.write_atomically(run.folder / _NOTE, run.text)
    return train(script, run.config, run.folder, run.seed, run.state, words)
