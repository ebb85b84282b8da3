"""Photos with their ground truth and the predictions of several models, side by side in a PNG."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .. import disk, domains, labels
from ..report.certainty import Photos
from ..text import clean, meant
from . import choice, scenes, sheet
from .scenes import Album, Scene


def panel(album: Album, out: str | Path, domain: str, image: str | None = None) -> list[str]:
    """Write a PNG with a row a photo: photo, ground truth, each model's prediction and its mIoU.

    By default the photos are chosen by rule: the one of median gain over the baseline, the most
    improved and the least (or most worsened); of one model, the one of median mIoU, the best and
    the worst.

    Args:
        domain: 'name' or 'name:split'.
        image: one photo instead: its name as reports write it, the end of that name, or its
            number from 0 in the order of the dataset.

    Returns: for each photo, its name and why it was chosen.

    Raises ValueError: no such domain or photo. Others as `Album.scenes`.
    """
    row, split = domains.parse(domain)
    domain = f'{row.name}:{split}'
    one = next((one for one in album.photos if one.domain == domain), None)
    if one is None:
        known = ', '.join(dict.fromkeys(one.domain for one in album.photos))
        raise ValueError(f'--domain {domain}: not among the records, which have {known}')
    chosen = _by_rule(album, one) if image is None else {_named(one, image): ()}
    shown = [scene for _, scene in scenes.track(album, [(one, chosen)])]
    picture = _draw(shown)
    disk.write_by(out, lambda file: picture.save(file, format='PNG', optimize=True))
    return [clean(f'{scene.key} {_why(scene)}'.strip()) for scene in shown]


def _by_rule(album: Album, one: Photos) -> dict[int, Sequence[str]]:
    base = album.baseline(one)
    if base is None:
        values = np.array([miou.mean() for _, miou, _ in one.images])
        names = 'median mIoU', 'best', 'worst'
    else:
        values = choice.gains(one, base)
        names = 'median gain', 'largest gain', 'smallest gain'
    order = [i for i in np.argsort(values, kind='stable').tolist() if math.isfinite(values[i])]
    if not order:
        raise ValueError(f'{one.domain}: no photo has an mIoU')
    picked: dict[int, Sequence[str]] = {}
    places = (len(order) - 1) // 2, len(order) - 1, 0
    for place, why in zip(places, names, strict=True):
        if why == 'smallest gain' and values[order[place]] < 0:
            why = 'largest loss'
        picked.setdefault(order[place], (why,))
    return picked


def _named(one: Photos, image: str) -> int:
    """Return the number among the photos of what a person named."""
    keys = [key for key, *_ in one.images]
    if image.isdecimal() and image not in keys:
        if int(image) >= len(keys):
            raise ValueError(f'--image {image}: {one.domain} has images 0 to {len(keys) - 1}')
        return keys.index(sorted(keys)[int(image)])
    found = [i for i, key in enumerate(keys) if key == image or key.endswith(image)]
    found = found or [i for i, key in enumerate(keys) if image in Path(key).name]
    if len(found) != 1:
        what = f'{len(found)} photos of {one.domain} have this name' if found else 'no such photo'
        raise ValueError(f'--image {image}: {what}{meant(image, keys)}; images.csv lists them')
    return found[0]


def _why(scene: Scene) -> str:
    gain = '' if scene.gain is None else f'{scene.gain:+.1f}'
    words = ', '.join(scene.why)
    return f'{words} {gain}'.strip() if 'gain' in words or 'loss' in words else words


def _draw(shown: Sequence[Scene]) -> Image.Image:
    task = domains.task([shown[0].domain])
    rows = []
    for scene in shown:
        scores = [f'mIoU {n:.1f}' if math.isfinite(n) else 'mIoU -' for n in scene.miou.values()]
        words = [_why(scene) or scene.domain, Path(scene.key).stem, *scores]
        rows.append((list(_tiles(scene, task)), words))
    heads = ['photo', 'ground truth', *shown[0].predictions]
    return sheet.sheet(heads, rows, _legend(shown, task))


def _tiles(scene: Scene, task) -> Iterator[np.ndarray]:
    colours = np.full((256, 3), sheet.NOT_COUNTED, np.uint8)
    colours[: len(task.palette)] = task.palette
    yield np.ascontiguousarray(scene.photo)
    yield colours[scene.truth]
    for prediction in scene.predictions.values():
        # What does not count is not shown.
        yield colours[np.where(scene.truth == labels.IGNORE, labels.IGNORE, prediction)]


def _legend(shown: Sequence[Scene], task) -> list[tuple]:
    """Return (colour, text) of each class in the picture, and of what is not counted."""
    maps = (values for s in shown for values in (s.truth, *s.predictions.values()))
    seen = sorted(set().union(*(np.unique(values).tolist() for values in maps)))
    words = [(tuple(task.palette[i]), task.classes[i]) for i in seen if i < len(task.classes)]
    if labels.IGNORE in seen:
        words.append((sheet.NOT_COUNTED, 'not counted (no class in the ground truth)'))
    return words
