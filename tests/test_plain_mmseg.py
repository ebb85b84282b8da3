"""MMSegmentation's own configs, with an IBN backbone, under `ibnseg train` and `ibnseg run`."""

import json
from pathlib import Path

import mmseg
import pytest
import torch
from PIL import Image
from processes import run

from ibnseg import domains, miniature, weights

FCN = next((Path(mmseg.__file__).parent / '.mim/configs/fcn').glob('fcn_r50-d8_4xb2-40k_city*.py'))
TINY = f"""
_base_ = {str(FCN)!r}
custom_imports = dict(imports=['ibnseg'])
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(type='IBNResNet', depth=18, placement='ibn_b', base_channels=8, stem_channels=8),
    decode_head=dict(in_channels=64, channels=8),
    auxiliary_head=None)
train_dataloader = dict(batch_size=2, num_workers=2)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = dict(num_workers=0, persistent_workers=False)
train_cfg = dict(max_iters=4, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2))
"""
SMALL = ['train_dataloader.dataset.pipeline.2.scale=(128,64)',
         'train_dataloader.dataset.pipeline.3.crop_size=(64,64)',
         *(f'{one}_dataloader.dataset.pipeline.1.scale=(128,64)' for one in ('val', 'test'))
         ]  # fmt: skip


@pytest.fixture(scope='module')
def here(tmp_path_factory):
    """A folder with tiny.py and data/cityscapes as MMSegmentation expects it."""
    here = tmp_path_factory.mktemp('plain')
    miniature.write(here / 'data', ('cityscapes',), 5, 2, (64, 128), 0, 1)
    for split in ('train', 'val'):
        for _, label in domains.find(f'cityscapes:{split}', here / 'data'):
            classes = Image.fromarray(domains.read_labels(label, 'cityscapes'))
            classes.save(str(label).replace('labelIds', 'labelTrainIds'))
    (here / 'tiny.py').write_text(TINY)
    return here


def ibnseg(here, *words, **kwargs):
    words = [*words, '--cfg-options', *SMALL, *kwargs.pop('options', ())]
    return run('-m', 'ibnseg', *words, cwd=here, **kwargs)


def test_a_run_is_measured_and_goes_on_exactly(here):
    done = ibnseg(here, 'train', 'tiny.py', '--work-dir', 'whole')
    assert "names no source: trained as MMSegmentation's own, without a record" in done.stdout
    assert 'validation at 4: aAcc ' in done.stdout and done.stderr == ''
    assert not list((here / 'whole').glob('*.record.json'))
    ibnseg(here, 'run', 'train', 'tiny.py', '--work-dir', 'half', options=['train_cfg.max_iters=2'])
    ibnseg(here, 'train', 'tiny.py', '--work-dir', 'half', '--resume')
    one, other = (weights.read(here / run / 'iter_4.pth') for run in ('whole', 'half'))
    for key, value in one['state_dict'].items():
        assert torch.equal(value, other['state_dict'][key]), key
    said = ibnseg(here, 'run', 'test', 'tiny.py', 'whole/iter_4.pth', '--work-dir', 'whole').stdout
    measured = json.loads((here / 'whole/test/metrics.json').read_text())['metrics']
    assert f'mIoU  {measured["mIoU"]:.4g}' in said
    validated = done.stdout.rpartition('validation at 4: ')[2].splitlines()[0]
    assert f'mIoU {measured["mIoU"]:.4g}' in validated


@pytest.mark.parametrize(
    ('words', 'options', 'said'),
    [
        (['train', 'tiny.py', '--amp'], [], '--amp: tiny.py names no source'),
        (['test', 'tiny.py', 'tiny.py'], [], 'ibnseg run train|test takes it as it is'),
        (
            ['train', 'tiny.py', '--work-dir', 'x'],
            ['train_cfg.dynamic_intervals=[(0,1)]'],
            'dynamic_intervals is ',
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line(here, words, options, said):
    done = ibnseg(here, *words, options=options, code=2)
    assert said in done.stderr and done.stderr.count('\n') == 1
