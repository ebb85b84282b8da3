"""Photos with another appearance and the same content: colours, contrast, style.

For `ibnseg analyze`. A change is a plain dict, `describe`'s result: it is a step of a test pipeline
and a field of the protocol (`ibnseg.measure.protocols.Protocol.altered`). Its `where` says where
files lie on this machine and belongs to no protocol.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from .. import disk, domains, machine
from ..errors import DataError
from ..text import meant
from . import corruptions, photos
from .styles import STYLES

_IMAGES = ('.png', '.jpg', '.jpeg')


@TRANSFORMS.register_module()
class ChangeInput(BaseTransform):
    """Scale and shift what the network gets: float32, not clipped. Stands right before packing.

    A pixel x of a channel becomes about + scale * (x - about) + shift.

    Args:
        scale: factor.
        about, shift: of each channel of the photo, BGR, in grey levels.
        name: as `describe`.
    """

    def __init__(
        self, scale: float, about: Sequence[float], shift: Sequence[float], name: str = ''
    ):
        self.scale = np.float32(scale)
        self.about, self.shift = np.float32(about), np.float32(shift)

    def transform(self, results: dict) -> dict:
        photo = results['img'].astype(np.float32)
        if self.scale != 1:
            photo = self.about + self.scale * (photo - self.about)
        results['img'] = photo + self.shift
        return results


@TRANSFORMS.register_module()
class Restyle(BaseTransform):
    """Give a photo the style of a partner, which (seed, number of the sample) draws.

    Args:
        style: of `styles.STYLES`.
        of: domain or folder that the partners are from, for the protocol.
        digest: of the partners, for the protocol.
        seed: of the draw.
        where: the partners, as the arguments of `image_files`.
        name: as `describe`.

    Raises:
        DataError: as `image_files`.
    """

    def __init__(
        self,
        style: str,
        of: str,
        digest: str,
        seed: int,
        where: Sequence[str],
        name: str = '',
    ):
        self.style, self.seed, self.partners = STYLES[style], seed, image_files(*where)

    def transform(self, results: dict) -> dict:
        draw = np.random.default_rng((self.seed, results['sample_idx']))
        path = self.partners[draw.integers(len(self.partners))]
        results['img'] = self.style(results['img'], _read(path))
        return results


@TRANSFORMS.register_module()
class Stylised(BaseTransform):
    """Take a user's stylised copy in the place of each photo.

    It has the photo's size, and its path below the dataset, or its file name where that is enough;
    the suffix may differ.

    Args:
        digest: of the copies, for the protocol.
        where: their folder.
        name: as `describe`.

    Raises:
        DataError: no copy, several, or one of another size.
    """

    def __init__(self, digest: str, where: str, name: str = ''):
        self.where = where

    def transform(self, results: dict) -> dict:
        photo = Path(results['img_path'])
        copy = _copy_of(photo, self.where)
        image = _read(copy)
        (height, width), (tall, wide) = image.shape[:2], results['img'].shape[:2]
        if (height, width) != (tall, wide):
            raise DataError(
                f'{copy}: is {width}x{height}, its photo {photo} is {wide}x{tall}; expected equal '
                'sizes. Stylise the photo in its own size'
            )
        results['img'] = image
        return results


def _copy_of(photo: Path, folder: str) -> Path:
    found = _by_name(folder).get(photo.stem, [])
    ends = photo.with_suffix('').parts[::-1]
    for path in found:
        own = path.relative_to(folder).with_suffix('').parts[::-1]
        if len(found) == 1 or ends[: len(own)] == own:
            return path
    raise DataError(
        f'{folder}: {len(found)} images are named {photo.stem}; expected one for each photo, under '
        f"the photo's file name or its path below the dataset ({photo})"
    )


@cache
def _by_name(folder: str) -> dict[str, list[Path]]:
    names: dict[str, list[Path]] = {}
    for path in images_in(folder):
        names.setdefault(path.stem, []).append(path)
    return names


def images_in(folder: str | Path) -> list[Path]:
    """Return the images below a folder, sorted. Raises DataError where there are none."""
    found = sorted(p for p in Path(folder).rglob('*') if p.suffix.lower() in _IMAGES)
    if not found:
        raise DataError(f'{folder}: no images there (*.png, *.jpg). Name a folder that holds some')
    return found


def _listed(path: Path) -> list[Path]:
    try:
        lines = disk.read(path).decode().splitlines()
    except OSError as error:
        why = machine.said(error) or f'{path}: {error.strerror}'
        raise DataError(f'{why}; expected a list of images') from None
    named = [path.parent / line.strip() for line in lines if line.strip()]
    if absent := [file for file in named if not file.exists()]:
        raise DataError(f'{path} names {absent[0]}, which does not exist. Paths are relative to it')
    files = [file for one in named for file in (images_in(one) if one.is_dir() else [one])]
    if not files:
        raise DataError(f'{path}: names no images; expected an image or a folder of some a line')
    return files


def _read(path: str | Path) -> np.ndarray:
    try:
        return photos.read(disk.read(path), path)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f'{path}: unreadable image ({error}). Take the original file') from error


def is_domain(text: str) -> bool:
    """Whether images are named by a domain; else by a folder or a list."""
    return domains.known(text) or not (Path(text).is_dir() or Path(text).suffix == '.txt')


@cache
def image_files(text: str, data_root: str = '') -> tuple[Path, ...]:
    """Return the images of a domain ('name:split'), a folder or a list.

    A list is a .txt file that names an image or a folder of images a line, relative to the list.

    Raises DataError: none of these; files missing.
    """
    if is_domain(text):
        return tuple(photo for photo, _ in domains.use(text, data_root).pairs)
    return tuple(_listed(Path(text)) if Path(text).suffix == '.txt' else images_in(text))


@cache
def digest_of(text: str, data_root: str = '') -> str:
    """Return eight digits over the names of a domain's pairs, or the contents of other files."""
    if is_domain(text):
        return domains.use(text, data_root).digest
    content = ''.join(disk.sha256(file) for file in image_files(text))
    return hashlib.sha256(content.encode()).hexdigest()[:8]


