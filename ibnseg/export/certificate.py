"""Whether an exported network gives what torch gives, on photos, at two sizes and two batches."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import torch
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample

from ..inference.model import Model
from .engines import Engine
from .network import normalisation

#: The share of the pixels that must get the same class, and what logits may differ by, relative to
#: the largest (at least 1) of a batch.
AGREEMENT, TOLERANCE = 0.9999, 1e-4
BATCHES = (1, 2)


@dataclass(frozen=True)
class Case:
    """One batch in both.

    Args:
        size: (height, width) of the photos.
        photos: their names.
        agreement: share of the pixels whose class is the same.
        difference, largest: of the logits: the largest difference, the largest value.
    """

    size: tuple[int, int]
    photos: tuple[str, ...]
    agreement: float
    difference: float
    largest: float

    @property
    def passed(self) -> bool:
        within = self.difference <= TOLERANCE * max(1.0, self.largest)
        return self.agreement >= AGREEMENT and within  # NaN is not

    def content(self) -> dict[str, Any]:
        """Return the fields for a file."""
        return asdict(self) | dict(batch=len(self.photos), passed=self.passed)


def certify(model: Model, engine: Engine, photos: Mapping[str, np.ndarray]) -> list[Case]:
    """Run photos through torch and through an engine.

    Args:
        model: the network as it was trained; nothing of it is folded.
        engine: its export, with what it says of itself.
        photos: by name, uint8 RGB (H, W, 3). The first one's size is one of the two sizes; the
            other is smaller, odd, and of another ratio.
    """
    names = [*photos]
    height, width = photos[names[0]].shape[:2]
    cases = []
    for size in ((height, width), (max(33, height * 3 // 4 | 1), max(33, width * 4 // 5 | 1))):
        for batch in BATCHES:
            used = [names[(len(cases) + i) % len(names)] for i in range(batch)]
            images = np.stack([_fitted(photos[name], size) for name in used])
            cases.append(_case(model, engine, images, used))
    return cases


def _fitted(photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(photo, size[::-1], interpolation=cv2.INTER_AREA)


@torch.no_grad()
def _case(model: Model, engine: Engine, images: np.ndarray, names: Sequence[str]) -> Case:
    network, size = model.network, images.shape[1:3]
    bgr = torch.from_numpy(np.ascontiguousarray(images[..., ::-1].transpose(0, 3, 1, 2)))
    samples = [SegDataSample(metainfo=dict(img_shape=size)) for _ in images]
    data = network.data_preprocessor(dict(inputs=[*bgr], data_samples=samples), False)
    wanted = network(data['inputs'], mode='tensor')
    given = images if engine.about['input']['normalised_inside'] else normalised(model, images)
    try:
        found = torch.from_numpy(engine(given))
    except Exception as error:  # an engine's own
        raise ValueError(
            f'{engine.name} cannot run the export on a batch of {len(images)} photos of '
            f'{size[1]}x{size[0]}: {" ".join(str(error).split())[:300]}'
        ) from error
    align = network.decode_head.align_corners
    full = [resize(one, size, mode='bilinear', align_corners=align) for one in (wanted, found)]
    if found.shape != wanted.shape:  # logits in the size of the input
        wanted = full[0]
    if found.shape != wanted.shape:
        raise ValueError(f'the export gives {tuple(found.shape)}, torch {tuple(wanted.shape)}')
    same = full[0].argmax(1) == full[1].argmax(1)
    difference, largest = (wanted - found).abs().max(), wanted.abs().max()
    return Case(size, tuple(names), same.double().mean().item(), difference.item(), largest.item())


def normalised(model: Model, images: np.ndarray) -> np.ndarray:
    """Return uint8 RGB images (N, H, W, 3) as a network's input, float32 (N, 3, H, W)."""
    mean, std, rgb = normalisation(model.config.model.data_preprocessor)
    ordered = (images if rgb else images[..., ::-1]).astype(np.float32)
    scaled = (ordered - np.float32(mean)) / np.float32(std)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
