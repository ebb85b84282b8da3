"""IBN-Net-a, ResNet-50, strong baseline, DukeMTMC-reID.

The original code is published with rank-1 90.1, mAP 79.1; not repeated here.

python tools/run.py train configs/reid/ibn_a_dukemtmc.py --data-root DATA
"""

_base_ = ['./_base_/strong_baseline.py']
model = dict(head=dict(num_classes=702))
train_dataloader = dict(dataset=dict(type='DukeMTMCReID'))
val_dataloader = dict(dataset=dict(type='DukeMTMCReID'))
test_dataloader = dict(dataset=dict(type='DukeMTMCReID'))
