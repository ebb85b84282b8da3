"""A segmentor as one function of a batch of images, for exporters to follow."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from torch import Tensor, nn

from ..measure.predict import for_inference, takes_argmax
from ..norms import InstanceNorm

#: What `--logits` takes: the size of the input, or that of the head.
SIZES = ('input', 'head')


class Exportable(nn.Module):
    """Logits of a batch of images, (N, C, H, W) or of the head's size.

    Args:
        segmentor: MMSeg's EncoderDecoder with one head, in eval mode on a CPU; a copy is taken,
            whose BatchNorms are folded into convolutions where that is possible.
        preprocessor: the config's `model.data_preprocessor`.
        inside: the images are uint8 RGB (N, H, W, 3), as decoders give them, and are normalised
            here; else they are float32 (N, 3, H, W), normalised, in the network's own channels.
        logits: of `SIZES`.

    Raises:
        ValueError: a segmentor that does not take the argmax of one head's logits.
    """

    def __init__(
        self,
        segmentor: nn.Module,
        preprocessor: Mapping[str, Any],
        inside: bool = False,
        logits: str = 'input',
    ):
        super().__init__()
        check(segmentor)
        if logits not in SIZES:
            raise ValueError(f'logits is {logits!r}; expected one of {SIZES}')
        self.inside, self.full = inside, logits == 'input'
        folded = for_inference(segmentor)
        copied = copy.deepcopy(segmentor) if folded is segmentor else folded
        self.segmentor = copied.to(memory_format=torch.contiguous_format)
        _make_native(self.segmentor)
        mean, std, self.rgb = normalisation(preprocessor)
        self.register_buffer('mean', torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        x = image
        if self.inside:
            x = image.permute(0, 3, 1, 2).to(torch.float32)
            x = ((x if self.rgb else x.flip(1)) - self.mean) / self.std
        head = self.segmentor.decode_head
        logits = head.forward(self.segmentor.extract_feat(x))
        if not self.full:
            return logits
        return resize(logits, x.shape[2:], mode='bilinear', align_corners=head.align_corners)

    def example(self) -> Tensor:
        """Return a batch to follow; no two of its sizes are equal."""
        draw = torch.Generator().manual_seed(0)
        if self.inside:
            return torch.randint(0, 256, (2, 96, 128, 3), generator=draw, dtype=torch.uint8)
        return torch.randn((2, 3, 96, 128), generator=draw)

    def free(self) -> Sequence[int]:
        """Return the axes of `example` that are free: batch, height, width."""
        return (0, 1, 2) if self.inside else (0, 2, 3)


def check(segmentor: nn.Module) -> None:
    """Raise ValueError for a segmentor whose prediction is not the argmax of one head's logits."""
    head = getattr(segmentor, 'decode_head', None)
    if not takes_argmax(segmentor) or not isinstance(head, BaseDecodeHead):
        raise ValueError(
            f'{type(segmentor).__name__} with {type(head).__name__}: expected an EncoderDecoder '
            'with one head whose label map is the argmax of its logits'
        )


def normalisation(preprocessor: Mapping[str, Any]) -> tuple[list[float], list[float], bool]:
    """Return mean and standard deviation of a network's input, and whether it is RGB, else BGR.

    Both are of values from 0 to 255, in the order of the input's channels.

    Raises ValueError for a `model.data_preprocessor` that does more than that.
    """
    if preprocessor.get('test_cfg'):
        raise ValueError(
            f'model.data_preprocessor.test_cfg is {preprocessor["test_cfg"]}: it pads photos, '
            'which an export would not. Leave it away if the network takes any size'
        )
    mean, std = preprocessor.get('mean') or [0] * 3, preprocessor.get('std') or [1] * 3
    turned = preprocessor.get('bgr_to_rgb') or preprocessor.get('rgb_to_bgr')  # photos come as BGR
    return [*map(float, mean)], [*map(float, std)], bool(turned)


class _Native(nn.Module):
    """InstanceNorm as the one operation that every format has."""

    def __init__(self, layer: InstanceNorm):
        super().__init__()
        self.weight, self.bias, self.eps = layer.weight, layer.bias, layer.eps

    def forward(self, x: Tensor) -> Tensor:
        # Engines sum in float32: of a mean far above the deviation they are off by 1e-3. The shift
        # changes no output.
        x = x - x[:, :, :1, :1]
        # Not torch.nn's layer: its check of the map's size would tie an export to sizes.
        return torch.instance_norm(
            x, self.weight, self.bias, None, None, True, 0.0, self.eps, False
        )


def _make_native(module: nn.Module) -> None:
    for name, child in module.named_children():
        if type(child) is InstanceNorm:
            setattr(module, name, _Native(child))
        else:
            _make_native(child)
