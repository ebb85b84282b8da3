"""IBN-Net-a, ResNet-18 with FCN from scratch on the GTA5 miniature, measured on both worlds.

python tools/miniature.py work_dirs/miniature/data
python tools/train.py configs/miniature/ibn_a.py --data-root work_dirs/miniature/data
"""

_base_ = [
    '../_base_/models/fcn_ibn_r18.py',
    '../_base_/datasets/miniature_gta5_to_cityscapes.py',
    '../_base_/schedules/miniature.py',
    '../_base_/default_runtime.py',
]
model_name = 'ibn_a'
model = dict(backbone=dict(placement='ibn_a'))
