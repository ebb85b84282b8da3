"""Methods that are no layers of a network: of the photos, of the weights, adapters.

A new one is a row of `OTHERS`, and a config.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Other:
    """A method that is no layer, and what a config has to have for it.

    Args:
        paper, cost, needs: for the list, as those of a layer.
        at: what it changes: 'photos', 'weights' or 'adapters'.
        config: that has it, or the command that does it.
        style: arguments of a step `OtherStyle` behind the crop.
        segmentor: arguments of the model, its `type` among them.
        hook: one of `custom_hooks`.

    One without style, segmentor and hook can't be put into any config by its name alone.
    """

    paper: str
    at: str
    cost: str
    config: str
    needs: str = ''
    style: Mapping[str, Any] = field(default_factory=dict)
    segmentor: Mapping[str, Any] = field(default_factory=dict)
    hook: Mapping[str, Any] = field(default_factory=dict)

    @property
    def by_name(self) -> bool:
        """Whether `--method` can put it into a config."""
        return bool(self.style or self.segmentor or self.hook)


_PARTNER = 'nothing at test time; in training the loader reads a second photo where it acts'
_FROZEN = "model.backbone.type='FrozenViT', ibnseg[timm] and a file of its weights"

OTHERS: dict[str, Other] = {
    'fda': Other(
        paper='Yang & Soatto, "FDA: Fourier Domain Adaptation for Semantic Segmentation", CVPR '
        "2020; here among the source's own photos",
        at='photos',
        cost=f'{_PARTNER}, and makes two Fourier transforms',
        config='configs/methods/fda.py',
        style=dict(style='fourier', prob=0.5, options=dict(band=0.01)),
    ),
    'reinhard': Other(
        paper='Reinhard et al., "Color Transfer between Images", IEEE CG&A 2001; here among the '
        "source's own photos",
        at='photos',
        cost=_PARTNER,
        config='configs/methods/reinhard.py',
        style=dict(style='reinhard', prob=0.5),
    ),
    'advstyle': Other(
        paper='Zhong et al., "Adversarial Style Augmentation for Domain Generalized Urban-Scene '
        'Segmentation", NeurIPS 2022',
        at='photos',
        cost='a step takes about three times as long, with twice the maps; nothing at test time',
        config='configs/methods/advstyle.py',
        needs="model.type='AdvStyleSegmentor'",
        segmentor=dict(type='AdvStyleSegmentor', adversarial_rate=3.0),
    ),
    'ema': Other(
        paper='Tarvainen & Valpola, "Mean teachers are better role models", NeurIPS 2017: the mean '
        'of the weights, those of late iterations more',
        at='weights',
        cost='the weights a second time; nothing at test time',
        config='configs/methods/ema.py',
        needs="dict(type='EMAHook') in custom_hooks",
        hook=dict(type='EMAHook', momentum=0.001, update_buffers=True),
    ),
    'swad': Other(
        paper='Cha et al., "SWAD: Domain Generalization by Seeking Flat Minima", NeurIPS 2021',
        at='weights',
        cost='the weights up to 8 times more in checkpoints, a validation loss each segment, a '
        'pass for the statistics at the end; nothing at test time',
        config='configs/methods/swad.py',
        needs="dict(type='SWAD') in custom_hooks",
        # 1,000 of 40,000 iterations.
        hook=dict(type='SWAD', interval=0.025),
    ),
    'average': Other(
        paper='Wortsman et al., "Model soups", ICML 2022; Termoehlen et al., "A Re-Parameterized '
        'Vision Transformer (ReVT) for Domain-Generalized Semantic Segmentation", ICCVW 2023',
        at='weights',
        cost='several trainings; nothing at test time',
        config='ibnseg weights average',
        needs='checkpoints of several trainings',
    ),
    'rein': Other(
        paper='Wei et al., "Stronger, Fewer, & Superior: Harnessing Vision Foundation Models for '
        'Domain Generalized Semantic Segmentation", CVPR 2024',
        at='adapters',
        cost='3.0 M parameters on DINOv2-L; the rest is frozen',
        config='configs/foundation/rein.py',
        needs=_FROZEN,
    ),
    'soma': Other(
        paper='Yun et al., "SoMA: Singular Value Decomposed Minor Components Adaptation for Domain '
        'Generalizable Representation Learning", CVPR 2025',
        at='adapters',
        cost='4.9 M trained parameters on DINOv2-L; the rest is frozen',
        config='configs/foundation/soma.py',
        needs=_FROZEN,
    ),
}
