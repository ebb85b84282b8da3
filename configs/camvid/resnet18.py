"""Plain ResNet-18 (three stages) with FCN, CamVid day -> dusk, from ImageNet weights.

python tools/train.py configs/camvid/resnet18.py --data-root DATA
"""

_base_ = [
    '../_base_/models/fcn_ibn_r18_trunk.py',
    '../_base_/datasets/camvid_day_to_dusk.py',
    '../_base_/schedules/camvid.py',
    '../_base_/default_runtime.py',
]
model_name = 'resnet18'
model = dict(backbone=dict(placement='bn'))
