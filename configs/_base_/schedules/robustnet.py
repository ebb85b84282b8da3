# RobustNet: SGD 0.01, momentum 0.9, weight decay 5e-4, poly 0.9, 40,000 iterations of 16 (in all).
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4),
    clip_grad=None,
)
param_scheduler = [
    dict(type='PolyLR', eta_min=0, power=0.9, begin=0, end=40000, by_epoch=False),
]
train_cfg = dict(type='PositionTrainLoop', max_iters=40000, val_interval=8000)
