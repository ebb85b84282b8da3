"""The gallery of a report: a few photos of each domain, chosen by rule, with all predictions.

`ibnseg.report.page.gallery` says what the folder holds, and reads it.
"""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .. import disk, domains
from . import choice, scenes
from .scenes import Album, Scene

WIDTH = 640  # pixels, of the widest photo


def write(album: Album, out: str | Path, each: int = 2, only: Sequence[str] = ()) -> int:
    """Choose photos, predict them and write `<out>/gallery/`; return how many there are.

    The folder is replaced as a whole, once all is made: an error leaves the one before.

    Args:
        out: folder of the report.
        each: how many of each extreme, see `choice.choose`.
        only: domains, 'name:split'; default: all.

    Raises as `Album.scenes`; ValueError for a domain of which there are no photos.
    """
    known = list(dict.fromkeys(one.domain for one in album.photos))
    if absent := set(only) - set(known):
        raise ValueError(f'{", ".join(sorted(absent))}: not among the records; choose from {known}')
    picked = [one for one in album.photos if not only or one.domain in only]
    chosen = [(one, choice.choose(one, album.baseline(one), each)) for one in picked]
    sources = {one.source for one in picked}
    out = Path(out)
    with disk.new_folder(out, 'gallery') as new:
        new.chmod(0o755)
        found: dict[str, list[dict]] = {}
        for number, (one, scene) in enumerate(scenes.track(album, chosen)):
            said = _save(scene, new, f'{number:04}')
            if len(sources) > 1:
                said['why'] += f', trained on {one.source}'
            found.setdefault(scene.domain, []).append(said)
        task = domains.task([one.domain for one in picked])
        content = dict(
            version=1,
            classes=list(task.classes),
            palette=np.asarray(task.palette).tolist(),
            domains=found,
        )
        text = json.dumps(content, indent=1, ensure_ascii=False) + '\n'
        disk.write_atomically(new / 'gallery.json', text)
        _replace(out / 'gallery', new)
    return sum(map(len, found.values()))


def _replace(folder: Path, new: Path) -> None:
    """Put `new` in the place of a gallery; raises FileExistsError where it is something else."""
    if folder.exists() and any(folder.iterdir()) and not (folder / 'gallery.json').is_file():
        raise FileExistsError(f'{folder} holds no gallery. Move it away, or name another --out')
    if folder.exists():
        old = new.with_name(new.name + '-old')
        folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old)
    else:
        new.rename(folder)


def _save(scene: Scene, folder: Path, stem: str) -> dict:
    """Write the files of a photo; return what gallery.json says of it."""
    height, width = scene.truth.shape
    scale = min(1.0, WIDTH / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))

    def indices(name: str, values: np.ndarray) -> str:
        small = Image.fromarray(values).resize(size, Image.Resampling.NEAREST)
        return _keep(small, folder / f'{stem}-{name}.png', optimize=True)

    photo = Image.fromarray(np.ascontiguousarray(scene.photo))
    photo = photo.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)
    numbered = enumerate(scene.predictions.items())
    return dict(
        key=scene.key,
        why=', '.join(scene.why),
        photo=_keep(photo, folder / f'{stem}.jpg', quality=85),
        truth=indices('truth', scene.truth),
        predictions={name: indices(str(i), values) for i, (name, values) in numbered},
        miou={name: round(n, 2) for name, n in scene.miou.items() if math.isfinite(n)},
    )


def _keep(image: Image.Image, path: Path, **options) -> str:
    form = 'JPEG' if path.suffix == '.jpg' else 'PNG'
    disk.write_by(path, lambda file: image.save(file, form, **options))
    return path.name
