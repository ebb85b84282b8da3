"""What an evaluation leaves behind: matrices and provenance in one JSON file a checkpoint."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import disk, labels
from .protocols import protocol_hash

SCHEMA = 'ibnseg-record-1'
SCORED = 'scored from files'  # the selection rule of predictions that came without one
_MOST_PIXELS = 2**44  # a class pair of a domain; sums stay exact in float64 and int64


class RecordError(ValueError):
    """A record file that can't be read. Says which, what was found and what was expected."""


@dataclass
class Measurement:
    """One domain of a record.

    Args:
        matrix: int64 (classes, classes), rows are the ground truth.
        raw: int64 (raw ids, classes), what `matrix` was summed from by the label map of the
            protocol; None where there is but one map.
    """

    domain: str
    images: int
    protocol: dict[str, Any]
    protocol_hash: str
    matrix: np.ndarray = field(compare=False)
    raw: np.ndarray | None = field(default=None, compare=False)

    @property
    def classes(self) -> tuple[int, ...]:
        return tuple(self.protocol['classes'])


@dataclass
class Record:
    """One checkpoint, measured on `domains` in one run.

    Args:
        model: name for tables, e.g. 'ibn_b'.
        source: the domain trained on, 'name:split'.
        classes: names of the training classes, in order.
        provenance: checkpoint (file, sha256, iteration), selection rule, seed, code commit,
            versions, config text, date.
        domains: measurements, in the order measured.
    """

    model: str
    source: str
    classes: list[str]
    provenance: dict[str, Any]
    domains: list[Measurement] = field(default_factory=list)


def write(record: Record, path: str | Path) -> Path:
    """Write `record` as JSON; returns the path."""
    content = asdict(record)
    for measurement in content['domains']:
        measurement['matrix'] = measurement['matrix'].tolist()
        raw = measurement.pop('raw')
        if raw is not None:
            measurement['raw'] = raw.tolist()
    text = json.dumps(dict(schema=SCHEMA, **content), indent=1)
    # One line a matrix row, for people and for diffs.
    text = re.sub(r'\[\s+(\d[\d,\s]*\d|\d)\s+\]', lambda m: f'[{" ".join(m[1].split())}]', text)
    disk.write_atomically(path, text + '\n')
    return Path(path)


def read(path: str | Path) -> Record:
    """Read a record written by `write`, checking what a stranger may have changed.

    Raises RecordError: not JSON, another schema, a field missing or of another type, a domain
    twice, a matrix that is not square, of the wrong size, negative or not of integers, a protocol
    whose hash is not its own.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise RecordError(f'{path}: {error.strerror}') from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f'{path}: not a record, it is not JSON ({error})') from None
    if not isinstance(content, dict) or content.get('schema') != SCHEMA:
        found = content.get('schema') if isinstance(content, dict) else type(content).__name__
        raise RecordError(f'{path}: schema is {found!r:.60}; expected {SCHEMA!r}')
    take = _Taker(path, content)
    classes = take('classes', list)
    if not classes or not all(isinstance(name, str) for name in classes):
        raise RecordError(f"{path}: 'classes' is {classes!r:.60}; expected names")
    measured = [_measurement(path, item, len(classes)) for item in take('domains', list)]
    names = [item.domain for item in measured]
    if len(set(names)) < len(names):
        raise RecordError(f'{path}: a domain is measured twice: {names!r:.200}')
    return Record(
        model=take('model', str),
        source=take('source', str),
        classes=classes,
        provenance=take('provenance', dict),
        domains=measured,
    )


class _Taker:
    def __init__(self, path: Path, content: Any):
        self.path = path
        self.content = content if isinstance(content, Mapping) else {}

    def __call__(self, key: str, kind: type) -> Any:
        value = self.content.get(key)
        if not isinstance(value, kind):
            raise RecordError(f'{self.path}: {key!r} is {value!r:.60}; expected a {kind.__name__}')
        return value


def _measurement(path: Path, content: Any, num_classes: int) -> Measurement:
    take = _Taker(path, content)
    domain, rows = take('domain', str), take('matrix', list)
    if not _are_counts(rows, num_classes, num_classes):
        raise RecordError(
            f'{path}: the matrix of {domain!r:.60} is not {num_classes} rows of as many counts'
        )
    protocol, digest = take('protocol', dict), take('protocol_hash', str)
    counted = protocol.get('classes')
    if (
        not isinstance(counted, list)
        or not counted
        or not all(type(c) is int and 0 <= c < num_classes for c in counted)
        or len(set(counted)) < len(counted)
    ):
        raise RecordError(f'{path}: the protocol of {domain!r:.60} names no valid classes')
    if protocol_hash(protocol) != digest:
        raise RecordError(
            f'{path}: the protocol of {domain!r:.60} hashes to {protocol_hash(protocol)}, the file '
            f'says {digest!r:.20}; one of them was edited'
        )
    images = take('images', int)
    if type(images) is not int or images < 0:
        raise RecordError(f"{path}: 'images' of {domain!r:.60} is {images!r}; expected a count")
    matrix = np.array(rows, np.int64)
    raw = None
    if content.get('raw') is not None:
        raw = _raw(path, domain, take('raw', list), protocol, matrix)
    return Measurement(domain, images, protocol, digest, matrix, raw)


def _raw(
    path: Path, domain: str, rows: list, protocol: Mapping[str, Any], matrix: np.ndarray
) -> np.ndarray:
    space = protocol.get('space')
    if not isinstance(space, str) or space not in labels.SPACES:
        raise RecordError(f'{path}: label space {space!r:.40} of {domain!r:.60} is unknown')
    ids = len(labels.space(space).names)
    if not _are_counts(rows, ids, len(matrix)):
        raise RecordError(
            f'{path}: the raw matrix of {domain!r:.60} is not {ids} rows of {len(matrix)} counts'
        )
    raw = np.array(rows, np.int64)
    if not np.array_equal(labels.fold(raw, space), matrix):
        raise RecordError(
            f'{path}: the raw matrix of {domain!r:.60} does not sum to its matrix; one was edited'
        )
    return raw


def _are_counts(rows: list, height: int, width: int) -> bool:
    return (
        len(rows) == height
        and all(isinstance(row, list) and len(row) == width for row in rows)
        and all(type(count) is int and 0 <= count < _MOST_PIXELS for row in rows for count in row)
    )


def find(paths: list[str | Path]) -> list[Path]:
    """Return the record files among `paths`; a folder stands for the `*.record.json` below it.

    Raises RecordError for a path that does not exist or a folder without records.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            below = sorted(path.rglob('*.record.json'))
            if not below:
                raise RecordError(f'{path}: no *.record.json below this folder')
            found += below
        elif path.is_file():
            found.append(path)
        else:
            raise RecordError(f'{path}: no such file or folder')
    return list(dict.fromkeys(found))
