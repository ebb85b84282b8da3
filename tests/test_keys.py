"""A slip in a config or on the command line is refused, with the name that was meant."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from ibnseg._stack import StackError
from ibnseg.train import keys, parts
from ibnseg.train.config import load_config, parse_options

ROOT = Path(__file__).parents[1]
MINI = ROOT / 'configs/miniature/ibn_b.py'
LEAVES = sorted(
    path
    for path in (ROOT / 'configs').rglob('*.py')
    if not {'_base_', 'detection', 'foundation', 'imagenet', 'reid'} & set(path.parts)
)


def test_the_runners_keys_are_known():
    taken = set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}
    assert taken <= keys.RUNNER


@pytest.mark.parametrize('path', LEAVES, ids=lambda p: str(p.relative_to(ROOT / 'configs')))
def test_our_configs_pass_and_so_do_their_dumps(path, tmp_path):
    config = load_config(path)
    parts.check(config)
    config.dump(tmp_path / 'run.py')
    parts.check(load_config(tmp_path / 'run.py'))


def own(tmp_path, text, base=MINI):
    path = tmp_path / 'own.py'
    path.write_text(f'_base_ = {str(base)!r}\n{text}')
    return path


@pytest.mark.parametrize(
    'text',
    [
        'width = 8\nmodel = dict(backbone=dict(base_channels=width, stem_channels=width))',
        "norm_cfg = dict(type='GN', num_groups=2, requires_grad=True)\n"
        'model = dict(decode_head=dict(norm_cfg=norm_cfg))',
        "model = dict(backbone=dict(type='IBNResNeXt', depth=50, groups=32, with_cp=True))",
        "model = dict(backbone=dict(_delete_=True, type='ResNetV1c', depth=18, style='pytorch'))",
        "model = dict(decode_head=dict(sampler=dict(type='OHEMPixelSampler', thresh=0.7)))",
        "load_from = 'x.pth'\nfind_unused_parameters = True\nsync_bn = 'torch'",
        'randomness = dict(seed=3, deterministic=True)\nauto_scale_lr = dict(base_batch_size=16)',
        'train_pipeline = {{_base_.train_pipeline}}\n'
        'train_dataloader = dict(dataset=dict(pipeline=train_pipeline))',
        "_note = 'the second try'\nfor _ in range(2):\n    pass",
        "tta_pipeline = []\ntta_model = dict(type='SegTTAModel')",
        'optim_wrapper = dict(clip_grad=dict(_delete_=True, max_norm=35, norm_type=2),\n'
        "    accumulative_counts=2, paramwise_cfg=dict(custom_keys={'head': dict(lr_mult=10.0)}))",
        "custom_hooks = [dict(type='EMAHook', momentum=0.001, priority='NORMAL')]",
        'train_dataloader = dict(persistent_workers=True, pin_memory=True, prefetch_factor=3,\n'
        "    collate_fn=dict(type='pseudo_collate'))",
    ],
)
def test_what_runs_passes(text, tmp_path):
    parts.check(load_config(own(tmp_path, text)))


BESIDE_A_MODEL = 'datasets/gta5_to_cityscapes', 'schedules/miniature', 'default_runtime'


def test_a_base_of_mmseg_is_found(tmp_path):
    """By either distribution's name."""
    base = 'mmseg::_base_/models/fcn_r50-d8.py'
    path = tmp_path / 'own.py'
    ours = [f'{ROOT}/configs/_base_/{name}.py' for name in BESIDE_A_MODEL]
    path.write_text(f'_base_ = {[base, *ours]}')
    config = load_config(path)
    parts.check(config)
    assert config.model.backbone.type == 'ResNetV1c'


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ("_base_ = 'mmrotate::x/y.py'", 'mmrotate is not installed'),
        ("_base_ = 'mmxx::x/y.py'", 'cannot be read (AssertionError: mmengine does not support'),
        ('model = undefined', "cannot be read (NameError: name 'undefined' is not defined)"),
        ('model = dict(', "cannot be read (SyntaxError: '(' was never closed"),
        ('1 / 0', 'cannot be read (ZeroDivisionError: division by zero)'),
    ],
)
def test_a_file_that_cannot_be_read_is_named(text, said, tmp_path):
    path = tmp_path / 'own.py'
    path.write_text(text)
    with pytest.raises((ValueError, StackError)) as error:
        load_config(path)
    assert str(error.value).startswith(f'{path}: {said}') and '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ("modle = dict(type='EncoderDecoder')", "'modle' (did you mean model?)"),
        ('optimiser_wrapper = dict()', "'optimiser_wrapper' (did you mean optim_wrapper?)"),
        ('max_iters = 100', "'max_iters' (did you mean train_cfg.max_iters?)"),
        ('fp16 = dict(loss_scale=512.0)', "nothing reads 'fp16'"),
        ('train_pipeline = []', 'train_pipeline has no effect, since'),
        ("norm_cfg = dict(type='BN')", 'in the place of model.backbone.norm_cfg or'),
    ],
)
def test_a_name_that_nothing_reads_is_refused(text, said, tmp_path):
    path = own(tmp_path, text)
    with pytest.raises(ValueError) as error:
        load_config(path)
    assert f'{path}: ' in str(error.value) and said in str(error.value)


