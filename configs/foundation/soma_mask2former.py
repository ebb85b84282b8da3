"""SoMA on a frozen DINOv2-L with Mask2Former, GTA5 to Cityscapes.

pip install 'ibnseg[timm]' and MMDetection (mmdet; onedl-mmdetection with OneDL's packages)
python tools/train.py configs/foundation/soma_mask2former.py --data-root DATA \
  --cfg-options model.backbone.pretrained=dinov2_vitl14_pretrain.pth

Published, the mean mIoU on Cityscapes, BDD100K and Mapillary: 68.27 (readme of ysj9909/SoMA).
Rates, weight decay, iterations, batch and averaged weights are as there.
"""

_base_ = './_base_/dinov2_mask2former.py'
model_name = 'soma_mask2former'
method = 'soma'
model = dict(backbone=dict(adapter=dict(kind='soma', rank=16, first=8)))
# Half the rate for what is in the backbone; the queries do not decay.
_no_decay = dict(decay_mult=0.0)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            'backbone': dict(lr_mult=0.5),
            'query_embed': _no_decay,
            'query_feat': _no_decay,
            'level_embed': _no_decay,
        }
    )
)
param_scheduler = [
    dict(type='PolyLR', eta_min=0, power=0.9, begin=0, end=40000, by_epoch=False),
    dict(
        type='CosineAnnealingParamScheduler',
        param_name='weight_decay',
        eta_min=1e-5,
        begin=0,
        end=40000,
        by_epoch=False,
    ),
]
custom_hooks = [
    dict(type='ProgressHook'),
    dict(type='EMAHook', begin_iter=12000, update_buffers=True),
]
