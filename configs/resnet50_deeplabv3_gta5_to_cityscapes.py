"""Plain ResNet-50 with DeepLabV3, GTA5 -> Cityscapes.

python tools/train.py configs/resnet50_deeplabv3_gta5_to_cityscapes.py --data-root DATA
"""

_base_ = [
    './_base_/models/deeplabv3_ibn_r50.py',
    './_base_/datasets/gta5_to_cityscapes.py',
    './_base_/schedules/paper.py',
    './_base_/default_runtime.py',
]
model_name = 'resnet50_deeplabv3'
model = dict(
    backbone=dict(
        placement='bn',
        init_cfg=dict(type='Pretrained', checkpoint='ibn://resnet50'),
    )
)
