"""IBN-Net-a, ResNet-50 on ImageNet, from scratch.

python tools/run.py train configs/imagenet/ibn_a_r50.py --data-root DATA
"""

_base_ = './_base_/resnet50.py'
model = dict(backbone=dict(placement='ibn_a'))
