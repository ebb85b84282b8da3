"""What an evaluation leaves behind: matrices and provenance in one JSON file a checkpoint."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import disk, labels, machine
from ..text import clean
from .protocols import protocol_hash

SCHEMA = 'ibnseg-record-1'
GIVEN = 'as given'  # the selection rule of a network that was trained elsewhere
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
        if measurement['raw'] is None:
            del measurement['raw']
    text = json.dumps(dict(schema=SCHEMA, **content), indent=1, default=np.ndarray.tolist)
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
    try:
        content = json.loads(disk.read(path).decode())
    except OSError as error:
        raise RecordError(machine.said(error) or f'{path}: {error.strerror}') from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f'{path}: not a record, it is not JSON ({error})') from None
    try:
        return _record(content)
    except ValueError as error:
        raise RecordError(f'{path}: {error}') from None


def _record(content: Any) -> Record:
    found = content.get('schema') if isinstance(content, dict) else content
    if found != SCHEMA:
        raise ValueError(f'schema is {found!r:.60}; expected {SCHEMA!r}')
    classes = _take(content, 'classes', list)
    if not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"'classes' is {classes!r:.60}; expected names")
    _check_texts(content)
    measured = [_measurement(item, len(classes)) for item in _take(content, 'domains', list)]
    names = [item.domain for item in measured]
    if len(set(names)) < len(names):
        raise ValueError(f'a domain is measured twice: {names!r:.200}')
    return Record(
        model=_take(content, 'model', str),
        source=_take(content, 'source', str),
        classes=classes,
        provenance=_take(content, 'provenance', dict),
        domains=measured,
    )


_LONGEST, _CONFIG, _MOST_DOMAINS = 5000, 2**20, 1000  # characters; those of a config


def _check_texts(content: dict[str, Any]) -> None:
    """Raise ValueError for texts that no record has: tables and pages show them."""
    if isinstance(content.get('domains'), list) and len(content['domains']) > _MOST_DOMAINS:
        raise ValueError(f'{len(content["domains"]):,} domains; expected {_MOST_DOMAINS} at most')
    left: list[tuple[str, Any]] = [('', content)]
    while left:
        where, value = left.pop()
        if isinstance(value, dict):
            left += [(where, key) for key in value]
            left += [(f'{where}.{key}'[:60].lstrip('.'), one) for key, one in value.items()]
        elif isinstance(value, list):
            left += [(where, one) for one in value if not isinstance(one, int | float)]
        elif isinstance(value, str):
            most = _CONFIG if where == 'provenance.config' else _LONGEST
            if len(value) > most:
                raise ValueError(
                    f'a text in {where!r} has {len(value):,} characters ({value!r:.30}...); '
                    f'expected {most:,} at most'
                )


def _take(content: Any, key: str, kind: type) -> Any:
    value = content.get(key) if isinstance(content, dict) else None
    if type(value) is not kind:  # True is an instance of int
        raise ValueError(f'{key!r} is {value!r:.60}; expected a {kind.__name__}')
    return value


def _measurement(content: Any, num_classes: int) -> Measurement:
    domain, images = _take(content, 'domain', str), _take(content, 'images', int)
    if images < 0:
        raise ValueError(f"'images' of {domain!r:.60} is {images}; expected a count")
    matrix = _counts(content, 'matrix', num_classes, num_classes)
    protocol, digest = _take(content, 'protocol', dict), _take(content, 'protocol_hash', str)
    counted = protocol.get('classes')
    if (
        not isinstance(counted, list)
        or not counted
        or not all(type(c) is int and 0 <= c < num_classes for c in counted)
        or len(set(counted)) < len(counted)
    ):
        raise ValueError(f'the protocol of {domain!r:.60} names no valid classes')
    if protocol_hash(protocol) != digest:
        raise ValueError(
            f'the protocol of {domain!r:.60} hashes to {protocol_hash(protocol)}, the file says '
            f'{digest!r:.20}; one of them was edited'
        )
    raw = None
    if content.get('raw') is not None:
        space = protocol.get('space')
        if not isinstance(space, str) or space not in labels.SPACES:
            raise ValueError(f'label space {space!r:.40} of {domain!r:.60} is unknown')
        raw = _counts(content, 'raw', len(labels.space(space).names), num_classes)
        if not np.array_equal(labels.fold(raw, space), matrix):
            raise ValueError(
                f'the raw matrix of {domain!r:.60} does not sum to its matrix; one was edited'
            )
    return Measurement(domain, images, protocol, digest, matrix, raw)


def _counts(content: dict, key: str, height: int, width: int) -> np.ndarray:
    rows = _take(content, key, list)
    if (
        len(rows) != height
        or not all(isinstance(row, list) and len(row) == width for row in rows)
        or not all(type(n) is int and 0 <= n < _MOST_PIXELS for row in rows for n in row)
    ):
        of = content['domain']
        raise ValueError(f'{key!r} of {of!r:.60} is not {height} rows of {width} counts')
    return np.array(rows, np.int64)


def engine_of(provenance: Mapping[str, Any]) -> str:
    """Return what ran a network in words, 'openvino bfloat16'; '' for torch, as it was trained."""
    engine = provenance.get('engine')
    if not isinstance(engine, Mapping) or not engine:
        return ''
    precision = str(engine.get('precision', 'float32'))
    words = str(engine.get('name')), precision * (precision != 'float32')
    return clean(' '.join(filter(None, words)), 40)


def name(
    model: str, checkpoint: str | Path, sha256: str, hashes: Mapping[str, str], engine: str = ''
) -> str:
    """Return the file name of a record, another one for another checkpoint, protocol or engine.

    Args:
        sha256: of the checkpoint.
        hashes: of the protocols, by domain.
        engine: of `engine_of`.
    """
    what = json.dumps([sha256, sorted(hashes.items()), *[engine] * bool(engine)])
    digits = hashlib.sha256(what.encode()).hexdigest()[:8]
    return f'{model}.{Path(checkpoint).stem}.{digits}.record.json'


def check_free(
    path: Path, model: str, sha256: str | None, hashes: Mapping[str, str], engine: str = ''
) -> None:
    """Raise FileExistsError where a new record would overwrite what it does not measure again.

    Args:
        sha256: of its checkpoint.
        hashes: of its protocols, by domain.
        engine: of `engine_of`.
    """
    if not path.exists():
        return
    try:
        found = read(path)
        before = found.provenance
        facts = found.model, before.get('checkpoint_sha256'), engine_of(before)
        measured = {one.domain: one.protocol_hash for one in found.domains}
        if facts == (model, sha256, engine) and measured.items() <= hashes.items():
            return
        what = f'the result of {found.model} on {", ".join(measured)}'
    except RecordError:
        what = 'something else'
    raise FileExistsError(
        f'{path} holds {what}, and would be overwritten. Name another file with --out, or move it '
        'away'
    )


def find(paths: Sequence[str | Path]) -> tuple[list[Path], list[Path]]:
    """Return the record files among `paths`, and the other paths: what `work_dirs/*` holds besides.

    A folder stands for the `*.record.json` below it; other records end in .json, too.

    Raises RecordError for a path that does not exist, or where there is no record at all.
    """
    found: list[Path] = []
    empty: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise RecordError(f'{path}: no such file or folder')
        one = [path] * (path.suffix == '.json')
        files = sorted(path.rglob('*.record.json')) if path.is_dir() else one
        found += files
        empty += [path] * (not files)
    if not found:
        raise RecordError(f'{", ".join(map(str, paths))}: no *.record.json there')
    return list(dict.fromkeys(found)), empty
