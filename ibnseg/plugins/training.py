"""The jobs behind `ibnseg run`: configs of MMDetection and MMPretrain, trained and tested."""

import contextlib
import importlib
import io
import json
import logging
from argparse import Namespace
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import set_random_seed

from .. import disk
from ..measure import origin
from ..text import tell
from ..train import parts, settings
from ..train import resume as resuming
from ..train.checkpoint import begin, check_finite, newest, save, updated
from ..train.config import LOADERS, parse_options, read_config
from ..train.progress import ProgressHook
from ..train.runner import FOR_TRAINING, build
from . import iterations

_NEEDED = ('default_scope', 'model', 'train_dataloader', 'test_dataloader', 'test_evaluator')
_PATTERN = 'epoch_*.pth'
_NOTHING = 'no metrics: the evaluator found nothing to measure; the log says why'


def from_arguments(args: Namespace) -> Config:
    """Read the config that a command names, with its options; see `load_config`."""
    config = load_config(
        args.config,
        work_dir=args.work_dir,
        data_root=args.data_root,
        launcher=args.launcher,
        options=parse_options(args.cfg_options),
    )
    args.work_dir = config.work_dir
    return config


def load_config(
    path: str | Path,
    *,
    work_dir: str | None = None,
    data_root: str | None = None,
    launcher: str = 'none',
    options: Mapping[str, Any] | None = None,
) -> Config:
    """Read a config of a project whose registry is its `default_scope`, and lay options over it.

    Args as `train.config.load_config`; `data_root` stands for the config's `data_root` wherever a
    loader or an evaluator names it.

    Raises:
        FileNotFoundError, ValueError: no such config, one that lacks what a run needs, or a
            project that is not installed.
    """
    try:
        with _stdout_to_log():
            config = read_config(path, _NEEDED, work_dir, launcher, options)
            importlib.import_module(f'{config.default_scope}.registry')
            importlib.import_module(f'{config.default_scope}.models')
    except ImportError as error:
        raise ValueError(
            f'{path} needs a package that is missing or does not work here: {error}. '
            '`make setup-plugins` sets up .venv-plugins, which has MMDetection and MMPretrain with '
            'all they need; docs/plug-in.md tells more'
        ) from error
    if data_root is not None:
        if not (old := config.get('data_root')):
            raise ValueError(
                f'{path} has no data_root for --data-root to replace; name the folders with '
                '--cfg-options'
            )
        keys = (*LOADERS, 'val_evaluator', 'test_evaluator')
        moved = {key: config[key] for key in keys if config.get(key) is not None}
        config.merge_from_dict(_moved(moved, old.rstrip('/'), str(data_root).rstrip('/')))
        config.data_root = str(data_root)
    return config


def _moved(value: Any, old: str, new: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _moved(item, old, new) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(item, old, new) for item in value)
    if isinstance(value, str) and (value == old or value.startswith(f'{old}/')):
        return new + value[len(old) :]
    return value


def train(config: Config, *, resume: bool = False, seed: int | None = None) -> None:
    """Train; the last `epoch_N.pth` or, of MMSegmentation, `iter_N.pth` in `config.work_dir` is the
    result.

    No checkpoint is selected: what these configs validate on is what they are tested on.

    Args:
        resume: continue from the newest checkpoint of `config.work_dir`, with its seed.
        seed: of weights, sampling and augmentation; default: the config's, or 0.

    Raises:
        FileExistsError, FileNotFoundError, ValueError: the folder, data, weights or config are
            not as expected, or a run would be continued with other settings.
    """
    with disk.claimed(config.work_dir, resuming.rank(config)):
        _train(config, resume, seed)


def _train(config: Config, resume: bool, seed: int | None) -> None:
    config.randomness = dict(seed=0) | (config.get('randomness') or {})
    _check_loop(config)
    by_iterations = iterations.is_by_iterations(config)
    pattern = iterations.PATTERN if by_iterations else _PATTERN
    continued = begin(config, resume, seed, pattern)
    with _stdout_to_log():
        parts.check(config)
    root = str(config.get('data_root') or 'data').rstrip('/')
    stated = settings.of_plain(_moved(config.to_dict(), root, 'DATA'))
    stated['world_size'] = resuming.processes(config)
    if continued:
        resuming.check_plain(config, *continued, stated)
    _prepare(config, by_iterations)
    if by_iterations:
        iterations.prepare(config)
    with _stdout_to_log():
        runner = build(config)
        runner.training = dict(settings=stated)  # for the checkpoints
        if continued:
            runner.begin_with(continued[0], resume=True)
        runner.train()
    if is_main_process():
        tell(f'checkpoint  {newest(config.work_dir, pattern)[0]}')
        tell(f'log         {runner.log_file}')


