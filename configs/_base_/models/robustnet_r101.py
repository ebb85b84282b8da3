# RobustNet's ResNet-101 at output stride 8, with ASPP dilations twice those of stride 16. The
# stem is the 7x7 one of the published weights; RobustNet's own has three 3x3 convolutions.
_base_ = './robustnet_r50.py'
model = dict(
    backbone=dict(depth=101, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    decode_head=dict(dilations=(1, 12, 24, 36)),
)
