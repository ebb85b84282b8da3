"""Predictions for photos and videos as files: overlays, label maps, confidence, side by side.

    OUT/overlays/KEY.jpg    labels/KEY.png    confidence/KEY.png    predict.json

Of several networks, each has these folders below one of its name, and `side_by_side/KEY.jpg` shows
all. Of a video, overlays are an MP4, the maps a folder of frames.
"""

import contextlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import disk, progress
from ..analysis.sheet import sheet
from ..errors import DataError, Incomplete
from ..measure.predictions import encode
from ..text import clean
from . import video
from .model import Model, Prediction

MANIFEST = 'predict.json'
#: By suffix. Others in a folder are passed over; a file that is named is always tried.
PHOTOS = frozenset(
    ('.png', '.jpg', '.jpeg', '.bmp', '.webp', '.gif', '.ppm', '.pgm', '.tif', '.tiff')
)
VIDEOS = frozenset(('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg'))
_QUALITY = 92  # of JPEG


@dataclass(frozen=True)
class Job:
    """What is predicted, and where it goes.

    Args:
        models: one or more, of the same classes.
        files: key -> photo or video (`find`).
        out: new folder, or one of the same networks.
        confidence: also write each pixel's, 0 to 255 for 0 to 1.
        opacity: of the colours in overlays.
    """

    models: Sequence[Model]
    files: dict[str, Path]
    out: Path
    confidence: bool = False
    opacity: float = 0.6
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'names', names_of(self.models))
        check_classes(self.models)
        if not 0 <= self.opacity <= 1:
            raise ValueError(f'--opacity {self.opacity}: expected 0 to 1')

    def folder(self, name: str) -> Path:
        """Return the folder of a network."""
        return self.out if len(self.names) == 1 else self.out / name

    def predict(self) -> dict[str, Any]:
        """Predict all files, write what belongs to them, and return what the manifest says.

        What could not be read is in its 'unread', file -> why (`check_read`).

        Raises:
            FileExistsError: `out` holds predictions of other networks, or something else.
        """
        said = self._manifest()
        unread: dict[str, str] = {}
        total = sum(max(1, video.length(p)) if is_video(p) else 1 for p in self.files.values())
        try:
            with progress.bar('predicting') as show:
                done = 0
                for key, path in self.files.items():
                    work = self._video if is_video(path) else self._photo
                    try:
                        for _ in work(key, path, said['files']):
                            done += 1
                            show(min(done, total), total)
                    except (DataError, OSError) as error:
                        if isinstance(error, OSError) and str(error.filename) != str(path):
                            raise  # of what is written
                        unread[str(path)] = ' '.join(str(error).split())
        finally:
            self._write_manifest(said | dict(unread=unread))
        return said | dict(unread=unread)

    def _manifest(self) -> dict[str, Any]:
        """Return the manifest to begin with, and write it, so that the folder is ours."""
        own = [
            dict(name=name, checkpoint=str(model.checkpoint), sha256=model.sha256)
            for name, model in zip(self.names, self.models, strict=True)
        ]
        file = self.out / MANIFEST
        said = dict(models=own, classes=list(self.models[0].classes), files={})
        taken = [self.folder(name) / part for name in self.names for part in ('overlays', 'labels')]
        if file.exists():
            try:
                before = json.loads(disk.read(file))
                same = [one['sha256'] for one in before['models']] == [
                    m.sha256 for m in self.models
                ]
                said['files'] = dict(before['files'])
            except (ValueError, KeyError, TypeError):
                same = False
        else:
            same = not any(folder.exists() for folder in taken)
        if not same:
            raise FileExistsError(
                f'{self.out}: holds something else than predictions of these networks. Name '
                'another folder by --out, so that predictions of two never mix'
            )
        self._write_manifest(said)
        return said

    def _write_manifest(self, said: dict[str, Any]) -> None:
        disk.write_atomically(self.out / MANIFEST, json.dumps(said, indent=1) + '\n')

    def _photo(self, key: str, path: Path, said: dict[str, Any]) -> Iterator[None]:
        found = [model(path, self.confidence) for model in self.models]
        for name, one in zip(self.names, found, strict=True):
            folder = self.folder(name)
            picture = jpeg(one.overlay(self.opacity))
            disk.write_atomically(folder / 'overlays' / f'{key}.jpg', picture)
            self._maps(one, folder, key)
        if len(found) > 1:
            picture = jpeg(self._beside(found))
            disk.write_atomically(self.out / 'side_by_side' / f'{key}.jpg', picture)
        said[key] = dict(file=str(path), size=[*found[0].labels.shape[::-1]])
        said[key] |= dict(shares=self._named([_rounded(one.shares()) for one in found]))
        if self.confidence:
            said[key]['confidence'] = self._named([mean_confidence(one) for one in found])
        yield

    def _video(self, key: str, path: Path, said: dict[str, Any]) -> Iterator[None]:
        flicker = [video.Flicker() for _ in self.models]
        number = 0
        try:
            with contextlib.ExitStack() as stack:
                rate, several = video.rate(path), len(self.models) > 1
                films = [
                    stack.enter_context(video.writer(file, rate))
                    for file in [
                        *(self.folder(name) / 'overlays' / f'{key}.mp4' for name in self.names),
                        *[self.out / 'side_by_side' / f'{key}.mp4'] * several,
                    ]
                ]
                for frame in _until_damage(video.frames(path), damage := []):
                    found = [model(frame, self.confidence, order='bgr') for model in self.models]
                    for film, one in zip(films, found, strict=False):
                        film(one.overlay(self.opacity))
                    if several:
                        films[-1](self._beside(found))
                    for name, one, watch in zip(self.names, found, flicker, strict=True):
                        self._maps(one, self.folder(name), f'{key}/{number:06}')
                        watch.add(one.photo, one.labels)
                    number += 1
                    yield
        finally:
            if number:
                shares = [watch.shares() for watch in flicker]
                said[key] = dict(file=str(path), frames=number, flicker=self._named(shares))
        if damage:  # after what could be read is written
            raise damage[0]

    def _maps(self, one: Prediction, folder: Path, key: str) -> None:
        for part, png in maps(one).items():
            disk.write_atomically(folder / part / f'{key}.png', png)

    def _beside(self, found: Sequence[Prediction]) -> np.ndarray:
        """Return photo and overlays side by side, with every class in the legend."""
        tiles = [found[0].photo, *(one.overlay(self.opacity) for one in found)]
        legend = zip(found[0].palette, found[0].classes, strict=True)
        row = tiles, [''] * len(tiles)
        return np.asarray(sheet(['photo', *self.names], [row], legend, width=640))

    def _named(self, values: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(self.names, values, strict=True))


