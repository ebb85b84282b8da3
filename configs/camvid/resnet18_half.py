"""Plain ResNet-18 (three stages) with FCN, CamVid day -> dusk, half-size photos, minutes of a core.

For comparisons of many methods. The last weights are measured, so the other days choose nothing.

python tools/train.py configs/camvid/resnet18_half.py --data-root DATA
"""

_base_ = './resnet18.py'
select = 'last'
iterations = 1600  # twice as many gain plain nothing at home
crop_size = (96, 128)
train_pipeline = [
    dict(type='LoadPhoto'),
    dict(type='LoadLabels'),
    dict(type='RandomResize', scale=(240, 180), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
protocol = dict(photo=(240, 180), keep_ratio=True)
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='ResizePhoto', scale=(240, 180), keep_ratio=True),
    dict(type='PackSegInputs'),
]
model = dict(data_preprocessor=dict(size=crop_size))
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
# The head starts from random weights, the backbone from ImageNet's.
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=5e-4, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10))),
)
val_dataloader = dict(dataset=dict(protocol=protocol))
test_dataloader = dict(dataset=dict(protocol=protocol, pipeline=test_pipeline))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=20, by_epoch=False),
    dict(type='PolyLR', eta_min=0, power=0.9, begin=20, end=iterations, by_epoch=False),
]
train_cfg = dict(max_iters=iterations, val_interval=iterations // 4)
