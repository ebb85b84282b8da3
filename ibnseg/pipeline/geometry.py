"""What a protocol does to photo and label alike before the network sees the photo."""

import numpy as np
from mmcv.transforms import BaseTransform, Resize
from mmseg.registry import TRANSFORMS
from PIL import Image

from .. import labels


@TRANSFORMS.register_module()
class ReframePair(BaseTransform):
    """Scale and crop a photo and its label; from then on that is the sample's own size.

    Photos are scaled by Pillow's bicubic filter, labels by the nearest pixel, as in the code of
    RobustNet and Rein. Stands behind `LoadLabels`.

    Args:
        scale: factor of both sides, rounded down.
        height: or the new height; the width follows, rounded down.
        crop: then the part of this (height, width) around the centre.
        pad: class of the label's pixels where the crop is larger than the photo; the photo's are
            black.
    """

    def __init__(
        self,
        scale: float | None = None,
        height: int | None = None,
        crop: tuple[int, int] | None = None,
        pad: int = labels.IGNORE,
    ):
        self.scale, self.height, self.crop, self.pad = scale, height, crop, pad

    def transform(self, results: dict) -> dict:
        photo, truth = results['img'], results['gt_seg_map']
        height, width = photo.shape[:2]
        if self.scale:
            height, width = int(height * self.scale), int(width * self.scale)
        elif self.height:
            height, width = self.height, int(width / height * self.height)
        pair = (
            Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC),
            Image.fromarray(truth).resize((width, height), Image.Resampling.NEAREST),
        )
        if self.crop:
            pad = self.pad
            if results.get('raw_labels') and pad != labels.IGNORE:  # labels hold the dataset's ids
                pad = int(np.flatnonzero(labels.lut(results['label_space']) == pad)[0])
            pair = _centre(pair[0], self.crop, 0), _centre(pair[1], self.crop, pad)
        results['img'], results['gt_seg_map'] = map(np.array, pair)
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results


def _centre(image: Image.Image, crop: tuple[int, int], fill: int) -> Image.Image:
    height, width = crop
    # Where the image is smaller, it does not lie in the middle: RobustNet's CenterCropPad pads
    # both sides by all that is missing, then cuts where the middle was before.
    left, top = (
        max(new - old, 0) - round((old - new) / 2)
        for new, old in ((width, image.width), (height, image.height))
    )
    canvas = Image.new(image.mode, (width, height), fill)
    canvas.paste(image, (left, top))
    return canvas


@TRANSFORMS.register_module()
class ResizePhoto(Resize):
    """As mmcv's Resize, but of the photo alone: predictions are brought to the label's size."""

    def _resize_seg(self, results: dict) -> None:
        pass
