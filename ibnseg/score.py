"""Predictions as files: saved by an evaluation, and scored again, or for the first time.

A prediction is an 8-bit PNG of class ids of the label's size. Here they lie as
`<folder>/<domain>/<split>/<the photo's path in its data set>.png`, with `predictions.json`, the
record of the evaluation that wrote them.
"""

import dataclasses
import datetime
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from . import disk, domains, images, labels, protocols, records
from .confusion import confusion, raw_confusion
from .domains import DataError
from .images import Images
from .records import Measurement, Record

MANIFEST = 'predictions.json'


def photo_keys(
    domain: str, data_root: str | Path, skip_lists: Iterable[str | Path] = ()
) -> list[str]:
    """Return each photo's path relative to the data root, in the order of the data set."""
    pairs = domains.find(domain, data_root, skip_lists)
    return [photo.relative_to(data_root).as_posix() for photo, _ in pairs]


def place(domain: str, key: str = '') -> PurePosixPath:
    """Return where the prediction for a photo lies in a folder of predictions; without a key,
    where all of `domain` lie."""
    row, split = domains.parse(domain)
    folder = PurePosixPath(row.name, split.replace('/', '+'))
    # The data set's own folder says nothing that the domain doesn't.
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
        self.palettes = {}
        taken: dict[PurePosixPath, str] = {}
        for domain in measured:
            keys = photo_keys(domain, data_root, skip_lists)
            self.paths[domain] = [place(domain, key) for key in keys]
            self.palettes[domain] = labels.task(domains.parse(domain)[0].space).palette
            for key, path in zip(keys, self.paths[domain], strict=True):
                other = taken.setdefault(path, key)
                if other != key:
                    raise ValueError(f'{other} and {key} would share the prediction file {path}')

    def __call__(self, domain: str, number: int, prediction: np.ndarray) -> None:
        content = encode(prediction, self.palettes[domain])
        disk.write_atomically(self.folder / self.paths[domain][number], content)

    def finish(self, record: Record) -> None:
        """Say what the predictions are of, once all are written."""
        records.write(record, self.folder / MANIFEST)


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


def match(keys: Sequence[str], label_names: Sequence[str], folder: Path) -> list[Path]:
    """Find the prediction of each photo among the PNGs below `folder`.

    It has the photo's path without suffix, relative to the data root or to the data set's own
    folder, or, where none has, the photo's name, or else the label file's name, in any folder.

    Args:
        keys: `photo_keys`.
        label_names: the label files' names, without suffix.

    Raises DataError: a photo without a prediction or with several, a prediction for several photos
    or for none.
    """
    files = sorted(folder.rglob('*.png'))
    paths: dict[str, list[Path]] = {}
    names: dict[str, list[Path]] = {}
    for file in files:
        paths.setdefault(file.relative_to(folder).with_suffix('').as_posix(), []).append(file)
        names.setdefault(file.stem, []).append(file)
    found, missing, owner = [], [], {}
    for key, label_name in zip(keys, label_names, strict=True):
        path = PurePosixPath(key).with_suffix('')
        short = PurePosixPath(*path.parts[1:])
        hits = (
            paths.get(str(path), [])
            or paths.get(str(short), [])
            or names.get(path.name, [])
            or names.get(label_name, [])
        )
        if len(hits) > 1:
            raise DataError(
                f'{key}: {len(hits)} predictions have its name, {hits[0]} and {hits[1]}. Keep one, '
                f"or lay them out by the photo's path: {folder / short}.png"
            )
        missing += [] if hits else [key]
        for file in hits:
            if owner.setdefault(file, key) != key:
                raise DataError(
                    f'{file}: the prediction could be for {owner[file]} and for {key}. Lay '
                    f"predictions out by the photos' paths, as {folder / short}.png"
                )
            found.append(file)
    if missing:
        path = PurePosixPath(missing[0])
        raise DataError(
            f'{missing[0]}: no prediction ({len(missing)} of {len(keys)} photos have none among '
            f'the {len(files)} PNGs in {folder}). Expected {path.stem}.png in any folder, or '
            f'{PurePosixPath(*path.parts[1:]).with_suffix(".png")}'
        )
    extra = [file for file in files if file not in owner]
    if extra:
        raise DataError(
            f'{extra[0]}: a prediction for no photo ({len(extra)} such in {folder}, which has '
            f'predictions for all {len(keys)} photos). Choose another split, or move them away'
        )
    return found


