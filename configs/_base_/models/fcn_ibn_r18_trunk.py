# Stem to stage 3 of ResNet-18 (output stride 16), for small experiments from ImageNet weights.
_base_ = './fcn_ibn_r18.py'
model = dict(
    data_preprocessor=dict(size=(224, 288)),
    backbone=dict(
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(0, 1, 2),
        init_cfg=dict(type='Pretrained', checkpoint='ibn://resnet18'),
    ),
    decode_head=dict(in_channels=256, channels=256, in_index=2),
)
