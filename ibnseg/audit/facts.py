"""What one file is, by itself: decoded once, to its end. Facts are plain JSON, without verdicts."""

import hashlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from .. import labels
from ..domains import DataError, read_raw

#: Of what facts say; a cache of another version is not read.
FACTS = 1

Facts = dict[str, Any]

_ORIENTATION = 0x0112  # EXIF
_MAGIC = (b'\x89PNG', b'\xff\xd8\xff')
_EMPTY = ('empty', '0 bytes')


def photo(data: bytes) -> Facts:
    """Facts of a photo: `size` (width, height), mode, format, orientation, flat, grey, `pixels`.

    `pixels` is a digest of the decoded picture. Where it can't be decoded, only `fault`:
    [kind, detail].
    """
    facts, image = _picture(data)
    if image is None:
        return facts
    pixels = np.asarray(image)
    facts['flat'] = _all(pixels, lambda part: part == pixels[0, 0])
    facts['grey'] = image.mode in ('1', 'L', 'LA', 'I;16') or (
        image.mode in ('RGB', 'RGBA') and _all(pixels[..., :3], lambda part: part == part[..., :1])
    )
    return facts


def label(path: Path, data: bytes, space: str) -> Facts:
    """Facts of a label file: as of a photo, `ids`, {raw id: number of pixels}, and `drawn`.

    `drawn` is a digest of the ids. Where it is no label of the space: `fault`, and what is known
    of the picture.
    """
    if labels.space(space).encoding == 'polygons':
        json = data.lstrip().startswith(b'{')
        facts = {} if json else _fault(*('wrong-type', guess(data)) if data else _EMPTY)
    else:
        facts, image = _picture(data)
        if image and image.format == 'JPEG':
            facts |= _fault('lossy', 'JPEG data')
    if 'fault' in facts:
        return facts
    try:
        raw = read_raw(path, space)
    except DataError as error:
        text = str(error).removeprefix(f'{path}: ').partition('. ')[0]
        return facts | _fault(error.kind or 'encoding', text)
    ids, counts = np.unique(raw, return_counts=True)
    facts['ids'] = {str(i): int(n) for i, n in zip(ids, counts, strict=True)}
    facts['drawn'] = _digest(raw.shape, np.ascontiguousarray(raw))
    return {'size': [*raw.shape[::-1]], 'orientation': 1} | facts


def _picture(data: bytes) -> tuple[Facts, Image.Image | None]:
    if not data:
        return _fault(*_EMPTY), None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of Pillow, on odd metadata and large pictures
            Image.open(io.BytesIO(data)).verify()  # checksums, which load() passes over
            image = Image.open(io.BytesIO(data))
            image.load()
            orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception as error:  # Pillow raises nearly anything of bad files
        known = data.startswith(_MAGIC)
        if isinstance(error, UnidentifiedImageError) and not known:
            return _fault('wrong-type', guess(data)), None
        return _fault('damaged', f'{_reason(error)}, {len(data):,} bytes'), None
    return dict(
        size=list(image.size),
        mode=image.mode,
        format=image.format,
        orientation=orientation if orientation in range(1, 9) else 1,
        pixels=_digest((image.mode, image.size), image.tobytes()),
    ), image


def _digest(kind: tuple, content: bytes | np.ndarray) -> str:
    digest = hashlib.sha256(repr(kind).encode())
    digest.update(content)
    return digest.hexdigest()[:32]


def _fault(kind: str, detail: str) -> Facts:
    return {'fault': [kind, detail]}


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return 'its header does not decode'
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


def guess(data: bytes) -> str:
    """Say what `data` is that should have been a picture."""
    head = data[:256].lstrip().lower()
    if head.startswith((b'<!doctype', b'<html', b'<?xml')):
        return 'a web page: was a login page saved in its place?'
    if head.startswith(b'version https://git-lfs'):
        return 'a Git LFS pointer: fetch the file itself with git lfs pull'
    if head.startswith(b'pk\x03\x04'):
        return 'a zip archive'
    if not any(data[:4096]):
        return f'{len(data):,} bytes that begin with zeros: a download or copy not finished'
    return f'{len(data):,} bytes that begin with {data[:8]!r}'


def _all(pixels: np.ndarray, holds: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Whether something holds of every pixel; most photos show on a few that it does not."""
    return all(bool(holds(part).all()) for part in (pixels[::17, ::17], pixels))