def score(
    domain: str,
    folder: str | Path,
    data_root: str | Path,
    *,
    name: str | None = None,
    source: str | None = None,
    seed: int | None = None,
    ids: str = 'train',
    like: Record | None = None,
    skip_lists: Sequence[str | Path] = (),
    track: Callable[[Sequence], Iterable] = iter,
) -> tuple[Record, dict[str, Images]]:
    """Measure a folder of predictions on a domain.

    Args:
        domain: 'name' or 'name:split'.
        folder: with predictions, or one that `Saver` wrote, of this domain among others.
        name: the model's; needed where the folder does not say it.
        source: what it was trained on, 'name:split'; default: what the folder says, or 'unknown'.
        seed: it was trained with; default: what the folder says.
        ids: what a pixel's value means: 'train' is the class's number, 'raw' the id in the domain's
            own label files, a label space's name the id there (as 'cityscapes' for labelIds).
        like: a record whose protocol the predictions followed, by the user's word.
        skip_lists: files that name pairs to leave out (`ibnseg.domains.skip`).
        track: wraps the sequence of files, for a progress bar.

    Returns:
        record and per-image matrices; `records.write` and `images.write` take them.

    Raises:
        DataError: see `match` and `read_prediction`; a size that is not the label's, or an id that
            is no class where the truth is one.
        ValueError: no name, an unknown meaning of ids, predictions that were changed since.
    """
    row, split = domains.parse(domain)
    domain = f'{row.name}:{split}'
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder}: no such folder of predictions')
    said = _manifest(folder, domain)
    if (folder / place(domain)).is_dir():
        folder = folder / place(domain)
    if said is None and not name:
        raise ValueError(f'{folder} does not say whose predictions it holds; give --name')
    to_class = _classes_of(ids, row.space)
    pairs = domains.find(domain, data_root, skip_lists)
    keys = photo_keys(domain, data_root, skip_lists)
    skipped = protocols.skipped_hash(domains.skipped(domain, data_root, skip_lists))
    protocol = _protocol(domain, len(pairs), skipped, like or said)
    files = match(keys, [truth.stem for _, truth in pairs], folder)
    task = labels.task(row.space)
    matrices, raw, content = [], [], hashlib.sha256()
    for file, key, (_, truth) in zip(track(files), keys, pairs, strict=True):
        matrix, of_ids = _matrices(file, truth, row.space, to_class, ids)
        matrices.append(matrix)
        raw.append(of_ids)
        content.update(f'{key}\0{records.sha256(file)}\n'.encode())
    packed = Images.pack(matrices, keys)
    whole = None if any(of_ids is None for of_ids in raw) else sum(raw)
    measured = Measurement(domain, len(pairs), *protocol, packed.total(), whole)
    if said is not None:
        (before,) = (m for m in said.domains if m.domain == domain)
        if not np.array_equal(before.matrix, measured.matrix):
            raise ValueError(
                f'{folder}: these are not the predictions that were written with {MANIFEST}, '
                'or the labels have changed. Delete that file to score them as they are, with '
                '--name'
            )
    origin = (
        dict(said.provenance) if said else dict(selection=records.SCORED, checkpoint_sha256=None)
    )
    origin |= dict(
        scored=dict(folder=str(folder), sha256=content.hexdigest(), ids=ids),
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        commit=records.code_commit(),
    )
    if seed is not None or said is None:
        origin['seed'] = seed
    record = Record(
        model=name or said.model,
        source=source or (said.source if said else 'unknown'),
        classes=list(task.classes),
        provenance=origin,
        domains=[measured],
    )
    return record, {domain: packed}


