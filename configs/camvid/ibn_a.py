"""IBN-Net-a, ResNet-18 (three stages) with FCN, CamVid day -> dusk, from ImageNet weights.

python tools/train.py configs/camvid/ibn_a.py --data-root DATA
"""

_base_ = [
    '../_base_/models/fcn_ibn_r18_trunk.py',
    '../_base_/datasets/camvid_day_to_dusk.py',
    '../_base_/schedules/camvid.py',
    '../_base_/default_runtime.py',
]
model_name = 'ibn_a'
model = dict(backbone=dict(placement='ibn_a'))
