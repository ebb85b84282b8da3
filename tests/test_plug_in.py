"""docs/plug-in.md: what it says of plain PyTorch and MMSegmentation runs as it stands there."""

import torch
from documented import blocks
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS

from ibnseg.backbones import IBNResNet
from ibnseg.norms import InstanceNorm


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
    (block,) = blocks('plug-in.md', 'MMSegmentation')
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
