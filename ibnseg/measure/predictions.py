"""Predictions as files: where they lie, writing them, reading them, finding those of others.

A prediction is an 8-bit PNG of class ids in the size of the label. A saved one lies at
`<folder>/<domain>/<split>/<the photo's path in its dataset>.png`, with `predictions.json`, the
record of the evaluation that wrote them. `from_files` measures such a folder.
"""

import io
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, PngImagePlugin

from .. import disk, domains, labels
from ..domains import DataError

MANIFEST = 'predictions.json'


def photo_keys(
    domain: str, data_root: str | Path, skip_lists: Iterable[str | Path] = ()
) -> tuple[str, ...]:
    """Return each photo's path relative to the data root, in the order of the dataset."""
    return domains.use(domain, data_root, skip_lists).photos


def place(domain: str, key: str = '') -> PurePosixPath:
    """Return where the prediction for a photo lies in a folder of predictions; without a key,
    where all of `domain` lie."""
    row, split = domains.parse(domain)
    folder = PurePosixPath(row.name, split.replace('/', '+'))
    # The dataset's own folder says nothing that the domain doesn't.
    return folder.joinpath(*PurePosixPath(key).parts[1:]).with_suffix('.png') if key else folder


class Saver:
    """Writes each prediction of an evaluation to a file of its own (`CrossDomainIoU.watch`).

    Args:
        folder: new or empty, or with a part of these predictions: they are kept.
        marks: domain 'name:split' -> text that tells the checkpoint and how it predicts; each file
            carries it.
        data_root: where they are.
        skip_lists: that the evaluation leaves out.

    Raises:
        FileExistsError: `folder` holds something else. ValueError: two photos would share a file.
    """

    def __init__(
        self,
        folder: str | Path,
        marks: Mapping[str, str],
        data_root: str | Path,
        skip_lists: Iterable[str | Path] = (),
    ):
        self.folder, self.marks = Path(folder), marks
        self.paths: dict[str, list[PurePosixPath]] = {}
        taken: dict[PurePosixPath, str] = {}
        for domain in marks:
            keys = photo_keys(domain, data_root, skip_lists)
            self.paths[domain] = [place(domain, key) for key in keys]
            for key, path in zip(keys, self.paths[domain], strict=True):
                if (other := taken.setdefault(path, key)) != key:
                    raise ValueError(f'{other} and {key} would share the prediction file {path}')
        self._kept = self._find()

    def _find(self) -> set[PurePosixPath]:
        """Return the predictions that lie there already. Raises FileExistsError as above."""
        expected = {path: mark for d, mark in self.marks.items() for path in self.paths[d]}
        found = set()
        for file in self.folder.rglob('*') if self.folder.is_dir() else []:
            if file.is_dir() or file.name.startswith('.'):
                continue  # a killed process may leave a hidden temporary file
            path = PurePosixPath(file.relative_to(self.folder).as_posix())
            if str(path) == MANIFEST and expected:
                continue  # says what the predictions are of; the files themselves are looked at
            if path not in expected or _mark(file) != expected[path]:
                raise FileExistsError(
                    f'--save-predictions {self.folder}: exists already, and {file} is no part of '
                    'what this command would write (predictions of this checkpoint, by this '
                    'protocol, on these domains). Delete the folder, or name another, so that '
                    'predictions of two models never mix'
                )
            found.add(path)
        return found

    def kept(self, domain: str, number: int, size: tuple[int, int]) -> np.ndarray | None:
        """Return the prediction, uint8 of `size` (H, W), that was there before; None without it."""
        path = self.paths[domain][number]
        found = read_prediction(self.folder / path) if path in self._kept else None
        return None if found is None or found.shape != size else found

    def __call__(self, domain: str, number: int, prediction: np.ndarray) -> None:
        path = self.paths[domain][number]
        if path not in self._kept:
            palette = labels.task(domains.parse(domain)[0].space).palette
            content = encode(prediction, palette, self.marks[domain])
            disk.write_atomically(self.folder / path, content)


def encode(prediction: np.ndarray, palette: np.ndarray, mark: str = '') -> bytes:
    """Return uint8 ids (H, W) as an 8-bit palette PNG that carries the text `mark`."""
    image = Image.fromarray(prediction)
    # All 256 entries: of a shorter palette, Pillow makes 1, 2 or 4 bits a pixel.
    image.putpalette([*palette.ravel().tolist(), *[0] * (768 - palette.size)])
    out = io.BytesIO()
    info = PngImagePlugin.PngInfo()
    info.add_text('ibnseg', mark)
    image.save(out, 'PNG', compress_level=1, pnginfo=info)
    return out.getvalue()


def _mark(path: Path) -> str | None:
    """Return the mark of a prediction, None of any other file."""
    try:
        with disk.opened(path) as file, Image.open(file) as image:
            return image.info.get('ibnseg')
    except Exception:  # Pillow raises OSError, ValueError and SyntaxError of bad files
        return None


