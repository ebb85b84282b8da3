"""The photos of a report's page: a folder of small images with `gallery.json`, read safely.

`gallery.json` holds `version` 1, `classes` (names), `palette` (an RGB triple each), and `domains`:
name -> photos, each with `key`, `why` it was chosen, the files `photo` (JPEG or PNG), `truth` and
`predictions` (model -> PNG; 8-bit grey, class indices, 255 not counted), and `miou` (model ->
percent).
"""

import base64
import io
import json
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ... import disk

_MOST_BYTES, _MOST_JSON, _MOST_PHOTOS = 8 * 2**20, 2**25, 2000
_MOST_ALL = 2**29  # 512 MB: a browser still opens the page
_NAME = re.compile(r'[^/\\\x00-\x1f]{1,255}')


class GalleryError(ValueError):
    """A gallery that cannot be shown. Says which file, what was found and the way out."""


@dataclass(frozen=True)
class Photo:
    """A photo with its label maps; `files` are base64, the photo, the truth, then `models`."""

    domain: str
    key: str
    why: str
    size: tuple[int, int]  # width, height
    models: list[str]
    miou: dict[str, float]
    files: list[str]


@dataclass(frozen=True)
class Gallery:
    """The classes' names and colours (RGB), and the photos in the order of the file."""

    classes: list[str]
    palette: list[tuple[int, ...]]
    photos: list[Photo]


def read(folder: str | Path) -> Gallery | None:
    """Read a gallery; None where there is no `gallery.json`.

    Raises GalleryError: a file is absent, too large or not what it should be.
    """
    path = Path(folder) / 'gallery.json'
    if not path.exists():
        return None
    if path.stat().st_size > _MOST_JSON:
        raise _bad(path, f'more than {_MOST_JSON} bytes')
    try:
        said = json.loads(disk.read(path))
    except (ValueError, RecursionError) as error:
        raise _bad(path, f'no JSON ({error!s:.60})') from None
    if not isinstance(said, dict) or said.get('version') != 1:
        raise _bad(path, 'its version is not 1')
    classes, palette, domains = (said.get(k) for k in ('classes', 'palette', 'domains'))
    if not _names(classes) or len(classes) > 255:
        raise _bad(path, '"classes" is not a list of at most 255 names')
    if not _colours(palette) or len(palette) != len(classes):
        raise _bad(path, '"palette" is not an RGB triple for each class')
    if not isinstance(domains, dict) or not all(isinstance(v, list) for v in domains.values()):
        raise _bad(path, '"domains" is not a list of photos for each domain')
    if sum(map(len, domains.values())) > _MOST_PHOTOS:
        raise _bad(path, f'more than {_MOST_PHOTOS} photos')
    found, size = [], 0
    for domain, photos in domains.items():
        for one in photos:
            found.append(_photo(path, domain, one, len(classes)))
            size += sum(map(len, found[-1].files))
            if size > _MOST_ALL:
                raise _bad(path, f'images of more than {_MOST_ALL // 2**20} MB; choose fewer')
    return Gallery(classes, [tuple(colour) for colour in palette], found)


def _photo(path: Path, domain: str, one: Any, classes: int) -> Photo:
    one = one if isinstance(one, dict) else {}
    key, why, photo, truth = (one.get(name) for name in ('key', 'why', 'photo', 'truth'))
    predictions, miou = (one.get(name) for name in ('predictions', 'miou'))
    if not _names([key, why]) or not _names([photo, truth]):
        raise _bad(path, f'a photo of {domain!r:.40} lacks key, why, photo or truth')
    if not isinstance(predictions, dict) or not _names([*predictions.values()]):
        raise _bad(path, f'{key!r:.80} has no file for each model in "predictions"')
    content, size = _image(path, photo, ('JPEG', 'PNG'))
    files = [content]
    for name in (truth, *predictions.values()):
        content, own = _image(path, name, ('PNG',), classes)
        if own != size:
            raise _bad(path.parent / name, f'{own[0]}x{own[1]}, but {photo} is {size[0]}x{size[1]}')
        files.append(content)
    return Photo(domain, key, why, size, [*predictions], _numbers(miou), files)


def _image(path: Path, name: str, formats: tuple[str, ...], classes: int | None = None):
    """Return a file in base64, and its (width, height); with `classes` it holds class indices."""
    if not _NAME.fullmatch(name) or name in ('.', '..'):
        raise _bad(path, f'{name!r:.80} is not the name of a file in the same folder')
    file = path.parent / name
    if not file.is_file():
        raise _bad(path, f'{name!r:.80} is not there')
    if file.stat().st_size > _MOST_BYTES:
        raise _bad(file, f'more than {_MOST_BYTES // 2**20} MB')
    content = disk.read(file)
    try:
        with Image.open(io.BytesIO(content), formats=formats) as image:
            if max(image.size) > 4096 or (classes and image.mode != 'L'):
                raise _bad(file, f'{image.size}, {image.mode}; 8-bit grey of 4096 px at most')
            if classes:
                seen = {value for _, value in image.getcolors(256)}
                if odd := {value for value in seen if classes <= value < 255}:
                    raise _bad(file, f'class index {min(odd)}, but there are {classes} classes')
            return base64.b64encode(content).decode(), image.size
    except GalleryError:
        raise
    except (OSError, ValueError, SyntaxError, zlib.error, Image.DecompressionBombError) as error:
        raise _bad(file, f'no {" or ".join(formats)} ({error!s:.60})') from None


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and one for one in value)


def _colours(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, list)
        and len(one) == 3
        and all(type(part) is int and 0 <= part < 256 for part in one)
        for one in value
    )


def _numbers(value: Any) -> dict[str, float]:
    value = value if isinstance(value, Mapping) else {}
    return {k: float(v) for k, v in value.items() if type(v) in (int, float) and math.isfinite(v)}


def _bad(path: Path, what: str) -> GalleryError:
    return GalleryError(f'{path}: {what}. Make the gallery again, or delete its folder')
