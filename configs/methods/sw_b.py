"""Switchable whitening at variant b's places, ResNet-50, RobustNet's training on GTA5.

python tools/train.py configs/methods/sw_b.py --data-root DATA

Published for this setting, mIoU on Cityscapes / BDD100K / Mapillary / SYNTHIA / GTA5
(Choi et al., CVPR 2021; remembered, not re-read: look it up before you cite it):
29.91 / 27.48 / 29.71 / 27.61 / 73.50. Its baseline: 28.95 / 25.14 / 28.18 / 26.23 / 73.45.
"""

_base_ = '../robustnet/resnet50.py'
model_name = 'sw_b'
model = dict(
    backbone=dict(placement='sw_b'),
)
