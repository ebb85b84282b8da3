"""SHADE, ResNet-50, RobustNet's training on GTA5.

python tools/train.py configs/methods/shade.py --data-root DATA

Published, mIoU on Cityscapes / BDD100K / Mapillary with batches of 8, this config's are of 16
(Zhao et al., ECCV 2022; remembered, not re-read: look it up before you cite it):
44.65 / 39.28 / 43.34.
"""

_base_ = '../robustnet/resnet50.py'
model_name = 'shade'
model = dict(
    type='SHADESegmentor',
    backbone=dict(placement='shade'),
    teacher=dict(
        type='IBNResNet',
        depth=50,
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
        out_indices=(3,),
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='ibn://resnet50'),
    ),
)
# Every 3 of its epochs of 12,403 photos in batches of 16, not in the last twentieth.
custom_hooks = [
    dict(type='ProgressHook'),
    dict(type='StatisticsPass', at=0, every=2325, until=0.95, images=None, trials=1, change=None),
]
