"""MMSegmentation's own configs, which train by iterations, with exact and safe checkpoints."""

from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import HOOKS
from mmseg.registry import DATASETS

from ..pipeline.dataset import seed
from ..train import loops, sampler  # noqa: F401, registered
from ..train.checkpoint import AtomicCheckpointHook, save

PATTERN = 'iter_*.pth'


@DATASETS.register_module()
class DrawnDataset(torch.utils.data.Dataset):
    """A dataset whose sample i, asked for as ((seed, position), i), is augmented by these two.

    So a resumed run draws what an uninterrupted one draws, whatever worker or rank does it.

    Args:
        dataset: config of it, or a dataset.
    """

    def __init__(self, dataset: Any):
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.metainfo = self.dataset.metainfo

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: tuple[tuple[int, int], int]) -> Any:
        entropy, index = draw
        torch.manual_seed(seed(entropy))
        return self.dataset[index]


@HOOKS.register_module()
class IterationCheckpointHook(AtomicCheckpointHook):
    """`AtomicCheckpointHook` of a config of another project: no checkpoint is selected."""

    def before_train(self, runner) -> None:
        pass

    def after_val_epoch(self, runner, metrics=None) -> None:
        pass

    def _save(self, runner, name: str, pattern: str, keep: int, meta: dict, done: int) -> None:
        meta = dict(meta, iter=done, epoch=0, trained=dict(runner.training))
        save(runner, name, pattern, keep, meta=meta, by_epoch=False)


def is_by_iterations(config: Config) -> bool:
    stated = config.get('train_cfg') or {}
    return config.default_scope == 'mmseg' and stated.get('type') == 'IterBasedTrainLoop'


def prepare(config: Config) -> None:
    """Have loop and data follow from (seed, position).

    Raises ValueError for what a run cannot be continued with.
    """
    loop, loader = dict(config.train_cfg), config.train_dataloader
    for key in ('type', 'dynamic_intervals'):
        loop.pop(key, None)
    for where, key in ((config.train_cfg, 'dynamic_intervals'), (loader, 'batch_sampler')):
        if where.get(key):
            raise ValueError(f'{key} is {where[key]!r:.60}; ibnseg cannot continue a run with it')
    config.train_cfg = dict(type='PositionTrainLoop', **loop)
    shuffle = (loader.get('sampler') or {}).get('shuffle', True)
    loader.sampler = dict(type='PositionSampler', seed=config.randomness.seed, shuffle=shuffle)
    loader.dataset = dict(type='DrawnDataset', dataset=loader.dataset)
