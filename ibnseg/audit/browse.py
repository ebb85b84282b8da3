"""Photos of a dataset with their labels over them, as one HTML page that loads nothing."""

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from .. import domains, labels
from ..errors import DataError
from ..text import clean
from ..web import environment, hashed

_WIDTH = 640  # pixels of a shown photo


def page(
    name: str, root: str | Path, number: int, progress: Callable[[int, int], None] | None = None
) -> str:
    """Return the page of `number` pairs at equal distance over a split.

    Args:
        name: 'name' or 'name:split'.
        root: the data root.
        progress: called with (pairs drawn, pairs to draw).

    Raises DataError: unknown domain, or nothing of it; see `domains.find`. A pair that cannot be
    read is a text on the page.
    """
    row, split = domains.parse(name)
    task = labels.task(row.space)
    pairs = domains.find(name, root)
    chosen = [pairs[i] for i in _spread(len(pairs), number)]
    counts = np.zeros(256, np.int64)
    shown = []
    for done, pair in enumerate(chosen):
        shown.append(_pair(row.space, *pair, counts))
        if progress:
            progress(done + 1, len(chosen))
    shares = counts / max(counts.sum(), 1)
    style = (Path(__file__).parent / 'browse.css').read_text('utf-8')
    return environment(Path(__file__).parent).get_template('browse.html').render(
        title=f'{row.name}:{split}',
        said=f'{len(chosen):,} of {len(pairs):,} pairs, at equal distance',
        classes=[
            dict(name=clean(one), colour=_rgb(task.palette[i]), share=_percent(shares[i]))
            for i, one in enumerate(task.classes)
        ],
        ignored=_percent(shares[labels.IGNORE]),
        absent=[clean(one) for i, one in enumerate(task.classes) if not counts[i]],
        pairs=shown,
        style=style,
        style_hash=hashed(style),
    )  # fmt: skip


def _spread(n: int, number: int) -> Sequence[int]:
    return sorted({int(i) for i in np.linspace(0, n - 1, min(n, number)).round()})


def _pair(space: str, photo: Path, label: Path, counts: np.ndarray) -> dict[str, Any]:
    """Return what the page shows of a pair; its classes are added to `counts` (256,)."""
    shown: dict[str, Any] = dict(photo=clean(str(photo)), label=clean(str(label)), wrong=[])
    size = None
    try:
        with Image.open(photo) as image:
            picture = ImageOps.exif_transpose(image).convert('RGB')
        size = picture.size
        picture.thumbnail((_WIDTH, _WIDTH))
        shown['picture'] = _file(picture, 'jpeg', quality=85)
    except Exception as error:  # Pillow raises nearly anything of bad files
        shown['wrong'].append(f'photo: {clean(str(error))}')
    try:
        classes = domains.read_labels(label, space)
    except (DataError, OSError) as error:
        shown['wrong'].append(clean(str(error)))
        return shown
    counts += np.bincount(classes.ravel(), minlength=256)
    if size not in (None, classes.shape[::-1]):
        theirs, own = ('x'.join(map(str, of)) for of in (size, classes.shape[::-1]))
        shown['wrong'].append(f'label is {own}, its photo {theirs}')
    over = Image.fromarray(classes)
    over = over.resize(picture.size if size else over.size, Image.Resampling.NEAREST)
    over.putpalette(_colours(space))
    shown['over'] = _file(over, 'png', transparency=labels.IGNORE)
    task = labels.task(space)
    present = [i for i in np.unique(classes) if i < len(task.classes)]
    shown['classes'] = clean(', '.join(task.classes[i] for i in present))
    return shown


def _colours(space: str) -> list[int]:
    colours = np.zeros((256, 3), np.uint8)
    palette = labels.task(space).palette
    colours[: len(palette)] = palette
    return colours.ravel().tolist()


def _file(image: Image.Image, kind: str, **options: Any) -> str:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f'data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}'


def _rgb(colour: np.ndarray) -> str:
    return 'rgb({} {} {})'.format(*map(int, colour))


def _percent(share: float) -> str:
    return f'{100 * share:.1f} %' if share >= 0.0005 or share == 0 else '< 0.1 %'
