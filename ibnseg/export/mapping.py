"""From a network's classes to those of the datasets, as a small YAML file says it.

classes:            # the network's class, by name or number -> the datasets' class
  road: road
  11: vegetation
mean: [123.675, 116.28, 103.53]   # of values from 0 to 255; and std, order (rgb, bgr)
multiple: 32        # height and width are padded to one; the logits are cut
photo: [1024, 512]  # size that photos are scaled to, and keep_ratio; default: their own
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from .. import disk
from ..errors import DataError
from ..text import meant

KEYS = ('classes', 'mean', 'std', 'order', 'multiple', 'photo', 'keep_ratio')
_NEVER = -1e9  # the logit of a class that the network does not have


def read(path: str | Path) -> dict[str, Any]:
    """Read such a file. Raises DataError for one that cannot be used, FileNotFoundError."""
    try:
        found = yaml.safe_load(disk.read(path).decode())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f'{path}: not YAML ({" ".join(str(error).split())[:200]})') from None
    if not isinstance(found, dict):
        raise DataError(f'{path}: expected keys and values, of {", ".join(KEYS)}')
    for key in found:
        if key not in KEYS:
            raise DataError(f'{path}: unknown key {key!r:.40}{meant(key, KEYS)}; takes {KEYS}')
    for key, number, least in (('mean', 3, -1e9), ('std', 3, 0), ('photo', 2, 0)):
        value = found.get(key, [1] * number)
        right = isinstance(value, list) and len(value) == number
        if not right or not all(type(one) in (int, float) and one > least for one in value):
            raise DataError(f'{path}: {key} is {value!r:.60}; expected {number} numbers')
    if found.get('order', 'rgb') not in ('rgb', 'bgr'):
        raise DataError(f"{path}: order is {found['order']!r:.40}; expected 'rgb' or 'bgr'")
    if type(multiple := found.get('multiple', 1)) is not int or multiple < 1:
        raise DataError(f'{path}: multiple is {multiple!r:.40}; expected a whole number from 1')
    if not isinstance(found.get('classes', {}), dict):
        raise DataError(f"{path}: classes is no mapping; expected 'network class: dataset class'")
    return found


def resolve(
    given: Mapping[Any, Any] | None, names: Sequence[str], wanted: Sequence[str]
) -> tuple[list[list[int]], list[str]]:
    """Return, for each class of the datasets, the outputs of a network that mean it.

    Args:
        given: the file's `classes`; None without a file: then the names must be the same.
        names: of the network's outputs; empty where it does not state them.
        wanted: the datasets' classes.

    Returns:
        numbers of outputs, a list a class; and the names of outputs that mean none of them.

    Raises ValueError: a class that is not known on its side, or none that is known at all.
    """
    if given is None:
        if set(names) != set(wanted):
            raise ValueError(
                f'the network states the classes {_few(names) or "of none"}, the datasets have '
                f'{_few(wanted)}. Say which is which by --model-classes FILE (docs/export.md)'
            )
        given = dict(zip(names, names, strict=True))
    found: list[list[int]] = [[] for _ in wanted]
    for output, name in given.items():
        if name not in wanted:
            raise ValueError(
                f'classes: {output}: {name!s:.40} is no class of these datasets'
                f'{meant(name, wanted)}; they have {", ".join(wanted)}'
            )
        if type(output) is not int and str(output) not in names:
            raise ValueError(
                f'classes: the network has no output named {output!s:.40}{meant(output, names)}; '
                f'it states {_few(names) or "no names: give numbers"}'
            )
        found[list(wanted).index(name)].append(
            output if type(output) is int else list(names).index(str(output))
        )
    used = {number for numbers in found for number in numbers}
    if not used or min(used) < 0 or (names and max(used) >= len(names)):
        raise ValueError(f'classes names outputs {sorted(used)}; the network has {len(names)}')
    return found, [name for number, name in enumerate(names) if number not in used]


def _few(names: Sequence[str]) -> str:
    return ', '.join(names[:4]) + (f', ... ({len(names)})' if len(names) > 4 else '')


class Mapped(nn.Module):
    """A network with the logits of the datasets' classes.

    Outputs that mean one class give it the highest of their logits, so its label map is the
    network's own, renamed, but that outputs which mean none take no part. A class that no output
    means is never predicted.
    """

    def __init__(self, network: Any, outputs: Sequence[Sequence[int]], multiple: int = 1):
        super().__init__()
        self.network, self.outputs, self.multiple = network, outputs, multiple

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        more = [-side % self.multiple for side in (width, height)]
        padded = F.pad(images, (0, more[0], 0, more[1]), mode='replicate') if any(more) else images
        logits = self.network(padded)
        most = max(number for numbers in self.outputs for number in numbers)
        if most >= logits.shape[1]:
            raise ValueError(f'classes names output {most}; the network has {logits.shape[1]}')
        if any(more):
            logits = F.interpolate(logits, padded.shape[2:], mode='bilinear')[..., :height, :width]
        none = torch.full_like(logits[:, 0], _NEVER)
        maps = [logits[:, list(of)].amax(1) if of else none for of in self.outputs]
        return torch.stack(maps, 1)
