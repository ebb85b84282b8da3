# Train and select on gta5's own splits; measure there and on the target, with no fine-tuning.
source = 'gta5:train-12388'
data_root = 'data'
crop_size = (512, 512)  # height, width
train_pipeline = [
    dict(type='LoadPhoto'),
    dict(type='LoadLabels'),
    dict(type='RandomResize', scale=(1024, 563), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
# Photos are at most 1024 wide, as in training. Labels keep their size; predictions get that size.
protocol = dict(photo=(1024, 1024), keep_ratio=True)
# Of MMSegmentation's `inference_model` and `MMSegInferencer`, for photos without labels; a
# measurement follows the protocol.
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='ResizePhoto', scale=(1024, 1024), keep_ratio=True),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    sampler=dict(type='PositionSampler'),
    dataset=dict(type='DomainDataset', domain=source, data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='CrossDomainDataset',
        domains=['gta5:val'],
        data_root=data_root,
        protocol=protocol,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='CrossDomainDataset',
        domains=['gta5:val', 'cityscapes:val'],
        data_root=data_root,
        protocol=protocol,
        pipeline=test_pipeline,
    ),
)
