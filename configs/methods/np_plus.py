"""NP+ after the pool and stage 1, ResNet-50, RobustNet's training on GTA5.

python tools/train.py configs/methods/np_plus.py --data-root DATA

Published: no segmentation number of it is known to us.
"""

_base_ = '../robustnet/resnet50.py'
model_name = 'np_plus'
model = dict(
    backbone=dict(placement='np_plus'),
)