def is_video(path: Path) -> bool:
    """Whether a file's suffix is a video's."""
    return path.suffix.lower() in VIDEOS


def find(inputs: Sequence[str | Path], out: Path) -> dict[str, Path]:
    """Return {key: photo or video}: files as named, and all in folders but what is in `out`.

    A key is the path below its folder without suffix; with it where two would be equal.

    Raises FileNotFoundError: no such file or folder, or a folder without any. ValueError: two files
    would be predicted into one.
    """
    found: list[tuple[Path, Path]] = []  # file, path of its key
    for given in map(Path, inputs):
        if given.is_dir():
            inside = [
                file
                for file in sorted(given.rglob('*'))
                if file.suffix.lower() in PHOTOS | VIDEOS
                and file.is_file()
                and not any(part.startswith('.') for part in file.relative_to(given).parts)
                and out.resolve() not in file.resolve().parents
            ]
            if not inside:
                raise FileNotFoundError(f'{given}: no photos or videos in this folder')
            found += [(file, file.relative_to(given)) for file in inside]
        elif given.exists():
            disk.opened(given).close()
            found.append((given, Path(given.name)))
        else:
            raise FileNotFoundError(f'{given}: no such photo, video or folder')
    of_key: dict[str, Path] = {}
    count = Counter(str(path.with_suffix('')).lower() for _, path in found)
    for file, path in found:
        key = path if count[str(path.with_suffix('')).lower()] > 1 else path.with_suffix('')
        if (other := of_key.setdefault(key.as_posix(), file)).resolve() != file.resolve():
            raise ValueError(
                f'{other} and {file} have one name, so their predictions would be one file. Give '
                'the folder above both, or predict one after the other'
            )
    return of_key


def names_of(models: Sequence[Model]) -> list[str]:
    """Return a name for each network that tells it from the others and may be a folder's."""
    count = Counter(model.name for model in models)
    names: list[str] = []
    for model in models:
        name = model.name
        if count[name] > 1:
            name = f'{name}-{model.checkpoint.absolute().parent.name}-{model.checkpoint.stem}'
        name = re.sub(r'[^\w.+=-]+', '_', clean(name)).strip('._')[:80] or 'model'
        while name in (*names, 'side_by_side'):
            name += f'-{model.sha256[:8]}'
        names.append(name)
    return names


def _until_damage(frames: Iterator[np.ndarray], damage: list[DataError]) -> Iterator[np.ndarray]:
    """Yield frames; what they raise goes into `damage`, so that a video so far is still written."""
    try:
        yield from frames
    except DataError as error:
        damage.append(error)


def check_classes(models: Sequence[Model]) -> None:
    """Raise ValueError where networks have other classes each: a colour would mean two of them."""
    if len({model.classes for model in models}) > 1:
        raise ValueError('the networks have other classes each; predict with one at a time')


def jpeg(picture: np.ndarray) -> bytes:
    """Return a picture, uint8 RGB (H, W, 3), as the JPEG that is written of it."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, 'JPEG', quality=_QUALITY)
    return out.getvalue()


def maps(one: Prediction) -> dict[str, bytes]:
    """Return the PNGs of a prediction by folder: 'labels', and 'confidence' where it has one."""
    found = dict(labels=encode(one.labels, one.palette))
    if one.confidence is not None:
        out = io.BytesIO()
        Image.fromarray((one.confidence * 255 + 0.5).astype(np.uint8)).save(out, 'PNG')
        found['confidence'] = out.getvalue()
    return found


def _rounded(shares: dict[str, float]) -> dict[str, float]:
    return {name: round(share, 6) for name, share in shares.items()}


def mean_confidence(one: Prediction) -> float:
    """Return the mean over the pixels of a prediction that has a confidence, 6 digits."""
    return round(float(np.mean(one.confidence)), 6)


def check_read(job: Job, said: dict[str, Any]) -> None:
    """Raise Incomplete where files could not be read; the others are there."""
    if unread := said['unread']:
        raise Incomplete(
            f'{len(unread)} of {len(job.files)} files could not be read, or not to their end:\n'
            + '\n'.join(unread.values())
        )


def lines(job: Job, said: dict[str, Any]) -> Iterator[str]:
    """Yield what was written where, for a person."""
    several = len(job.names) > 1
    for what in ('overlays', 'labels', *['confidence'] * job.confidence):
        yield f'{what:11} {job.out / "MODEL" / what if several else job.out / what}'
    if several:
        yield f'beside      {job.out / "side_by_side"}'
    for key, one in said['files'].items():
        for name, shares in one.get('flicker', {}).items():
            if shares and key in job.files:
                yield (
                    f'flicker     {key}, {name}: {100 * shares[0]:.1f} % of the pixels change '
                    f'class from a frame to the next, {100 * shares[1]:.1f} % along the motion'
                )
