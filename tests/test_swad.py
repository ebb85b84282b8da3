"""SWAD: which segments are averaged, and a run with it, resumed and on two processes."""

import shutil

import pytest
import torch
from mmengine.registry import DefaultScope
from processes import group_of_two
from test_resume import CONFIG, LENGTH, assert_same, data, interrupt, mmseg_scope, train  # noqa: F401
from test_tools import TINY
from test_tools import run as run_tool
from torch import nn
from torch.testing import assert_close

from ibnseg import weights
from ibnseg.methods import renewal
from ibnseg.methods.valley import LossValley, ReleasedValley

FALL = [2.0, 1.5, 1.2, 1.0, 0.8, 0.9, 0.95]  # found at the last one, threshold 1.148
LOW, HIGH = 1.0, 2.0


def averaged(losses, kind=LossValley, **options) -> tuple[list[float], LossValley]:
    """How often each segment is in the average."""
    valley = kind(**options)
    for mean, loss in zip(torch.eye(len(losses), dtype=torch.float64), losses, strict=True):
        valley.end(dict(w=mean), loss)
    return (valley.finish()['w'] * max(valley.count, 1)).round(decimals=9).tolist(), valley


CASES = {
    # losses, options: first and last segment of the average
    'to the end': (FALL, {}, (3, 6)),
    'looks back as far as it tolerates': ([1.4, 1.3, 1.2, 1.1, 1.0, 0.9, 0.9, 0.9], {}, (3, 7)),
    'not beyond a high one': ([2, 1.4, 1.3, 2, 1.1, 0.8, 0.9, 0.95], {}, (4, 7)),
    'ends when all are high': (FALL + [LOW] * 2 + [HIGH] * 6 + [LOW], {}, (3, 8)),
    'one low loss keeps it alive': (FALL + [HIGH] * 5 + [LOW] * 2, {}, (3, 13)),
    'without the high ones at the end': (FALL + [HIGH] * 5, {}, (3, 6)),
    'a short queue': ([*FALL, HIGH, LOW], dict(tolerance=1), (4, 6)),
    'a queue as long': (FALL + [HIGH] * 3 + [LOW], dict(tolerance=3), (4, 6)),
}


@pytest.mark.parametrize('case', CASES)
def test_segments_of_the_valley_count_once(case):
    losses, options, (first, last) = CASES[case]
    share, valley = averaged(losses, **options)
    assert share == [float(first <= i <= last) for i in range(len(losses))]
    assert (valley.first, valley.last) == (first, last)


def test_the_release_counts_segments_twice():
    share, _ = averaged(FALL, ReleasedValley)
    assert share == [0, 0, 1, 1, 2, 1, 1]


def test_a_loss_that_keeps_falling_has_no_valley():
    share, valley = averaged([3.0, 2, 1, 0.5])
    assert valley.found == -1 and share == [0, 0, 0, 1]
    with pytest.raises(ValueError, match='before its first segment'):
        LossValley().finish()


@pytest.mark.parametrize('options', [dict(converge=0), dict(tolerance=1.5), dict(ratio=-1)])
def test_wrong_arguments_are_named(options):
    with pytest.raises(ValueError, match=f'SWAD: {next(iter(options))} is'):
        LossValley(**options)


@pytest.mark.parametrize('kind', [LossValley, ReleasedValley])
@pytest.mark.parametrize('losses', [case[0] for case in CASES.values()], ids=CASES)
def test_the_state_goes_on_where_it_was(kind, losses):
    whole, _ = averaged(losses, kind)
    valley = kind()
    for mean, loss in zip(torch.eye(len(losses), dtype=torch.float64), losses, strict=True):
        valley.end(dict(w=mean), loss)
        other = kind()
        other.load_state_dict(valley.state_dict())
        valley = other
    assert (valley.finish()['w'] * max(valley.count, 1)).round(decimals=9).tolist() == whole


HOOK = dict(type='SWAD', interval=1, converge=1, tolerance=2, ratio=9.0, batches=2)


