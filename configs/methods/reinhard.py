"""Reinhard's colours among the source's own photos, ResNet-50, RobustNet's training on GTA5.

python tools/train.py configs/methods/reinhard.py --data-root DATA

Published: none for segmentation (Reinhard et al., IEEE CG&A 2001, recolour single photos).
"""

_base_ = '../robustnet/resnet50.py'
model_name = 'reinhard'
method = 'reinhard'
train_pipeline = [
    dict(type='LoadPhoto'),
    dict(type='LoadLabels'),
    dict(type='RandomScaleCrop', crop_size=(768, 768), ratio_range=(0.5, 2.0)),
    dict(type='OtherStyle', style='reinhard', prob=0.5),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, prob=0.5),
    dict(type='RandomGaussianBlur', sigma=(0.15, 1.3), prob=1.0),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
