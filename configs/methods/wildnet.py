"""WildNet, ResNet-50, RobustNet's training on GTA5.

python tools/train.py configs/methods/wildnet.py --data-root DATA \
  --cfg-options train_dataloader.dataset.pipeline.7.photos=IMAGENET/train

Published with ImageNet's training photos as the wild ones, mIoU on Cityscapes / BDD100K /
Mapillary / SYNTHIA, by another training (60,000 iterations of 8 photos at a rate of 0.0025;
Lee et al., CVPR 2022; remembered, not re-read: look it up before you cite it):
44.62 / 38.42 / 46.09 / 31.34.
"""

_base_ = '../robustnet/resnet50.py'
model_name = 'wildnet'
model = dict(
    type='WildNetSegmentor',
    backbone=dict(placement='wildnet'),
)
train_pipeline = [
    dict(type='LoadPhoto'),
    dict(type='LoadLabels'),
    dict(type='RandomScaleCrop', crop_size=(768, 768), ratio_range=(0.5, 2.0)),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, prob=0.5),
    dict(type='RandomGaussianBlur', sigma=(0.15, 1.3), prob=1.0),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
    dict(type='WildPhoto'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
