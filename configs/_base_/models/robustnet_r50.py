# RobustNet's ResNet-50 at output stride 16: DeepLabV3+, auxiliary loss 0.4 after 512 channels.
_base_ = './deeplabv3plus_ibn_r50.py'
model = dict(
    data_preprocessor=dict(size=(768, 768)),
    auxiliary_head=dict(channels=512),
)
