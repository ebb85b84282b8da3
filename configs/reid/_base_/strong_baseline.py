# Bag of tricks (Luo et al., CVPRW 2019), without its centre loss: last stride 1, 256 x 128, BNNeck,
# triplet + smoothed classification, 16 people x 4 photos, Adam 3.5e-4 warmed up for 10 epochs.
_base_ = ['mmdet::_base_/default_runtime.py']
custom_imports = dict(imports=['ibnseg', 'ibnseg.plugins.reid'], allow_failed_imports=False)
model = dict(
    type='BaseReID',
    data_preprocessor=dict(
        type='ReIDDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(
        type='mmseg.IBNResNet',
        depth=50,
        strides=(1, 2, 2, 1),
        out_indices=(3,),
        placement='ibn_a',
        init_cfg=dict(type='Pretrained', checkpoint='ibn://resnet50_ibn_a'),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='BNNeckHead', in_channels=2048, num_classes=751),
)

data_root = 'data'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 256), keep_ratio=False),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmpretrain.RandomCrop', crop_size=(256, 128), padding=10),
    # Of the image as it was read, BGR: the mean.
    dict(type='mmpretrain.RandomErasing', erase_prob=0.5, fill_color=(103.53, 116.28, 123.675)),
    dict(type='PackPerson'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 256), keep_ratio=False),
    dict(type='PackPerson'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='IdentityBatchSampler', photos=4),
    dataset=dict(type='Market1501', split='train', data_root=data_root, pipeline=train_pipeline),
)
test_dataloader = dict(
    batch_size=128,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Market1501', split='test', data_root=data_root, pipeline=test_pipeline),
)
# Neither dataset has a validation split: what is seen here selects nothing.
val_dataloader = test_dataloader
val_evaluator = dict(type='CrossCameraRanking')
test_evaluator = val_evaluator

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=3.5e-4, weight_decay=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=10, by_epoch=True),
    dict(type='MultiStepLR', milestones=[40, 70], gamma=0.1, by_epoch=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=120, val_interval=40)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
