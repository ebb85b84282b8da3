default_scope = 'mmseg'
custom_imports = dict(imports=['ibnseg'], allow_failed_imports=False)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='AtomicCheckpointHook', interval=1000),
    visualization=dict(type='SegVisualizationHook'),  # draws for mmseg's test.py --show-dir
    sampler_seed=None,  # PositionSampler has no epochs
)
custom_hooks = [dict(type='ProgressHook')]

val_cfg = dict(type='CrossDomainLoop')
test_cfg = dict(type='CrossDomainLoop')
val_evaluator = dict(type='CrossDomainIoU')
test_evaluator = val_evaluator
