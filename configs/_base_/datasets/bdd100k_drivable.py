# Drivable areas: train on the train split, select and measure on val. Three classes of their own.
_base_ = './gta5_to_cityscapes.py'
source = 'bdd100k_drivable:train'
train_pipeline = [
    dict(type='LoadPhoto'),
    dict(type='LoadLabels'),
    dict(type='RandomResize', scale=(1024, 576), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
    # No flip: which lane is ours, and which way the others go, is not the same in a mirror.
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(domain=source, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(domains=['bdd100k_drivable:val']))
test_dataloader = dict(dataset=dict(domains=['bdd100k_drivable:val']))
