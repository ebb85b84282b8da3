"""WildNet: training photos in the styles of wild photos, and with their contents."""

import contextlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData
from mmseg.models.utils import resize
from mmseg.registry import MODELS, TRANSFORMS
from mmseg.utils import add_prefix
from torch import Tensor, nn
from torch.nn import functional as F

from ..pipeline.pool import Pool
from . import ranks, wild
from .segmentor import SiteSegmentor

_WIDTH = 256


@TRANSFORMS.register_module()
class WildPhoto(BaseTransform):
    """Add a wild photo to a packed training sample; it stands behind `PackSegInputs`.

    The photo follows from (seed, position), as all augmentation. It is scaled so that it covers the
    crop, cut at a random place and flipped half of the time; the sample has it as `wild`, uint8 BGR
    (3, H, W). Labels are not looked for.

    Args:
        photos: a folder, a list of files (*.txt), or a domain ('name:split').
        data_root: of a domain; default: that of the training's dataset.

    Raises:
        ValueError: no photos named. DataError: none there, or one that cannot be read.
    """

    def __init__(self, photos: str | None = None, data_root: str = ''):
        if not isinstance(photos, str):
            raise ValueError(
                f'WildPhoto: photos is {photos!r}; expected a folder of photos that no evaluation '
                'uses (WildNet took ImageNet). Copy configs/methods/wildnet.py and name it there, '
                'or with --cfg-options train_dataloader.dataset.pipeline.N.photos=FOLDER, N the '
                'place of the step, from 0'
            )
        self.pool = Pool(photos, data_root)

    def unlabelled(self, data_root: str) -> dict[str, Any]:
        """Return what a record says of the photos, see `Pool.told`."""
        return self.pool.told(data_root)

    def transform(self, results: dict) -> dict:
        photo = self.pool.draw()
        height, width = results['inputs'].shape[1:]
        scale = max(height / photo.shape[0], width / photo.shape[1])
        tall, wide = (max(side, round(scale * n)) for side, n in zip(
            (height, width), photo.shape, strict=False))  # fmt: skip
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        photo = cv2.resize(photo, (wide, tall), interpolation=how)
        top, left = np.random.randint(tall - height + 1), np.random.randint(wide - width + 1)
        photo = photo[top : top + height, left : left + width]
        if np.random.rand() < 0.5:
            photo = photo[:, ::-1]
        data = torch.from_numpy(np.ascontiguousarray(photo.transpose(2, 0, 1)))
        results['data_samples'].wild = PixelData(data=data)
        return results


