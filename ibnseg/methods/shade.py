"""SHADE: consistency of a photo's two styles, and features close to a frozen teacher's."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import revert_sync_batchnorm
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from mmseg.utils import add_prefix
from torch import Tensor, nn

from .hallucination import consistency, retrospection
from .recorder import with_loss
from .segmentor import SiteSegmentor


@MODELS.register_module()
class SHADESegmentor(SiteSegmentor):
    """A segmentor whose batch holds each photo in two styles (placement 'shade').

    Two losses are added, logged as `loss_consistency` and `loss_retrospection`: the divergence of
    the predictions of both styles, and the distance of the last features to those that a frozen
    teacher has of the photo, on pixels of some classes.

    Args:
        consistency: weight of the first.
        retrospection: weight of the second.
        teacher: config of a backbone whose last features have the size of `backbone`'s, with the
            weights that it starts from; None leaves the second loss out. It is part of the
            checkpoint, so that a resumed run has it.
        classes: those of the second loss; default: the things of Cityscapes.

    Raises ValueError for a placement that does not double the batch, with a neck, and for a teacher
    whose last features have another shape.

    Source: Zhao et al., ECCV 2022.
    """

    def __init__(
        self,
        *args: Any,
        consistency: float = 10,
        retrospection: float = 1,
        teacher: Mapping[str, Any] | None = None,
        classes: Sequence[int] = (6, 7, 11, 12, 13, 14, 15, 16, 17, 18),
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        if self.times != 2 or not with_loss(self.backbone, 'restyle'):
            raise ValueError(
                "SHADESegmentor: no layer of model.backbone doubles the batch. Add 'shade' to its "
                'placement, or take SiteSegmentor'
            )
        if self.with_neck or isinstance(self.decode_head, nn.ModuleList):
            raise ValueError('SHADESegmentor takes no neck and no cascade of heads')
        self.weights, self.classes = (consistency, retrospection), tuple(classes)
        self.teacher = None
        if teacher is not None:
            self.teacher = revert_sync_batchnorm(MODELS.build(dict(teacher)))
            self.teacher.requires_grad_(False).eval()
            self._compare()

    def _compare(self) -> None:
        """Compare the shapes of both networks' last features, before a pass over all photos."""
        size = getattr(self.data_preprocessor, 'size', None) or (64, 64)
        nets = [copy.deepcopy(net).to('meta').eval() for net in (self.backbone, self.teacher)]
        with torch.no_grad():
            x = torch.zeros(1, 3, *size, device='meta')
            try:
                maps = [net(x)[-1] for net in nets]
            except (RuntimeError, NotImplementedError):  # no shapes without values: then in a step
                return
        _check_taught(*maps)

    def train(self, mode: bool = True) -> 'SHADESegmentor':
        super().train(mode)
        if getattr(self, 'teacher', None) is not None:
            self.teacher.eval()
        return self

    def own_losses(self, inputs: Tensor, samples: list) -> dict[str, Tensor]:
        features, head = self.extract_feat(inputs), self.decode_head
        logits = head.forward(features)
        losses = add_prefix(head.loss_by_feat(logits, samples), 'decode')
        if self.with_auxiliary_head:
            losses |= self._auxiliary_head_forward_train(features, samples)
        labels = torch.stack([sample.gt_sem_seg.data[0] for sample in samples])
        whole = resize(logits, labels.shape[1:], mode='bilinear', align_corners=head.align_corners)
        losses['loss_consistency'] = self.weights[0] * consistency(whole)
        if self.teacher is not None:
            with torch.no_grad():
                taught = self.teacher(inputs)[-1]
            _check_taught(features[-1], taught)
            distance = retrospection(
                features[-1], torch.cat([taught, taught]), labels, self.classes
            )
            losses['loss_retrospection'] = self.weights[1] * distance
        return losses


def _check_taught(y: Tensor, taught: Tensor) -> None:
    if y.shape[1:] != taught.shape[1:]:
        one, other = ('x'.join(map(str, maps.shape[1:])) for maps in (y, taught))
        raise ValueError(
            f'model.teacher: its last features are {other} (channels, height, width), those of '
            f'model.backbone {one}; expected the same. Give the teacher the depth, strides, '
            'dilations and out_indices of the backbone'
        )
