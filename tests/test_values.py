"""A slip in a value of a config is one line that names the key, before anything is trained."""

from pathlib import Path

import pytest
import torch

from ibnseg.train import checks, parts
from ibnseg.train.config import load_config, parse_options
from ibnseg.train.runner import build

MINI = Path(__file__).parents[1] / 'configs/miniature/ibn_b.py'


def check(options, tmp_path):
    config = load_config(MINI, work_dir=str(tmp_path), options=parse_options(options.split()))
    checks.check_protocol(config)
    parts.check(config)
    checks.check_training(config)
    return config


SLIPS = {
    'train_cfg.max_iters=0': 'a whole number from 1 on',
    'train_cfg.max_iters=-5': 'a whole number from 1 on',
    'train_cfg.max_iters=many': 'a whole number from 1 on',
    'train_cfg.max_iters=None': 'a whole number from 1 on',
    'train_cfg.max_iters=2.5': 'a whole number from 1 on',
    'train_cfg.max_iters=[2]': 'a whole number from 1 on',
    'train_cfg.val_interval=0': 'a whole number from 1 on',
    'train_cfg.val_begin=x': 'a whole number from 0 on',
    'train_cfg=None': 'expected a dict',
    'train_dataloader.batch_size=0': 'a whole number from 1 on',
    'train_dataloader.batch_size=x': 'a whole number from 1 on',
    'train_dataloader.num_workers=-1': 'a whole number from 0 on',
    'val_dataloader.num_workers=1.5': 'a whole number from 0 on',
    'val_dataloader=None': 'expected a dict',
    'test_dataloader=None': 'expected a dict',
    'test_dataloader.dataset.domains=gta5': "is 'gta5'; expected a list",
    'test_dataloader.dataset.domains=None': 'expected a list',
    'val_evaluator=None': 'expected a dict',
    'test_cfg=None': 'expected a dict',
    'optim_wrapper=None': 'expected a dict',
    'optim_wrapper.optimizer=SGD': "is 'SGD'; expected a dict",
    'optim_wrapper.optimizer.lr=high': "is 'high'; expected a number",
    'optim_wrapper.optimizer.lr=None': 'is None; expected a number',
    'optim_wrapper.optimizer.lr=[0.1]': 'expected a number',
    'optim_wrapper.optimizer.type=AdamX': "did you mean 'Adamax'?",
    'optim_wrapper.optimizer.type=torch.optim.AdamX': "did you mean 'Adamax'?",
    'optim_wrapper.optimizer.type=3': 'expected the name of a type',
    'optim_wrapper.accumulative_counts=0': 'a whole number from 1 on',
    'param_scheduler=PolyLR': "expected a dict(type='...'), or a list of them",
    'param_scheduler.1.power=x': "is 'x'; expected a number",
    'param_scheduler.1.by_epoch=True': 'expected by_epoch=False',
    'custom_hooks=[1]': "expected a list: [dict(type='...')]",
    'custom_hooks.0.type=EMAHok': "did you mean 'EMAHook'?",
    'default_hooks.checkpoint.interval=0': 'a whole number from 1 on',
    'randomness=5': 'expected a dict',
    'randomness.seed=x': 'a whole number from 0 on',
    'load_from=5': 'expected a file or an address',
    'log_level=INF': "expected 'INFO'",
    'source=5': "expected 'name:split'",
    'protocol=nativ': "did you mean 'native'?",
    'protocol.photo=(0,0)': 'expected photo=(width, height)',
    'model=None': 'expected a dict',
    'model.backbone=None': 'expected a dict',
    'model.backbone.depth=x': 'expected a whole number',
    'model.backbone.base_channels=0': 'a whole number from 1 on',
    'model.backbone.init_cfg.checkpoint=x.pth': 'expected a type in it',
    'model.decode_head.type=FCNHed': "did you mean 'FCNHead'?",
    'model.decode_head.num_classes=18': 'num_classes=19',
    'model.decode_head.ignore_index=0': 'expected 255',
    'model.decode_head.ignore_index=None': 'expected 255',
    'model.decode_head.dropout_ratio=x': 'expected a number, as 0.1',
    'model.decode_head.align_corners=x': 'expected True or False, as False',
    'model.decode_head.loss_decode.type=CrossEntropyLos': "did you mean 'CrossEntropyLoss'?",
    'model.decode_head.loss_decode.loss_weight=None': 'expected a number, as 1.0',
    'model.decode_head.loss_decode.class_weight=5': 'a list of 19 numbers',
    'model.decode_head.in_index=9': 'the backbone gives 4 maps, 0 to 3',
    'model.decode_head.in_index=[0,-5]': 'the backbone gives 4 maps, 0 to 3',
    'sync_bn=x': "expected None, 'torch' or 'mmcv'",
    'find_unused_parameters=x': 'expected True or False',
    'model.decode_head.loss_decode=CrossEntropyLoss': "expected dict(type='...')",
    'model.data_preprocessor=None': 'expected a dict',
    'model.data_preprocessor.pad_val=x': 'expected a number',
    'model.data_preprocessor.mean=[1,2,3,4,5,6]': 'expected 3 numbers',
    'model.data_preprocessor.std=[1,2,x]': 'expected 3 numbers',
    'model.test_cfg.mode=wohle': "expected 'whole' or 'slide'",
    'model.test_cfg.mode=slide': "mode 'slide' expects (height, width)",
    'train_dataloader.dataset.pipeline.3.crop_size=x': 'expected a list or a whole number',
    'train_dataloader.dataset.pipeline.0.type=LoadPhto': "did you mean 'LoadPhoto'?",
    'train_dataloader.dataset.fraction=x': 'expected a number',
}


