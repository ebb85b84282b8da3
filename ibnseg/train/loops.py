"""The training loop and the one evaluation loop."""

from typing import Any

import torch
from mmengine.dist import broadcast, get_rank, get_world_size
from mmengine.runner import BaseLoop, IterBasedTrainLoop, TestLoop
from mmengine.structures import PixelData
from mmseg.registry import LOOPS
from mmseg.structures import SegDataSample

from ..measure.predict import Predictor
from ..measure.predictions import Saver
from . import feeding, replaced
from .sampler import PositionSampler


@LOOPS.register_module()
class PositionTrainLoop(IterBasedTrainLoop):
    """Training by iterations in which all randomness follows from (seed, iteration).

    A resumed run continues at its position in the data without loading what came before, and
    ends with the weights of an uninterrupted one.

    Args:
        runner, dataloader: as MMEngine's; the loader's sampler is a `PositionSampler`.
        max_iters: iterations in all.
        val_begin: first iteration after which to validate.
        val_interval: iterations between validations; the last one is always validated.
    """

    def __init__(
        self, runner: Any, dataloader: Any, max_iters: int, val_begin: int = 1, val_interval=1000
    ):
        # Not the parent's own: it starts the workers here, before the position is known.
        BaseLoop.__init__(self, runner, dataloader)
        if not isinstance(self.dataloader.sampler, PositionSampler):
            raise ValueError(
                f'train_dataloader.sampler is a {type(self.dataloader.sampler).__name__}; expected '
                "dict(type='PositionSampler'), which a resumed run needs"
            )
        self._max_iters, self._max_epochs = int(max_iters), 1
        self._iter = self._epoch = 0
        self.val_begin, self.val_interval = val_begin, val_interval
        self.stop_training = False
        runner.visualizer.dataset_meta = self.dataloader.dataset.metainfo

    def run(self) -> torch.nn.Module:
        runner = self.runner
        runner.call_hook('before_train')
        runner.call_hook('before_train_epoch')
        sampler = self.dataloader.sampler
        sampler.start = self._iter * self.dataloader.batch_size * get_world_size()
        if self._iter > 0 and self._due():
            runner.val_loop.run()  # the run may have ended between this checkpoint and its score
        batches = feeding.batches(self.dataloader)
        while self._iter < self._max_iters and not self.stop_training:
            runner.model.train()
            # Dropout and the like; the data's own draws are seeded by position.
            torch.manual_seed(hash((sampler.seed, self._iter, get_rank())) % 2**63)
            batch = next(batches)
            replaced.note(runner, batch)
            self.run_iter(batch)
            if self._due():
                runner.val_loop.run()
        runner.call_hook('after_train_epoch')
        runner.call_hook('after_train')
        return runner.model

    def _due(self) -> bool:
        by_interval = self._iter >= self.val_begin and self._iter % self.val_interval == 0
        return self.runner.val_loop is not None and (by_interval or self._iter == self._max_iters)


@LOOPS.register_module()
class CrossDomainLoop(TestLoop):
    """Measure the model on every image of a loader; validation and testing are this loop.

    Whole-image or sliding inference is the segmentor's own (`model.test_cfg`).

    Attributes:
        saver: of the predictions; those that it keeps are not predicted again.
        doubt: whether samples get theirs, see `Predictor`.
    """

    saver: Saver | None = None
    doubt = False

    @torch.no_grad()
    def run(self) -> dict[str, float]:
        runner = self.runner
        mode = 'val' if self is runner._val_loop else 'test'
        runner.call_hook(f'before_{mode}')
        runner.call_hook(f'before_{mode}_epoch')
        runner.model.eval()
        for buffer in runner.model.buffers():
            # Without SyncBN each rank has its own statistics; rank 0's are the ones that are saved.
            broadcast(buffer)
        device = next(runner.model.parameters()).device.type
        predict = Predictor(runner.model, self.doubt)
        for i, batch in enumerate(feeding.batches(self.dataloader)):
            at = dict(batch_idx=i, data_batch=batch)
            runner.call_hook(f'before_{mode}_iter', **at)
            with torch.autocast(device, torch.bfloat16, enabled=self.fp16):
                outputs = self._outputs(predict, batch)
            self.evaluator.process(data_samples=outputs, data_batch=batch)
            runner.call_hook(f'after_{mode}_iter', **at, outputs=outputs)
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        runner.call_hook(f'after_{mode}_epoch', metrics=metrics)
        runner.call_hook(f'after_{mode}')
        return metrics

    def _outputs(self, predict: Predictor, batch: dict) -> list:
        """Return the samples of a batch with their predictions, but for those that are unread."""
        samples = batch['data_samples']
        left = [i for i, sample in enumerate(samples) if not self._is_done(sample)]
        if len(left) == len(samples):
            return predict(batch)
        rest = {key: [batch[key][i] for i in left] for key in ('inputs', 'data_samples')}
        done = [sample for i, sample in enumerate(samples) if i not in left]
        return done + (predict(rest) if left else [])

    def _is_done(self, sample: SegDataSample) -> bool:
        """Whether nothing is to be predicted: it is unread, or its saved prediction is kept."""
        if 'unread' in sample or self.saver is None:
            return 'unread' in sample
        size = tuple(sample.gt_sem_seg.data.shape[-2:])
        kept = self.saver.kept(sample.domain, sample.sample_idx, size)
        if kept is not None:
            sample.pred_sem_seg = PixelData(data=torch.from_numpy(kept)[None])
        return kept is not None
