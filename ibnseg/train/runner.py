"""MMEngine's Runner with a quiet console and checkpoints that hold no code."""

import atexit
import contextlib
import copy
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper, revert_sync_batchnorm
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .. import disk, ending, machine, registered, weights  # noqa: F401
from ..methods.passes import check_observed
from ..methods.recorder import record_always
from ..methods.segmentor import check_collected
from . import averaged, feeding, losses, plainfiles, unbuilt, untrusted
from .checkpoint import AtomicCheckpointHook


@untrusted.read_safely()
def build(config: Config) -> 'SegRunner':
    """Build the runner of a config. Raises ValueError for a part that cannot be built."""
    with unbuilt.named(config), machine.written_in(config.work_dir):
        runner = SegRunner.from_cfg(config)
    losses.mend(runner.model)
    if config.get('compile_backbone'):
        compile_backbone(runner.model)
    return runner


def compile_backbone(model: nn.Module) -> None:
    """Have torch.compile run the backbone of a segmentor; its keys and layers stay as they are.

    The first step of each mode and size of image takes minutes. Not with hooks on single layers.

    Raises:
        ValueError: torch.compile does not work on this machine, or not for this backbone.
    """
    segmentor = model.module if is_model_wrapper(model) else model
    record_always(segmentor.backbone)
    try:
        torch.compile(torch.neg)(torch.ones(2, device=mmengine.device.get_device()))
    except Exception as error:  # whatever a missing or broken compiler leads to
        reason = str(error).strip().split('\n')[0]
        raise ValueError(
            f'--compile: torch.compile does not work here: {reason}. It takes a C++ compiler '
            '(apt install g++), on a GPU Triton too. Install them or leave --compile away'
        ) from error
    segmentor.backbone.compile()


#: What a test of a config does without.
FOR_TRAINING = (
    *('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'),
    *('val_dataloader', 'val_cfg', 'val_evaluator'),
)


