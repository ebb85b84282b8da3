"""Prediction's fast path against `test_step`, for MMSegmentation's backbones and heads.

Those that need compiled operators, mmdet, timm or weights to be built are left out.
"""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from test_predict import agreement, batch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ibnseg.measure.predict import Predictor, for_inference

BN = dict(type='BN')
SMALL = dict(depth=18, base_channels=8, stem_channels=8)
VIT = dict(img_size=(64, 96), embed_dims=16, num_layers=4, num_heads=2, out_indices=(0, 1))
STDC = dict(
    stdc_type='STDCNet1', in_channels=3, channels=(4, 8, 16, 32, 1024), bottleneck_type='cat',
    num_convs=4, norm_cfg=BN, act_cfg=dict(type='ReLU'), with_final_conv=True,
)  # fmt: skip


def hrnet(*widths: int) -> dict:
    blocks = ('BOTTLENECK', 'BASIC', 'BASIC', 'BASIC')
    return {
        f'stage{n}': dict(
            num_modules=1, num_branches=n, block=block, num_blocks=(1,) * n, num_channels=widths[:n]
        )
        for n, block in enumerate(blocks, 1)
    }


#: Name in the registry, or 'name: how' -> arguments.
BACKBONES = {
    'ResNet': SMALL,
    'ResNet: ConvWS': SMALL | dict(conv_cfg=dict(type='ConvWS')),
    'ResNet: ConvAWS': SMALL | dict(conv_cfg=dict(type='ConvAWS')),
    'ResNet: deep stem': SMALL | dict(deep_stem=True, avg_down=True),
    'ResNet: stride 8': SMALL | dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    'ResNetV1c': SMALL,
    'ResNetV1d': SMALL,
    'ResNeXt': dict(depth=50, groups=4, base_width=2, base_channels=8, stem_channels=8),
    'ResNeSt': dict(depth=50, base_channels=8, stem_channels=8, radix=2),
    'IBNResNet': SMALL | dict(placement='ibn_a'),
    'IBNResNet: ConvAWS': SMALL | dict(placement='ibn_b', conv_cfg=dict(type='ConvAWS')),
    'IBNSEResNet': SMALL | dict(placement='ibn_d'),
    'IBNDenseNet': dict(depth=121, growth=4, stem_channels=8, placement='ibn_a'),
    'HRNet': dict(extra=hrnet(8, 8, 16, 16)),
    'MobileNetV2': dict(widen_factor=0.25, out_indices=(1, 2, 4, 6)),
    'MobileNetV3': dict(arch='small', out_indices=(0, 1, 12)),
    'CGNet': dict(num_channels=(8, 16, 32), num_blocks=(2, 2)),
    'ERFNet': {},
    'FastSCNN': dict(
        downsample_dw_channels=(8, 8), global_in_channels=16,
        global_block_channels=(16, 16, 16), global_out_channels=16, higher_in_channels=16,
        lower_in_channels=16, fusion_out_channels=16, out_indices=(0, 1, 2),
    ),
    'UNet': dict(base_channels=4),
    'UNet: DeconvModule': dict(base_channels=4, upsample_cfg=dict(type='DeconvModule')),
    'BiSeNetV1': dict(
        backbone_cfg=dict(type='ResNet', **SMALL), spatial_channels=(8, 8, 8, 16),
        context_channels=(16, 32, 64), out_channels=32,
    ),
    'BiSeNetV2': dict(
        detail_channels=(8, 8, 16), semantic_channels=(4, 8, 8, 16), bga_channels=16,
    ),
    'STDCNet': STDC,
    'STDCContextPathNet': dict(
        backbone_cfg=dict(type='STDCNet', **STDC), last_in_channels=(1024, 32), out_channels=16,
        ffm_cfg=dict(in_channels=32, out_channels=16, scale_factor=4),
    ),
    'ICNet': dict(
        backbone_cfg=dict(type='ResNetV1c', depth=18, base_channels=8, stem_channels=8),
        light_branch_middle_channels=4, psp_out_channels=16, out_channels=(8, 16, 16),
        layer_channels=(16, 64),
    ),
    'DDRNet': dict(channels=8, ppm_channels=8),
    'PIDNet': dict(channels=8, ppm_channels=8),
    'MixVisionTransformer': dict(embed_dims=8, num_layers=(1, 1, 1, 1)),
    'SwinTransformer': dict(embed_dims=12, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 4)),
    'PCPVT': dict(
        embed_dims=(8, 16, 32, 64), num_heads=(1, 2, 4, 8), mlp_ratios=(2, 2, 2, 2),
        depths=(1, 1, 1, 1), sr_ratios=(8, 4, 2, 1), norm_after_stage=True,
    ),
    'SVT': dict(
        strides=(4, 2, 2, 2), sr_ratios=(8, 4, 2, 1),
        embed_dims=(8, 16, 32, 64), num_heads=(1, 2, 4, 8), mlp_ratios=(2, 2, 2, 2),
        depths=(1, 1, 1, 1), windiow_sizes=(7, 7, 7, 7), norm_after_stage=True,
    ),
    'VisionTransformer': VIT,
    'VisionTransformer: tokens': VIT | dict(out_indices=(0, 1, 2, 3), output_cls_token=True),
    'BEiT': VIT | dict(qv_bias=True, init_values=0.1),
    'MAE': VIT | dict(init_values=0.1),
    'MSCAN': dict(embed_dims=(8, 16, 32, 64), depths=(1, 1, 1, 1), norm_cfg=BN),
}  # fmt: skip