def _manifest(folder: Path, domain: str) -> Record | None:
    """Read the record of the evaluation that wrote `folder` or the folder of a domain in it."""
    above = [folder, *folder.absolute().parents[:2]]
    file = next((place / MANIFEST for place in above if (place / MANIFEST).is_file()), None)
    if file is None:
        return None
    record = records.read(file)
    if domain not in (m.domain for m in record.domains):
        raise ValueError(
            f'{file} is of {", ".join(m.domain for m in record.domains)}; expected {domain} among '
            'them'
        )
    return record


def _protocol(
    domain: str, number: int, skipped: str | None, like: Record | None
) -> tuple[dict, str]:
    """Return the protocol and its hash: that of `like`, or one that says what is known."""
    if like is not None:
        found = next((m for m in like.domains if m.domain == domain), None)
        if found is None:
            raise ValueError(f'--like: the record of {like.model} holds no {domain}')
        cut = [key for key in found.protocol if key.startswith('label_')]
        if cut:
            raise ValueError(
                f'{domain} was measured on scaled or cut labels ({", ".join(cut)}); predictions '
                'as files are scored on labels in their own size only'
            )
        if found.protocol.get('skipped') != skipped:
            raise ValueError(
                f'{domain} was measured {_by(found.protocol.get("skipped"))}, now it would be '
                f'{_by(skipped)}. Score it with the same --skip-list'
            )
        return found.protocol, found.protocol_hash
    steps = [dict(type=name) for name in ('LoadImageFromFile', 'LoadLabels', 'PackSegInputs')]
    native = protocols.native(domain, number, steps, {})
    files = dataclasses.replace(native, name='files', mode='files', skipped=skipped)
    # As plain JSON, like one read from a record.
    return files.content() | dict(classes=list(files.classes)), files.hash


def _by(skipped: str | None) -> str:
    return f'without the pairs of skip list {skipped!s:.20}' if skipped else 'on all pairs'


def _classes_of(ids: str, space: str) -> np.ndarray:
    """Return uint8 (256,): the class that a value in a prediction means, 255 for none."""
    task = labels.task(space)
    if ids == 'train':
        table = np.full(256, labels.IGNORE, np.uint8)
        table[: len(task.classes)] = range(len(task.classes))
        return table
    chosen = space if ids == 'raw' else ids
    same = [name for name in labels.SPACES if labels.task(name) is task]
    if chosen not in same:
        raise ValueError(f"--ids {ids}: choose 'train', 'raw', or a label space of {same}")
    return labels.lut(chosen)


def _matrices(
    file: Path, truth_file: Path, space: str, to_class: np.ndarray, ids: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return an image's matrix, and that over raw ids where the data set has other label maps."""
    number = len(labels.task(space).classes)
    of_truth, raw = domains.read_raw(truth_file, space), read_prediction(file)
    truth = labels.lut(space)[of_truth]
    if raw.shape != truth.shape:
        raise DataError(
            f'{file}: prediction is {raw.shape[1]}x{raw.shape[0]}, its label {truth_file} is '
            f'{truth.shape[1]}x{truth.shape[0]}; expected equal sizes. Scale the logits, or the '
            'prediction by nearest neighbour, to the size of the label'
        )
    prediction = to_class[raw]
    counts = truth < number
    none = counts & (prediction == labels.IGNORE)
    if none.any():
        values, pixels = np.unique(raw[none], return_counts=True)
        found = ', '.join(f'{v} ({n} px)' for v, n in zip(values[:5], pixels[:5], strict=True))
        hint = " For the ids of the data set's own label files give --ids raw" * (ids == 'train')
        raise DataError(
            f'{file}: ids {found} are none of the {number} classes (--ids {ids}) where the '
            f'truth is one; every such pixel needs a class.{hint}'
        )
    whole = None
    # By another map, other pixels count.
    if labels.maps(space) and not (prediction == labels.IGNORE).any():
        whole = raw_confusion(of_truth, prediction, number)[: len(labels.space(space).names)]
    prediction[~counts] = 0  # whatever it says there counts nowhere
    return confusion(truth, prediction, number), whole


def write(record: Record, packed: Mapping[str, Images], path: str | Path) -> Path:
    """Write a record and the images beside it; returns the record's path."""
    images.write(path, record, packed)
    return records.write(record, path)
