"""What one file is, by itself: decoded once, to its end."""

import hashlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from .. import disk, labels
from ..domains import DataError, pixels, read_raw

#: Version of `look`: facts that another one found are not read from the cache.
FACTS = 4

Facts = dict[str, Any]


def look(path: Path, role: str, space: str) -> Facts:
    """Return what a file is, as JSON can hold it.

    `wrong` is a list of [kind, detail]. The rest is there as far as it is known: `size` (width,
    height), `orientation` (EXIF), `pixels`, a digest of the decoded picture (not of a photo of one
    colour), and for a label that could be read `drawn`, a digest of its ids (None for one
    id), and `classes`, the training classes in it.

    Args:
        role: 'photo' or 'label'.
        space: the label space.
    """
    facts: Facts = {'wrong': []}
    try:
        data = disk.read(path)
        if not data:
            raise DataError('0 bytes', 'empty')
        if role == 'photo':
            _photo(facts, data)
        else:
            _label(facts, path, data, space)
    except OSError as error:
        facts['wrong'].append(['unreadable', error.strerror or type(error).__name__])
    except DataError as error:
        text = str(error).removeprefix(f'{path}: ').partition('. ')[0]
        facts['wrong'].append([error.kind or 'encoding', text])
    return facts


def _photo(facts: Facts, data: bytes) -> None:
    image = _picture(facts, data)
    if fault := pixels.photo_fault(image):
        raise DataError(fault, 'depth')
    values, wrong = np.asarray(image), facts['wrong']
    if _all(values, lambda part: part == values[0, 0]):
        wrong.append(['constant', 'every pixel is the same'])
        del facts['pixels']
    elif image.mode in ('1', 'L', 'LA', 'I', 'I;16') or (
        image.mode in ('RGB', 'RGBA') and _all(values[..., :3], lambda part: part == part[..., :1])
    ):
        wrong.append(['grey', f'mode {image.mode}, red, green and blue are equal'])
    deep = pixels.is_deep(data)
    if deep or image.mode not in ('RGB', 'L') or image.format not in ('PNG', 'JPEG'):
        depth = ' of 16 bits' if deep else ''
        text = f'{image.format}{depth}, mode {image.mode}; expected 8-bit RGB'
        wrong.append(['photo-form', text])


def _label(facts: Facts, path: Path, data: bytes, space: str) -> None:
    if labels.space(space).encoding != 'polygons':
        _picture(facts, data)
    elif not data.lstrip().startswith(b'{'):
        raise DataError(_guess(data), 'wrong-type')
    raw = read_raw(path, space)
    ids = np.unique(raw).tolist()
    drawn = _digest(raw.shape, raw.tobytes()) if len(ids) > 1 else None
    facts |= {'size': [*raw.shape[::-1]], 'drawn': drawn} | facts
    names, lut = labels.space(space).names, labels.lut(space)
    facts['classes'] = sorted({int(lut[raw]) for raw in ids} - {labels.IGNORE})
    if all(lut[raw] == labels.IGNORE for raw in ids):
        text = ', '.join(f'{raw} ({names[raw]})' if raw < len(names) else str(raw) for raw in ids)
        facts['wrong'].append(['all-ignored', f'its ids have no class: {text:.200}'])
    elif len(ids) == 1:
        facts['wrong'].append(['single-class', f'id {ids[0]} in every pixel'])


def _picture(facts: Facts, data: bytes) -> Image.Image:
    """Decode a picture. Raises DataError where that fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of Pillow, on odd metadata and large pictures
            Image.open(io.BytesIO(data)).verify()  # checksums, which load() passes over
            image = Image.open(io.BytesIO(data))
            image.load()
            orientation = pixels.orientation(image)
    except Exception as error:  # Pillow raises nearly anything of bad files
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            if not data.startswith((b'\x89PNG', b'\xff\xd8\xff')):
                raise DataError(_guess(data), 'wrong-type') from None
            reason = 'its header does not decode'
        raise DataError(f'{reason}, {len(data):,} bytes', 'damaged') from None
    facts['size'] = list(image.size)
    facts['orientation'] = orientation
    facts['pixels'] = _digest((image.mode, image.size), image.tobytes())
    return image


def _digest(kind: tuple, content: bytes) -> str:
    return hashlib.sha256(repr(kind).encode() + content).hexdigest()[:32]


def _guess(data: bytes) -> str:
    """Say what `data` is that should have been a picture."""
    head = data[:256].lstrip().lower()
    for begin, what in (
        ((b'<!doctype', b'<html', b'<?xml'), 'a web page: was a login page saved in its place?'),
        (b'version https://git-lfs', 'a Git LFS pointer: fetch the file itself with git lfs pull'),
        (b'pk\x03\x04', 'a zip archive'),
    ):
        if head.startswith(begin):
            return what
    if not any(data[:4096]):
        return f'{len(data):,} bytes that begin with zeros: a download or copy not finished'
    return f'{len(data):,} bytes that begin with {data[:8]!r}'


def _all(pixels: np.ndarray, holds: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Whether something holds of every pixel; most photos show on a few that it does not."""
    return all(bool(holds(part).all()) for part in (pixels[::17, ::17], pixels))
