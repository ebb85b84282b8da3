"""Which settings of a training make its result another one."""

from pathlib import Path

import pytest

from ibnseg import disk
from ibnseg.train import settings
from ibnseg.train.config import load_config, parse_options

CONFIG = Path(__file__).parents[1] / 'configs/miniature/ibn_b.py'


def of(*words, **kwargs):
    return settings.of(load_config(CONFIG, options=parse_options(words), **kwargs))


def differing(one, other):
    return {key for key in one | other if one.get(key) != other.get(key)}


@pytest.mark.parametrize(
    ('word', 'keys'),
    [
        ('train_cfg.max_iters=8', {'train_cfg.max_iters'}),
        ('optim_wrapper.optimizer.lr=0.5', {'optim_wrapper.optimizer.lr'}),
        ('optim_wrapper.accumulative_counts=2', {'optim_wrapper.accumulative_counts'}),
        ('param_scheduler.1.power=2', {'param_scheduler.1.power'}),
        ('train_dataloader.batch_size=2', {'train_dataloader.batch_size'}),
        (
            'train_dataloader.dataset.pipeline.2.ratio_range=(0.5,2)',
            {'train_dataloader.dataset.pipeline.2.ratio_range'},
        ),
        ('train_dataloader.sampler.type=X', {'train_dataloader.sampler.type'}),
        ('model.backbone.placement=ibn_a', {'model.backbone.placement'}),
        ('val_dataloader.dataset.domains=[gta5:test]', {'val_dataloader.dataset.domains'}),
        ('load_from=x.pth', {'load_from'}),
        ('custom_hooks.0.type=EMAHook', {'custom_hooks', 'custom_hooks.0.type'}),
    ],
)
def test_what_decides_a_result_is_in(word, keys):
    assert differing(of(), of(word)) == keys


@pytest.mark.parametrize(
    'words',
    [
        ['work_dir=elsewhere', 'randomness.seed=3', 'train_dataloader.sampler.seed=3'],
        ['train_dataloader.num_workers=7', 'val_dataloader.num_workers=0', 'log_level=ERROR'],
        ['test_dataloader.dataset.domains=[gta5]', 'default_hooks.checkpoint.interval=7'],
        ['train_dataloader.dataset.data_root=x', 'val_dataloader.dataset.data_root=x'],
        ['custom_hooks=[]', 'compile_backbone=True', 'protocol=hrda-1024'],
    ],
)
def test_what_does_not_is_not(words):
    assert of(*words) == of()
    assert of(*words, data_root='d', work_dir='w', skip_lists=['s'], name='n') == of()


def test_amp_is_in():
    assert differing(of(), of() | settings.of(load_config(CONFIG, amp=True))) == {
        'optim_wrapper.type'
    }


def test_weight_files_are_named_by_their_content(tmp_path):
    for folder, content in (('a', b'1'), ('b', b'1'), ('c', b'2')):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'w.pth').write_bytes(content)
    one, same, other = (of(f'load_from={tmp_path / name}/w.pth') for name in 'abc')
    assert one == same and differing(one, other) == {'load_from'}
    assert one['load_from'] == f'sha256 {disk.sha256(tmp_path / "a/w.pth")[:8]}'
    init = f'model.backbone.init_cfg.checkpoint={tmp_path}/a/w.pth'
    assert of(init)['model.backbone.init_cfg.checkpoint'] == one['load_from']


def test_all_values_are_plain():
    for path in CONFIG.parents[1].glob('*_gta5_to_cityscapes.py'):
        for value in settings.of(load_config(path)).values():
            values = value if isinstance(value, list) else [value]
            assert all(v is None or type(v) in (bool, int, float, str) for v in values), value
