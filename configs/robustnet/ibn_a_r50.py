"""IBN-Net-a, ResNet-50 (output stride 16), RobustNet's training on GTA5.

python tools/train.py configs/robustnet/ibn_a_r50.py --data-root DATA
"""

_base_ = [
    '../_base_/models/robustnet_r50.py',
    '../_base_/datasets/robustnet_gta5.py',
    '../_base_/schedules/robustnet.py',
    '../_base_/default_runtime.py',
]
model_name = 'ibn_a_r50'
model = dict(
    backbone=dict(
        placement='ibn_a',
        init_cfg=dict(type='Pretrained', checkpoint='ibn://resnet50_ibn_a'),
    )
)
