"""The confusion matrix of each image: sparse in memory, and in one file beside the record.

From them come intervals, paired comparisons and the worst images (`ibnseg.measure.bootstrap`).
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import disk
from . import records
from .records import Measurement, Record, RecordError

SCHEMA = 'ibnseg-images-1'
_MOST_BYTES = 2**28  # unpacked; 20,000 images of 19 classes need a twentieth
_PARTS = {'starts': np.int64, 'cells': np.int32, 'counts': np.uint32}


@dataclass(frozen=True)
class Images:
    """The confusion matrices of N images, their non-zero cells one image after another.

    Args:
        shape: of each matrix; rows are the ground truth.
        starts: int64 (N + 1,); image i has the cells `starts[i]` to `starts[i + 1]`.
        cells: int32, row * shape[1] + column, ascending within an image.
        counts: uint32, the pixels of each cell.
        keys: each image's photo relative to the data root, or () where not known.
    """

    shape: tuple[int, int]
    starts: np.ndarray
    cells: np.ndarray
    counts: np.ndarray
    keys: tuple[str, ...] = ()

    @classmethod
    def pack(cls, matrices: Sequence[np.ndarray], keys: Iterable[str] = ()) -> 'Images':
        """Take dense matrices, all of one shape; at least one."""
        rows = [sparse(matrix) for matrix in matrices]
        starts = np.cumsum([0, *(row.shape[1] for row in rows)])
        cells, counts = np.concatenate(rows, axis=1)
        return cls(matrices[0].shape, starts, cells.astype(np.int32), counts, tuple(keys))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one image's matrix, int64 of `shape`."""
        part = slice(*self.starts[[index, index + 1]])
        return self._sum(self.cells[part], self.counts[part])

    def total(self) -> np.ndarray:
        """Return the sum over all images, int64 of `shape`."""
        return self._sum(self.cells, self.counts)

    def _sum(self, cells: np.ndarray, counts: np.ndarray) -> np.ndarray:
        matrix = np.zeros(self.shape, np.int64)
        np.add.at(matrix.ravel(), cells, counts.astype(np.int64))
        return matrix

    def margins(self) -> np.ndarray:
        """Return float64 (N, 3, classes): pixels of each class that are right, in the ground
        truth and in the prediction. All scores are functions of their sums."""
        image = np.repeat(np.arange(len(self)), np.diff(self.starts))
        truth, predicted = np.divmod(self.cells, self.shape[1])
        out = np.zeros((len(self), 3, self.shape[1]))
        np.add.at(out, (image, 2, predicted), self.counts)
        np.add.at(out, (image, 1, truth), self.counts)
        same = truth == predicted
        out[image[same], 0, truth[same]] = self.counts[same]
        return out


def sparse(matrix: np.ndarray) -> np.ndarray:
    """Return uint32 (2, n): the n non-zero cells of one image's matrix, and their counts."""
    flat = matrix.ravel()
    cells = np.flatnonzero(flat)
    return np.stack([cells, flat[cells]]).astype(np.uint32)


def beside(record_path: str | Path) -> Path:
    """Return where the images of a record lie: `a.record.json` -> `a.images.npz`."""
    path = Path(record_path)
    return path.with_name(path.name.removesuffix('.json').removesuffix('.record') + '.images.npz')


def identity(record: Record) -> str:
    """Return a hash over what was measured; the model's name and remarks may be edited."""
    measured = [(m.domain, m.images, m.protocol_hash, m.matrix.tolist()) for m in record.domains]
    known = (record.provenance.get('checkpoint_sha256'), record.classes, measured)
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def write(record_path: str | Path, record: Record, images: Mapping[str, Images]) -> Path:
    """Write the images of each of the record's domains beside the record; returns the path."""
    arrays, domains = {}, []
    for i, measured in enumerate(record.domains):
        of_domain = images[measured.domain]
        domains.append(dict(domain=measured.domain, images=list(of_domain.keys)))
        for part, dtype in _PARTS.items():
            arrays[f'{part}{i}'] = getattr(of_domain, part).astype(dtype)
    header = json.dumps(dict(schema=SCHEMA, record=identity(record), domains=domains))
    arrays = dict(header=np.frombuffer(header.encode(), np.uint8), **arrays)
    disk.write_by(beside(record_path), lambda file: np.savez_compressed(file, **arrays))
    return beside(record_path)


