# SGD 0.01, momentum 0.9, weight decay 1e-4, poly 0.9, batch 16 (in all), as in the paper; 80
# epochs over a quarter of GTA5's training images are 15,500 iterations.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
    clip_grad=None,
)
param_scheduler = [
    dict(type='PolyLR', eta_min=0, power=0.9, begin=0, end=15500, by_epoch=False),
]
train_cfg = dict(type='PositionTrainLoop', max_iters=15500, val_interval=1550)
