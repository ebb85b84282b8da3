"""tools/run.py train --resume: each changed option is applied, or refused by name."""

import pytest
from mmengine.config import Config

from ibnseg.train import resume, settings

BEGUN = dict(
    default_scope='mmpretrain',
    model=dict(type='ImageClassifier', backbone=dict(depth=18)),
    train_dataloader=dict(batch_size=8, num_workers=2, dataset=dict(data_root='DATA')),
    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
    param_scheduler=dict(type='MultiStepLR', milestones=[1]),
    train_cfg=dict(max_epochs=4),
    val_dataloader=dict(batch_size=8),
)
META = dict(epoch=2, iter=20)


def check(changed, schedule=None, begun=BEGUN):
    config = Config(dict(begun, **(dict(param_scheduler=schedule) if schedule else {})))
    meta = dict(META, trained=dict(settings=dict(settings.of_plain(config), world_size=1)))
    config.merge_from_dict(changed)
    stated = dict(settings.of_plain(config), world_size=changed.get('world_size', 1))
    resume.check_plain(config, 'epoch_2.pth', meta, stated)


@pytest.mark.parametrize(
    ('changed', 'said'),
    [
        ({'optim_wrapper.optimizer.lr': 0.01}, 'optim_wrapper.optimizer.lr: 0.1, now 0.01'),
        ({'optim_wrapper.clip_grad': dict(max_norm=1)}, 'clip_grad.max_norm: not given, now 1'),
        ({'train_dataloader.batch_size': 4}, 'train_dataloader.batch_size: 8, now 4'),
        ({'model.backbone.depth': 50}, 'model.backbone.depth: 18, now 50'),
        ({'param_scheduler.milestones': [2]}, r'param_scheduler.milestones: \[1\], now \[2\]'),
        ({'custom_hooks': [dict(type='EMAHook')]}, 'custom_hooks.0.type: not given, now EMAHook'),
        ({'world_size': 2}, 'world_size: 1, now 2'),
        ({'train_cfg.max_epochs': 1}, 'train_cfg.max_epochs=1: .* has 2 epochs'),
    ],
)
def test_a_change_is_refused_by_name(changed, said):
    with pytest.raises(ValueError, match=rf'epoch_2.pth.*{said}|{said}'):
        check(changed)


@pytest.mark.parametrize(
    'changed',
    [
        {},
        {'train_cfg.max_epochs': 9},
        {'train_cfg.max_epochs': 3},
        {'train_cfg.val_interval': 2},
        {'train_dataloader.num_workers': 0},
        {'val_dataloader.batch_size': 1},
        {'train_dataloader.batch_size': 4, 'world_size': 2},
    ],
)
def test_what_leads_to_the_same_run_goes_on(changed):
    check(changed)


@pytest.mark.parametrize(
    ('schedule', 'goes_on'),
    [
        (dict(type='CosineAnnealingLR', T_max=4), False),
        (dict(type='CosineAnnealingLR', T_max=4, begin=5), True),
        (dict(type='PolyLR', end=4), False),
        (dict(type='PolyLR', end=2), True),
        (dict(type='PolyLR', end=40, by_epoch=False), False),
        ([dict(type='LinearLR', end=500, by_epoch=False), dict(type='StepLR', step_size=1)], True),
        ([dict(type='LinearLR', end=500, by_epoch=False), dict(type='PolyLR', end=4)], False),
    ],
)
def test_a_run_becomes_longer_where_its_schedule_reaches_so_far(schedule, goes_on):
    if goes_on:
        check({'train_cfg.max_epochs': 8}, schedule)
    else:
        with pytest.raises(ValueError, match='begun for 4 epochs, and its schedule ends at'):
            check({'train_cfg.max_epochs': 8}, schedule)


def test_a_checkpoint_of_an_older_version_goes_on():
    resume.check_plain(Config(BEGUN), 'epoch_2.pth', META, settings.of_plain(BEGUN))
