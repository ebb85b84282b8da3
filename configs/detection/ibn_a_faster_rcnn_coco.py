"""IBN-Net-a, ResNet-50, in MMDetection's Faster R-CNN with FPN, COCO, 12 epochs, 8 x 2 images.

python tools/run.py train configs/detection/ibn_a_faster_rcnn_coco.py --data-root DATA/coco

All but the backbone is MMDetection's own config; its train.py runs this file as well.
"""

_base_ = ['mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py']
custom_imports = dict(imports=['ibnseg'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        type='mmseg.IBNResNet',
        placement='ibn_a',
        init_cfg=dict(checkpoint='ibn://resnet50_ibn_a'),
    )
)
