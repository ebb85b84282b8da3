"""SoMA on a frozen DINOv2-L with a light head, GTA5 to Cityscapes.

pip install 'ibnseg[timm]'
python tools/train.py configs/foundation/soma.py --data-root DATA \
  --cfg-options model.backbone.pretrained=dinov2_vitl14_pretrain.pth

Published with Mask2Former, a falling weight decay and averaged weights, which this config does not
have, the mean mIoU on Cityscapes, BDD100K and Mapillary: 68.27 (readme of ysj9909/SoMA).
"""

_base_ = './_base_/dinov2.py'
model_name = 'soma'
method = 'soma'
model = dict(backbone=dict(adapter=dict(kind='soma', rank=16, first=8)))
# Half the rate for what is in the backbone, as there.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.5)}))
