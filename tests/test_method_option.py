"""`--method`: one config, trained by any method."""

import shutil

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import HOOKS, MODELS
from processes import ROOT, run
from test_resume import assert_same, interrupt

from ibnseg import miniature, weights
from ibnseg.measure import origin
from ibnseg.methods.others import OTHERS
from ibnseg.methods.passes import check_observed
from ibnseg.methods.segmentor import check_collected
from ibnseg.placement import METHODS, PLACEMENTS
from ibnseg.train import train as training
from ibnseg.train.config import load_config, parse_options

PLAIN = str(ROOT / 'configs' / 'miniature' / 'resnet18.py')
#: Those that are no layers and can be put into any config.
NAMED = [name for name, other in OTHERS.items() if other.by_name]
JOINED = ['ibn_b+mixstyle', 'fda+isw', 'advstyle+isw', 'ibn_b+swad', 'advstyle+ema+fda']


def build(config: Config):
    """The segmentor and hooks of a config, checked as a run checks them."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config.model)
    check_collected(model)
    check_observed(model, [HOOKS.build(dict(hook)) for hook in config.custom_hooks])
    return model


@pytest.mark.parametrize('method', [*METHODS, *NAMED, 'ibn_b', *JOINED])
def test_what_a_method_needs_comes_with_it(method):
    config = load_config(PLAIN, method=method)
    assert config.model_name == f'resnet18-{method}' and config.method == method
    names = [name for name in method.split('+') if name in METHODS | PLACEMENTS]
    others = [OTHERS[name] for name in method.split('+') if name in OTHERS]
    model = build(config)
    kinds = {type(module) for module in model.modules()}
    assert {put.layer for name in names for put in (PLACEMENTS | METHODS)[name]} <= kinds
    styles = [step for step in config.train_dataloader.dataset.pipeline if 'style' in step]
    assert [step['style'] for step in styles] == [o.style['style'] for o in others if o.style]
    assert all(dict(o.hook) in config.custom_hooks for o in others if o.hook)
    for other in others:
        assert other.segmentor.items() <= dict(config.model).items()
    assert origin.method(config) == method


@pytest.mark.parametrize('name', [*METHODS, *NAMED])
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
    for name in NAMED:
        other = load_config(str(ROOT / 'configs' / 'methods' / f'{name}.py'), method='bn')
        assert other.train_dataloader == plain.train_dataloader, name
        assert other.model == plain.model and other.custom_hooks == plain.custom_hooks, name


def test_an_average_of_the_configs_own_stays(tmp_path):
    own = tmp_path / 'own.py'
    ema = dict(type='EMAHook', momentum=0.1)
    own.write_text(f"_base_ = '{PLAIN}'\ncustom_hooks = [{ema!r}]\n")
    assert load_config(str(own), method='isw').custom_hooks[0] == ema
    assert load_config(str(own), method='ema').custom_hooks == [dict(OTHERS['ema'].hook)]
    with pytest.raises(ValueError, match='SWAD and EMAHook would each report an average'):
        load_config(str(own), method='swad')


@pytest.mark.parametrize('adapter', ['rein', 'soma'])
def test_adapters_keep_their_network(adapter):
    config = str(ROOT / 'configs' / 'foundation' / f'{adapter}.py')
    found = load_config(config, method='fda+ema')
    assert found.method == f'{adapter}+fda+ema' and found.model_name == f'{adapter}-fda+ema'
    assert found.model.backbone == load_config(config).model.backbone
    with pytest.raises(ValueError, match='FrozenViT, which has no places for the layers of isw'):
        load_config(config, method='fda+isw')


def test_options_change_what_it_sets():
    config = load_config(PLAIN, method='isw', options={'custom_hooks.1.trials': 2})
    assert config.custom_hooks[1] == dict(type='StatisticsPass', trials=2)


@pytest.mark.parametrize(
    ('method', 'says'),
    [
        ('mixstile', "no method 'mixstile'"),
        ('ibn_b+', "no method ''"),
        ('swa', r"no method 'swa' \(did you mean 'swad'\?\)"),
        ('rein', r'needs model.backbone.type=.FrozenViT.*Take configs/foundation/rein.py'),
        ('fda+soma', 'soma cannot be put .* Take configs/foundation/soma.py'),
        ('average', 'Take ibnseg weights average'),
        ('fda+fda', 'named twice'),
        ('swad+ema', 'SWAD and EMAHook would each report an average'),
        ('ibn_b+isw', 'InstanceNorm and ISW would stand at one site, stem'),
        ('ibn_a+ibn_a_stage1', 'IBN and IBN would stand at one site, norm1'),
        ('advstyle+shade', 'need SHADESegmentor and AdvStyleSegmentor'),
    ],
)
def test_unknown_methods(method, says):
    with pytest.raises(ValueError, match=says):
        load_config(PLAIN, method=method)


SHORT = ['train_cfg.max_iters=3', 'train_cfg.val_interval=3', 'train_dataloader.num_workers=0']
SHORT += ['train_dataloader.batch_size=2', 'param_scheduler=[]', 'val_dataloader.num_workers=0']


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp('worlds') / 'data'
    miniature.write(out, ('gta5', 'cityscapes'), 4, 2, (64, 128), 0, 1)
    return out


@pytest.mark.parametrize('method', ['swad+ibn_b', 'advstyle+ema'])
def test_a_resumed_run_of_a_method_is_the_run(method, data, tmp_path):
    def train(folder, **options):
        pairs = [*SHORT, 'default_hooks.checkpoint.interval=1', 'default_hooks.checkpoint.keep=9']
        pairs += ['custom_hooks.1.batches=2'] if 'swad' in method else []
        found = load_config(
            PLAIN, work_dir=str(folder), data_root=str(data), method=method,
            options=parse_options(pairs),
        )  # fmt: skip
        found.experiment_name = f'{method} {folder.name} {options}'
        with DefaultScope.overwrite_default_scope('mmseg'):
            return training.train(found, show=False, **options)

    record = train(tmp_path / 'run')
    assert record.provenance['method'] == method and record.model == f'resnet18-{method}'
    last = weights.read(tmp_path / 'run' / 'iter_3.pth')
    copied = shutil.copytree(tmp_path / 'run', tmp_path / 'copied')
    interrupt(copied, 1)
    train(copied, resume=True)
    assert_same(weights.read(copied / 'iter_3.pth'), last)
    with pytest.raises(ValueError, match='begun'):
        training.train(
            load_config(PLAIN, work_dir=str(copied), data_root=str(data), method='ibn_a',
                        options=parse_options(SHORT)),
            show=False, resume=True,
        )  # fmt: skip


def test_sweep_over_methods(data, tmp_path):
    words = ['tools/sweep.py', PLAIN, '--methods', 'bn', 'fda+ibn_b+swad', '--seeds', 0]
    words += ['--data-root', data, '--work-dir', tmp_path / 'out', '--no-gallery', '--cfg-options']
    run(*words, *SHORT)
    found = sorted(path.parent.parent.name for path in tmp_path.rglob('*.record.json'))
    assert found == ['resnet18-bn', 'resnet18-fda+ibn_b+swad']
    states = [
        weights.read(next(tmp_path.glob(f'out/miniature/{name}/seed-0/iter_3*.pth')))
        for name in found
    ]
    keys = [state['state_dict'].keys() for state in states]
    assert keys[0] != keys[1] and ['swad' in state for state in states] == [False, True]
    again = run(*words, *SHORT).stdout
    assert again.count('finished before') == 2 and 'fda+ibn_b+swad, seed 0' in again
    report = (tmp_path / 'out' / 'report' / 'report.md').read_text()
    assert all(f'| {name} | 1 |' in report for name in found)
