"""EFDMix after stage 1 and 2, ResNet-50, RobustNet's training on GTA5.

python tools/train.py configs/methods/efdmix.py --data-root DATA

Published: no segmentation number of it is known to us.
"""

_base_ = '../robustnet/resnet50.py'
model_name = 'efdmix'
model = dict(
    backbone=dict(placement='efdmix'),
)
