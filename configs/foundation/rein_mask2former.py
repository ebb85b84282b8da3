"""Rein on a frozen DINOv2-L with Mask2Former, as published, GTA5 to Cityscapes.

pip install 'ibnseg[timm]' and MMDetection (mmdet; onedl-mmdetection with OneDL's packages)
python tools/train.py configs/foundation/rein_mask2former.py --data-root DATA \
  --cfg-options model.backbone.pretrained=dinov2_vitl14_pretrain.pth

Published, mIoU on Cityscapes / BDD100K: 66.7 / 60.0 (readme of w1oves/Rein).
"""

_base_ = './_base_/dinov2_mask2former.py'
model_name = 'rein_mask2former'
method = 'rein'
model = dict(
    backbone=dict(adapter=dict(kind='rein', tokens=100, rank=16, query_dims=256)),
    decode_head=dict(type='QueryMask2FormerHead'),
)