POOLED = dict(in_channels=64, channels=8)
PYRAMID = dict(in_channels=(8, 16, 32, 64), in_index=(0, 1, 2, 3), channels=8)
LEVELS = dict(in_channels=(16, 16), in_index=(0, 1), channels=8)
KERNELS = dict(
    type='KernelUpdateHead', num_classes=5, num_ffn_fcs=2, num_heads=2, num_mask_fcs=1,
    feedforward_channels=16, in_channels=8, out_channels=8, dropout=0.0, conv_kernel_size=1,
    feat_transform_cfg=dict(conv_cfg=dict(type='Conv2d'), act_cfg=None),
    kernel_updator_cfg=dict(
        type='KernelUpdator', in_channels=8, feat_channels=8, out_channels=8,
        norm_cfg=dict(type='LN'),
    ),
)  # fmt: skip
#: Arguments of a head, and its `backbone` if that is not a small ResNet-18 of 8 to 64 channels.
HEADS = {
    'ANNHead': dict(in_channels=(32, 64), in_index=(2, 3), channels=8, project_channels=4),
    'APCHead': POOLED | dict(pool_scales=(1, 2)),
    'ASPPHead': POOLED | dict(dilations=(1, 2)),
    'DAHead': POOLED | dict(pam_channels=4),
    'DDRHead': dict(in_channels=32, channels=8, backbone='DDRNet'),
    'DMHead': POOLED | dict(filter_sizes=(1, 3)),
    'DNLHead': POOLED,
    'DPTHead': dict(
        in_channels=(16, 16, 16, 16), in_index=(0, 1, 2, 3), channels=8, embed_dims=16,
        post_process_channels=[8, 8, 8, 8], input_transform='multiple_select',
        backbone='VisionTransformer: tokens',
    ),
    'DepthwiseSeparableASPPHead': POOLED
    | dict(dilations=(1, 2), c1_in_channels=8, c1_channels=4),
    'DepthwiseSeparableFCNHead': POOLED,
    'EMAHead': POOLED | dict(ema_channels=8, num_bases=4, num_stages=2),
    'EncHead': PYRAMID | dict(num_codes=4),
    'FCNHead': POOLED,
    'FCNHead: align_corners': POOLED | dict(align_corners=True),
    'FCNHead: sampler': POOLED | dict(sampler=dict(type='OHEMPixelSampler', thresh=0.7)),
    'FCNHead: threshold': POOLED | dict(num_classes=2, out_channels=1, threshold=0.3),
    'FPNHead': PYRAMID | dict(feature_strides=(4, 8, 16, 32)),
    'GCHead': POOLED,
    'ISAHead': POOLED | dict(isa_channels=4, down_factor=(2, 2)),
    'IterativeDecodeHead': dict(
        num_stages=2, kernel_update_head=[KERNELS, KERNELS],
        kernel_generate_head=dict(
            type='FCNHead', in_index=3, num_classes=5, norm_cfg=BN, **POOLED
        ),
    ),
    'LRASPPHead': dict(
        in_channels=(8, 16, 64), in_index=(0, 1, 3), channels=8, branch_channels=(4, 8),
        input_transform='multiple_select', size=(416, 400),
        backbone='ResNet: stride 8',
    ),
    'LightHamHead': dict(
        in_channels=(16, 32, 64), in_index=(1, 2, 3), channels=8, ham_channels=8,
        ham_kwargs=dict(MD_R=4),
    ),
    'NLHead': POOLED,
    'PIDHead': dict(in_channels=32, channels=8, backbone='PIDNet'),
    'PSPHead': POOLED | dict(pool_scales=(1, 2, 3)),
    'SETRMLAHead': LEVELS | dict(mla_channels=4, backbone='VisionTransformer'),
    'SETRUPHead': dict(in_channels=16, in_index=1, channels=8, backbone='VisionTransformer'),
    'STDCHead': dict(in_channels=8, channels=8, in_index=0, boundary_threshold=0.1),
    'SegformerHead': PYRAMID,
    'SegmenterMaskTransformerHead': dict(
        in_channels=16, in_index=1, channels=8, num_layers=1, num_heads=2, embed_dims=16,
        norm_cfg=dict(type='LN'), backbone='VisionTransformer',
    ),
    'UPerHead': PYRAMID | dict(pool_scales=(1, 2, 3)),
}  # fmt: skip


