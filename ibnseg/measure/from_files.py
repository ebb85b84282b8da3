"""A folder of predictions, from here or from elsewhere, becomes a record."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import command, disk, domains, labels, progress
from ..domains import DataError
from ..text import meant
from . import origin, protocols, records
from .confusion import confusion, raw_confusion
from .matrices import Images
from .predictions import MANIFEST, match, place, read_prediction
from .records import Measurement, Record


def measure(
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
) -> tuple[Record, dict[str, Images]]:
    """Measure a folder of predictions on a domain.

    Args:
        domain: 'name' or 'name:split'.
        folder: of predictions for this domain; one that `predictions.Saver` wrote may hold others.
        name: the model's; needed where the folder does not say it.
        source, seed: of its training; default: what the folder says, or 'unknown' and None.
        ids: what a pixel's value means: 'train' is the class's number, 'raw' the id in the domain's
            own label files, a label space's name the id there (as 'cityscapes' for labelIds).
        like: a record whose protocol the predictions followed, by the user's word.
        skip_lists: files that name pairs to leave out (`ibnseg.domains.skip`).

    Returns:
        record and per-image matrices; `matrices.save` takes both.

    Raises:
        DataError: as `match` and `read_prediction`; another size than the label's; an id that is no
            class where the ground truth is one.
        ValueError: no name, an unknown meaning of ids, predictions that were changed since.
    """
    row, split = domains.parse(domain)
    domain = f'{row.name}:{split}'
    folder, said = opened(Path(folder), domain)
    if said is None and not name:
        raise ValueError(f'{folder} does not say whose predictions it holds; give --name')
    measured, packed, digest = _measurement(
        domain, folder, data_root, ids, like or said, skip_lists
    )
    if said is not None:
        (before,) = (m for m in said.domains if m.domain == domain)
        if not np.array_equal(before.matrix, measured.matrix):
            raise ValueError(
                f'{folder}: these are not the predictions that were written with {MANIFEST}, '
                'or the labels have changed. Delete that file to score them as they are, with '
                '--name'
            )
    record = Record(
        model=name or said.model,
        source=source or (said.source if said else 'unknown'),
        classes=list(labels.task(row.space).classes),
        provenance=_provenance(said, seed, dict(folder=str(folder), sha256=digest, ids=ids)),
        domains=[measured],
    )
    return record, {domain: packed}


def _provenance(said: Record | None, seed: int | None, scored: dict[str, str]) -> dict[str, Any]:
    facts = dict(selection=records.SCORED, checkpoint_sha256=None, seed=seed)
    if said is not None:
        facts = dict(said.provenance) | ({} if seed is None else dict(seed=seed))
    here = origin.here()
    return facts | dict(scored=scored, date=here['date'], commit=here['commit'])


def _measurement(
    domain: str,
    folder: Path,
    data_root: str | Path,
    ids: str,
    like: Record | None,
    skip_lists: Sequence[str | Path],
) -> tuple[Measurement, Images, str]:
    """Return the measurement, the matrices of its images, and a hash of all predictions."""
    space = domains.parse(domain)[0].space
    to_class = classes_of(ids, space)
    used = domains.use(domain, data_root, skip_lists)
    pairs, keys = used.pairs, used.photos
    command.say_once(used.report())
    protocol = _protocol(used, like)
    left_out = {file.stem for pair in used.odd for file in pair}
    files = match(keys, [truth.stem for _, truth in pairs], folder, left_out)
    found, content = [], hashlib.sha256()
    files = progress.track(files, 'scoring', len(files))
    for file, key, (_, truth) in zip(files, keys, pairs, strict=True):
        found.append(_matrices(file, truth, space, to_class, ids))
        content.update(f'{key}\0{disk.sha256(file)}\n'.encode())
    matrices, raw = zip(*found, strict=True)
    packed = Images.pack(matrices, keys)
    whole = None if any(of_ids is None for of_ids in raw) else sum(raw)
    measured = Measurement(domain, len(pairs), *protocol, packed.total(), whole)
    return measured, packed, content.hexdigest()


def opened(folder: Path, domain: str) -> tuple[Path, Record | None]:
    """Return the folder of a domain's predictions, and the record of what wrote them, if any."""
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder}: no such folder of predictions')
    own = folder / place(domain)
    above = (folder, *folder.absolute().parents[:2])
    file = next(filter(Path.is_file, (place / MANIFEST for place in above)), None)
    said = records.read(file) if file else None
    if said and domain not in (measured := [m.domain for m in said.domains]):
        raise ValueError(f'{file} is of {", ".join(measured)}; expected {domain} among them')
    return own if own.is_dir() else folder, said


def _protocol(used: domains.Used, like: Record | None) -> tuple[dict, str]:
    """Return the protocol and its hash: that of `like`, or one that says what is known."""
    domain, now = used.domain, (len(used.pairs), used.part)
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
        if (before := (found.images, found.protocol.get('pairs'))) != now:
            then, here = (f'{n:,} pairs ({part or "as published"})' for n, part in (before, now))
            raise ValueError(
                f'{domain} was measured on {then:.40}, here are {here}. Score it with the same '
                'files and the same --skip-list'
            )
        return found.protocol, found.protocol_hash
    native = protocols.describe(None, domain, len(used.pairs))
    files = replace(native, name='files', mode='files', pairs=used.part)
    return files.content(), files.hash


def classes_of(ids: str, space: str) -> np.ndarray:
    """Return uint8 (256,): the class that a value in a prediction means, 255 for none."""
    task = labels.task(space)
    if ids == 'train':
        table = np.full(256, labels.IGNORE, np.uint8)
        table[: len(task.classes)] = range(len(task.classes))
        return table
    chosen = space if ids == 'raw' else ids
    same = [name for name in labels.SPACES if labels.task(name) is task]
    if chosen not in same:
        near = meant(ids, ['train', 'raw', *same])
        raise ValueError(f"--ids {ids}: choose 'train', 'raw', or a label space of {same}{near}")
    return labels.lut(chosen)


def _meanings(values: np.ndarray, space: str) -> list[str]:
    """Return which `ids` give every value a class: class numbers, the dataset's ids, labelIds."""
    fits: dict[bytes, str] = {}
    for ids in ('train', 'raw', 'cityscapes'):
        try:
            table = classes_of(ids, space)
        except ValueError:  # a label space of other classes
            continue
        if (table[values] != labels.IGNORE).all():
            fits.setdefault(table.tobytes(), ids)
    return list(fits.values())


def _matrices(
    file: Path, truth_file: Path, space: str, to_class: np.ndarray, ids: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return an image's matrix, and that over raw ids where the dataset has other label maps."""
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
        fits = _meanings(np.unique(raw[counts]), space)
        values, pixels = np.unique(raw[none], return_counts=True)
        found = ', '.join(f'{v} ({n} px)' for v, n in zip(values[:5], pixels[:5], strict=True))
        hint = f' Its values fit --ids {" or --ids ".join(fits)}' if fits else ''
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
