# The other direction of gta5_to_cityscapes.py: same geometry, batches and measurement.
_base_ = './gta5_to_cityscapes.py'
source = 'cityscapes:train'
train_pipeline = [
    dict(type='LoadPhoto'),
    dict(type='LoadLabels'),
    dict(type='RandomResize', scale=(1024, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(domain=source, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(domains=['cityscapes:val']))
test_dataloader = dict(dataset=dict(domains=['cityscapes:val', 'gta5:val']))