def test_a_slip_in_a_dumped_config_is_refused(tmp_path):
    load_config(MINI).dump(tmp_path / 'run.py')
    text = (tmp_path / 'run.py').read_text()
    (tmp_path / 'run.py').write_text(text + "\nload_form = 'x.pth'\n")
    with pytest.raises(ValueError, match=r"'load_form' .did you mean load_from"):
        load_config(tmp_path / 'run.py')


@pytest.mark.parametrize(
    ('option', 'said'),
    [
        ('max_iters=10', 'did you mean train_cfg.max_iters?'),
        ('train_dataloder.batch_size=1', 'did you mean train_dataloader.batch_size?'),
        ('lr=0.1', 'did you mean optim_wrapper.optimizer.lr?'),
        ('crop_size=(64,64)', 'Name train_dataloader.dataset.pipeline.3.crop_size'),
        ('optim_wrapper.clip_grad.max_norm=1', 'say also optim_wrapper.clip_grad._delete_=True'),
        ('param_scheduler.2.power=1', 'param_scheduler is a list of 2'),
        ('param_scheduler.first.power=1', "in the place of 'first'"),
        ('train_cfg.max_iters.of=3', 'train_cfg.max_iters is '),
        ('launcher=slurm', 'has no effect; say --launcher slurm'),
    ],
)
def test_an_option_that_names_nothing_is_refused(option, said):
    with pytest.raises(ValueError, match=r'^--cfg-options') as error:
        load_config(MINI, options=parse_options([option]))
    assert said in str(error.value)