def randomised(model: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if getattr(module, 'conv_seg', None) is not None:
            nn.init.normal_(module.conv_seg.weight, std=0.3)
    return model.eval()


def segmentor(backbone: str, head: dict | list, mode: str = 'whole') -> nn.Module:
    torch.manual_seed(0)
    kind = 'CascadeEncoderDecoder' if isinstance(head, list) else 'EncoderDecoder'
    network = dict(type=backbone.partition(':')[0], **BACKBONES[backbone])
    model = MODELS.build(
        dict(
            type=kind, backbone=network, decode_head=head,
            data_preprocessor=dict(
                type='SegDataPreProcessor', mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4]
            ),
            test_cfg=ConfigDict(mode=mode, crop_size=(64, 64), stride=(32, 32)),
            **(dict(num_stages=len(head)) if isinstance(head, list) else {}),
        )
    )  # fmt: skip
    return randomised(model)


def headed(name: str, mode: str = 'whole') -> nn.Module:
    own = dict(HEADS[name])
    backbone, _ = own.pop('backbone', 'ResNet'), own.pop('size', None)
    common = dict(in_index=3, num_classes=5, norm_cfg=BN)
    if name.startswith('IterativeDecodeHead'):
        common = {}
    return segmentor(backbone, common | dict(type=name.partition(':')[0]) | own, mode)


def check(model: nn.Module, size: tuple[int, int] = (64, 96)) -> None:
    """The fast copy's logits in float64, and the label maps in float32 and float64."""
    data = batch((size, size), ((100, 150), size))
    torch.manual_seed(2)
    assert agreement(model, data, seed=3) > 0.999
    if 'LightHam' in type(model.decode_head).__name__:
        return  # it draws its bases in float32
    double = model.double()
    assert agreement(double, data, seed=3) == 1
    fast = for_inference(double)
    if fast is double:
        return
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        logits = []
        for network in (double, fast):
            torch.manual_seed(3)
            logits.append(network(images))
    logits = [x[0] if isinstance(x, (tuple, list)) else x for x in logits]
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-9, atol=1e-9)
    assert logits[0].std() > 1e-3


def some(table: dict, fast: set[str]) -> list:
    """All names, the sample's as fast tests."""
    return [n if n in fast else pytest.param(n, marks=pytest.mark.slow) for n in table]


BACKBONE_SAMPLE = {'ResNet: ConvAWS', 'IBNSEResNet', 'BiSeNetV2', 'MixVisionTransformer'}
HEAD_SAMPLE = {
    'EncHead', 'FCNHead: align_corners', 'FCNHead: sampler', 'FCNHead: threshold',
    'IterativeDecodeHead', 'LightHamHead', 'UPerHead',
}  # fmt: skip


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.mark.parametrize('name', some(BACKBONES, BACKBONE_SAMPLE))
def test_backbones(name):
    network = MODELS.build(dict(type=name.partition(':')[0], **BACKBONES[name]))
    network.eval()
    maps = network(torch.randn(2, 3, 64, 96))
    alone = not isinstance(maps, (tuple, list))
    last = maps if alone else maps[-1]
    if 'tokens' in name:
        pytest.skip('of DPTHead alone')
    head = dict(
        type='DDRHead' if alone else 'FCNHead', in_channels=last.shape[1], channels=8,
        in_index=0 if alone else len(maps) - 1, num_classes=5, norm_cfg=BN,
    )  # fmt: skip
    model = segmentor(name, head)
    # Those two convolutions take no channels_last; those two networks but one size.
    own = 'ConvWS' in name or 'ConvAWS' in name or name in ('BEiT', 'MAE')
    assert Predictor(model).is_fast == (not own)
    check(model)


@pytest.mark.parametrize('name', some(HEADS, HEAD_SAMPLE))
def test_heads(name):
    model = headed(name)
    check(model, HEADS[name].get('size', (64, 96)))


@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_a_cascade_takes_its_own_way(mode):
    common = dict(in_index=3, num_classes=5, norm_cfg=BN) | POOLED
    heads = [dict(type='FCNHead', **common), dict(type='OCRHead', ocr_channels=4, **common)]
    model = segmentor('ResNet', heads, mode)
    assert not Predictor(model).is_fast
    check(model)


@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_which_are_fast(mode):
    fast = {name for name in HEADS if Predictor(headed(name, mode)).is_fast}
    own = {name for name in HEADS if ':' in name and 'sampler' not in name}
    # Their own `predict`; a window larger than the dry run's maps; no channels_last.
    assert set(HEADS) - fast == own | {'DAHead', 'EncHead', 'LRASPPHead', 'DMHead'}
