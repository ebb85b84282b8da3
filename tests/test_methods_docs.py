"""docs/methods.md runs, and `ibnseg methods` says what the rows are."""

import importlib
import json
import os
import subprocess
import sys

import pytest
import torch
from documented import DOCS, blocks
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from test_resume import data  # noqa: F401
from test_tools import TINY

from ibnseg import placement, weights
from ibnseg.backbones import IBNResNet
from ibnseg.methods import listing
from ibnseg.methods.others import OTHERS


def test_recording_in_plain_pytorch():
    (code,) = blocks('methods.md', 'What a layer may have')
    found = {}
    exec(code, found)
    assert found['net'].conv1.weight.grad.any() and found['loss'].isfinite()


def test_names_add_up_as_documented():
    (code,) = blocks('methods.md', 'Combine')
    found = {}
    exec(code, found)
    net = IBNResNet(18, **found['model']['backbone'])
    assert {'layer1.MixStyle', 'layer1.1.IN'} <= {name for name, _ in net.named_modules()}


def test_a_method_of_ones_own_trains(data, tmp_path):  # noqa: F811
    code, config = blocks('methods.md', 'Add your own in 30 lines')
    assert len([line for line in code.splitlines() if line.strip()]) <= 30
    root = DOCS.parent
    (tmp_path / 'my_module.py').write_text(code)
    path = tmp_path / 'random_scale.py'
    path.write_text(config.replace("'configs/", f"'{root}/configs/"))
    command = [sys.executable, root / 'tools' / 'train.py', path, '--data-root', data]
    command += ['--work-dir', tmp_path / 'run', '--cfg-options', *TINY]
    environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=f'{root}:{tmp_path}')
    subprocess.run(command, check=True, capture_output=True, env=environment)
    log = next((tmp_path / 'run').rglob('*.log')).read_text()
    assert 'loss_RandomScale' in log
    assert weights.read(tmp_path / 'run' / 'iter_4.pth')['meta']['iter'] == 4


def test_the_list_has_every_row(capsys):
    tool = importlib.import_module('tools.methods')
    assert tool.main([]) == 0
    text = capsys.readouterr().out
    for name, puts in placement.METHODS.items():
        assert f'{name} ' in text
        for put in puts:
            assert put.layer.paper in text
    for name, other in OTHERS.items():
        assert f'\n{name} ' in text and other.paper in text
    assert tool.main(['--format', 'json']) == 0
    assert json.loads(capsys.readouterr().out) == listing.rows()


def test_the_list_says_what_a_method_needs():
    rows = {row['name']: row for row in listing.rows()}
    assert rows['isw']['loss'] == {'ISW': 0.6}
    assert 'StatisticsPass' in rows['isw']['needs'] and 'SiteSegmentor' in rows['isw']['needs']
    assert rows['sw']['sites'] == ['stem', 'norm2 1, 2, 3 (blocks 2, 4, ...)']
    assert rows['iw']['sites'] == ['stem', 'after_add 1, 2 (last block)']
    assert rows['mixstyle']['training_only'] and not rows['iw']['training_only']


def test_the_list_has_every_config_of_a_method():
    listed = {row['config'] for row in listing.rows()}
    folders = [DOCS.parent / 'configs' / name for name in ('methods', 'foundation')]
    files = [path for folder in folders for path in folder.glob('*.py')]
    stems = {path: path.stem.removesuffix('_mask2former') for path in files}  # another head
    found = {f'configs/{path.parent.name}/{stem}.py' for path, stem in stems.items()}
    assert {name for name in listed if name.endswith('.py')} == found
    assert 'ibnseg weights average' in listed


@pytest.mark.parametrize('name', placement.METHODS)
def test_a_config_has_what_the_list_says_it_needs(name):
    row = next(row for row in listing.rows() if row['name'] == name)
    config = Config.fromfile(DOCS.parent / 'configs' / 'methods' / f'{name}.py')
    assert (config.model.type == 'EncoderDecoder') == (not row['loss'])
    for kind, weight in row['loss'].items():
        default = MODELS.get(config.model.type).__init__.__kwdefaults__
        given = config.model.get('site_loss') or default
        assert given[kind] == weight
    hooks = {hook['type'] for hook in config.custom_hooks}
    assert ('StatisticsPass' in hooks) == ('StatisticsPass' in row['needs'])
    with DefaultScope.overwrite_default_scope('mmseg'), torch.device('meta'):
        MODELS.build(dict(config.model.backbone, init_cfg=None))
