"""IBN-Net-a, ResNet-50 with FCN, Cityscapes -> GTA5.

python tools/train.py configs/ibn_a_cityscapes_to_gta5.py --data-root DATA
"""

_base_ = [
    './_base_/models/fcn_ibn_r50.py',
    './_base_/datasets/cityscapes_to_gta5.py',
    './_base_/schedules/paper.py',
    './_base_/default_runtime.py',
]
model_name = 'ibn_a'
model = dict(
    backbone=dict(
        placement='ibn_a',
        init_cfg=dict(type='Pretrained', checkpoint='ibn://resnet50_ibn_a'),
    )
)
