"""pAdaIN before every norm of stage 1 to 4, ResNet-50, RobustNet's training on GTA5.

python tools/train.py configs/methods/padain.py --data-root DATA

Published: no number of this network. Of GTA5 to Cityscapes with DeepLabV2 on ResNet-101, by another
training (Li et al., ICLR 2022; remembered, not re-read: look it up before you cite it):
38.3. Its baseline: 37.0.
"""

_base_ = '../robustnet/resnet50.py'
model_name = 'padain'
model = dict(
    backbone=dict(placement='padain'),
)
