# RobustNet on GTA5 and SYNTHIA, as many samples of one as of the other; selected on both.
_base_ = './robustnet_gta5.py'
source = ['gta5:train-12388', 'synthia:train']
mixing = 'equal'
train_dataloader = dict(
    sampler=dict(_delete_=True, type='PositionSampler'),
    dataset=dict(domain=source, mixing=mixing),
)
val_dataloader = dict(dataset=dict(domains=['gta5:val', 'synthia:val']))
test_dataloader = dict(
    dataset=dict(
        domains=['gta5:val', 'synthia:val', 'cityscapes:val', 'bdd100k:val', 'mapillary:val']
    ),
)
