"""SWAD: weights averaged densely over the valley of the validation loss."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmseg.registry import HOOKS
from torch import Tensor, nn

from .. import command, progress
from . import ranks, renewal, valley
from .passes import _bare, _silent, evaluating


@HOOKS.register_module()
class SWAD(Hook):
    """In a training, average the weights over the valley of the validation loss.

    Every iteration counts. At the end of each segment of `interval` iterations the loss of the
    main head is taken, in evaluation mode, over photos of the validation split; see
    `valley.LossValley` for which segments are averaged. At the end of the training the network
    takes the average and statistics of BatchNorm from new training batches. That network alone is
    validated, saved as the last checkpoint and reported: the loop's `val_begin` becomes the last
    iteration.

    Parameters that are trained are averaged. All that it knows lies in the checkpoint: up to
    `tolerance` + 2 times the weights.

    Args:
        interval: iterations of a segment, or a share of the run (below 1). A run that goes on
            beyond its end keeps the iterations that it began with.
        images: photos of the validation split, evenly spaced in it; None: all.
        converge, tolerance, ratio: see `valley.LossValley`.
        batches: for the statistics of BatchNorm.
        as_released: see `valley.ReleasedValley`.

    Raises:
        ValueError: a wrong argument, an average by another hook, or a training too short to end
            `converge` segments.
    """

    priority = 'LOW'

    def __init__(
        self,
        interval: float = 1000,
        images: int | None = 500,
        converge: int = 3,
        tolerance: int = 6,
        ratio: float = 0.3,
        batches: int = 100,
        as_released: bool = False,
    ):
        for name, value in (('interval', interval), ('images', images), ('batches', batches)):
            share = name == 'interval' and isinstance(value, float) and 0 < value < 1
            given = share or (isinstance(value, int) and value >= 1)
            if not given and (name, value) != ('images', None):
                raise ValueError(f'SWAD: {name} is {value!r}; expected a whole number from 1')
        self.interval, self.images, self.batches = interval, images, batches
        kind = valley.ReleasedValley if as_released else valley.LossValley
        self.valley = kind(converge, tolerance, ratio)
        self.mean: dict[str, Tensor] = {}  # of the segment so far, of `steps` iterations
        self.steps = 0
        self.trained: dict[str, Tensor] = {}  # at the end: what the average has replaced

    def before_train(self, runner: Any) -> None:
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            raise ValueError(
                'custom_hooks has SWAD and EMAHook: each would report an average of its own. Leave '
                'one away'
            )
        if self.interval < 1:
            self.interval = max(1, round(self.interval * runner.max_iters))
        needed = self.interval * self.valley.converge
        if runner.max_iters < needed:
            raise ValueError(
                f'SWAD: the valley is looked for in {self.valley.converge} segments of '
                f'{self.interval} iterations, and the training ends after {runner.max_iters}. '
                'Choose a shorter interval'
            )
        runner.train_loop.val_begin = runner.max_iters

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        model, done = _bare(runner.model), runner.iter + 1
        with torch.no_grad():
            now = _trained(model)
            mean = {key: value.to(now[key].device) for key, value in self.mean.items()}
            self.mean = valley.drawn_in(mean, now, self.steps)
            self.steps += 1
        if done % self.interval == 0:
            loss = self._validation_loss(runner, model)
            runner.logger.info(f'SWAD: validation loss at {done}: {loss:.4f}')
            self.valley.end({key: value.cpu() for key, value in self.mean.items()}, loss)
            self.mean, self.steps = {}, 0
        if done == runner.max_iters:
            with torch.random.fork_rng():
                self._finish(runner, model)

    @torch.no_grad()
    def _validation_loss(self, runner: Any, model: nn.Module) -> float:
        """Return the mean over photos of the main head's loss, of all processes."""
        dataset = runner.val_dataloader.dataset
        count = min(len(dataset), self.images or len(dataset))
        spaced = np.linspace(0, len(dataset) - 1, count).round().astype(int)
        rank, size = ranks.place()
        total = torch.zeros(2, dtype=torch.float64)
        for buffer in model.buffers():
            broadcast(buffer)  # as the evaluation does: without SyncBN they differ
        with evaluating(model):
            for index in spaced[rank::size].tolist():
                one = dataset[index]
                if one['inputs'] is None:  # unread, which the evaluation tells
                    continue
                batch = {key: [one[key]] for key in ('inputs', 'data_samples')}
                data = model.data_preprocessor(batch, training=False)
                features = model.extract_feat(data['inputs'])
                losses = model._decode_head_forward_train(features, data['data_samples'])
                loss = sum(v.mean() for k, v in losses.items() if 'loss' in k)
                total += torch.tensor([float(loss), 1], dtype=torch.float64)
        loss, photos = ranks.summed(total).tolist()
        if not (photos and np.isfinite(loss)):
            raise ValueError(
                f'SWAD: the validation loss after {runner.iter + 1} iterations is {loss} over '
                f'{photos:.0f} photos; expected a finite number'
            )
        return loss / photos

    def _finish(self, runner: Any, model: nn.Module) -> None:
        found = copy.copy(self.valley)  # as it is, where the training goes on later
        average = found.finish()
        if found.found < 0:
            command.say(
                f'SWAD: the validation loss was still falling after {runner.max_iters} iterations. '
                f'The result is the mean of the last {self.interval}'
            )
        else:
            of = f'{found.first * self.interval + 1} to {(found.last + 1) * self.interval}'
            runner.logger.info(f'SWAD: the average is of the iterations {of}')
        self.trained = {k: t.detach().cpu().clone() for k, t in model.state_dict().items()}
        with torch.no_grad():
            for key, parameter in _trained(model).items():
                parameter.copy_(average[key])
        step = progress.Lines('statistics of the average') if is_main_process() else _silent
        model.train()
        renewal.renew(model, self._photos(runner), self.batches, step)

    def _photos(self, runner: Any) -> Iterator[dict]:
        """Yield batches as the training would see them after its end."""
        loader = runner.train_dataloader
        sampler = copy.copy(loader.sampler)
        sampler.start = runner.max_iters * loader.batch_size * ranks.place()[1]
        stated = dict(runner.cfg.train_dataloader, dataset=loader.dataset, sampler=sampler)
        return iter(runner.build_dataloader(stated, seed=runner.seed))

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        checkpoint['swad'] = dict(
            valley=self.valley.state_dict(),
            mean=self.mean,
            steps=self.steps,
            trained=self.trained,
            interval=self.interval,
        )

    def after_load_checkpoint(self, runner: Any, checkpoint: Mapping) -> None:
        state = checkpoint.get('swad')
        if not state or not runner._resume:
            return
        self.valley.load_state_dict(state['valley'])
        self.mean, self.steps = state['mean'], state['steps']
        self.interval = state.get('interval', self.interval)
        if state['trained'] and checkpoint['meta']['iter'] < runner.max_iters:
            checkpoint['state_dict'] = state['trained']
        else:
            self.trained = state['trained']


def _trained(model: nn.Module) -> dict[str, Tensor]:
    return {key: p.detach() for key, p in model.named_parameters() if p.requires_grad}
