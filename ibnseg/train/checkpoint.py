"""Checkpoints that survive a crash; which one a run continues, and which one it reports."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import all_reduce, barrier, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmseg.registry import HOOKS

from .. import command, ending, weights
from ..measure import selection
from . import replaced, whole
from .config import domain_names

#: What a process leaves that is killed while it writes.
_LEFT = ('.*iter_*.pth.tmp', '.epoch_*.pth.tmp', '.*.record.json.*.tmp', '.*.images.npz.*.tmp')
_NAME = re.compile(r'(?:best_iter|iter|epoch)_(\d+)\.pth')


@HOOKS.register_module()
class AtomicCheckpointHook(Hook):
    """Save `iter_N.pth` every `interval` iterations and `best_iter_N.pth` by source validation.

    Where gradients are accumulated, `iter_N.pth` waits for the update, so none are lost. A run that
    is asked to end by SIGTERM or SIGUSR1 saves its last iteration and ends, on all ranks. Within
    a long pass of a method it is saved as it was before that.
    An older file is deleted only after the newer one is whole on disk. Each file says what it was
    trained on and by which rule it was selected: 'target oracle' where the validation holds
    another dataset than the source.

    Args:
        interval: iterations; where validation comes more often, as often.
        keep: how many `iter_N.pth` to keep.

    Raises:
        ValueError: the loss is not finite; names the batch. The last good checkpoint stays.
        ending.Saved: the run was asked to end.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int = 1000, keep: int = 1):
        self.interval, self.keep = interval, keep
        self.best_score, self._due = -math.inf, False
        self.lost: list[str] = []  # best checkpoints that were damaged before a resume

    def before_train(self, runner) -> None:
        if runner.iter == 0:
            return
        found, damaged = _readable(runner.work_dir, 'best_iter_*.pth')
        barrier()
        for path, reason in damaged:
            kept = path.with_name(f'{path.name}.damaged')
            command.say(
                f'{reason}. It is kept as {kept.name}; the best of the other validations is '
                'reported in its place'
            )
            self.lost.append(path.name)
            if is_main_process():
                path.rename(kept)
        barrier()
        if found is not None:
            self.best_score = found[1]['meta']['score']

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        done = runner.iter + 1
        check_finite(outputs, data_batch, done)
        asked = _asked(runner)
        self._due |= bool(asked) or done % min(self.interval, runner.val_interval) == 0
        if (self._due and updated(runner)) or done == runner.max_iters:
            self._due = False
            self._save(runner, f'iter_{done}.pth', 'iter_*.pth', self.keep, {}, done)
            if asked:
                raise ending.Saved(asked)

    def asked_before(self, runner) -> int:
        """Return the signal that asks a run to end while an iteration has yet to begin.

        0 for none, and where gradients wait for an update. All ranks have to ask at once.
        """
        return _asked(runner) if updated(runner) else 0

    def end_before(self, runner, asked: int) -> None:
        """Save a run as it is before an iteration. Raises ending.Saved."""
        self._save(runner, f'iter_{runner.iter}.pth', 'iter_*.pth', self.keep, {}, runner.iter)
        raise ending.Saved(asked)

    def after_val_epoch(self, runner, metrics=None) -> None:
        value = (metrics or {}).get('mIoU')
        if value is None or not value > self.best_score:
            return
        self.best_score = value
        meta = dict(score=float(value), metric='mIoU')
        self._save(runner, f'best_iter_{runner.iter}.pth', 'best_iter_*.pth', 1, meta, runner.iter)

    def _save(self, runner, name: str, pattern: str, keep: int, meta: dict, done: int) -> None:
        replaced.share(runner)
        trained = _trained(runner) | (dict(lost=self.lost) if self.lost else {})
        meta = dict(meta, iter=done, epoch=runner.epoch, trained=trained)
        meta['threads'] = torch.get_num_threads()
        save(runner, name, pattern, keep, meta=meta, by_epoch=False)


def _trained(runner) -> dict:
    config = runner.cfg
    data = getattr(getattr(runner, 'train_dataloader', None), 'dataset', None)
    data = getattr(data, 'used', ())
    stated = getattr(runner, 'training', {})
    validated = domain_names(config.val_dataloader.dataset)
    return dict(
        source=config.source,
        validated=list(validated),
        selection=selection.implied(config.source, validated).name,
        iterations=config.train_cfg.max_iters,
        shares=_shares(runner),
        fine_tuned=config.get('fine_tuned'),
        pairs={used.domain: used.summary() for used in data},
        skipped={used.domain: used.skipped for used in data if used.skipped},
        replaced=sorted(replaced.known(runner)),
        **_unlabelled(runner),
        **{key: stated[key] for key in ('settings', 'weights') if key in stated},
    )


def _unlabelled(runner) -> dict[str, list]:
    """Which photos besides those of the source the steps of the training read."""
    data = getattr(getattr(runner, 'train_dataloader', None), 'dataset', None)
    steps = getattr(getattr(data, 'pipeline', None), 'transforms', ())
    told = [s.unlabelled(str(data.data_root)) for s in steps if hasattr(s, 'unlabelled')]
    found = [one for one in told if one]
    return dict(unlabelled=found) if found else {}


