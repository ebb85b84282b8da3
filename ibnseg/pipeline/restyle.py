"""Training photos in the style of other photos of the source."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from .. import disk
from ..errors import DataError
from ..text import check_options, meant
from . import photos, styles
from .pool import Pool


@TRANSFORMS.register_module()
class OtherStyle(BaseTransform):
    """Give a photo the style of another one, drawn from all sources; its label stays.

    The partner follows from (seed, position), as all augmentation. It is one of the training's own
    photos, so that no other domain is seen, unless `photos` names some. The photo is uint8 BGR
    (H, W, 3), at any step between loading and packing; the partner is taken whole, in the photo's
    size.

    Args:
        style: a name in `ibnseg.pipeline.styles.STYLES`: 'fourier' (FDA; Yang & Soatto, CVPR 2020),
            'reinhard' (Reinhard et al., IEEE CG&A 2001) or 'histogram'.
        prob: of a photo being changed.
        options: of the style: dict(band=0.05) of 'fourier', dict(as_released=True) of 'reinhard'.
        photos: partners instead: a folder, a list of files (*.txt), or a domain ('name:split').
            The record names them. Photos of a target make it adaptation, as FDA was published; a
            report marks such a row.
        data_root: of a domain in `photos`; default: that of the training's dataset.

    Raises:
        ValueError: an unknown style or option, or prob outside [0, 1].
        DataError: the partner cannot be read, there are no `photos`, or the photo is not of a
            `DomainDataset`.
    """

    def __init__(
        self,
        style: str = 'fourier',
        prob: float = 0.5,
        options: Mapping[str, Any] | None = None,
        photos: str | None = None,
        data_root: str = '',
    ):
        if style not in styles.STYLES:
            raise ValueError(
                f'OtherStyle: style is {style!r}; choose from {list(styles.STYLES)}'
                f'{meant(style, styles.STYLES)}'
            )
        if not 0 <= prob <= 1:
            raise ValueError(f'OtherStyle: prob is {prob!r}; expected a number from 0 to 1')
        known = [*inspect.signature(styles.STYLES[style]).parameters][2:]  # after the two photos
        check_options(f'OtherStyle: {style}', options or (), known)
        self.style, self.prob, self.options = style, prob, dict(options or {})
        self.pool = None if photos is None else Pool(photos, data_root)

    def unlabelled(self, data_root: str) -> dict[str, Any] | None:
        """Return what a record says of photos beside the sources, see `Pool.told`."""
        return None if self.pool is None else self.pool.told(data_root)

    def transform(self, results: dict) -> dict:
        if np.random.rand() >= self.prob:
            return results
        partner = self.pool.draw() if self.pool else self._of_sources(results)
        height, width = results['img'].shape[:2]
        partner = cv2.resize(partner, (width, height), interpolation=cv2.INTER_AREA)
        change = styles.STYLES[self.style]
        results['img'] = change(results['img'], partner, **self.options)
        return results

    def _of_sources(self, results: dict) -> np.ndarray:
        if 'draw_photo' not in results:
            raise DataError(
                f'{results.get("img_path")}: OtherStyle draws its partner from the photos of a '
                'DomainDataset, and this one is of another. Leave the step away'
            )
        path = Path(results['draw_photo']())
        return photos.read(disk.read(path), path)
