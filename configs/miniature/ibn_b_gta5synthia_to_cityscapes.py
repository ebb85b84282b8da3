"""IBN-Net-b, ResNet-18 with FCN from scratch on the GTA5 and SYNTHIA miniatures together.

python tools/miniature.py work_dirs/miniature/data --worlds gta5 synthia cityscapes
python tools/train.py configs/miniature/ibn_b_gta5synthia_to_cityscapes.py \\
  --data-root work_dirs/miniature/data
"""

_base_ = [
    '../_base_/models/fcn_ibn_r18.py',
    '../_base_/datasets/miniature_gta5_synthia.py',
    '../_base_/schedules/miniature.py',
    '../_base_/default_runtime.py',
]
model_name = 'ibn_b'
model = dict(backbone=dict(placement='ibn_b'))
