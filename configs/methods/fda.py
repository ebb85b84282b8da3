"""FDA among the source's own photos, ResNet-50, RobustNet's training on GTA5.

python tools/train.py configs/methods/fda.py --data-root DATA

Published: none without target photos. With them, which is domain adaptation: 50.45 on Cityscapes,
the mean of three networks after self-training (readme of YanchaoYang/FDA).
"""

_base_ = '../robustnet/resnet50.py'
model_name = 'fda'
method = 'fda'
train_pipeline = [
    dict(type='LoadPhoto'),
    dict(type='LoadLabels'),
    dict(type='RandomScaleCrop', crop_size=(768, 768), ratio_range=(0.5, 2.0)),
    dict(type='OtherStyle', style='fourier', prob=0.5, options=dict(band=0.01)),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, prob=0.5),
    dict(type='RandomGaussianBlur', sigma=(0.15, 1.3), prob=1.0),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
