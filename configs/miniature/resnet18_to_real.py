"""Synthetic to real: a plain ResNet-18 of a quarter of the width learns on 400 scenes of the GTA5
miniature and is measured on the Cityscapes miniature and on the real photos of CamVid.

DATA holds both miniatures and CamVid. The last weights are measured: real photos choose nothing.

python tools/miniature.py DATA --train 400
python tools/train.py configs/miniature/resnet18_to_real.py --data-root DATA
"""

_base_ = './resnet18.py'
select = 'last'
iterations = 1200
model = dict(
    backbone=dict(stem_channels=16, base_channels=16),
    decode_head=dict(in_channels=128, channels=128),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=20, by_epoch=False),
    dict(type='PolyLR', eta_min=0, power=0.9, begin=20, end=iterations, by_epoch=False),
]
train_cfg = dict(max_iters=iterations, val_interval=iterations // 6)
test_dataloader = dict(
    dataset=dict(domains=['gta5:val', 'cityscapes:val', 'camvid:0001TP+0006R0+0016E5+Seq05VD'])
)
