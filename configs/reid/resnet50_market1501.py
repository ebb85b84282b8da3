"""ResNet-50, strong baseline, Market-1501.

The original code is published with rank-1 94.5, mAP 85.9; not repeated here.

python tools/run.py train configs/reid/resnet50_market1501.py --data-root DATA
"""

_base_ = ['./ibn_a_market1501.py']
model = dict(backbone=dict(placement='bn', init_cfg=dict(checkpoint='ibn://resnet50')))