def test(config: Config, checkpoint: str | Path) -> dict[str, float]:
    """Test a checkpoint; print its metrics and write them to `<work_dir>/test/metrics.json`.

    Returns the metrics.

    Raises:
        FileNotFoundError, ValueError: checkpoint, data or config are not as expected.
    """
    with _stdout_to_log():
        parts.check(config)
    # Not the folder of the training run: its config stays as it is.
    config.work_dir = str(Path(config.work_dir) / 'test')
    for key in (*FOR_TRAINING, 'auto_scale_lr'):
        config[key] = None
    config.resume, config.load_from = False, None
    config.custom_hooks = [*(config.get('custom_hooks') or []), dict(type='PlainProgressHook')]
    with _stdout_to_log():
        runner = build(config)
        meta = runner.read_fitting(checkpoint).get('meta', {})  # before the data is looked for
        runner.begin_with(checkpoint, resume=False)
        metrics = {key: float(value) for key, value in runner.test().items()}
    out = Path(config.work_dir) / 'metrics.json'
    if is_main_process():
        result = dict(
            metrics=metrics,
            checkpoint=Path(checkpoint).name,
            checkpoint_sha256=disk.sha256(checkpoint),
            epoch=meta.get('epoch'),
            seed=meta.get('seed'),
            images=len(runner.test_dataloader.dataset),
            **origin.here(),
            config=config.pretty_text,
        )
        disk.write_atomically(out, json.dumps(result, indent=1) + '\n')
        if not metrics:
            tell(_NOTHING)
        width = max(map(len, metrics), default=0)
        for name, value in metrics.items():
            tell(f'{name:{width}}  {value:.4g}')
        tell(f'metrics     {out}')
        tell(f'checkpoint  {checkpoint}')
        tell(f'log         {runner.log_file}')
    return metrics


def _check_loop(config: Config) -> None:
    stated = config.get('train_cfg') or {}
    loop = stated.get('type', 'EpochBasedTrainLoop')
    if iterations.is_by_iterations(config):
        return
    if not stated or loop != 'EpochBasedTrainLoop' or not stated.get('by_epoch', True):
        raise ValueError(
            f'train_cfg is {dict(stated)}; ibnseg run trains by epochs: expected '
            "dict(type='EpochBasedTrainLoop', max_epochs=...)"
        )


def _prepare(config: Config, by_iterations: bool) -> None:
    """Put ibnseg's hooks in the place of the config's, which stays a plain one of its project."""
    config.default_hooks = config.get('default_hooks') or {}
    given = config.default_hooks.get('checkpoint') or {}
    if given.get('save_best'):
        raise ValueError(
            f'default_hooks.checkpoint.save_best is {given["save_best"]!r}: ibnseg run selects '
            'no checkpoint. Leave it away'
        )
    keep = given.get('max_keep_ckpts', -1)
    config.default_hooks.checkpoint = dict(
        type='IterationCheckpointHook' if by_iterations else 'EpochCheckpointHook',
        interval=given.get('interval', 1),
        keep=keep if keep > 0 else 1,
        _scope_='mmengine',
    )
    # Workers that live on would go on with random states that no checkpoint holds.
    config.train_dataloader.persistent_workers = False
    config.custom_hooks = [
        *(config.get('custom_hooks') or []),
        dict(type='SyncBuffersHook', _scope_='mmengine'),
        *([] if by_iterations else [dict(type='EpochSeedHook')]),
        dict(type='PlainProgressHook'),
    ]


@HOOKS.register_module()
class EpochCheckpointHook(Hook):
    """Save `epoch_N.pth` every `interval` epochs and after the last; keep the newest `keep`.

    Where gradients are accumulated over an epoch's end, it waits for an epoch that ends with an
    update.
    An older file is deleted only after the newer one is whole on disk.

    Raises:
        ValueError: the loss is not finite; names the batch. The last good checkpoint stays.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int = 1, keep: int = 1):
        self.interval, self.keep = interval, keep
        self._due = False

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        check_finite(outputs, data_batch, runner.iter + 1)

    def after_train_epoch(self, runner) -> None:
        done = runner.epoch + 1
        self._due |= done % self.interval == 0
        if (self._due and updated(runner)) or done == runner.max_epochs:
            self._due = False
            meta = dict(trained=dict(runner.training))
            save(runner, f'epoch_{done}.pth', _PATTERN, self.keep, meta=meta)


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """What is drawn in an epoch follows from (seed, epoch, rank, worker).

    So a run that is resumed after an epoch ends with the weights of an uninterrupted one, and
    no two epochs are augmented alike.
    """

    def before_train_epoch(self, runner) -> None:
        seed = hash((runner.seed, runner.epoch, get_rank())) % 2**32
        set_random_seed(seed)
        runner.train_dataloader.worker_init_fn = partial(_seed_worker, seed)


def _seed_worker(seed: int, worker: int) -> None:
    set_random_seed(hash((seed, worker)) % 2**32)


@HOOKS.register_module()
class PlainProgressHook(ProgressHook):
    """`ProgressHook` for any metrics."""

    def after_val_epoch(self, runner, metrics=None) -> None:
        values = '  '.join(f'{name} {value:.4g}' for name, value in (metrics or {}).items())
        by_iterations = 'max_iters' in runner.cfg.train_cfg
        done = f'at {runner.iter}' if by_iterations else f'after epoch {runner.epoch}'
        self.say(f'validation {done}: {values or _NOTHING}')


class _Log(io.TextIOBase):
    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                logging.getLogger('py.warnings').warning(line)
        return len(text)


@contextlib.contextmanager
def _stdout_to_log() -> Iterator[None]:
    """What other packages print (pycocotools does) goes into the log file."""
    with contextlib.redirect_stdout(_Log()):
        yield
