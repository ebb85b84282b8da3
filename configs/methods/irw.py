"""Instance-relaxed whitening (RobustNet's IRW), ResNet-50, RobustNet's training on GTA5.

python tools/train.py configs/methods/irw.py --data-root DATA

Published for this setting, mIoU on Cityscapes / BDD100K / Mapillary / SYNTHIA / GTA5
(Choi et al., CVPR 2021; remembered, not re-read: look it up before you cite it):
33.57 / 33.18 / 38.42 / 27.29 / 71.96. Its baseline: 28.95 / 25.14 / 28.18 / 26.23 / 73.45.
"""

_base_ = '../robustnet/resnet50.py'
model_name = 'irw'
model = dict(
    type='SiteSegmentor',
    site_loss=dict(IRW=0.6),
    backbone=dict(placement='irw'),
)
