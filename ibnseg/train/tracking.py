"""TensorBoard, Weights & Biases and MLflow, by MMEngine's own visualisation backends."""

import os
from collections.abc import Sequence
from importlib.util import find_spec

from mmengine.config import Config

#: Name -> the package that it needs.
TRACKERS = {'tensorboard': 'tensorboard', 'wandb': 'wandb', 'mlflow': 'mlflow'}


def add(config: Config, names: Sequence[str]) -> None:
    """Have a run also write its loss, rate and mIoU to these trackers, once each.

    W&B and MLflow file the run under 'ibnseg', by its model's name. W&B obeys its own environment
    (WANDB_MODE=offline, say); MLflow writes where MLFLOW_TRACKING_URI says, else to ./mlflow.db.

    Raises ValueError for an unknown name; ModuleNotFoundError where its package is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f'--track {name}: expected one of {", ".join(TRACKERS)}')
        package = TRACKERS[name]
        # mlflow-skinny is without what its own database needs.
        parts = [package, 'sqlalchemy'] if name == 'mlflow' and not _store() else [package]
        if not all(map(find_spec, parts)):
            raise ModuleNotFoundError(
                f'--track {name} needs the package {package}, which is not installed here. '
                f'Install it (pip install {package}), or leave the option away'
            )
        backend = _backend(name, config)
        visualizer = config.setdefault('visualizer', dict(type='SegLocalVisualizer'))
        given = [*(visualizer.get('vis_backends') or [dict(type='LocalVisBackend')])]
        if backend['type'] not in [one['type'] for one in given]:
            visualizer.vis_backends = [*given, backend]


def _backend(name: str, config: Config) -> dict:
    if name == 'tensorboard':
        return dict(type='TensorboardVisBackend')
    if name == 'wandb':
        return dict(
            type='WandbVisBackend', init_kwargs=dict(project='ibnseg', name=config.model_name)
        )
    # As MLflow's own default is; MMEngine's, a folder of files, is refused by MLflow 3.17.
    return dict(
        type='MLflowVisBackend',
        exp_name='ibnseg',
        run_name=config.model_name,
        tracking_uri=_store() or 'sqlite:///mlflow.db',
        # A whole config has values that are too long for it; the file is logged as it is.
        tracked_config_keys=['model_name', 'source', 'work_dir'],
    )


def _store() -> str | None:
    return os.environ.get('MLFLOW_TRACKING_URI') or None
