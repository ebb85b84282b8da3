"""What may change when a run is continued: each changed option is applied, or refused by name."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..command import say
from ..measure import selection
from .config import schedulers

#: Settings that take effect from the checkpoint on; the record keeps when and from what.
_APPLIED = re.compile(
    r'optim_wrapper\.(optimizer\.(?!type$)|clip_grad|type$|dtype$|loss_scale)|param_scheduler|'
    r'train_cfg\.(max_iters|val_begin|val_interval)$'
)
_PLAIN = re.compile(r'train_cfg\.(max_epochs|max_iters|val_begin|val_interval)$')
_SCHEDULE = re.compile(r'optim_wrapper\.optimizer\.|param_scheduler')
_BATCH, _WORLD = 'train_dataloader.batch_size', 'world_size'
_NOT_GIVEN = 'not given'
_HISTORY = 'resumed.'
_WAY_OUT = 'Continue it as it was begun, or name another folder with --work-dir'


def check(
    config: Config, latest: Path, meta: Mapping[str, Any], training: Mapping[str, Any]
) -> bool:
    """Compare a run with what it was begun as, and note in `training` what changes from here on.

    Args:
        latest, meta: of the checkpoint to continue from, see `checkpoint.begin`.
        training: what the next checkpoints will say: 'pairs' and 'settings' as of now.

    Returns whether optimiser or schedule are other ones (`SegRunner.begin_with`).

    Raises ValueError for a change that a half-trained network can't take.
    """
    trained, settings = meta.get('trained', {}), training['settings']
    _check_data(config, latest, trained, training)
    _check_window(config, latest, meta['iter'])
    before = trained.get('settings')
    if before is None:
        return False
    history = {key: value for key, value in before.items() if key.startswith(_HISTORY)}
    changed = _refuse(latest, before, settings, _APPLIED)
    length = config.train_cfg.max_iters
    if length < meta['iter']:
        raise ValueError(
            f'train_cfg.max_iters={length}: {latest} has {meta["iter"]} iterations. `ibnseg test` '
            'measures it; expected more to train on'
        )
    before, _ = changed.get('train_cfg.max_iters', (length, length))
    end = max(map(_end, schedulers(config)), default=math.inf)
    if before <= end < length:
        raise ValueError(
            f'train_cfg.max_iters={length}: the schedule of {latest} ends at iteration {end}, and '
            f'what comes after it would be trained at its last rate. --iterations {length} in the '
            "place of train_cfg.max_iters stretches the schedule, too; or give param_scheduler's "
            'begin and end with --cfg-options'
        )
    anew = any(map(_SCHEDULE.match, changed))
    if anew and any('Plateau' in schedule['type'] for schedule in schedulers(config)):
        raise ValueError(
            f'{latest}: {", ".join(changed)} changed, but what a schedule by plateaus does next '
            f'depends on all the scores so far. {_WAY_OUT}'
        )
    for key, (old, new) in changed.items():
        say(f'from iteration {meta["iter"]} on, {key} is {new}, no more {old}')
        history[f'{_HISTORY}{meta["iter"]}.{key}'] = f'{old} -> {new}'
    settings.update(history)
    return anew


def check_plain(
    config: Config, latest: Path, meta: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Refuse to continue a run by epochs with other settings; see `settings.of_plain`.

    How often it is validated may change. It may become longer where its schedule reaches so far.

    Raises ValueError, naming what differs.
    """
    before = meta.get('trained', {}).get('settings')
    if before is None:  # of an older version
        return
    changed = _refuse(latest, before, settings, _PLAIN)
    unit = 'iter' if 'max_iters' in config.train_cfg else 'epoch'
    key = f'train_cfg.max_{unit}s'
    length, done = config.train_cfg[f'max_{unit}s'], meta[unit]
    if length < done:
        raise ValueError(f'{key}={length}: {latest} has {done} {unit}s; expected more to train on')
    begun, _ = changed.get(key, (length, length))
    stated = schedulers(config)
    by_epoch = [one for one in stated if one.get('by_epoch', True)]
    same = stated if unit == 'iter' else by_epoch
    end = max(map(_end, same or stated), default=math.inf)
    if length > begun and (begun <= end < length if same else end < math.inf):
        of = 'epoch' if same is by_epoch and by_epoch else 'iteration'
        raise ValueError(
            f'{key}={length}: {latest} was begun for {begun} {unit}s, and its '
            f'schedule ends at {of} {end}. {_WAY_OUT}'
        )


