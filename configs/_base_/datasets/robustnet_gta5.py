# RobustNet on GTA5: photos in their own size times 0.5 to 2, crops of 768, half of each epoch drawn
# uniformly over the classes; measured on five datasets by its protocol. Theirs resizes bicubically
# and pads a small photo all around, in black; here it is bilinear, right and below, in mean grey.
_base_ = './gta5_to_cityscapes.py'
protocol = 'robustnet-1536'
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='PackSegInputs'),
]  # in their own size
train_pipeline = [
    dict(type='LoadPhoto'),
    dict(type='LoadLabels'),
    dict(type='RandomScaleCrop', crop_size=(768, 768), ratio_range=(0.5, 2.0)),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, prob=0.5),
    dict(type='RandomGaussianBlur', sigma=(0.15, 1.3), prob=1.0),  # every photo, as in its code
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    sampler=dict(_delete_=True, type='ClassUniformSampler', fraction=0.5, tile=1024),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(protocol=dict(_delete_=True)))  # in their own size
test_dataloader = dict(
    dataset=dict(
        domains=['gta5:val', 'cityscapes:val', 'bdd100k:val', 'mapillary:val', 'synthia:val'],
        protocol=protocol,
        pipeline=test_pipeline,
    ),
)
