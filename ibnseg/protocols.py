"""How a domain was measured: what two numbers must share to be compared."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from . import domains, labels


@dataclass(frozen=True)
class Protocol:
    """One domain's evaluation setting. Equal settings have equal hashes.

    Args:
        name: 'native' where labels keep their size and predictions are brought to it.
        domain: data set.
        split: its split.
        images: how many.
        photo: size the photos are scaled to as (width, height), keeping their ratio or not
            (`keep_ratio`), or None for their own.
        mode: 'whole' or 'slide', with `crop` and `stride` (height, width).
        space: label space.
        classes: the training classes that count.
    """

    name: str
    domain: str
    split: str
    images: int
    photo: tuple[int, int] | None
    keep_ratio: bool | None
    mode: str
    crop: tuple[int, int] | None
    stride: tuple[int, int] | None
    space: str
    classes: tuple[int, ...]

    @property
    def hash(self) -> str:
        return protocol_hash(asdict(self))


def protocol_hash(fields: Mapping[str, Any]) -> str:
    """Return eight hexadecimal digits over every field of a protocol."""
    text = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def native(
    domain: str,
    images: int,
    pipeline: list[Mapping[str, Any]],
    test_cfg: Mapping[str, Any],
    bfloat16: bool = False,
) -> Protocol:
    """Describe what a config's test pipeline and `model.test_cfg` do to `domain` (name:split).

    With `bfloat16` (mixed precision) its name is 'native-bfloat16', another protocol.

    Raises ValueError for a pipeline that no protocol describes.
    """
    row, split = domains.parse(domain)
    steps = [step['type'] for step in pipeline]
    resize = pipeline[1] if steps[1:2] == ['Resize'] else None
    if steps != ['LoadImageFromFile', *['Resize'] * bool(resize), 'LoadLabels', 'PackSegInputs']:
        raise ValueError(
            f"test pipeline is {steps}; protocol 'native' is LoadImageFromFile, perhaps Resize, "
            'LoadLabels, PackSegInputs: labels keep their size'
        )
    if resize and np.shape(resize.get('scale')) != (2,):
        raise ValueError(f'Resize has {dict(resize)}; expected scale=(width, height)')
    slide = test_cfg.get('mode', 'whole') == 'slide'
    return Protocol(
        name='native-bfloat16' if bfloat16 else 'native',
        domain=row.name,
        split=split,
        images=images,
        photo=tuple(resize['scale']) if resize else None,
        keep_ratio=bool(resize.get('keep_ratio', False)) if resize else None,
        mode='slide' if slide else 'whole',
        crop=tuple(test_cfg['crop_size']) if slide else None,
        stride=tuple(test_cfg['stride']) if slide else None,
        space=row.space,
        classes=labels.class_ids(row.space),
    )
