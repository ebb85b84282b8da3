# Two day drives -> another day drive (near) and dusk (far). The official splits mix the drives, so
# selection takes the source drive's frames of the official val split.
_base_ = './gta5_to_cityscapes.py'
source = 'camvid:train/0006R0+0016E5'
crop_size = (224, 288)
train_pipeline = [
    dict(type='LoadPhoto'),
    dict(type='LoadLabels'),
    dict(type='RandomResize', scale=(480, 360), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
protocol = dict(_delete_=True)  # photos in their own size
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8, num_workers=1, dataset=dict(domain=source, pipeline=train_pipeline)
)
val_dataloader = dict(num_workers=1, dataset=dict(domains=['camvid:val/0016E5'], protocol=protocol))
test_dataloader = dict(
    num_workers=1,
    dataset=dict(
        domains=['camvid:val/0016E5', 'camvid:Seq05VD', 'camvid:0001TP'],
        protocol=protocol,
        pipeline=test_pipeline,
    ),
)
