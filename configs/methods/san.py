"""Semantic-aware normalisation (SAN), ResNet-50, RobustNet's training.

python tools/train.py configs/methods/san.py --data-root DATA

Published, by another training (200,000 iterations of 2 photos), mIoU on Cityscapes / BDD100K /
Mapillary (Peng et al., CVPR 2022, SAN with SAW; remembered, not re-read: look it up before
you cite it): 39.75 / 37.34 / 41.86. Parts of both have no effect in the released code, see
docs/methods.md.
"""

_base_ = '../robustnet/resnet50.py'
model_name = 'san'
model = dict(
    type='SiteSegmentor',
    site_loss=dict(SAN=0.2),
    backbone=dict(placement='san'),
)
