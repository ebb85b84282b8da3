"""Plain ResNet-50 with DeepLabV3+, Cityscapes -> GTA5.

python tools/train.py configs/resnet50_deeplabv3plus_cityscapes_to_gta5.py --data-root DATA
"""

_base_ = [
    './_base_/models/deeplabv3plus_ibn_r50.py',
    './_base_/datasets/cityscapes_to_gta5.py',
    './_base_/schedules/paper.py',
    './_base_/default_runtime.py',
]
model_name = 'resnet50_deeplabv3plus'
model = dict(
    backbone=dict(
        placement='bn',
        init_cfg=dict(type='Pretrained', checkpoint='ibn://resnet50'),
    )
)