@pytest.mark.parametrize('slip', SLIPS)
def test_a_slip_is_named(slip, tmp_path):
    with pytest.raises(ValueError) as error:
        check(slip, tmp_path)
    message, key = str(error.value), slip.partition('=')[0]
    assert SLIPS[slip] in message and '\n' not in message
    if key not in ('train_cfg', 'protocol', 'protocol.photo'):
        assert key.split('.')[0] in message and key.split('.')[-1] in message


UNBUILT = {
    'model.backbone.depth=19': 'model.backbone (IBNResNet) cannot be built: KeyError: invalid dep',
    'model.backbone.norm_cfg.type=GN': 'model.backbone (IBNResNet) cannot be built: AssertionErr',
    'model.backbone.frozen_stages=9': 'model.backbone (IBNResNet) cannot be built',
    'model.decode_head.channels=65': 'model.decode_head (FCNHead) cannot be built: AssertionError',
    'model.decode_head.act_cfg.type=torch.nn.X': 'model.decode_head.act_cfg.type: there is no ',
    'default_hooks.logger.interval_exp_name=x': 'default_hooks.logger.interval_exp_name is ',
    'model.decode_head.norm_cfg.type=GN': 'model.decode_head (FCNHead) cannot be built',
}


@pytest.mark.parametrize('slip', UNBUILT)
def test_a_part_that_cannot_be_built_is_named(slip, tmp_path):
    with pytest.raises(ValueError) as error:
        build(check(slip, tmp_path))
    assert str(error.value).startswith(UNBUILT[slip]) and '\n' not in str(error.value)


def test_a_dict_as_text_is_refused():
    with pytest.raises(ValueError, match=r'^--cfg-options .* A dict is given by its keys'):
        parse_options(["model.test_cfg=dict(mode='slide',crop_size=x)"])


def test_one_kind_stands_for_its_likes():
    """Whole numbers for numbers, lists for tuples: what runs passes."""

    class Part:
        def __init__(self, a: int = 1, b: float = 1.0, c: tuple = (), d=0, e: str = 'x', f=None):
            pass

    from ibnseg.train.values import check_part

    good = dict(a=2.0, b=2, c=[1], d=(1, 2), e=512.0, f='x')
    check_part(Part, good | dict(d=None), 'part')
    for wrong in (dict(a=2.5), dict(b='x'), dict(c=1), dict(d='x'), dict(b=None)):
        with pytest.raises(ValueError, match=f'^part.{next(iter(wrong))} is '):
            check_part(Part, good | wrong, 'part')
    check_part(torch.optim.SGD, dict(lr=1, momentum=0), 'part')
