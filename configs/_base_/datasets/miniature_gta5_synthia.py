# Two sources in miniature: GTA5 and SYNTHIA, drawn equally, with what the protocols draw.
_base_ = './miniature_gta5_to_cityscapes.py'
source = ['gta5:train', 'synthia:train']
mixing = 'equal'
train_pipeline = [
    dict(type='LoadPhoto'),
    dict(type='LoadLabels'),
    dict(type='RandomScaleCrop', crop_size=(128, 256), scale=(256, 128), ratio_range=(1.0, 2.0)),
    dict(type='ColorJitter'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(domain=source, mixing=mixing, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(domains=['gta5:val', 'synthia:val']))
test_dataloader = dict(dataset=dict(domains=['gta5:val', 'synthia:val', 'cityscapes:val']))
