"""Rein on a frozen DINOv2-L with a light head, GTA5 to Cityscapes.

pip install 'ibnseg[timm]'
python tools/train.py configs/foundation/rein.py --data-root DATA \
  --cfg-options model.backbone.pretrained=dinov2_vitl14_pretrain.pth

Published with Mask2Former, which this config does not have, mIoU on Cityscapes / BDD100K: 66.7 /
60.0 (readme of w1oves/Rein).
"""

_base_ = './_base_/dinov2.py'
model_name = 'rein'
method = 'rein'
model = dict(backbone=dict(adapter=dict(kind='rein', tokens=100, rank=16)))
