"""Instance selective whitening (RobustNet's ISW), ResNet-50, RobustNet's training on GTA5.

python tools/train.py configs/methods/isw.py --data-root DATA

Published for this setting, mIoU on Cityscapes / BDD100K / Mapillary / SYNTHIA / GTA5
(Choi et al., CVPR 2021; remembered, not re-read: look it up before you cite it):
36.58 / 35.20 / 40.33 / 28.30 / 72.10. Its baseline: 28.95 / 25.14 / 28.18 / 26.23 / 73.45.
"""

_base_ = '../robustnet/resnet50.py'
model_name = 'isw'
model = dict(
    type='SiteSegmentor',
    site_loss=dict(ISW=0.6),
    backbone=dict(placement='isw'),
)
# After 6 of its 51.7 epochs, as there.
custom_hooks = [
    dict(type='ProgressHook'),
    dict(type='StatisticsPass', at=4650, images=500, trials=10),
]
