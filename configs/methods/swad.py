"""SWAD, ResNet-50, RobustNet's training on GTA5.

python tools/train.py configs/methods/swad.py --data-root DATA

Published: none for segmentation (Cha et al., NeurIPS 2021, classify DomainBed's sets).
"""

_base_ = '../robustnet/resnet50.py'
model_name = 'swad'
method = 'swad'
custom_hooks = [
    dict(type='ProgressHook'),
    dict(type='SWAD', interval=1000, images=500, converge=3, tolerance=6, ratio=0.3, batches=100),
]
