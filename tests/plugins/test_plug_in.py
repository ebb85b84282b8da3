"""docs/plug-in.md: what it says of MMDetection runs as it stands there."""

import shlex

import pytest
import torch
from documented import blocks
from mmengine.config import Config
from mmengine.registry import DefaultScope

from .processes import ROOT, begun, need

need('mmdet', 'mmcv.ops', 'mmpretrain', 'torchvision')

from ibnseg_tools import run as tool  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.utils import register_all_modules  # noqa: E402

from ibnseg.backbones import IBNResNet  # noqa: E402

COMMANDS = [
    line
    for section in ('MMDetection', 'Re-identification')
    for block in blocks('plug-in.md', section, 'bash')
    for line in block.splitlines()
]


def build(section, tmp_path):
    (block,) = blocks('plug-in.md', section)
    (tmp_path / 'lines.py').write_text(block)
    config = Config.fromfile(tmp_path / 'lines.py')
    register_all_modules()
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config.model)
    assert isinstance(model.backbone, IBNResNet)
    return model.eval()


def test_detection(tmp_path):
    model = build('MMDetection', tmp_path)
    assert model.backbone.init_cfg['checkpoint'] == 'ibn://resnet50_ibn_b'
    meta = dict(img_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0))
    with torch.no_grad():
        (found,) = model.predict(torch.rand(1, 3, 64, 64), [DetDataSample(metainfo=meta)])
    assert found.pred_instances.bboxes.shape[1] == 4


def test_reid(tmp_path):
    model = build('Re-identification', tmp_path)
    assert model.backbone.init_cfg['checkpoint'] == 'ibn://resnet50_ibn_a'
    assert model.init_cfg is None
    with torch.no_grad():
        (found,) = model(torch.rand(1, 3, 256, 128), mode='predict')
    assert found.pred_feature.shape == (128,)


@pytest.mark.parametrize('line', COMMANDS)
def test_commands_go_as_far_as_the_data(line, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    program, command, *words = shlex.split(line)
    assert (program, command) == ('ibnseg', 'run')
    words[words.index('--data-root') + 1] = str(tmp_path / 'absent')
    if '--resume' in words or 'CHECKPOINT' in words:
        torch.save(begun(), tmp_path / 'epoch_1.pth')
    words = [str(tmp_path / 'epoch_1.pth') if w == 'CHECKPOINT' else w for w in words]
    assert tool.main([*words, '--work-dir', str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert 'Traceback' not in error
    assert ('does not fit the model' if 'test' in words else f'{tmp_path}/absent') in error