@MODELS.register_module()
class WildNetSegmentor(SiteSegmentor):
    """A segmentor whose batch holds each photo as it is and in the style of a wild one.

    Wild photos go through the network first, without gradient; then the batch, doubled by the
    layers `WildStyle` (placement 'wildnet'). The losses are those of both halves, summed, and
    `loss_consistency` and `loss_extension`: see `wild.divergence`, `wild.extension`.

    State dict: `proj.{0,2}`, `wild_cont_dict` (256, columns), `wild_cont_dict_ptr`. The dictionary
    holds the last contents of wild photos, of all processes.

    Args:
        consistency: weight of the divergence of both predictions.
        auxiliary: of that of the auxiliary heads, besides.
        extension: weight of content extension.
        columns: of the dictionary.
        grids: sides of the grids of pixels that are compared: of a training photo, of a wild one.
        temperature: of the comparison.

    Raises ValueError for a placement without `WildStyle`, and with a cascade of heads.

    Source: Lee et al., CVPR 2022.
    """

    def __init__(
        self,
        *args: Any,
        consistency: float = 10,
        auxiliary: float = 0.4,
        extension: float = 0.1,
        columns: int = 393_216,
        grids: tuple[int, int] = (64, 16),
        temperature: float = 0.07,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        if self.times != 2 or not any(wild.layers(self.backbone)):
            raise ValueError(
                'WildNetSegmentor: model.backbone has no layer WildStyle, or more that double the '
                "batch. Add 'wildnet' to its placement, or take SiteSegmentor"
            )
        if isinstance(self.decode_head, nn.ModuleList):
            raise ValueError('WildNetSegmentor takes no cascade of heads')
        for name, value in (('columns', columns), *(('grids', side) for side in grids)):
            if not (isinstance(value, int) and value >= 1):
                raise ValueError(f'WildNetSegmentor: {name} is {value!r}; expected numbers from 1')
        self.weights = dict(consistency=consistency, auxiliary=auxiliary, extension=extension)
        self.grids, self.temperature = tuple(grids), temperature
        linear = nn.Linear(self.decode_head.channels, _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        self.proj = nn.Sequential(linear[0], nn.ReLU(), linear[1])
        self.register_buffer('wild_cont_dict', F.normalize(torch.randn(_WIDTH, columns), dim=0))
        self.register_buffer('wild_cont_dict_ptr', torch.zeros(1, dtype=torch.long))

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        contents = self._watch(self._wild(data_samples).to(inputs.dtype))
        losses = super().loss(inputs, data_samples)
        # Whole photos, as they are dealt out to processes.
        rows = ranks.dealt(contents.flatten(2).mT).reshape(-1, _WIDTH)
        wild.replace_oldest(self.wild_cont_dict, self.wild_cont_dict_ptr, rows)
        return losses

    def _wild(self, samples: list) -> Tensor:
        if absent := [one for one in samples if 'wild' not in one]:
            where = absent[0].get('img_path', 'a sample')
            raise ValueError(
                f"WildNetSegmentor: {where} comes without a wild photo. Add dict(type='WildPhoto', "
                'photos=FOLDER) behind PackSegInputs in train_dataloader.dataset.pipeline'
            )
        given = dict(inputs=[sample.wild.data for sample in samples])
        return self.data_preprocessor(given, training=False)['inputs']

    @torch.no_grad()
    def _watch(self, x: Tensor) -> Tensor:
        """Have the layers see wild photos; returns the photos' contents, (N, 256, side, side)."""
        layers = [*wild.layers(self.backbone)]
        for layer in layers:
            layer.watching = True
        try:
            with self._decoded() as seen:
                self.decode_head.forward(self.extract_feat(x))
        finally:
            for layer in layers:
                layer.watching = False
        return self._contents(seen[0], self.grids[1])

    @contextlib.contextmanager
    def _decoded(self) -> Iterator[list[Tensor]]:
        """Give a list that fills with what the main head classifies, (N, channels, H, W)."""
        seen: list[Tensor] = []
        head = self.decode_head
        handle = (head.dropout or head.conv_seg).register_forward_pre_hook(
            lambda module, given: seen.append(given[0])
        )
        try:
            yield seen
        finally:
            handle.remove()

    def _contents(self, features: Tensor, side: int) -> Tensor:
        found = self.proj(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return wild.on_grid(found, side)

    def own_losses(self, inputs: Tensor, samples: list) -> dict[str, Tensor]:
        features, head = self.extract_feat(inputs), self.decode_head
        labels = torch.stack([sample.gt_sem_seg.data[0] for sample in samples])
        with self._decoded() as seen:
            logits = head.forward(features)
        losses = add_prefix(head.loss_by_feat(logits, samples), 'decode')
        divergence = self._divergence(logits, labels)
        for prefix, one in self._auxiliary():
            logits = one.forward(features)
            losses |= add_prefix(one.loss_by_feat(logits, samples), prefix)
            divergence = divergence + self.weights['auxiliary'] * self._divergence(logits, labels)
        # The mean over both halves, which are to be summed.
        losses = {key: 2 * v if 'loss' in key else v for key, v in losses.items()}
        s, w = self._contents(seen[0], self.grids[0]).chunk(2)
        small = F.interpolate(labels[: len(s), None].double(), s.shape[2:], mode='nearest')[:, 0]
        extension = wild.extension(s, w, small.long(), self.wild_cont_dict, self.temperature)
        losses['loss_consistency'] = self.weights['consistency'] * divergence
        losses['loss_extension'] = self.weights['extension'] * extension
        return losses

    def _auxiliary(self) -> list[tuple[str, nn.Module]]:
        if not self.with_auxiliary_head:
            return []
        if isinstance(self.auxiliary_head, nn.ModuleList):
            return [(f'aux_{i}', head) for i, head in enumerate(self.auxiliary_head)]
        return [('aux', self.auxiliary_head)]

    def _divergence(self, logits: Tensor, labels: Tensor) -> Tensor:
        corners = self.decode_head.align_corners
        whole = resize(logits, labels.shape[1:], mode='bilinear', align_corners=corners)
        return wild.divergence(*whole.chunk(2))
