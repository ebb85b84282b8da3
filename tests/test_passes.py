"""Runs with a statistics pass: resumed anywhere, and on two processes."""

import os
import shutil
import signal

import pytest
import torch
from mmengine.registry import DefaultScope
from test_resume import CONFIG, LENGTH, assert_same, data, interrupt, mmseg_scope, train  # noqa: F401
from test_tools import TINY
from test_tools import run as run_tool

from ibnseg import ending, weights
from ibnseg.methods import ISW, passes

PASS = dict(type='StatisticsPass', at=3, images=3, trials=2)
ISW_MODEL = ['model.type=SiteSegmentor', 'model.backbone.placement=isw']


def masks(checkpoint) -> dict[str, torch.Tensor]:
    return {k: t for k, t in checkpoint['state_dict'].items() if k.endswith(('.mask', '.settled'))}


@pytest.fixture(scope='module')
def whole(data, tmp_path_factory):  # noqa: F811
    """Checkpoints of an uninterrupted run, by name; its folder as None's."""
    folder = tmp_path_factory.mktemp('isw') / 'run'
    with DefaultScope.overwrite_default_scope('mmseg'):
        train(data, folder, *ISW_MODEL, hooks=[PASS])
    return {path.name: weights.read(path) for path in folder.glob('iter_*.pth')} | {None: folder}


def test_masks_are_made_once_and_saved(whole):
    for done in range(1, LENGTH + 1):
        found = masks(whole[f'iter_{done}.pth'])
        assert len(found) == 6
        for key, tensor in found.items():
            assert tensor.any() == (done > 3), (done, key)
            assert torch.equal(tensor, masks(whole[f'iter_{max(done, 4)}.pth'])[key]) or done <= 3


@pytest.mark.parametrize('stop', [2, 3, 4, 5], ids=['before', 'at', 'after', 'later'])
def test_a_run_resumed_around_the_pass_is_the_run(stop, whole, data, tmp_path):  # noqa: F811
    run = shutil.copytree(whole[None], tmp_path / 'run')
    interrupt(run, stop)
    train(data, run, *ISW_MODEL, hooks=[PASS], resume=True)
    last = f'iter_{LENGTH}.pth'
    assert_same(weights.read(run / last), whole[last])


def test_a_run_killed_in_the_pass_is_the_run(whole, data, tmp_path, monkeypatch):  # noqa: F811
    settle, times = ISW.settle, []

    def killed(self, trial):
        settle(self, trial)
        times.append(trial)
        if len(times) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(ISW, 'settle', killed)
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path, *ISW_MODEL, hooks=[PASS])
    monkeypatch.undo()
    assert not (tmp_path / 'iter_4.pth').exists()
    train(data, tmp_path, *ISW_MODEL, hooks=[PASS], resume=True)
    last = f'iter_{LENGTH}.pth'
    assert_same(weights.read(tmp_path / last), whole[last])


@pytest.mark.parametrize('at', [0, 3])
@pytest.mark.parametrize('place', [1, 5], ids=['in the first trial', 'in the second'])
def test_a_run_asked_to_end_in_the_pass_is_the_run(at, place, data, tmp_path, monkeypatch):  # noqa: F811
    """It ends there, saved as before the pass; not after a pass that may take half an hour."""
    hooks, run, last = [dict(PASS, at=at)], tmp_path / 'run', f'iter_{LENGTH}.pth'
    train(data, tmp_path / 'whole', *ISW_MODEL, hooks=hooks)
    observe, times = ISW.observe, []

    def asked(self, y):
        observe(self, y)
        times.append(self)
        if len(times) == place * 3:  # three layers, three pairs a trial
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(passes, '_ASK_EVERY', 1)
    monkeypatch.setattr(ISW, 'observe', asked)
    with pytest.raises(ending.Saved):
        train(data, run, *ISW_MODEL, hooks=hooks)
    assert len(times) == place * 3
    monkeypatch.undo()
    assert max(int(path.stem[5:]) for path in run.glob('iter_*.pth')) == at
    assert not any(tensor.any() for tensor in masks(weights.read(run / f'iter_{at}.pth')).values())
    train(data, run, *ISW_MODEL, hooks=hooks, resume=True)
    assert_same(weights.read(run / last), weights.read(tmp_path / 'whole' / last))