@pytest.fixture(scope='module')
def whole(data, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp('swad') / 'run'
    with DefaultScope.overwrite_default_scope('mmseg'):
        record = train(data, folder, hooks=[HOOK])
    found = {path.name: weights.read(path) for path in folder.glob('*iter_*.pth')}
    return found | {None: folder, 'record': record}


def last(run) -> dict:
    return weights.read(run / f'iter_{LENGTH}.pth')


def test_the_average_is_what_is_saved_and_reported(whole):
    best = [name for name in whole if str(name).startswith('best')]
    assert best == [f'best_iter_{LENGTH}.pth']
    assert whole['record'].provenance['checkpoint'] == best[0]
    end = whole[f'iter_{LENGTH}.pth']
    valley, state = end['swad']['valley'], end['state_dict']
    assert_same(end, whole[best[0]])
    assert valley['found'] >= 0 and valley['ended'] == -1
    saved = [whole[f'iter_{i}.pth']['state_dict'] for i in range(1, LENGTH)]
    saved.append(end['swad']['trained'])
    for key in (
        'backbone.conv1.weight',
        'backbone.layer1.0.conv1.weight',
        'decode_head.conv_seg.bias',
    ):
        mean = torch.stack([one[key] for one in saved[valley['found'] :]]).mean(0)
        assert_close(state[key], mean, rtol=1e-5, atol=1e-7)
        assert not torch.equal(state[key], saved[-1][key])
    mean = 'backbone.layer1.0.bn1.running_mean'
    assert not torch.equal(state[mean], saved[-1][mean])


@pytest.mark.parametrize('stop', [1, 3, 5, 6])
def test_a_resumed_run_is_the_run(stop, whole, data, tmp_path):  # noqa: F811
    run = shutil.copytree(whole[None], tmp_path / 'run')
    interrupt(run, stop)
    for path in run.glob('*.json'):
        path.unlink()
    train(data, run, hooks=[HOOK], resume=True)
    assert_same(last(run), whole[f'iter_{LENGTH}.pth'])
    assert (run / f'best_iter_{LENGTH}.pth').exists()


def test_a_run_resumed_within_a_segment_is_the_run(data, tmp_path):  # noqa: F811
    hook = dict(HOOK, interval=2, images=1)
    train(data, tmp_path / 'run', hooks=[hook])
    kept = last(tmp_path / 'run')
    interrupt(tmp_path / 'run', 3)
    train(data, tmp_path / 'run', hooks=[hook], resume=True)
    assert_same(last(tmp_path / 'run'), kept)


def test_a_run_that_goes_on_goes_on_from_what_was_trained(whole, data, tmp_path):  # noqa: F811
    fixed = ['param_scheduler.0.end=3', 'param_scheduler.1.begin=3', 'param_scheduler.1.end=99']
    longer = [*fixed, f'train_cfg.max_iters={LENGTH + 2}']
    train(data, tmp_path / 'one', *longer, hooks=[HOOK])
    train(data, tmp_path / 'two', *fixed, hooks=[HOOK])
    train(data, tmp_path / 'two', *longer, hooks=[HOOK], resume=True)
    one, two = (weights.read(tmp_path / n / f'iter_{LENGTH + 2}.pth') for n in ('one', 'two'))
    assert_same(one, two)
    for key, tensor in one['swad']['trained'].items():
        assert torch.equal(tensor, two['swad']['trained'][key]), key
    assert one['swad']['valley']['found'] == two['swad']['valley']['found']


def test_what_cannot_work_is_refused(data, tmp_path):  # noqa: F811
    with pytest.raises(ValueError, match=r'2 segments of 4 iterations, .* ends after 6'):
        train(data, tmp_path / 'a', hooks=[dict(HOOK, interval=4, converge=2)])
    with pytest.raises(ValueError, match='SWAD and EMAHook'):
        train(data, tmp_path / 'b', hooks=[HOOK, dict(type='EMAHook')])
    with pytest.raises(ValueError, match='SWAD: batches is 0'):
        train(data, tmp_path / 'c', hooks=[dict(HOOK, batches=0)])


def test_a_valley_never_found_is_said(data, tmp_path, capsys):  # noqa: F811
    train(data, tmp_path / 'run', hooks=[dict(HOOK, converge=6, interval=1)])
    said = capsys.readouterr()
    found = last(tmp_path / 'run')['swad']['valley']['found']
    assert ('still falling after 6 iterations' in said.out + said.err) == (found < 0)


def test_two_processes_find_the_losses_of_one(data, tmp_path):  # noqa: F811
    config = tmp_path / 'swad.py'
    config.write_text(
        f"_base_ = '{CONFIG}'\ncustom_hooks = [{dict(HOOK, converge=2)!r}]\n"
        'model = dict(backbone=dict(norm_eval=True))\n'
        'optim_wrapper = dict(optimizer=dict(lr=0.0))\n'
    )
    found = []
    for processes, size in ((0, 4), (2, 2)):
        out = tmp_path / str(processes)
        run_tool(
            'train.py', config, '--data-root', data, '--work-dir', out, '--cfg-options', *TINY,
            'train_cfg.max_iters=2', 'default_hooks.checkpoint.interval=1',
            f'train_dataloader.batch_size={size}', processes=processes,
        )  # fmt: skip
        found.append(weights.read(out / 'iter_2.pth'))
    one, two = (each['swad']['valley']['segments'] for each in found)
    assert len(one) == 2
    for (_, loss, _), (_, other, _) in zip(one, two, strict=True):
        assert loss == pytest.approx(other, rel=1e-6)
    assert_same(*found)


class Normed(nn.BatchNorm2d):
    """A segmentor as far as `renew` needs one."""

    def data_preprocessor(self, batch, training):
        return batch

    def forward(self, x, mode):
        return super().forward(x)


def _renewed(photos) -> nn.Module:
    net = nn.Module()
    net.norm = norm = Normed(3)
    net.data_preprocessor, net.forward = norm.data_preprocessor, norm.forward
    keys = renewal.renew(net, iter(photos), len(photos), lambda done, total: None)
    assert keys == ['norm.running_mean', 'norm.running_var'] and norm.momentum == 0.1
    return norm


def _photos() -> torch.Tensor:
    return torch.randn(4, 2, 3, 5, 5, generator=torch.Generator().manual_seed(1))


def _rank(rank, folder):
    norm = _renewed([dict(x=x) for x in _photos()[rank::2]])
    torch.save(norm.running_mean, f'{folder}/{rank}.pth')


def test_statistics_are_the_mean_over_batches_and_processes(tmp_path):
    photos = _photos()
    norm = _renewed([dict(x=x) for x in photos])
    assert_close(norm.running_mean, photos.mean((0, 1, 3, 4)))
    each = [batch.transpose(0, 1).flatten(1).var(1) for batch in photos]
    assert_close(norm.running_var, torch.stack(each).mean(0))
    group_of_two(_rank, tmp_path)
    for rank in (0, 1):
        assert_close(torch.load(tmp_path / f'{rank}.pth'), norm.running_mean)
