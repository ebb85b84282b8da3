"""Averaged weights: what is averaged, what is refused, and statistics that are renewed."""

import re
import shutil

import pytest
import torch
from ibnseg_tools import weights as tool
from test_resume import CONFIG, config, data, mmseg_scope, train  # noqa: F401
from test_tools import TINY

from ibnseg import weights
from ibnseg.measure import origin
from ibnseg.train import refresh
from ibnseg.train.runner import build
from ibnseg.weights import average


def save(path, trained=None, **tensors):
    state = {key.replace('_', '.', 1): torch.as_tensor(value) for key, value in tensors.items()}
    torch.save(dict(state_dict=state, meta=dict(trained=trained) if trained else {}), path)
    return str(path)


def average_of(*words) -> int:
    return tool.main(['average', *map(str, words)])


def test_the_mean_of_what_is_asked_for(tmp_path, capsys):
    a = save(tmp_path / 'a.pth', backbone_w=[1.0, 2.0], head_w=[5.0], backbone_count=3)
    b = save(tmp_path / 'b.pth', backbone_w=[3.0, 6.0], head_w=[7.0], backbone_count=4)
    assert average_of(a, b, '--keys', 'backbone.*', '--out', tmp_path / 'm.pth') == 0
    assert '2 others differ, and are those of' in capsys.readouterr().out
    found = weights.read(tmp_path / 'm.pth')
    state = found['state_dict']
    assert state['backbone.w'].tolist() == [2, 4]
    assert (state['head.w'].tolist(), state['backbone.count'].tolist()) == ([5], 3)
    assert [one['file'] for one in found['meta']['averaged']['files']] == ['a.pth', 'b.pth']


@pytest.mark.parametrize(
    'second, options, message',
    [
        (dict(a_w=[2.0, 1]), [], 'another network .*wrong shapes: a.w'),
        (dict(b_w=[2.0]), [], 'another network .*no place'),
        (dict(a_w=[float('nan')]), [], 'mean of a.w is not finite'),
        (dict(a_w=[2.0]), ['--keys', 'x'], 'matches no weights'),
        (dict(a_w=[2.0]), ['--keys', '*'], 'no regular expression'),
        (dict(a_w=[2.0], trained=dict(source='gta5:train')), [], "has source 'gta5:train'"),
    ],
)
def test_what_cannot_be_averaged(second, options, message, tmp_path, capsys):
    a, b = save(tmp_path / 'a.pth', a_w=[1.0]), save(tmp_path / 'b.pth', **second)
    assert average_of(a, b, *options, '--out', tmp_path / 'm.pth') == 2
    assert re.search(message, ' '.join(capsys.readouterr().err.split()))
    assert not (tmp_path / 'm.pth').exists()


def test_one_file_has_no_average(tmp_path, capsys):
    assert average_of(save(tmp_path / 'a.pth', a_w=[1.0]), '--out', tmp_path / 'm.pth') == 2
    assert 'expected two or more' in capsys.readouterr().err


def test_a_file_counts_once(tmp_path, capsys):
    a = save(tmp_path / 'a.pth', a_w=[1.0])
    copy = shutil.copy(a, tmp_path / 'copy.pth')
    assert average_of(a, copy, '--out', tmp_path / 'm.pth') == 2
    assert 'copy.pth is the same file as' in capsys.readouterr().err


def test_what_any_training_looked_at_is_named():
    one = dict(source='s', validated=['x:val'], weights=['w'], iterations=5, settings=1)
    other = dict(one, validated=['x:val', 'y:val'], settings=2)
    found = average._meta('ab', [dict(trained=one), dict(trained=other)])
    assert found['trained']['validated'] == ['x:val', 'y:val']
    assert found['trained']['iterations'] == 5
    assert 'settings' not in found['trained']


@pytest.mark.parametrize('moved, stale', [(1.0, []), (2.0, ['bn.running_mean'])])
def test_statistics_that_no_training_moved_are_not_stale(moved, stale):
    states = [
        {'bn.running_mean': torch.tensor([mean]), 'w': torch.tensor([mean + i])}
        for i, mean in enumerate((1.0, moved))
    ]
    assert average.mean(states).stale == stale


@pytest.fixture(scope='module')
def runs(data, tmp_path_factory):  # noqa: F811
    """The last checkpoints of two trainings."""
    from mmengine.registry import DefaultScope

    folder = tmp_path_factory.mktemp('runs')
    with DefaultScope.overwrite_default_scope('mmseg'):
        for seed in (0, 1):
            train(data, folder / str(seed), seed=seed)
    return [folder / str(seed) / 'iter_6.pth' for seed in (0, 1)]


def test_batchnorm_is_refused_or_renewed(runs, data, tmp_path, capsys):  # noqa: F811
    out = tmp_path / 'm.pth'
    assert average_of(*runs, '--out', out) == 2
    assert '--refresh-bn CONFIG' in capsys.readouterr().err
    renew = ['--refresh-bn', CONFIG, '--batches', 2, '--data-root', data, '--cfg-options', *TINY]
    assert average_of(*runs, '--out', out, *renew) == 0
    found = weights.read(out)
    plain, state = average.average(runs), found['state_dict']
    for key, tensor in state.items():
        if key.endswith('num_batches_tracked'):
            continue
        assert torch.equal(tensor, plain.state[key]) == (key not in plain.stale), key
    assert found['meta']['averaged']['refreshed'] == 2
    measured = config(data, tmp_path / 'run')
    came = origin.of_checkpoint(out, found['meta'], measured, {})
    assert came['averaged']['keys'] == '.*' and came['seed'] is None


def test_renewed_statistics_are_the_mean_over_batches(runs, data, tmp_path):  # noqa: F811
    state = average.average(runs).state
    each = []
    stem = 'backbone.layer1.0.bn1.'
    for batches in (1, 2):
        found, keys = refresh.refresh(config(data, tmp_path), state, batches)
        assert f'{stem}running_mean' in keys
        each.append(found)
    asked = config(data, tmp_path / 'other')
    model = build(asked).model
    model.load_state_dict(state)
    seen = []
    layer = model.backbone.layer1[0].bn1
    layer.register_forward_hook(lambda m, inputs, y: seen.append(inputs[0].mean((0, 2, 3))))
    loader = model.train() and refresh.SegRunner.build_dataloader(asked.train_dataloader, seed=0)
    photos = iter(loader)
    for _ in range(2):
        model.loss(**model.data_preprocessor(next(photos), training=True))
    torch.testing.assert_close(each[0][f'{stem}running_mean'], seen[0].detach())
    torch.testing.assert_close(each[1][f'{stem}running_mean'], (seen[0] + seen[1]).detach() / 2)
