"""--track: the run's numbers arrive in each tracker, offline."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from processes import run

from ibnseg import miniature
from ibnseg.train import tracking
from ibnseg.train.config import load_config

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / 'configs/miniature/ibn_b.py'
TINY = [
    'train_cfg.max_iters=2',
    'train_cfg.val_interval=2',
    'train_dataloader.batch_size=2',
    'default_hooks.logger.interval=1',
]
INSTALLED = [
    name
    for name, package in tracking.TRACKERS.items()
    if find_spec(package) and (name != 'mlflow' or find_spec('sqlalchemy'))
]


def backends(config):
    return [one['type'] for one in config.visualizer.vis_backends]


@pytest.mark.parametrize('name', tracking.TRACKERS)
def test_each_stands_beside_the_log_once(name, monkeypatch):
    monkeypatch.setattr(tracking, 'find_spec', lambda package: True)
    config = load_config(CONFIG, track=[name, name])
    assert backends(config)[0] == 'LocalVisBackend'
    assert len(backends(config)) == 2
    assert backends(load_config(CONFIG)) == ['LocalVisBackend']


@pytest.mark.parametrize(('name', 'package'), tracking.TRACKERS.items())
def test_a_missing_package_is_named(name, package, monkeypatch):
    monkeypatch.setattr(tracking, 'find_spec', lambda package: None)
    with pytest.raises(ModuleNotFoundError, match=f'pip install {package}'):
        load_config(CONFIG, track=[name])
    with pytest.raises(ValueError, match='expected one of tensorboard'):
        load_config(CONFIG, track=['tensorbord'])


@pytest.fixture(scope='module')
def tracked(tmp_path_factory):
    """The folder in which a short run with all installed trackers ran; `run` is its work dir."""
    if not INSTALLED:
        pytest.skip('none of tensorboard, wandb and mlflow is installed')
    folder = tmp_path_factory.mktemp('tracked')
    miniature.write(folder / 'data', ('gta5', 'cityscapes'), 4, 2, (64, 128), 0, 1)
    words = [CONFIG, '--data-root', 'data', '--work-dir', 'run', '--no-table']
    words += ['--track', *INSTALLED, '--cfg-options', *TINY]
    here = dict(WANDB_MODE='offline', WANDB_SILENT='true', MLFLOW_TRACKING_URI='')
    run(ROOT / 'tools' / 'train.py', *words, cwd=folder, **here)
    return folder


def needs(name):
    reason = f'{tracking.TRACKERS[name]} is not installed'
    return pytest.mark.skipif(name not in INSTALLED, reason=reason)


@needs('tensorboard')
def test_tensorboard_has_loss_and_miou(tracked):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = (tracked / 'run').rglob('events.out.tfevents.*')
    events = EventAccumulator(str(file))
    events.Reload()
    assert {'loss', 'mIoU'} <= set(events.Tags()['scalars'])
    assert [one.step for one in events.Scalars('loss')] == [1, 2]


@needs('wandb')
def test_wandb_has_an_offline_run(tracked):
    (file,) = (tracked / 'run').rglob('run-*.wandb')
    content = file.read_bytes()
    assert b'mIoU' in content and b'ibn_b' in content


@needs('mlflow')
def test_mlflow_has_loss_and_miou(tracked):
    import sqlite3

    with sqlite3.connect(tracked / 'mlflow.db') as store:
        found = store.execute("select step from metrics where key = 'loss' order by step")
        assert [step for (step,) in found] == [1, 2]
        assert list(store.execute("select 1 from metrics where key = 'mIoU'"))
        assert list(store.execute("select 1 from params where value = 'ibn_b'"))
