"""Switchable whitening at its own places, ResNet-50, RobustNet's training on GTA5.

python tools/train.py configs/methods/sw.py --data-root DATA

Published: no segmentation number of these places on ResNet-50; as RobustNet places it, sw_b.py.
"""

_base_ = '../robustnet/resnet50.py'
model_name = 'sw'
model = dict(
    backbone=dict(placement='sw'),
)
