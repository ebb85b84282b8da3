"""DSU before the stem's norm, after the pool and each stage, ResNet-50, RobustNet's training.

python tools/train.py configs/methods/dsu.py --data-root DATA

Published: no number of this network. Of GTA5 to Cityscapes with DeepLabV2 on ResNet-101, by another
training (Li et al., ICLR 2022; remembered, not re-read: look it up before you cite it):
43.1. Its baseline: 37.0.
"""

_base_ = '../robustnet/resnet50.py'
model_name = 'dsu'
model = dict(
    backbone=dict(placement='dsu'),
)