def check_finite(outputs: dict | None, data_batch: dict, iteration: int) -> None:
    """Raise ValueError, naming the batch, where its loss is not a finite number."""
    from .runner import LOWER  # which imports this module

    loss = float(outputs['loss']) if outputs else 0.0
    if not math.isfinite(loss):
        files = np.ravel([sample.img_path for sample in data_batch['data_samples']])
        raise ValueError(
            f'the loss is {loss} at iteration {iteration}, on {", ".join(files)}. Nothing was '
            f'saved of it. {LOWER}'
        )


def _asked(runner) -> int:
    """Return the signal that asked any rank to end, 0 for none."""
    asked = torch.tensor(next(iter(getattr(runner, 'asked', ())), 0))
    if get_world_size() > 1:
        all_reduce(asked, 'max')
    return int(asked)


def updated(runner) -> bool:
    """Whether no accumulated gradients wait for an update; a checkpoint would not hold them."""
    return runner.optim_wrapper.should_update()


def save(runner, name: str, pattern: str, keep: int, **kwargs: Any) -> None:
    """Save a checkpoint, then delete all but the newest `keep` that match."""
    runner.save_checkpoint(runner.work_dir, name, **kwargs)
    if is_main_process():
        for old in _by_iteration(runner.work_dir, pattern)[keep:]:
            old.unlink(missing_ok=True)
    barrier()


def _shares(runner) -> dict[str, float] | None:
    """Of several domains trained on: which part of the samples came from each."""
    data = getattr(getattr(runner, 'train_dataloader', None), 'dataset', None)
    if len(getattr(data, 'sizes', ())) < 2:
        return None
    return dict(zip(data.source.domains, data.source.shares(data.sizes), strict=True))


def _by_iteration(folder: str | Path, pattern: str) -> list[Path]:
    """Newest first."""
    matches = ((_NAME.fullmatch(path.name), path) for path in Path(folder).glob(pattern))
    return [p for _, p in sorted(((int(m[1]), p) for m, p in matches if m), reverse=True)]


def newest(folder: str | Path, pattern: str = 'iter_*.pth') -> tuple[Path, dict[str, Any]] | None:
    """Return path and content of a run's newest checkpoint that reads whole; None without any.

    Says which newer ones do not. Raises ValueError where there are files but none is whole: never
    a silent restart.
    """
    found, damaged = _readable(folder, pattern)
    if damaged and found is None:
        reasons = '\n'.join(reason for _, reason in damaged)
        raise ValueError(f'no checkpoint of this run can be read:\n{reasons}')
    for _, reason in damaged:
        command.say_once(f'{reason}. It is passed over: {found[0].name} is taken')
    return found


def _readable(
    folder: str | Path, pattern: str
) -> tuple[tuple[Path, dict[str, Any]] | None, list[tuple[Path, str]]]:
    """Return the newest that reads whole with its content, and those above it: path, reason."""
    damaged = []
    for path in _by_iteration(folder, pattern):
        try:
            return (path, weights.read(path)), damaged
        except ValueError as error:
            damaged.append((path, str(error)))
    return None, damaged


def chosen(folder: str | Path, rule: selection.Rule) -> Path | None:
    """Return the checkpoint of a run that a rule selects. Raises ValueError as `newest`."""
    for pattern in rule.files:
        if found := newest(folder, pattern):
            return found[0]
    return None


def begin(
    config: Config, resume: bool, seed: int | None, pattern: str = 'iter_*.pth'
) -> tuple[Path, dict[str, Any]] | None:
    """Have the config begin a run in its work dir, or continue the one that is there.

    What a killed process has left half-written there is removed.

    Returns path and meta of the checkpoint to continue from (`SegRunner.begin_with`), None for a
    run that begins.

    Args:
        resume: continue from the newest checkpoint, with its seed.
        seed: of the run; default: the config's.
        pattern: of the checkpoints to continue from.

    Raises:
        FileNotFoundError, FileExistsError: nothing to continue, or a run to begin over another.
        ValueError: the run was begun with another seed, or resume=True in a config.
    """
    work_dir = Path(config.work_dir)
    if is_main_process():
        for kind in _LEFT:
            for path in work_dir.glob(kind):
                path.unlink(missing_ok=True)
    found = newest(work_dir, pattern)
    continued = None
    if resume:
        if found is None:
            raise FileNotFoundError(
                f'--resume: no {pattern} in {work_dir}. Leave --resume away to start anew, or '
                'name the folder of the run with --work-dir'
            )
        whole.check(*found)
        latest, meta = continued = found[0], found[1]['meta']
        whole.say_threads(latest, meta)
        if seed not in (None, meta['seed']):
            raise ValueError(
                f'--seed {seed}: {latest} was trained with seed {meta["seed"]}. Leave --seed away '
                'to continue it'
            )
        seed = meta['seed']
    else:
        if begun := sorted(work_dir.glob(f'*{pattern}')):
            way_out = 'Continue it with --resume, name' if found else 'Name'
            raise FileExistsError(
                f'{work_dir} holds a run already ({begun[0].name}). {way_out} another folder with '
                '--work-dir, or delete it'
            )
        if config.get('resume'):
            raise ValueError(
                'the config says resume=True. Leave it away, and say --resume to continue the run '
                f'in {work_dir}'
            )
    if seed is not None:
        config.randomness = dict(config.get('randomness') or {}, seed=seed)
    return continued
