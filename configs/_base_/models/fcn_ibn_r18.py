# The same network at a size for two CPU cores: ResNet-18, output stride 16, from scratch.
_base_ = './fcn_ibn_r50.py'
model = dict(
    data_preprocessor=dict(size=(128, 256)),
    backbone=dict(
        depth=18,
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
        # As the original initialises. MMSeg's True starts every residual branch, where variant a's
        # InstanceNorms stand, at nothing: too slow a start for a short run.
        zero_init_residual=False,
    ),
    decode_head=dict(in_channels=512, channels=512),
)
