# The datasets of `tools/miniature.py`, at half their 512x256; labels keep their size.
_base_ = './gta5_to_cityscapes.py'
source = 'gta5:train'
crop_size = (128, 256)
train_pipeline = [
    dict(type='LoadPhoto'),
    dict(type='LoadLabels'),
    dict(type='RandomResize', scale=(256, 128), ratio_range=(1.0, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
protocol = dict(photo=(256, 128), keep_ratio=True)
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='ResizePhoto', scale=(256, 128), keep_ratio=True),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(domain=source, pipeline=train_pipeline),
)
val_dataloader = dict(num_workers=1, dataset=dict(protocol=protocol))
test_dataloader = dict(num_workers=1, dataset=dict(protocol=protocol, pipeline=test_pipeline))
