"""Weights averaged over the training (EMA), ResNet-50, RobustNet's training on GTA5.

python tools/train.py configs/methods/ema.py --data-root DATA

Published: none for this setting.
"""

_base_ = '../robustnet/resnet50.py'
model_name = 'ema'
method = 'ema'
custom_hooks = [
    dict(type='ProgressHook'),
    dict(type='EMAHook', momentum=0.001, update_buffers=True),
]
