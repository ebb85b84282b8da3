"""From a segmentor to label maps on a CPU, without ever holding the full-size logits.

`MMSeg` resizes C maps to the photo's size, then to the label's, and takes the argmax over all of
them. Here the classes pass one after another through the same resizes, and a running maximum
keeps the winner: the same label map from two float maps instead of C.
"""

import copy
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.model import is_model_wrapper
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval


def label_map(logits: np.ndarray, sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the class of the highest logit at each pixel, after bilinear resizing.

    Args:
        logits: float32 (C, h, w), C <= 256.
        sizes: (height, width) to bring the logits to, one after the other; the last is the label's.

    Returns:
        uint8 (H, W): what `argmax` of the resized logits gives (align_corners=False), the lowest
        class where several are equal, as far as the rounding of the resize allows.

    Raises:
        ValueError: a logit is not finite; the network has diverged.
    """
    if not np.isfinite(logits).all():
        raise ValueError(
            'the network gives logits that are not finite: its training has diverged. Train again '
            'with a lower learning rate, or measure an earlier checkpoint'
        )

    def resized(channel: np.ndarray) -> np.ndarray:
        for height, width in sizes:
            if channel.shape != (height, width):
                channel = cv2.resize(channel, (width, height), interpolation=cv2.INTER_LINEAR)
        return channel

    highest = resized(logits[0]).copy()
    labels = np.zeros(highest.shape, np.uint8)
    higher = np.empty_like(labels)
    for index, channel in enumerate(logits[1:], 1):
        candidate = resized(channel)
        cv2.compare(candidate, highest, cv2.CMP_GT, dst=higher)
        cv2.max(candidate, highest, dst=highest)
        # Classes come in ascending order, so the later winner is the larger number.
        cv2.max(labels, cv2.bitwise_and(higher, index, dst=higher), dst=labels)
    return labels


def for_inference(model: nn.Module) -> nn.Module:
    """Return a copy of a segmentor for a CPU, channels_last, to be used without gradients.

    BatchNorms are folded into convolutions. The outputs are the model's own in eval mode, as far as
    rounding goes.
    """
    folded = copy.deepcopy(model).eval()
    _fold(folded)
    return folded.to(memory_format=torch.channels_last)


def _fold(module: nn.Module) -> None:
    """Fold each BatchNorm into the convolution that stands right before it.

    mmcv's fuse_conv_bn takes the last one before it, even where another layer stands between.
    """
    before, conv = '', None
    for name, child in list(module.named_children()):
        if isinstance(child, _BatchNorm):
            if isinstance(conv, nn.Conv2d) and child.running_mean is not None:
                setattr(module, before, fuse_conv_bn_eval(conv, child))
                setattr(module, name, nn.Identity())
        else:
            _fold(child)
        before, conv = name, child


class Predictor:
    """Predicts label maps for batches of a test loader; the fast way where it is the same.

    That is for MMSeg's EncoderDecoder on a CPU; any other model, and any model on a GPU, takes its
    own `test_step`. The weights are those at the time of construction; unless the backbone is
    compiled, they are copied.
    """

    def __init__(self, model: nn.Module):
        self.model = model.module if is_model_wrapper(model) else model
        device = next(self.model.parameters()).device.type
        self.is_fast = device == 'cpu' and _is_plain(self.model)
        # A copy would lose what torch.compile made of the backbone.
        if self.is_fast and self.model.backbone._compiled_call_impl is None:
            self.model = for_inference(self.model)

    @torch.no_grad()
    def __call__(self, batch: Any) -> list:
        """Return the batch's data samples with `pred_sem_seg`, (1, H, W) as the label.

        Photos of unequal sizes are predicted one by one.
        """
        if len({image.shape for image in batch['inputs']}) > 1:
            pairs = zip(batch['inputs'], batch['data_samples'], strict=True)
            return [self(dict(inputs=[i], data_samples=[s]))[0] for i, s in pairs]
        if not self.is_fast:
            return self.model.test_step(batch)
        data = self.model.data_preprocessor(batch, False)
        inputs, samples = data['inputs'], data['data_samples']
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        metas = [sample.metainfo for sample in samples]
        changed = ('flip', 'img_padding_size', 'padding_size')
        if any(np.any(meta.get(key) or 0) for meta in metas for key in changed):
            return self.model.predict(inputs, samples)
        if self.model.test_cfg.get('mode') == 'slide':
            logits = self.model.inference(inputs, metas)
        else:
            logits = self.model.decode_head(self.model.extract_feat(inputs))
        size = tuple(inputs.shape[2:])  # MMSeg brings them to it first
        for sample, meta, values in zip(samples, metas, logits.float().numpy(), strict=True):
            labels = label_map(np.ascontiguousarray(values), (size, tuple(meta['ori_shape'][:2])))
            sample.pred_sem_seg = PixelData(data=torch.from_numpy(labels)[None])
        return samples


def _is_plain(model: nn.Module) -> bool:
    """Whether MMSeg would predict with bilinear resizes and an argmax, and nothing else."""
    if not isinstance(model, EncoderDecoder) or model.out_channels == 1:
        return False
    head = model.decode_head
    if not isinstance(head, BaseDecodeHead) or head.align_corners:
        return False
    return all(
        getattr(type(part), name) is getattr(base, name)
        for part, base, names in (
            (model, EncoderDecoder, 'predict inference slide_inference whole_inference '
             'encode_decode postprocess_result extract_feat'),
            (head, BaseDecodeHead, 'predict predict_by_feat'),
        )
        for name in names.split()
    )  # fmt: skip