def test_the_pass_leaves_the_training_as_it_was(data, tmp_path):  # noqa: F811
    """With a loss of weight 0 the run is the one without a pass."""
    free = [*ISW_MODEL, 'model.site_loss.ISW=0.0']
    late = dict(PASS, at=LENGTH - 1)
    train(data, tmp_path / 'late', *free, hooks=[late])
    train(data, tmp_path / 'early', *free, hooks=[PASS])
    kept = [weights.read(tmp_path / run / f'iter_{LENGTH}.pth') for run in ('late', 'early')]
    for one in kept:
        for key in masks(one):
            del one['state_dict'][key]
    assert_same(*kept)


@pytest.mark.parametrize('begin', [0, 5], ids=['before the pass', 'after it'])
@pytest.mark.parametrize('buffers', [False, True], ids=['parameters', 'buffers too'])
def test_averaged_weights_have_the_masks(begin, buffers, data, tmp_path):  # noqa: F811
    ema = dict(type='EMAHook', momentum=0.1, update_buffers=buffers, begin_iter=begin)
    run = tmp_path / 'run'
    train(data, run, *ISW_MODEL, hooks=[PASS, ema])
    saved = {path.name: weights.read(path) for path in run.glob('iter_*.pth')}
    for done in range(1, LENGTH + 1):
        average, trained = (saved[f'iter_{done}.pth'][k] for k in ('state_dict', 'ema_state_dict'))
        found = masks(dict(state_dict=average))
        assert len(found) == 6
        for key, tensor in found.items():
            assert tensor.any() == (done > 3), (done, key)
            assert torch.equal(tensor, trained[f'module.{key}'])
        counted = 'backbone.layer1.0.bn1.num_batches_tracked'
        assert average[counted] == trained[f'module.{counted}'] == done
    stem = 'backbone.conv1.weight'
    assert not torch.equal(average[stem], trained[f'module.{stem}'])
    mean = 'backbone.layer1.0.bn1.running_mean'
    assert torch.equal(average[mean], trained[f'module.{mean}']) != buffers

    interrupt(run, 4)
    train(data, run, *ISW_MODEL, hooks=[PASS, ema], resume=True)
    last = f'iter_{LENGTH}.pth'
    assert_same(weights.read(run / last), saved[last], 'ema_state_dict')


def test_a_pass_without_anyone_who_observes_is_refused(data, tmp_path):  # noqa: F811
    with pytest.raises(ValueError, match=r"no layer of model.backbone observes.*such as 'isw'"):
        train(data, tmp_path, hooks=[PASS])


def test_a_mask_that_would_never_be_made_is_refused(data, tmp_path):  # noqa: F811
    with pytest.raises(
        ValueError, match=r'nothing until a pass over the photos \(ISW\)\. Add dict'
    ):
        train(data, tmp_path, *ISW_MODEL)
    with pytest.raises(ValueError, match=rf'at is {LENGTH}, .* ends after {LENGTH} iterations'):
        train(data, tmp_path, *ISW_MODEL, hooks=[dict(PASS, at=LENGTH)])
    assert not list(tmp_path.glob('*.pth'))


def test_a_loss_that_is_not_collected_is_refused_before_any_step(data, tmp_path):  # noqa: F811
    with pytest.raises(ValueError, match=r'Set model.type=SiteSegmentor'):
        train(data, tmp_path, 'model.backbone.placement=isw', hooks=[PASS])
    assert not list(tmp_path.glob('*.pth'))


def test_two_processes_find_the_masks_of_one(data, tmp_path):  # noqa: F811
    config = tmp_path / 'isw.py'
    config.write_text(
        f"_base_ = '{CONFIG}'\n"
        "model = dict(type='SiteSegmentor', backbone=dict(placement='isw'))\n"
        "custom_hooks = [dict(type='StatisticsPass', at=0, images=3, trials=2)]\n"
    )
    found = []
    for processes, size in ((0, 4), (2, 2)):
        out = tmp_path / str(processes)
        short = ['train_cfg.max_iters=1', 'default_hooks.checkpoint.interval=1']
        run_tool(
            'train.py', config, '--data-root', data, '--work-dir', out, '--cfg-options',
            *TINY, *short, f'train_dataloader.batch_size={size}', processes=processes,
        )  # fmt: skip
        found.append(masks(weights.read(out / 'iter_1.pth')))
    one, two = found
    assert all(tensor.any() for tensor in one.values())
    for key, tensor in one.items():
        assert torch.equal(tensor, two[key]), key
