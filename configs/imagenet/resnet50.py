"""Plain ResNet-50 on ImageNet, from scratch.

python tools/run.py train configs/imagenet/resnet50.py --data-root DATA
"""

_base_ = './_base_/resnet50.py'