def test_custom_imports_of_the_command_line_are_imported(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'imported_by_an_option.py').write_text('')
    load_config(MINI, options=parse_options(['custom_imports.imports=imported_by_an_option']))
    assert 'imported_by_an_option' in sys.modules
    with pytest.raises(ValueError, match=r'custom_imports is .*not_there'):
        load_config(MINI, options=parse_options(['custom_imports.imports=not_there']))


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['train_cfg.max_iter=1'], "PositionTrainLoop takes no 'max_iter' (did you mean 'max_it"),
        (['test_cfg.fp61=True'], "test_cfg.fp61: CrossDomainLoop takes no 'fp61'"),
        (['val_cfg.type=CrossDomainLop'], "no 'CrossDomainLop' is registered (did you mean 'Cros"),
        (['model.backbone.placment=ibn_a'], "IBNResNet takes no 'placment' (did you mean 'placem"),
        (['model.backbone.type=IBNResnet'], "(did you mean 'IBNResNet'?)"),
        (['model.decode_head.drop_ratio=0'], "FCNHead takes no 'drop_ratio'"),
        (['model.decode_heed.channels=3'], "EncoderDecoder takes no 'decode_heed'"),
        (['model.decode_head.loss_decode.loss_wieght=1'], "(did you mean 'loss_weight'?)"),
        (['model.test_cfg.mod=slide'], "takes no 'mod' (did you mean 'mode'?)"),
        (['model.data_preprocessor.pad_value=1'], "(did you mean 'pad_val'?)"),
        (['train_dataloader.batchsize=1'], "a dataloader takes no 'batchsize' (did you mean 'bat"),
        (['train_dataloader.dataset.fracton=0.5'], "DomainDataset takes no 'fracton'"),
        (
            ['train_dataloader.dataset.pipeline.4.probability=1'],
            "RandomFlip takes no 'probability'",
        ),
        (['train_dataloader.sampler.sed=1'], "PositionSampler takes no 'sed' (did you mean 'seed"),
        (['test_dataloader.dataset.protocl=native'], "(did you mean 'protocol'?)"),
        (['optim_wrapper.optimzer.lr=1'], "OptimWrapper takes no 'optimzer'"),
        (['optim_wrapper.optimizer.type=AdamW'], "AdamW takes no 'momentum'; it takes"),
        (['optim_wrapper.accumulative_count=2'], "(did you mean 'accumulative_counts'?)"),
        (['optim_wrapper.clip_grad=35'], 'optim_wrapper.clip_grad is 35; expected None, dict(max'),
        (
            [f'optim_wrapper.clip_grad.{key}' for key in ('_delete_=True', 'max_nrom=1')],
            "clipping by norm takes no 'max_nrom' (did you mean 'max_norm'?)",
        ),
        (
            [f'optim_wrapper.clip_grad.{key}' for key in ('_delete_=True', 'norm_type=1')],
            'expected max_norm in it',
        ),
        (['optim_wrapper.paramwise_cfg.custom_key=1'], "(did you mean 'custom_keys'?)"),
        (['param_scheduler.1.pwoer=1'], "PolyLR takes no 'pwoer' (did you mean 'power'?)"),
        (['default_hooks.checkpiont.type=AtomicCheckpointHook'], "(did you mean 'checkpoint'?)"),
        (['default_hooks.checkpoint.intervall=5'], "takes no 'intervall' (did you mean 'interval'"),
        (['custom_hooks.0.type=ProgresHook'], "(did you mean 'ProgressHook'?)"),
        (['val_evaluator.prefx=a'], "CrossDomainIoU takes no 'prefx'"),
        (['test_evaluator.type=IoUMetric'], "test_evaluator is 'IoUMetric'; expected 'CrossDomai"),
        (['env_cfg.cudnn_benchmrk=False'], "(did you mean 'cudnn_benchmark'?)"),
        (['env_cfg.mp_cfg.start_method=fork'], "(did you mean 'mp_start_method'?)"),
        (['randomness.sed=1'], "(did you mean 'seed'?)"),
    ],
)
def test_a_key_that_a_part_does_not_take_is_refused(options, said):
    config = load_config(MINI, options=parse_options(options))
    with pytest.raises(ValueError) as error:
        parts.check(config)
    assert said in str(error.value)


def test_options_of_kwargs_that_end_elsewhere_pass():
    class Base:
        def __init__(self, depth=1):
            pass

    class HandedOn(Base):
        def __init__(self, width=1, **kwargs):
            kwargs.setdefault('depth', 2)
            super().__init__(**kwargs)

    class Elsewhere(Base):
        def __init__(self, width=1, **kwargs):
            super().__init__()
            self.options = kwargs

    class Bare(Elsewhere):
        pass

    assert parts._taken(HandedOn) == {'width', 'depth'}
    assert parts._taken(Elsewhere) is parts._taken(Bare) is None


@pytest.mark.parametrize(
    ('loader', 'text'),
    [
        (
            'train_dataloader',
            "train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=10,\n"
            "    dataset=dict(type='DomainDataset', domain='gta5:train', data_root='data',\n"
            '    pipeline={{_base_.train_pipeline}})))',
        ),
        (
            'test_dataloader',
            "test_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset',\n"
            "    datasets=[dict(type='CrossDomainDataset', domains=['gta5:val'])]))",
        ),
    ],
)
def test_a_wrapped_dataset_is_refused(loader, text, tmp_path):
    with pytest.raises(ValueError, match=f'{loader}.dataset is .*not wrapped in another'):
        load_config(own(tmp_path, text))


def test_mmsegs_configs_pass():
    root = Path(sys.modules['mmseg'].__file__).parent / '.mim/configs'
    for path in sorted(root.glob('*/*r18*.py'))[:5] + sorted(root.glob('segformer/*b0*.py')):
        config = Config.fromfile(path)
        keys.check(path, config)
        parts.check(config)


def test_the_first_error_needs_no_torch():
    words = ["import sys", "sys.argv[1:] = ['train', sys.argv[1], '--cfg-options', 'max_iters=1']",
             'from tools import cli', 'code = cli.main()', "assert 'torch' not in sys.modules",
             'sys.exit(code)']  # fmt: skip
    done = subprocess.run(
        [sys.executable, '-c', '\n'.join(words), MINI], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count('\n')) == (2, 1), done.stderr
