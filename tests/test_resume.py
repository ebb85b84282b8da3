"""A continued run is the run that was never interrupted, and measures what it saved."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmseg.registry import HOOKS
from test_tools import TINY

from ibnseg import miniature, weights
from ibnseg.measure import records
from ibnseg.train import test as testing
from ibnseg.train import train as training
from ibnseg.train.config import load_config, parse_options

CONFIG = Path(__file__).parents[1] / 'configs' / 'miniature' / 'ibn_b.py'
LENGTH, STOP = 6, 4
NUMBER = itertools.count()


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp('worlds') / 'data'
    miniature.write(out, ('gta5', 'cityscapes'), train=4, val=2, size=(64, 128), workers=1)
    return out


@HOOKS.register_module(force=True)
class CountingHook(Hook):
    """A hook whose state lies in the checkpoint, as a stranger's may."""

    def __init__(self, junk=False):
        self.seen, self.junk = 0, junk

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen += 1

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['counted'] = Path('x') if self.junk else dict(seen=self.seen)

    def after_load_checkpoint(self, runner, checkpoint):
        self.seen = checkpoint['counted']['seen']


def config(data, folder, *options, hooks=()):
    """Of a tiny network; `options` as on the command line."""
    pairs = [*TINY, f'train_cfg.max_iters={LENGTH}', 'train_cfg.val_interval=3', *options]
    pairs += ['default_hooks.checkpoint.interval=1', 'default_hooks.checkpoint.keep=99']
    found = load_config(
        CONFIG, work_dir=str(folder), data_root=str(data), options=parse_options(pairs)
    )
    found.custom_hooks = list(hooks)
    found.experiment_name = str(next(NUMBER))  # MMEngine's global parts go by it
    return found


def train(*words, hooks=(), **options):
    return training.train(config(*words, hooks=hooks), show=False, **options)


def interrupt(folder, after):
    """Leave what a run that was killed after so many iterations leaves."""
    for path in folder.glob('*iter_*.pth'):
        if int(path.stem.rpartition('_')[2]) > after:
            path.unlink()


def assert_same(one, other, *parts):
    for part in ('state_dict', *parts):
        for key, tensor in one[part].items():
            assert torch.equal(tensor, other[part][key]), key


EMA = dict(type='EMAHook', momentum=0.1)
KINDS = {
    'EMA': ([EMA], [], ['ema_state_dict']),
    'EMA that begins later, buffers too': (
        [dict(EMA, begin_iter=5, update_buffers=True)], [], ['ema_state_dict'],
    ),
    'a hook of a stranger': ([dict(type='CountingHook')], [], []),
    'accumulated gradients': ([], ['optim_wrapper.accumulative_counts=3'], []),
}  # fmt: skip


@pytest.mark.parametrize('kind', KINDS)
def test_a_resumed_run_is_the_run(kind, data, tmp_path):
    hooks, options, parts = KINDS[kind]
    whole = train(data, tmp_path / 'run', *options, hooks=hooks)
    kept = {path.name: weights.read(path) for path in (tmp_path / 'run').glob('*iter_*.pth')}
    interrupt(tmp_path / 'run', STOP)
    resumed = train(data, tmp_path / 'run', *options, hooks=hooks, resume=True)
    last = weights.read(tmp_path / 'run' / f'iter_{LENGTH}.pth')
    assert_same(last, kept[f'iter_{LENGTH}.pth'], *parts)
    assert last.get('counted', dict(seen=LENGTH)) == dict(seen=LENGTH)

    # And what is reported, after a run, a resumed one, and by `ibnseg test`, is of one network.
    saved = tmp_path / 'run' / resumed.provenance['checkpoint']
    assert_same(weights.read(saved), kept[saved.name], *parts)
    alone = testing.test(config(data, tmp_path / 'test'), saved)
    again = testing.test(config(data, tmp_path / 'again', hooks=hooks), saved)
    for record in (resumed, alone, again):
        for one, other in zip(whole.domains, record.domains, strict=True):
            np.testing.assert_array_equal(one.matrix, other.matrix)


def test_what_a_hook_saves_must_be_readable(data, tmp_path):
    with pytest.raises(ValueError, match=r"a hook puts 'counted' .*PosixPath.*Have it hold"):
        train(data, tmp_path, hooks=[dict(type='CountingHook', junk=True)])


def test_prefixes_of_parallel_runs_are_taken_off(data, tmp_path):
    record = train(data, tmp_path / 'run')
    content = weights.read(tmp_path / 'run' / record.provenance['checkpoint'])
    for start in ('module.', '_orig_mod.', 'backbone.'):
        changed = {start + key: value for key, value in content['state_dict'].items()}
        torch.save(content | dict(state_dict=changed), tmp_path / 'other.pth')
        if start == 'backbone.':
            with pytest.raises(ValueError, match=r'other\.pth does not fit .*lacks: .*, \.\.\.;?'):
                testing.test(config(data, tmp_path / start), tmp_path / 'other.pth')
            continue
        found = testing.test(config(data, tmp_path / start), tmp_path / 'other.pth')
        np.testing.assert_array_equal(found.domains[0].matrix, record.domains[0].matrix)
    assert records.find([tmp_path / 'run'])
