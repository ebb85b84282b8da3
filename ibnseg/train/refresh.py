"""Statistics of BatchNorm for weights that no training has made, from the training photos."""

import tempfile
from collections.abc import Mapping

import torch
from mmengine.config import Config
from torch import Tensor

from .. import progress
from ..methods import renewal
from . import checks, parts, untrusted
from .config import LOADERS
from .runner import SegRunner, build


@untrusted.read_safely()
def refresh(
    config: Config, state: Mapping[str, Tensor], batches: int = 100, meta: Mapping | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """Return a state dict with new running statistics, and their keys.

    The network sees `batches` of the config's training, as it does there: in training mode, with
    its augmentation. The statistics are the plain mean over batches. Those of layers that stay in
    evaluation mode there (`norm_eval`, frozen stages) are left as they are.

    Args:
        meta: of the checkpoint; its source has to be the config's.

    Raises:
        DataError, ValueError: as a training; the state is of another network; `batches` below 1.
    """
    if batches < 1:
        raise ValueError(f'batches is {batches}; expected 1 or more')
    parts.check(config)
    checks.check_trained_on('the average', meta or {}, config)
    checks.find_pairs(config, 'train_dataloader')
    loader = config.train_dataloader
    for key in (*LOADERS, 'optim_wrapper', 'param_scheduler', *_LOOPS):
        config[key] = None
    config.custom_hooks = []
    config.model.backbone.init_cfg = None  # the state has all weights
    with tempfile.TemporaryDirectory(prefix='ibnseg-refresh-') as folder, torch.random.fork_rng():
        config.work_dir = folder
        runner = build(config)
        return _refreshed(runner, loader, state, batches)


_LOOPS = ('train_cfg', 'val_cfg', 'val_evaluator', 'test_cfg', 'test_evaluator')


def _refreshed(
    runner: SegRunner, loader: Mapping, state: Mapping[str, Tensor], batches: int
) -> tuple[dict[str, Tensor], list[str]]:
    model = runner.model
    model.load_state_dict(state)
    model.train()
    photos = iter(runner.build_dataloader(loader, seed=runner.seed))
    with progress.bar('statistics') as step:
        keys = renewal.renew(model, photos, batches, step)
    found = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
    return found, keys