class SegRunner(mmengine.runner.Runner):
    """As MMEngine's Runner, except:

    - the console shows errors only, the log file everything;
    - checkpoints are written whole or not at all, hold tensors and plain values, and are read
      with `weights_only=True` without any fallback;
    - nothing that is read while it is built, trains or tests runs code, see `untrusted`;
    - `launcher='pytorch'` works without a GPU, over gloo;
    - a data-loading process or another rank that does not answer ends the run after
      `feeding.TIMEOUT` seconds, or the loader's `timeout` and `env_cfg.dist_cfg.timeout`;
    - SyncBN becomes BatchNorm where there is nothing to synchronise over (CPU, one process).
    """

    @property
    def log_file(self) -> Path:
        return Path(self.log_dir, f'{self.timestamp}.log')

    def setup_env(self, env_cfg: dict) -> None:
        dist = dict(timeout=feeding.TIMEOUT) | (env_cfg.get('dist_cfg') or {})
        env_cfg = dict(env_cfg, dist_cfg=dist)
        if self.launcher == 'pytorch' and not torch.cuda.is_available():
            # MMEngine would ask CUDA for a device.
            wait = timedelta(seconds=dist['timeout'])
            torch.distributed.init_process_group('gloo', timeout=wait)
        super().setup_env(env_cfg)
        ending.end_with_launcher(has_begun=True)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                # Python warnings belong into the log file, too.
                logging.getLogger('py.warnings').addHandler(handler)
            else:
                handler.setLevel(logging.ERROR)
        logging.captureWarnings(True)
        return logger

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        on_cpu = mmengine.device.get_device() == 'cpu'
        if not self.distributed or on_cpu:
            model = revert_sync_batchnorm(model)
        if self.distributed and on_cpu:
            # MMEngine's own call passes device ids, which DDP refuses on a CPU.
            unused = self.cfg.get('find_unused_parameters', False)
            plain = dict(broadcast_buffers=False, find_unused_parameters=unused)
            options = dict(plain if model_wrapper_cfg is None else model_wrapper_cfg)
            if options.pop('type', 'MMDistributedDataParallel') == 'MMDistributedDataParallel':
                return MMDistributedDataParallel(module=model, **options)
        return super().wrap_model(model_wrapper_cfg, model)

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> DataLoader:
        built = mmengine.runner.Runner.build_dataloader(dataloader, *args, **kwargs)
        if built.num_workers:
            built.timeout = built.timeout or feeding.TIMEOUT
            built.worker_init_fn = partial(_begin_worker, built.worker_init_fn)
            # Before Python's own end of them, a signal that they outlive.
            atexit.unregister(_end_workers)
            atexit.register(_end_workers)
        return built

    def _init_model_weights(self) -> None:
        if not self._resume:  # a checkpoint has them all; its network may be gone, too
            super()._init_model_weights()

    @untrusted.read_safely()
    def train(self) -> nn.Module:
        model = self.model.module if is_model_wrapper(self.model) else self.model
        check_collected(model)
        if self._load_from is None:  # else a checkpoint has what was observed
            check_observed(model, self.hooks)
        # Only this hook looks for them.
        heeds = any(isinstance(hook, AtomicCheckpointHook) for hook in self.hooks)
        try:
            with (
                unbuilt.named(self.cfg),
                machine.written_in(self.work_dir),
                ending.heeded() if heeds else contextlib.nullcontext(()) as self.asked,
            ):
                return super().train()
        except ValueError as error:
            if 'more than 1 value per channel' not in str(error):
                raise
            raise ValueError(
                f'train_dataloader.batch_size is {self.cfg.train_dataloader.batch_size}: a '
                'BatchNorm behind a global pooling (as in ASPP) sees one value a channel. '
                "Take a batch_size of 2 or more, or norm_cfg=dict(type='GN', num_groups=...) there "
                f'({error})'
            ) from error

    @untrusted.read_safely()
    def test(self) -> dict[str, float]:
        with unbuilt.named(self.cfg), machine.written_in(self.work_dir):
            return super().test()

    def begin_with(self, checkpoint: str | Path, resume: bool, anew: bool = False) -> None:
        """Have the next `train` or `test` load a checkpoint, when its hooks are ready for it.

        Args:
            resume: continue the run that wrote it; else only the weights count.
            anew: take optimiser's options and schedule from the config, as if they had been so
                from the first iteration; else those of the checkpoint.
        """
        self._load_from, self._resume, self._has_loaded = str(checkpoint), resume, False
        self._anew = anew

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        fresh = [_options(group) for group in self.optim_wrapper.param_groups]
        super().resume(filename, *args, **kwargs)
        if not self._anew:
            return
        for group, options in zip(self.optim_wrapper.param_groups, fresh, strict=True):
            for key in [key for key in group if key.startswith('initial_')]:
                del group[key]  # the schedules set it
            group.update(options)
        if self.param_schedulers:
            given = copy.deepcopy(self.cfg.param_scheduler)
            self.param_schedulers = self.build_param_scheduler(given)
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # no optimiser's step goes with these
                for _ in range(self.iter):
                    for schedule in self.param_schedulers:
                        schedule.step()

    def read_fitting(self, filename: str | Path) -> dict[str, Any]:
        """Return a checkpoint of this model; every key must fit.

        Raises:
            FileNotFoundError, ValueError: as `weights.read`; keys that do not fit are listed.
        """
        checkpoint = weights.read(filename)
        checkpoint = checkpoint if 'state_dict' in checkpoint else dict(state_dict=checkpoint)
        checkpoint['state_dict'] = weights.unwrapped(checkpoint['state_dict'])
        model = self.model.module if is_model_wrapper(self.model) else self.model
        if problems := weights.misfits(model.state_dict(), checkpoint['state_dict']):
            raise ValueError(
                f'{filename} does not fit the model of this config. {"; ".join(problems)}. '
                + (
                    _without_prefix(model.state_dict(), checkpoint['state_dict'], filename)
                    or 'Give the config that the checkpoint was trained with'
                )
            )
        return checkpoint

    def load_checkpoint(self, filename: str, map_location: Any = 'cpu', **kwargs: Any) -> dict:
        """Load a checkpoint of this model, as hooks leave it. Raises as `read_fitting`."""
        checkpoint = self.read_fitting(filename)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        # As in MMEngine, after `before_run` and before the weights are taken (EMAHook swaps them).
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model.load_state_dict(checkpoint['state_dict'])
        # MMEngine would run a config found here as Python.
        checkpoint.get('meta', {}).pop('config', None)
        self._has_loaded = True
        return checkpoint

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        if not is_main_process():
            return
        temporary = Path(out_dir, f'.{filename}.tmp')
        try:
            with disk.named(temporary.with_name(filename)):
                super().save_checkpoint(out_dir, temporary.name, *args, **kwargs)
                with open(temporary, 'rb+') as file:
                    os.fsync(file.fileno())
                os.replace(temporary, temporary.with_name(filename))
        finally:
            temporary.unlink(missing_ok=True)

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        if fn_name == 'after_train_iter':  # before a hook saves the average
            averaged.follow(self.hooks)
        super().call_hook(fn_name, **kwargs)
        if fn_name == 'before_save_checkpoint':
            checkpoint = kwargs['checkpoint']
            # The loss history is of use to the log alone, and is no plain data.
            checkpoint['message_hub']['log_scalars'] = {}
            for key in ('message_hub', 'meta', 'param_schedulers'):
                checkpoint[key] = _plain(checkpoint.get(key))
            check_state(checkpoint, checkpoint['meta']['iter'])
            for key in checkpoint.keys() - _OWN:  # of hooks
                if reason := weights.unreadable(checkpoint[key]):
                    raise ValueError(
                        f'a hook puts {key!r} into the checkpoint, which could not be read back '
                        f'without running code from the file ({reason}). Have it hold tensors, '
                        'numbers, texts, lists and dicts'
                    )


