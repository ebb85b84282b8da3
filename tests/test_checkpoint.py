import math
import os
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict

from ibnseg import weights
from ibnseg.train import checkpoint
from ibnseg.train.checkpoint import AtomicCheckpointHook
from ibnseg.train.runner import SegRunner, _plain


class Runner:
    """What the hook sees of a runner."""

    epoch, max_iters, val_interval = 0, 4, 1000
    message_hub = SimpleNamespace(runtime_info={})

    def __init__(self, folder):
        self.work_dir, self.iter, self.window = str(folder), 0, 1
        self.optim_wrapper = SimpleNamespace(
            should_update=lambda: (self.iter + 1) % self.window == 0
        )
        self.cfg = ConfigDict(
            source='gta5:train',
            val_dataloader=dict(dataset=dict(domains=['gta5'])),
            train_cfg=dict(max_iters=4),
        )

    def save_checkpoint(self, out_dir, name, meta, by_epoch):
        content = dict(state_dict={'w': torch.full((3,), float(self.iter))}, meta=meta)
        torch.save(content, f'{out_dir}/{name}')


def validate(hook, runner, done, value):
    runner.iter = done
    hook.after_val_epoch(runner, {'mIoU': value})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_best_by_validation_is_kept_and_only_it(tmp_path):
    hook, runner = AtomicCheckpointHook(interval=2), Runner(tmp_path)
    for done, value in ((1, 10.0), (2, 30.0), (3, 20.0), (4, math.nan)):
        validate(hook, runner, done, value)
    assert names(tmp_path) == ['best_iter_2.pth']
    assert weights.read(tmp_path / 'best_iter_2.pth')['meta']['score'] == 30.0


def test_a_resumed_run_remembers_the_best(tmp_path):
    validate(AtomicCheckpointHook(), Runner(tmp_path), 1, 50.0)
    hook, runner = AtomicCheckpointHook(), Runner(tmp_path)
    runner.iter = 2
    hook.before_train(runner)
    validate(hook, runner, 3, 40.0)
    assert names(tmp_path) == ['best_iter_1.pth']


@pytest.mark.parametrize('keep', [1, 2])
def test_older_ones_go_after_newer_ones_are_whole(tmp_path, keep):
    hook, runner = AtomicCheckpointHook(interval=1, keep=keep), Runner(tmp_path)
    for i in range(4):
        runner.iter = i
        hook.after_train_iter(runner, i)
    assert names(tmp_path) == [f'iter_{i}.pth' for i in range(5 - keep, 5)]


def test_a_checkpoint_is_saved_where_validation_comes_before_the_interval(tmp_path):
    hook, runner = AtomicCheckpointHook(interval=1000), Runner(tmp_path)
    runner.max_iters, runner.val_interval = 400, 100
    for i in range(250):
        runner.iter = i
        hook.after_train_iter(runner, i)
    assert names(tmp_path) == ['iter_200.pth']


def test_a_checkpoint_waits_for_the_update_of_accumulated_gradients(tmp_path):
    hook, runner = AtomicCheckpointHook(interval=2, keep=9), Runner(tmp_path)
    runner.max_iters, runner.window = 11, 3
    for i in range(11):
        runner.iter = i
        hook.after_train_iter(runner, i)
    assert names(tmp_path) == [f'iter_{i}.pth' for i in (11, 3, 6, 9)]


@pytest.mark.parametrize(
    ('validated', 'rule'),
    [(['gta5'], 'source validation'), (['gta5', 'cityscapes'], 'target oracle')],
)
def test_a_validation_on_a_target_is_called_an_oracle(tmp_path, validated, rule):
    runner = Runner(tmp_path)
    runner.cfg.val_dataloader.dataset.domains = validated
    validate(AtomicCheckpointHook(), runner, 1, 50.0)
    trained = weights.read(tmp_path / 'best_iter_1.pth')['meta']['trained']
    assert (trained['selection'], trained['source']) == (rule, 'gta5:train')
    assert trained['validated'] == [f'{name}:val' for name in validated]


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(tmp_path):
    hook, runner = AtomicCheckpointHook(interval=1), Runner(tmp_path)
    batch = dict(data_samples=[SimpleNamespace(img_path='some/photo.png')])
    with pytest.raises(ValueError, match=r'loss is nan at iteration 1, on some/photo\.png'):
        hook.after_train_iter(runner, 0, batch, dict(loss=torch.tensor(math.nan)))
    assert names(tmp_path) == []


