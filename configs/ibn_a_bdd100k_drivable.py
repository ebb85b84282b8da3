"""IBN-Net-a, ResNet-50 with FCN, BDD100K's drivable areas (WAD 2018): ours, alternative, the rest.

python tools/train.py configs/ibn_a_bdd100k_drivable.py --data-root DATA
"""

_base_ = [
    './_base_/models/fcn_ibn_r50.py',
    './_base_/datasets/bdd100k_drivable.py',
    './_base_/schedules/paper.py',
    './_base_/default_runtime.py',
]
model_name = 'ibn_a'
model = dict(
    backbone=dict(
        placement='ibn_a',
        init_cfg=dict(type='Pretrained', checkpoint='ibn://resnet50_ibn_a'),
    ),
    decode_head=dict(num_classes=3),
)