def read_prediction(path: str | Path) -> np.ndarray:
    """Read a prediction: uint8 (H, W). Raises DataError: unreadable, or not one 8-bit channel."""
    try:
        with disk.opened(path) as file, Image.open(file) as image:
            found, mode = np.asarray(image), image.mode
    except Exception as error:  # Pillow raises OSError, ValueError and SyntaxError of bad files
        raise DataError(f'{path}: unreadable prediction ({error}). Write it again') from None
    if image.format in domains.pixels.LOSSY:
        raise DataError(
            f'{path}: {image.format} data; expected PNG, which keeps ids. Write it again'
        )
    if found.ndim != 2 or found.dtype != np.uint8:
        raise DataError(
            f'{path}: prediction of mode {mode}, shape {found.shape}; expected a PNG with one '
            '8-bit channel of class ids. A colour rendering is no prediction'
        )
    return found


def match(
    keys: Sequence[str],
    label_names: Sequence[str],
    folder: Path,
    left_out: Collection[str] = (),
) -> list[Path]:
    """Find the prediction of each photo among the PNGs below `folder`.

    It has the photo's path without suffix, relative to the data root or to the dataset's own
    folder; or, where none has, a name that holds the photo's frame (`_frame`), as the benchmarks'
    own tools take them. Photos that share a frame need the name of their folder, too.

    Args:
        keys: `photo_keys`.
        label_names: the label files' names, without suffix.
        left_out: names, without suffix, of predictions that may be there for no photo.

    Raises DataError: a photo without a prediction or with several, a prediction for several photos
    or for none.
    """
    files = sorted(
        file
        for file in folder.rglob('*')
        if file.suffix.lower() == '.png' and not file.name.startswith('.')
    )
    frames = [_frame(PurePosixPath(k).stem, n) for k, n in zip(keys, label_names, strict=True)]
    hits_of = _hits(keys, frames, files, folder)
    missing: list[str] = []
    owner: dict[Path, str] = {}
    for key, hits in zip(keys, hits_of, strict=True):
        short = PurePosixPath(*PurePosixPath(key).with_suffix('').parts[1:])
        if len(hits) > 1:
            raise DataError(
                f'{key}: {len(hits)} predictions have its name, {hits[0]} and {hits[1]}. Keep one, '
                f"or lay them out by the photo's path: {folder / short}.png"
            )
        if not hits:
            missing.append(key)
        for file in hits:
            if owner.setdefault(file, key) != key:
                raise DataError(
                    f'{file}: the prediction could be for {owner[file]} and for {key}. Lay '
                    f"predictions out by the photos' paths, as {folder / short}.png"
                )
    if missing:
        path, frame = PurePosixPath(missing[0]), frames[keys.index(missing[0])]
        raise DataError(
            f'{missing[0]}: no prediction ({len(missing)} of {len(keys)} photos have none among '
            f'the {len(files)} PNGs in {folder}). Expected {frame}.png or {frame}_*.png in any '
            f'folder, or {PurePosixPath(*path.parts[1:]).with_suffix(".png")}'
        )
    extra = [file for file in files if file not in owner and file.stem not in left_out]
    if extra:
        raise DataError(
            f'{extra[0]}: a prediction for no photo ({len(extra)} such in {folder}, which has '
            f'predictions for all {len(keys)} photos). Choose another split, or move them away'
        )
    return list(owner)


def _hits(
    keys: Sequence[str], frames: Sequence[str], files: Sequence[Path], folder: Path
) -> Iterator[list[Path]]:
    """Yield the predictions that could be each photo's: by its path, else by its frame."""
    paths = {file.relative_to(folder).with_suffix('').as_posix(): file for file in files}
    photos, named = Counter(frames), defaultdict(list)
    for file in files:
        named[_longest(file.stem, photos)].append(file)
    for key, frame in zip(keys, frames, strict=True):
        path = PurePosixPath(key).with_suffix('')
        short = '/'.join(path.parts[1:])
        hits = [paths[p] for p in (str(path), short) if p in paths][:1] or named[frame]
        if photos[frame] > 1 and len(hits) > 1:
            hits = [file for file in hits if file.parent.name == path.parent.name]
        yield hits


def _frame(photo: str, label: str) -> str:
    """Return what the names of a photo and of its label file share: 'lindau_000000_000019'."""
    words = zip(*(re.findall(r'[^\W_]+|[\W_]', name) for name in (photo, label)), strict=False)
    shared = takewhile(lambda pair: pair[0] == pair[1], words)
    return ''.join(word for word, _ in shared).rstrip('_-. ') or photo


def _longest(name: str, frames: Container[str]) -> str | None:
    """Return the longest frame that a name begins with, or else the only one in it, whole words."""
    starts = [0, *(found.end() for found in re.finditer(r'[\W_]', name))]
    ends = [*(found.start() for found in re.finditer(r'[\W_]', name)), len(name)]
    parts = [[name[i:j] for j in reversed(ends) if i < j and name[i:j] in frames] for i in starts]
    if parts[0]:
        return parts[0][0]
    found = [part for of_start in parts for part in of_start]
    return found[0] if len(found) == 1 else None
