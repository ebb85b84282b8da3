"""docs/plug-in.md: what it says of plain PyTorch and MMSegmentation runs as it stands there."""

import re
from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch
from documented import DOCS, blocks
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmseg.apis import init_model
from mmseg.registry import MODELS
from PIL import Image

from ibnseg.backbones import IBNResNet
from ibnseg.errors import DataError
from ibnseg.norms import InstanceNorm
from ibnseg.pipeline.dataset import LoadLabels


def test_plain_pytorch(tmp_path, monkeypatch, capsys):
    (block,) = blocks('plug-in.md', 'Plain PyTorch')
    donor = IBNResNet(50, placement='ibn_a')
    state = dict(donor.state_dict(), **{'fc.weight': torch.ones(1), 'fc.bias': torch.ones(1)})
    torch.save(state, tmp_path / 'resnet50_ibn_a-d9d0bb7b.pth')
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(block, names)
    said = capsys.readouterr().out
    assert f'{len(donor.state_dict())} tensors loaded' in said
    assert '2 dropped (fc.weight, fc.bias)' in said
    strides = [(64 // m.shape[2], 128 // m.shape[3]) for m in names['maps']]
    assert strides == [(4, 4), (8, 8), (16, 16), (32, 32)]
    for key, tensor in donor.state_dict().items():
        assert torch.equal(tensor, names['backbone'].state_dict()[key]), key


def test_mmsegmentation(tmp_path):
    block, _ = blocks('plug-in.md', 'MMSegmentation')
    (tmp_path / 'lines.py').write_text(block)
    config = Config(
        dict(
            model=dict(
                type='EncoderDecoder',
                pretrained='open-mmlab://resnet50',
                backbone=dict(
                    type='ResNet', depth=50, dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1)
                ),
                decode_head=dict(
                    type='FCNHead', in_channels=2048, channels=8, num_classes=19, num_convs=1
                ),
            )
        )
    )
    config.merge_from_dict(Config.fromfile(tmp_path / 'lines.py').to_dict())
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config.model).eval()
    assert isinstance(model.backbone, IBNResNet)
    assert model.backbone.init_cfg['checkpoint'] == 'ibn://resnet50_ibn_b'
    assert sum(isinstance(m, InstanceNorm) for m in model.backbone.modules()) == 3  # variant b
    with torch.no_grad():
        assert model(torch.rand(1, 3, 32, 64)).shape == (1, 19, 4, 8)  # output stride 8


def test_photos_of_ones_own(tmp_path, monkeypatch):
    _, block = blocks('plug-in.md', 'MMSegmentation')
    base = DOCS.parent / 'configs' / '_base_'
    names = ('models/fcn_ibn_r18', 'datasets/miniature_gta5_to_cityscapes', 'default_runtime')
    (tmp_path / 'config.py').write_text(
        f'_base_ = {[f"{base}/{name}.py" for name in names]}\n'
        'model = dict(backbone=dict(base_channels=8, stem_channels=8),'
        'decode_head=dict(in_channels=64, channels=64))'
    )
    model = init_model(str(tmp_path / 'config.py'), device='cpu')
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    meta = dict(dataset_meta=dict(classes=list('abc'), palette=[[0, 0, 0]] * 3))
    state = dict(state_dict=model.state_dict(), meta=meta)
    torch.save(state, tmp_path / 'iter_40000.pth')
    photo = np.random.default_rng(0).integers(0, 256, (100, 150, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / 'photo.png')
    monkeypatch.chdir(tmp_path)
    names = {}
    first, second = block.rsplit('\n\n', 1)
    exec(first, names)
    one = names['labels']
    assert one.shape == (1, 100, 150) and one.unique().numel() > 1
    exec(second, names)
    assert np.array_equal(names['labels'], one[0])


@pytest.mark.parametrize(
    'given', [dict(seg_map_path='a.png'), dict(domain='gta5:val', label_space='gta5')]
)
def test_labels_that_nobody_can_read_are_refused(given):
    assert LoadLabels()(dict(img_path='a.jpg')) == dict(img_path='a.jpg')
    with pytest.raises(DataError, match=r'a\.jpg: LoadLabels got seg_map_path=.*label_space='):
        LoadLabels()(dict(img_path='a.jpg') | given)


#: Folder of MMSegmentation's configs -> why README's block cannot stand in its configs.
OTHERWISE = {
    'bisenetv1': 'its backbone is BiSeNetV1, around a ResNet',
    'ccnet': 'needs compiled ops of mmcv',
    'icnet': 'its backbone is ICNet, around a ResNet',
    'mask2former': 'needs mmdet',
    'maskformer': 'needs mmdet',
    'point_rend': 'needs compiled ops of mmcv',
    'psanet': 'needs compiled ops of mmcv',
}
CONFIGS = {
    folder.name: min(folder.glob('*r50*cityscapes*.py'))
    for folder in sorted(Path(mmseg.__file__).parent.glob('.mim/configs/*/'))
    if folder.name not in OTHERWISE and any(folder.glob('*r50*cityscapes*.py'))
}


def test_there_are_a_dozen_of_mmsegmentations_configs():
    assert len(CONFIGS) >= 12


@pytest.mark.parametrize('name', CONFIGS)
def test_readmes_block_stands_in_mmsegmentations_configs(tmp_path, name):
    text = (DOCS.parent / 'README.md').read_text(encoding='utf-8')
    (block,) = re.findall(r'```python\n(custom_imports.*?)```', text, re.DOTALL)
    (tmp_path / 'mine.py').write_text(f'_base_ = {str(CONFIGS[name])!r}\n{block}')
    config = Config.fromfile(tmp_path / 'mine.py')
    assert config.model.backbone.init_cfg['checkpoint'] == 'ibn://resnet50_ibn_b'
    config.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = revert_sync_batchnorm(MODELS.build(config.model)).eval()
    assert isinstance(model.backbone, IBNResNet)
    assert sum(isinstance(m, InstanceNorm) for m in model.backbone.modules()) == 3
    with torch.no_grad():
        made = model(torch.rand(1, 3, 64, 128))
    assert (
        made if isinstance(made, torch.Tensor) else made[0 if isinstance(made, tuple) else -1]
    ).shape[:2] == (1, 19)
