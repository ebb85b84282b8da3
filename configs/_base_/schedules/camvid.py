optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
    clip_grad=None,
)
param_scheduler = [dict(type='PolyLR', eta_min=0, power=0.9, begin=0, end=400, by_epoch=False)]
train_cfg = dict(type='PositionTrainLoop', max_iters=400, val_interval=100)
