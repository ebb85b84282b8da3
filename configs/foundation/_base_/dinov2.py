# DINOv2-L, patches of 14 resized to 16, Rein's schedule (40,000 iterations of 4), light head.
_base_ = [
    '../../_base_/datasets/gta5_to_cityscapes.py',
    '../../_base_/default_runtime.py',
]
protocol = 'rein-half'
train_dataloader = dict(batch_size=4)
val_dataloader = dict(dataset=dict(protocol=protocol))
test_dataloader = dict(dataset=dict(protocol=protocol))
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),
    ),
    backbone=dict(
        type='FrozenViT',
        name='vit_large_patch14_dinov2',
        pretrained='dinov2_vitl14_pretrain.pth',
        options=dict(img_size=512, patch_size=16),
    ),
    neck=dict(type='Rescale', scales=(4, 2, 1, 0.5)),
    decode_head=dict(
        type='SegformerHead',
        in_channels=[1024, 1024, 1024, 1024],
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={
            'learnable_tokens': dict(decay_mult=0.0),
            'reins.scale': dict(decay_mult=0.0),
        },
    ),
    clip_grad=None,
)
param_scheduler = [
    dict(type='PolyLR', eta_min=0, power=0.9, begin=0, end=40000, by_epoch=False),
]
train_cfg = dict(type='PositionTrainLoop', max_iters=40000, val_interval=4000)
