"""Predictions as files: where they lie, writing them, reading them, finding those of others.

A prediction is an 8-bit PNG of class ids in the size of the label. A saved one lies at
`<folder>/<domain>/<split>/<the photo's path in its dataset>.png`, with `predictions.json`, the
record of the evaluation that wrote them. `from_files` measures such a folder.
"""

import io
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

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
        folder: new, or empty.
        measured: domains as 'name:split'.
        data_root: where they are.
        skip_lists: that the evaluation leaves out.

    Raises:
        FileExistsError: `folder` holds something. ValueError: two photos would share a file.
    """

    def __init__(
        self,
        folder: str | Path,
        measured: Iterable[str],
        data_root: str | Path,
        skip_lists: Iterable[str | Path] = (),
    ):
        self.folder = Path(folder)
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise FileExistsError(
                f'--save-predictions {folder}: exists already. Delete it, or name another folder, '
                'so that predictions of two models never mix'
            )
        self.paths: dict[str, list[PurePosixPath]] = {}
        taken: dict[PurePosixPath, str] = {}
        for domain in measured:
            keys = photo_keys(domain, data_root, skip_lists)
            self.paths[domain] = [place(domain, key) for key in keys]
            for key, path in zip(keys, self.paths[domain], strict=True):
                if (other := taken.setdefault(path, key)) != key:
                    raise ValueError(f'{other} and {key} would share the prediction file {path}')

    def __call__(self, domain: str, number: int, prediction: np.ndarray) -> None:
        content = encode(prediction, labels.task(domains.parse(domain)[0].space).palette)
        disk.write_atomically(self.folder / self.paths[domain][number], content)


def encode(prediction: np.ndarray, palette: np.ndarray) -> bytes:
    """Return uint8 ids (H, W) as an 8-bit palette PNG."""
    image = Image.fromarray(prediction)
    # All 256 entries: of a shorter palette, Pillow makes 1, 2 or 4 bits a pixel.
    image.putpalette([*palette.ravel().tolist(), *[0] * (768 - palette.size)])
    out = io.BytesIO()
    image.save(out, 'PNG', compress_level=1)
    return out.getvalue()


def read_prediction(path: str | Path) -> np.ndarray:
    """Read a prediction: uint8 (H, W). Raises DataError: unreadable, or not one 8-bit channel."""
    try:
        with Image.open(path) as image:
            found, mode = np.asarray(image), image.mode
    except Exception as error:  # Pillow raises OSError, ValueError and SyntaxError of bad files
        raise DataError(f'{path}: unreadable prediction ({error}). Write it again') from None
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
    folder, or, where none has, the photo's name, or else the label file's name, in any folder.

    Args:
        keys: `photo_keys`.
        label_names: the label files' names, without suffix.
        left_out: names, without suffix, of predictions that may be there for no photo.

    Raises DataError: a photo without a prediction or with several, a prediction for several photos
    or for none.
    """
    files = sorted(folder.rglob('*.png'))
    paths, names = defaultdict(list), defaultdict(list)
    for file in files:
        paths[file.relative_to(folder).with_suffix('').as_posix()].append(file)
        names[file.stem].append(file)
    missing: list[str] = []
    owner: dict[Path, str] = {}
    for key, label_name in zip(keys, label_names, strict=True):
        path = PurePosixPath(key).with_suffix('')
        short = PurePosixPath(*path.parts[1:])
        hits = paths[str(path)] or paths[str(short)] or names[path.name] or names[label_name]
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
        path = PurePosixPath(missing[0])
        raise DataError(
            f'{missing[0]}: no prediction ({len(missing)} of {len(keys)} photos have none among '
            f'the {len(files)} PNGs in {folder}). Expected {path.stem}.png in any folder, or '
            f'{PurePosixPath(*path.parts[1:]).with_suffix(".png")}'
        )
    extra = [file for file in files if file not in owner and file.stem not in left_out]
    if extra:
        raise DataError(
            f'{extra[0]}: a prediction for no photo ({len(extra)} such in {folder}, which has '
            f'predictions for all {len(keys)} photos). Choose another split, or move them away'
        )
    return list(owner)
