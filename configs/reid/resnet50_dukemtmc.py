"""ResNet-50, strong baseline, DukeMTMC-reID.

The original code is published with rank-1 86.4, mAP 76.4; not repeated here.

python tools/run.py train configs/reid/resnet50_dukemtmc.py --data-root DATA
"""

_base_ = ['./ibn_a_dukemtmc.py']
model = dict(backbone=dict(placement='bn', init_cfg=dict(checkpoint='ibn://resnet50')))
