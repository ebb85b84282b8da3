"""`--method`: one config, trained by any method."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import HOOKS, MODELS
from processes import ROOT, run

from ibnseg import miniature
from ibnseg.methods.passes import check_observed
from ibnseg.methods.segmentor import check_collected
from ibnseg.placement import METHODS, PLACEMENTS
from ibnseg.train.config import load_config

PLAIN = str(ROOT / 'configs' / 'miniature' / 'resnet18.py')


def build(config: Config):
    """The segmentor and hooks of a config, checked as a run checks them."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config.model)
    check_collected(model)
    check_observed(model, [HOOKS.build(dict(hook)) for hook in config.custom_hooks])
    return model


@pytest.mark.parametrize('method', [*METHODS, 'ibn_b', 'fda', 'ibn_b+mixstyle', 'fda+isw'])
def test_what_a_method_needs_comes_with_it(method):
    config = load_config(PLAIN, method=method)
    assert config.model_name == f'resnet18-{method}' and config.method == method
    names = [name for name in method.split('+') if name in METHODS | PLACEMENTS]
    model = build(config)
    kinds = {type(module) for module in model.modules()}
    assert {put.layer for name in names for put in (PLACEMENTS | METHODS)[name]} <= kinds
    styles = [step for step in config.train_dataloader.dataset.pipeline if 'style' in step]
    assert [step['type'] for step in styles] == ['OtherStyle'] * ('fda' in method)


@pytest.mark.parametrize('name', [*METHODS, 'fda'])
def test_it_is_the_method_of_its_own_config(name):
    mine = load_config(str(ROOT / 'configs' / 'robustnet' / 'resnet50.py'), method=name)
    own = load_config(str(ROOT / 'configs' / 'methods' / f'{name}.py'))
    own.model.pop('teacher', None)
    for model in (mine.model, own.model):  # a weight that says what the layer says is no other
        model.pop('site_loss', None)
    assert mine.model == own.model
    assert mine.train_dataloader == own.train_dataloader
    kinds = [[hook['type'] for hook in config.custom_hooks] for config in (mine, own)]
    assert kinds[0] == kinds[1]


def test_another_methods_parts_leave_with_it():
    shade = str(ROOT / 'configs' / 'methods' / 'shade.py')
    plain = load_config(str(ROOT / 'configs' / 'robustnet' / 'resnet50.py'), method='bn')
    changed = load_config(shade, method='bn')
    assert changed.model == plain.model and changed.custom_hooks == plain.custom_hooks
    fda = load_config(str(ROOT / 'configs' / 'methods' / 'fda.py'), method='bn')
    assert fda.train_dataloader == plain.train_dataloader


def test_options_change_what_it_sets():
    config = load_config(PLAIN, method='isw', options={'custom_hooks.1.trials': 2})
    assert config.custom_hooks[1] == dict(type='StatisticsPass', trials=2)


@pytest.mark.parametrize(
    ('method', 'says'),
    [
        ('mixstile', "no method 'mixstile'"),
        ('ibn_b+', "no method ''"),
    ],
)
def test_unknown_methods(method, says):
    with pytest.raises(ValueError, match=says):
        load_config(PLAIN, method=method)


def test_sweep_over_methods(tmp_path):
    data = tmp_path / 'data'
    miniature.write(data, ('gta5', 'cityscapes'), 2, 2, (64, 128), 0, 1)
    words = ['tools/sweep.py', PLAIN, '--methods', 'bn', 'fda+ibn_b', '--seeds', 0]
    words += ['--data-root', data, '--work-dir', tmp_path / 'out', '--no-gallery', '--cfg-options']
    words += ['train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'train_dataloader.num_workers=0']
    words += ['train_dataloader.batch_size=2', 'param_scheduler=[]']
    run(*words)
    found = sorted(path.parent.parent.name for path in tmp_path.rglob('*.record.json'))
    assert found == ['resnet18-bn', 'resnet18-fda+ibn_b']
    states = [
        torch.load(
            next(tmp_path.glob(f'out/miniature/{name}/seed-0/iter_2*.pth')), weights_only=False
        )
        for name in found
    ]
    assert states[0]['state_dict'].keys() != states[1]['state_dict'].keys()
    again = run(*words).stdout
    assert again.count('finished before') == 2 and 'fda+ibn_b, seed 0' in again