def _refuse(
    latest: Path, before: Mapping[str, Any], now: Mapping[str, Any], applied: re.Pattern
) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ, as `_changed`; refuse those that are not `applied`."""
    changed = _changed(before, now)
    old, new = (x.get(_BATCH, 1) * x.get(_WORLD, 1) for x in (before, now))
    same_batch = {_BATCH, _WORLD} if old == new else set()
    refused = [key for key in changed if not applied.match(key) and key not in same_batch]
    if refused:
        shown = '; '.join('{}: {}, now {}'.format(key, *changed[key]) for key in refused)
        raise ValueError(f'{latest} was begun as another experiment ({shown}). {_WAY_OUT}')
    return changed


def _end(schedule: Mapping[str, Any]) -> float:
    """Return the iteration or epoch up to which a schedule is stated, infinity without any."""
    begin, periods = schedule.get('begin', 0), schedule.get('periods')
    length = schedule.get('T_max') or schedule.get('total_steps') or (periods and sum(periods))
    return min(schedule.get('end', math.inf), begin + (length or math.inf))


def processes(config: Config) -> int:
    """Return how many processes a launcher has started, before they have met."""
    told = dict(pytorch='WORLD_SIZE', slurm='SLURM_NTASKS', mpi='OMPI_COMM_WORLD_SIZE')
    return int(os.environ.get(told.get(config.launcher, ''), 1))


def rank(config: Config) -> int:
    """Return which of them this one is, from 0 on."""
    told = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')
    return int(os.environ.get(told.get(config.launcher, ''), 0))


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ: key -> (as begun, now)."""
    found = {
        key: (before.get(key, _NOT_GIVEN), now.get(key, _NOT_GIVEN))
        for key in before | now
        if not key.startswith(_HISTORY) and before.get(key) != now.get(key)
    }
    # The first weights have been read long since; their file may be gone.
    return {key: both for key, both in found.items() if not _gone(*both)}


def _gone(old: Any, new: Any) -> bool:
    return str(old).startswith('sha256 ') and isinstance(new, str) and not Path(new).exists()


def _check_data(
    config: Config, latest: Path, trained: Mapping[str, Any], training: Mapping[str, Any]
) -> None:
    """Refuse other pairs to train on, and selection by another rule."""
    for domain, before in trained.get('pairs', {}).items():
        now = training['pairs'].get(domain, dict(pairs=0, digest=None))
        if before['digest'] != now['digest']:
            raise ValueError(
                f'{latest} was trained on {before["pairs"]:,} pairs of {domain} '
                f'({before["digest"]}), here are {now["pairs"]:,} ({now["digest"]}). Resume with '
                'the same files and the same --skip-list'
            )
    rule = selection.implied(config.source, config.val_dataloader.dataset.domains).name
    begun = trained.get('selection', rule)
    if rule != begun:  # scores on other images can't be compared with the best one so far
        raise ValueError(f'--select: {latest} was begun with {begun}, this is {rule}. {_WAY_OUT}')


def _check_window(config: Config, latest: Path, done: int) -> None:
    window = config.optim_wrapper.get('accumulative_counts', 1)
    if done % window and done != config.train_cfg.max_iters:
        raise ValueError(
            f'{latest} lies within {window} iterations of accumulated gradients, which it does '
            f'not hold: {done} is no multiple of accumulative_counts={window}. Resume with the '
            'accumulative_counts and train_cfg.max_iters that it was begun with, or name another '
            'folder with --work-dir'
        )