_end_workers = partial(ending.end_workers, daemons=True)


def _begin_worker(begin: Callable[[int], None] | None, number: int) -> None:
    ending.outlive_signals()
    plainfiles.guard_worker()
    if begin is not None:
        begin(number)


def _without_prefix(
    wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], file: str | Path
) -> str:
    """Say how to take away what stands before every key, where the rest fits; '' where not."""
    first = next(iter(wanted))
    for start in {key.removesuffix(first) for key in given if key.endswith(first)}:
        rest = {k.removeprefix(start): v for k, v in given.items() if k.startswith(start)}
        if not weights.misfits(wanted, rest):
            return (
                f'Below {start!r} it fits. Take that out, in Python: import torch; '
                f'from ibnseg import weights; state = weights.read({str(file)!r}); '
                "state = state.get('state_dict', state); "
                f'torch.save({{k.removeprefix({start!r}): v for k, v in state.items() if '
                f'k.startswith({start!r})}}, {str(Path(file).with_suffix(".weights.pth"))!r})'
            )
    return ''


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a parameter group as they were before any schedule."""
    options = {key: value for key, value in group.items() if key != 'params'}
    first = {k: v for k, v in options.items() if k.startswith('initial_')}
    return {k: first.get(f'initial_{k}', v) for k, v in options.items() if k not in first}


#: What to do about a run that has diverged.
LOWER = (
    'Lower the rate (--cfg-options optim_wrapper.optimizer.lr=...) or clip gradients '
    '(--cfg-options optim_wrapper.clip_grad.max_norm=1 optim_wrapper.clip_grad._delete_=True), '
    'with --resume where a checkpoint was saved before. If that one is too far gone, or there is '
    'none, begin anew'
)


def check_state(checkpoint: Mapping[str, Any], done: int) -> None:
    """Raise ValueError for weights or an optimiser's state that are not finite."""
    for part in ('state_dict', 'optimizer'):
        for key, tensor in _tensors(checkpoint.get(part), part):
            mask = key.endswith('mask')  # attention's hold -inf on purpose
            if tensor.is_floating_point() and not mask and not tensor.isfinite().all():
                raise ValueError(
                    f'{key} is not finite after {done} iterations: the training has diverged. This '
                    f'state was not saved; older checkpoints stay. {LOWER}'
                )


def _tensors(value: Any, key: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield key, value
    elif isinstance(value, Mapping | list | tuple):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, item in items:
            yield from _tensors(item, f'{key}.{name}')


_OWN = {'meta', 'state_dict', 'message_hub', 'optimizer', 'param_schedulers'}


def _plain(value: Any) -> Any:
    """Keep what `weights_only=True` reads back: tensors, plain containers, plain values."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    if isinstance(value, Tensor) or type(value) in (bool, int, float, str, type(None)):
        return value
    return value.item() if hasattr(value, 'item') else str(value)  # numpy's scalars