def test_ten_is_newer_than_nine(tmp_path, capsys):
    for n in (9, 10):
        torch.save({'n': n}, tmp_path / f'iter_{n}.pth')
    assert checkpoint.newest(tmp_path)[0].name == 'iter_10.pth'
    assert capsys.readouterr().out == ''
    (tmp_path / 'iter_10.pth').write_bytes(b'cut')
    assert checkpoint.newest(tmp_path)[0].name == 'iter_9.pth'
    said = capsys.readouterr().out
    assert said.startswith(f'{tmp_path}/iter_10.pth: ') and 'iter_9.pth is taken' in said
    (tmp_path / 'iter_9.pth').write_bytes(b'')
    with pytest.raises(ValueError, match=r'no checkpoint of this run can be read') as caught:
        checkpoint.newest(tmp_path)
    assert 'iter_9.pth' in str(caught.value)
    assert 'iter_10.pth' in str(caught.value)
    assert checkpoint.newest(tmp_path / 'elsewhere') is None


def test_a_damaged_best_one_is_kept_and_training_goes_on(tmp_path, capsys):
    runner = Runner(tmp_path)
    validate(AtomicCheckpointHook(), runner, 4, 50.0)
    content = bytearray((tmp_path / 'best_iter_4.pth').read_bytes())
    content[content.index(b'score')] ^= 1  # not in the padding, which nobody reads
    (tmp_path / 'best_iter_4.pth').write_bytes(content)
    hook = AtomicCheckpointHook()
    runner.iter = 4
    hook.before_train(runner)
    said = capsys.readouterr().out
    assert 'best_iter_4.pth' in said and 'best_iter_4.pth.damaged' in said
    assert (tmp_path / 'best_iter_4.pth.damaged').read_bytes() == content
    validate(hook, runner, 6, 40.0)
    assert names(tmp_path) == ['best_iter_4.pth.damaged', 'best_iter_6.pth']
    assert weights.read(tmp_path / 'best_iter_6.pth')['meta']['trained']['lost'] == [
        'best_iter_4.pth'
    ]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    left = ['.iter_4.pth.tmp', '.best_iter_4.pth.tmp', '.m.record.json.ab12.tmp']
    others = ['.running', 'iter_2.pth.tmp', '.notes.tmp']
    for name in (*left, *others):
        (tmp_path / name).touch()
    assert checkpoint.begin(ConfigDict(work_dir=str(tmp_path)), False, 0) is None
    assert names(tmp_path) == sorted(others)


@pytest.mark.parametrize('broken', ['fsync', 'replace'])
def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch, broken):
    runner = SimpleNamespace()
    (tmp_path / 'iter_1.pth').write_bytes(b'old')

    def full(*_):
        raise OSError('disk full')

    def parent(self, out_dir, filename, **_):
        (tmp_path / filename).write_bytes(b'new')

    monkeypatch.setattr(SegRunner.__mro__[1], 'save_checkpoint', parent)
    monkeypatch.setattr(os, broken, full)
    runner = SegRunner.__new__(SegRunner)
    with pytest.raises(OSError, match='disk full'):
        runner.save_checkpoint(str(tmp_path), 'iter_1.pth')
    assert names(tmp_path) == ['iter_1.pth']
    assert (tmp_path / 'iter_1.pth').read_bytes() == b'old'


def test_plain_keeps_what_reads_back_safely(tmp_path):
    import numpy as np

    value = {'a': np.float64(1.5), 1: (np.int64(2), {'x'}), 't': torch.ones(2), 'n': None}
    torch.save(_plain(value), tmp_path / 'x.pth')
    found = weights.read(tmp_path / 'x.pth')
    assert found['a'] == 1.5
    assert type(found['a']) is float
    assert found[1] == [2, ['x']]
