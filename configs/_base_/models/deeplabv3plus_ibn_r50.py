# DeepLabV3+ (Chen et al., 2018), output stride 16 as RobustNet trains its ResNet-50.
_base_ = './deeplabv3_ibn_r50.py'
model = dict(
    backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    decode_head=dict(
        type='DepthwiseSeparableASPPHead',
        channels=256,
        dilations=(1, 6, 12, 18),
        c1_in_channels=256,
        c1_channels=48,
    ),
)
