"""Plain ResNet-101 (output stride 8), RobustNet's training on GTA5.

python tools/train.py configs/robustnet/resnet101.py --data-root DATA
"""

_base_ = [
    '../_base_/models/robustnet_r101.py',
    '../_base_/datasets/robustnet_gta5.py',
    '../_base_/schedules/robustnet.py',
    '../_base_/default_runtime.py',
]
model_name = 'resnet101'
model = dict(
    backbone=dict(
        placement='bn',
        init_cfg=dict(type='Pretrained', checkpoint='ibn://resnet101'),
    )
)
