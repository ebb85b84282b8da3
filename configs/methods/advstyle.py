"""AdvStyle, ResNet-50, RobustNet's training on GTA5.

python tools/train.py configs/methods/advstyle.py --data-root DATA

Published, mIoU on Cityscapes / BDD100K / Mapillary (Zhong et al., NeurIPS 2022; remembered, not
re-read: look it up before you cite it): 39.62 / 35.54 / 37.00. The rate there is remembered, too.
"""

_base_ = '../robustnet/resnet50.py'
model_name = 'advstyle'
method = 'advstyle'
model = dict(type='AdvStyleSegmentor', adversarial_rate=3.0)
