"""Instance whitening (RobustNet's IW), ResNet-50, RobustNet's training on GTA5.

python tools/train.py configs/methods/iw.py --data-root DATA

Published for this setting, mIoU on Cityscapes / BDD100K / Mapillary / SYNTHIA / GTA5
(Choi et al., CVPR 2021; remembered, not re-read: look it up before you cite it):
33.21 / 32.67 / 37.35 / 27.57 / 72.06. Its baseline: 28.95 / 25.14 / 28.18 / 26.23 / 73.45.
"""

_base_ = '../robustnet/resnet50.py'
model_name = 'iw'
model = dict(
    type='SiteSegmentor',
    site_loss=dict(IW=0.8),
    backbone=dict(placement='iw'),
)
