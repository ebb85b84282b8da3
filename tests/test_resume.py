"""A continued run is the run that was never interrupted, and measures what it saved."""

import itertools
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmseg.registry import HOOKS
from test_tools import TINY

from ibnseg import disk, miniature, weights
from ibnseg.measure import records
from ibnseg.train import checks, initial, resume, settings
from ibnseg.train import test as testing
from ibnseg.train import train as training
from ibnseg.train.config import load_config, parse_options, schedulers, stretch
from ibnseg.train.runner import check_state

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
    # What is drawn before the first batch of a resumed run moves the draws of its forward.
    'dropout': ([], ['model.decode_head.dropout_ratio=0.5'], []),
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


@HOOKS.register_module(force=True)
class RatesHook(Hook):
    """Writes down the options of the optimiser in each iteration."""

    found = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        (group, *_) = runner.optim_wrapper.param_groups
        self.found[runner.iter] = (group['lr'], group['momentum'], group['weight_decay'])


def rates(*words, **options):
    RatesHook.found = {}
    train(*words, hooks=[dict(type='RatesHook')], **options)
    return RatesHook.found


APPLIED = {
    'optimiser': [
        'optim_wrapper.optimizer.lr=0.01', 'optim_wrapper.optimizer.momentum=0.5',
        'optim_wrapper.clip_grad.max_norm=0.001', 'optim_wrapper.clip_grad._delete_=True',
    ],
    'schedule': [
        f'train_cfg.max_iters={LENGTH + 1}', 'param_scheduler.1.end=60',
        'param_scheduler.1.power=2',
    ],
}  # fmt: skip
SHORT = ['param_scheduler.0.end=3', 'param_scheduler.1.begin=3']


@pytest.fixture(scope='module')
def stopped(data, tmp_path_factory):
    """A run that was stopped after some iterations, and how it was trained."""
    folder = tmp_path_factory.mktemp('stopped')
    with DefaultScope.overwrite_default_scope('mmseg'):
        found = rates(data, folder, *SHORT)
    interrupt(folder, STOP)
    (folder / 'ibn_b.record.json').unlink()
    return folder, found


@pytest.mark.parametrize('case', APPLIED)
def test_a_change_takes_effect_from_the_checkpoint_on(case, data, stopped, tmp_path, capsys):
    options = [*SHORT, *APPLIED[case]]
    folder, before = shutil.copytree(stopped[0], tmp_path / 'run'), stopped[1]
    resumed = rates(data, folder, *options, resume=True)
    said = capsys.readouterr().out
    fresh = rates(data, tmp_path / 'fresh', *options)
    assert resumed == {i: rate for i, rate in fresh.items() if i >= STOP}
    assert resumed[STOP] != before[STOP]
    record = records.read(folder / 'ibn_b.record.json')
    noted = record.provenance['training']['settings']
    for option in APPLIED[case]:
        key, _, value = option.partition('=')
        if '_delete_' not in key:
            assert noted[f'resumed.{STOP}.{key}'].endswith(f' -> {value}')
            assert f'from iteration {STOP} on, {key} is {value}, no more' in said


RATE = 'optim_wrapper.optimizer.lr'
ADVICE = re.compile(r'--cfg-options (.*?)\)')


@pytest.mark.parametrize('way_out', [0, 1], ids=['rate', 'clipped'])
@pytest.mark.parametrize('begun', [True, False])
def test_the_way_out_of_a_divergence_works(begun, way_out, data, stopped, tmp_path):
    """The loss before an update is finite; what the update leaves is not."""
    folder, decay = tmp_path / 'run', 'optim_wrapper.optimizer.weight_decay=1e38'
    hooks = [dict(type='RatesHook')]
    if begun:
        shutil.copytree(stopped[0], folder)
    before = sorted(path.name for path in folder.glob('*.pth'))
    what = rf'state_dict\.\S+ is not finite after {STOP * begun + 1} iterations'
    with pytest.raises(ValueError, match=what) as caught:
        train(data, folder, *SHORT, decay, f'{RATE}=1e4', hooks=hooks, resume=begun)
    assert sorted(path.name for path in folder.glob('*.pth')) == before
    options = ADVICE.findall(str(caught.value))[way_out].replace('...', '0.01').split()
    train(data, folder, *SHORT, *options, hooks=hooks, resume=begun)
    check_state(weights.read(folder / f'iter_{LENGTH}.pth'), LENGTH)


REFUSED = {
    'batch': (['train_dataloader.batch_size=3'], 'train_dataloader.batch_size: 2, now 3'),
    'optimiser': (
        [f'optim_wrapper.optimizer.{one}' for one in ('_delete_=True', 'type=AdamW', 'lr=0.1')],
        'optim_wrapper.optimizer.type: SGD, now AdamW',
    ),
    'network': (['model.backbone.placement=ibn_a'], 'placement: ibn_b, now ibn_a'),
    'first weights': (['load_from=README.md'], 'load_from: None, now sha256'),
    'within a window': (
        ['optim_wrapper.accumulative_counts=3'], '4 is no multiple of accumulative_counts=3',
    ),
    'fewer': (['train_cfg.max_iters=3'], 'has 4 iterations'),
    'beyond the schedule': (['train_cfg.max_iters=200'], 'ends at iteration 120.*--iterations 200'),
    'hook': (['default_hooks.checkpoint.type=CheckpointHook'], "type='AtomicCheckpointHook'"),
}  # fmt: skip