_SHIFT = re.compile(r'(rgb|r|g|b)([+-]\d+(?:\.\d+)?)')
_SCALE = re.compile(r'std\*(\d+(?:\.\d+)?)')


def describe(
    name: str,
    about: Sequence[float] = (0, 0, 0),
    style_from: str | None = None,
    data_root: str = '',
    stylised: str | None = None,
    seed: int = 0,
) -> dict[str, Any] | None:
    """Return the pipeline step of a change by its name; None for 'none'.

    Args:
        name: 'rgb+50', 'r+50' and the like (grey levels, all channels or one), 'std*1.5' (the
            normalised input times 1.5), a key of `styles.STYLES`, 'stylised', or a corruption and
            its severity ('fog-3', `corruptions`).
        about: mean of the normalisation, BGR; for 'std*'.
        style_from: images to take a style from, see `image_files`.
        data_root: of their domain.
        stylised: folder of stylised copies.
        seed: of the draw of partners, and of corruptions.

    Raises:
        ValueError: unknown name, or its images are not given.
        DataError: as `image_files`.
    """
    if name == 'none':
        return None
    none = dict(scale=1.0, about=[0.0] * 3, shift=[0.0] * 3)
    if match := _SHIFT.fullmatch(name):
        shift = [float(match[2]) * (channel in match[1]) for channel in 'bgr']
        return dict(type='ChangeInput', name=name, **none | dict(shift=shift))
    if match := _SCALE.fullmatch(name):
        scaled = dict(scale=float(match[1]), about=[float(value) for value in about])
        return dict(type='ChangeInput', name=name, **none | scaled)
    if step := corruptions.describe(name, data_root, seed):
        return step
    if name == 'stylised' and stylised:
        digest = digest_of(stylised)
        return dict(type='Stylised', name=name, digest=digest, where=str(stylised))
    if name in STYLES and style_from:
        digest = digest_of(style_from, data_root)
        of = style_from if is_domain(style_from) else Path(style_from).name
        step = dict(type='Restyle', name=name, style=name, of=of, digest=digest, seed=seed)
        return step | dict(where=[style_from, data_root])
    if name in STYLES or name == 'stylised':
        option = '--stylised FOLDER' if name == 'stylised' else '--style-from DOMAIN or FOLDER'
        raise ValueError(f'change {name!r} needs images: give {option}')
    known = ('none', 'rgb+50', 'r+50', 'std*1.5', *STYLES, 'stylised', 'fog-3')
    raise ValueError(f'unknown change {name!r}; choose from {known}{meant(name, known)}')


def without_place(step: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a step without the place of files: what decides a result."""
    return {key: value for key, value in step.items() if key != 'where'} if step else None
