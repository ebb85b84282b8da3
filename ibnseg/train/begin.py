"""A run begins in an empty work dir, or continues what is there: never over another run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .. import weights
from .checkpoint import newest


def begin(
    config: Config,
    resume: bool,
    seed: int | None,
    pattern: str = 'iter_*.pth',
    check: Callable[[Path, dict[str, Any]], None] = lambda path, meta: None,
) -> None:
    """Have the config begin a run in its work dir, or continue the one that is there.

    Args:
        resume: continue from the newest checkpoint, with its seed.
        seed: of the run; default: the config's.
        pattern: of the checkpoints to continue from.
        check: called with the checkpoint to continue from and its meta; raises what forbids it.

    Raises:
        FileNotFoundError, FileExistsError: nothing to continue, or a run to begin over another.
        ValueError: the run was begun with another seed.
    """
    work_dir = Path(config.work_dir)
    latest = newest(work_dir, pattern)
    if resume:
        if latest is None:
            raise FileNotFoundError(
                f'--resume: no {pattern} in {work_dir}. Leave --resume away to start anew, or '
                'name the folder of the run with --work-dir'
            )
        meta = weights.read(latest)['meta']
        if seed not in (None, meta['seed']):
            raise ValueError(
                f'--seed {seed}: {latest} was trained with seed {meta["seed"]}. Leave --seed away '
                'to continue it'
            )
        check(latest, meta)
        config.resume, config.load_from, seed = True, str(latest), meta['seed']
    else:
        begun = sorted(work_dir.glob(f'*{pattern}'))
        if begun:
            way_out = 'Continue it with --resume, name' if latest else 'Name'
            raise FileExistsError(
                f'{work_dir} holds a run already ({begun[0].name}). {way_out} another folder with '
                '--work-dir, or delete it'
            )
        if config.get('resume'):  # a dumped config of a resumed run would continue that one
            config.resume, config.load_from = False, None
    if seed is not None:
        config.randomness = dict(config.get('randomness') or {}, seed=seed)