def read(record_path: str | Path, record: Record) -> dict[str, Images] | None:
    """Read the images beside a record, by domain; None where there is no such file.

    Nothing in the file is run, and no more is unpacked than `_MOST_BYTES`.

    Raises RecordError: not such a file, too large, of another record, or with matrices that do not
    sum to the record's.
    """
    path = beside(record_path)
    if not path.exists() or path.is_dir():
        return None
    try:
        return _read(path, record)
    except Exception as error:  # zipfile, zlib and numpy raise nearly anything of bad files
        reason = getattr(error, 'strerror', None) or str(error) or type(error).__name__
        raise RecordError(
            f'{path}: these matrices cannot be used ({reason:.80}). Delete it to do without, or '
            'evaluate again'
        ) from None


def _read(path: Path, record: Record) -> dict[str, Images]:
    arrays = unpack(path)
    header = json.loads(arrays.pop('header', np.empty(0)).tobytes())
    if not isinstance(header, dict) or header.get('schema') != SCHEMA:
        raise ValueError(f'its schema is not {SCHEMA!r}')
    if header.get('record') != identity(record):
        raise ValueError('not of the record beside it; one of them is of another evaluation')
    expected = {f'{part}{i}': _PARTS[part] for i in range(len(record.domains)) for part in _PARTS}
    found = {name: array.dtype for name, array in arrays.items() if array.ndim == 1}
    if found != expected or len(found) < len(arrays):
        raise ValueError('its arrays are not those of the record')
    domains = header.get('domains')
    if not isinstance(domains, list) or len(domains) != len(record.domains):
        raise ValueError('its domains are not those of the record')
    images = {}
    for i, measured in enumerate(record.domains):
        parts = {part: arrays[f'{part}{i}'] for part in _PARTS}
        images[measured.domain] = _domain(measured, domains[i], parts)
    return images


def unpack(path: Path) -> dict[str, np.ndarray]:
    """Load an .npz file whose members declare `_MOST_BYTES` at most, and no byte beyond that."""
    with disk.opened(path) as packed, zipfile.ZipFile(packed) as archive:
        members = archive.infolist()
        declared = sum(member.file_size for member in members)
        if declared > _MOST_BYTES:
            raise ValueError(f'it unpacks to {declared} bytes, expected {_MOST_BYTES} at most')
        if any(m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for m in members):
            raise ValueError('compressed in another way than by deflate')  # and without a bound
        arrays = {}
        for member in members:
            with archive.open(member) as file:
                # Without a size, zipfile unpacks all there is before it looks at what was said.
                content = io.BytesIO(file.read(member.file_size))
            arrays[member.filename.removesuffix('.npy')] = np.load(content, allow_pickle=False)
    return arrays


def _domain(measured: Measurement, said: Any, arrays: dict[str, np.ndarray]) -> Images:
    keys = said.get('images') if isinstance(said, dict) else None
    if (
        not isinstance(keys, list)
        or not all(isinstance(key, str) for key in keys)
        or not len(set(keys)) == len(keys) == measured.images
        or said.get('domain') != measured.domain
    ):
        raise ValueError(f'{measured.domain!r:.40} does not have {measured.images} image names')
    images = Images(measured.matrix.shape, **arrays, keys=tuple(keys))
    starts, cells = images.starts, images.cells
    if len(starts) != len(keys) + 1 or starts[0] != 0 or starts[-1] != len(cells):
        raise ValueError(f'{measured.domain!r:.40} does not have {measured.images} matrices')
    steps = np.diff(cells) > 0
    inner = starts[(starts > 0) & (starts < len(cells))] - 1
    steps[inner] = True  # from an image to the next
    if (
        len(images.counts) != len(cells)
        or (np.diff(starts) < 0).any()
        or not steps.all()
        or (len(cells) and not 0 <= cells.min() <= cells.max() < measured.matrix.size)
        or not images.counts.all()
    ):
        raise ValueError(f'a matrix of {measured.domain!r:.40} is damaged')
    if not np.array_equal(images.total(), measured.matrix):
        raise ValueError(
            f"the matrices of {measured.domain!r:.40} do not sum to the record's; one was edited"
        )
    return images


def save(record: Record, images: Mapping[str, Images], path: str | Path) -> None:
    """Write a record to `path` and the images beside it."""
    write(path, record, images)
    records.write(record, path)