@pytest.mark.parametrize('case', REFUSED)
def test_what_a_half_trained_network_cannot_take_is_named(case, data, stopped):
    options, message = REFUSED[case]
    before = sorted(stopped[0].rglob('*'))
    with pytest.raises(ValueError, match=message):
        rates(data, stopped[0], *SHORT, *options, resume=True)
    assert sorted(stopped[0].rglob('*')) == before


def continued(data, stopped, *options, **changes):
    """Return the config of a changed run, the meta of its checkpoint, and what it would say."""
    meta = weights.read(stopped[0] / f'iter_{STOP}.pth')['meta']
    changed = config(data, stopped[0], *SHORT, *options)
    changed.update(custom_hooks=[dict(type='RatesHook')], **changes)
    used = checks.find_pairs(changed, 'train_dataloader')
    pairs = {domain: one.summary() for domain, one in used.items()}
    return changed, meta, dict(pairs=pairs, settings=settings.of(changed) | dict(world_size=1))


def test_a_schedule_by_plateaus_is_named(stopped, data):
    schedule = dict(type='ReduceOnPlateauLR', monitor='mIoU')
    changed, meta, now = continued(data, stopped, param_scheduler=[schedule])
    with pytest.raises(ValueError, match='depends on all the scores'):
        resume.check(changed, Path('x'), meta, now)


def test_the_same_batch_from_more_processes_goes_on(stopped, data, monkeypatch):
    changed, meta, now = continued(data, stopped, 'train_dataloader.batch_size=1')
    monkeypatch.setenv('WORLD_SIZE', '2')
    changed.launcher = 'pytorch'
    now['settings']['world_size'] = resume.processes(changed)
    assert not resume.check(changed, Path('x'), meta, now)
    assert now['settings'][f'resumed.{STOP}.world_size'] == '1 -> 2'


@pytest.mark.parametrize(('iterations', 'kept'), [(2, 1), (5, 1), (20, 2), (240, 2)])
def test_a_warm_up_of_one_iteration_is_left_away(iterations, kept):
    """LinearLR of one iteration would keep the rate at its first tenth."""
    stretched = load_config(CONFIG)
    stretch(stretched, iterations)
    rates = []
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    with DefaultScope.overwrite_default_scope('mmengine'):
        found = [PARAM_SCHEDULERS.build(one, default_args=dict(optimizer=optimiser)) for one in
                 stretched.param_scheduler]  # fmt: skip
    for _ in range(iterations):
        rates.append(optimiser.param_groups[0]['lr'])
        optimiser.step()
        for one in found:
            one.step()
    assert len(found) == kept and max(rates) > 0.8


@pytest.mark.parametrize('form', ['several', 'one', 'none'])
def test_a_schedule_is_stretched(data, tmp_path, form):
    stretched = config(data, tmp_path, *SHORT)
    one = dict(type='PolyLR', begin=3, end=6, by_epoch=False)
    stretched.param_scheduler = dict(several=[one], one=one, none=None)[form]
    stretched.train_cfg.max_iters = 6
    stretch(stretched, 12)
    assert stretched.train_cfg.max_iters == 12
    assert [(s['begin'], s['end']) for s in schedulers(stretched)] == [(6, 12)] * (form != 'none')


SEEN = {
    'the target': ('cityscapes:train', 'was trained on cityscapes:train, this run on gta5:train'),
    'fine-tuned on it': ('gta5:train -> cityscapes:train 10 %', '.*was trained on gta5:train -> '),
    'the source': ('gta5:train', None),
    'unknown': (None, None),
}


@pytest.mark.parametrize('way', ['load_from', 'model.backbone.init_cfg', 'converted'])
@pytest.mark.parametrize('case', SEEN)
def test_weights_that_came_in_are_in_the_record(way, case, stopped, data, tmp_path):
    source, message = SEEN[case]
    path, key = tmp_path / 'given.pth', way.replace('converted', 'model.backbone.init_cfg')
    content = weights.read(stopped[0] / f'iter_{STOP}.pth')
    content['meta']['trained']['source'] = source
    if source is None:
        del content['meta']
    torch.save(content, path)
    if way == 'converted':
        weights.convert(path, path.with_suffix('.safetensors'))
        path = path.with_suffix('.safetensors')
    begun = config(data, tmp_path / 'run', *SHORT)
    if way == 'load_from':
        begun.load_from = str(path)
    else:
        begun.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(path))
    expected = dict(by=key, file=path.name, sha256=disk.sha256(path), trained_on=source)
    assert initial.weights_of(begun) == [expected]
    if message is None:
        initial.check([expected], begun.source)
    else:
        with pytest.raises(ValueError, match=f'{key}: {path.name} {message}'):
            initial.check([expected], begun.source)
    if (way, case) != ('load_from', 'unknown'):
        return
    training.train(begun, show=False)
    path.unlink()
    interrupt(tmp_path / 'run', STOP)
    again = config(data, tmp_path / 'run', *SHORT)
    again.load_from = str(path)
    record = training.train(again, resume=True, show=False)
    assert record.provenance['weights'] == [expected], 'after a resume, too'


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


def test_a_prefix_before_every_key_is_named_and_taken_away(data, stopped, tmp_path):
    state = weights.read(next(stopped[0].glob('iter_*.pth')))['state_dict']
    odd = {f'student.{key}': value for key, value in state.items()} | {'teacher.x': torch.ones(1)}
    torch.save(dict(state_dict=odd), tmp_path / 'odd.pth')
    with pytest.raises(ValueError, match=r"Below 'student\.' it fits") as caught:
        train(data, tmp_path / 'run', f'load_from={tmp_path}/odd.pth')
    exec(str(caught.value).split('in Python: ')[1], {})
    found = weights.read(tmp_path / 'odd.weights.pth')
    assert found.keys() == state.keys()
