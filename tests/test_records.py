import json
import os

import numpy as np
import pytest

from ibnseg import disk, labels
from ibnseg.measure import records
from ibnseg.measure.protocols import protocol_hash
from ibnseg.measure.records import Measurement, Record, RecordError


def example() -> Record:
    protocol = dict(name='native', photo=[4, 2], classes=[0, 1])
    matrix = np.array([[5, 1], [2**40, 3]], np.int64)
    return Record(
        'ibn_a', 'gta5:train', ['road', 'car'], {'seed': 3, 'versions': {'torch': '2'}},
        [Measurement('gta5:val', 7, protocol, protocol_hash(protocol), matrix)],
    )  # fmt: skip


def test_round_trip_is_equal_and_leaves_nothing_else(tmp_path):
    path = records.write(example(), tmp_path / 'new' / 'a.record.json')
    found, expected = records.read(path), example()
    np.testing.assert_array_equal(found.domains[0].matrix, expected.domains[0].matrix)
    assert found.domains[0].matrix.dtype == np.int64
    assert found.domains[0].classes == (0, 1)
    for record in (found, expected):
        record.domains[0].matrix = None
    assert found == expected
    assert list(path.parent.iterdir()) == [path]


def mapped() -> Record:
    """A record of Mapillary, of whose label maps there are two."""
    raw = np.random.default_rng(0).integers(0, 100, (66, 19))
    # `skipped` is of records from before hashes covered which pairs were measured.
    protocol = dict(name='native', space='mapillary-coarse', classes=list(range(19)), skipped='0f')
    measured = Measurement(
        'mapillary:val', 7, protocol, protocol_hash(protocol), labels.fold(raw, protocol['space']),
        raw,
    )  # fmt: skip
    return Record('ibn_a', 'gta5:train', list(labels.CLASSES), {}, [measured])


def test_raw_matrix_is_kept(tmp_path):
    path = records.write(mapped(), tmp_path / 'a.record.json')
    (found,) = records.read(path).domains
    np.testing.assert_array_equal(found.raw, mapped().domains[0].raw)
    assert path.read_text().count('\n') < 66 + 19 + 100, 'a line each row'
    plain = records.write(example(), tmp_path / 'b.record.json')
    assert '"raw"' not in plain.read_text()
    assert records.read(plain).domains[0].raw is None


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (lambda m: m['raw'][13].__setitem__(0, 10**6), 'does not sum to its matrix'),
        (lambda m: m['matrix'][0].__setitem__(0, 10**6), 'does not sum to its matrix'),
        (lambda m: m['raw'].pop(), 'is not 66 rows of 19 counts'),
        (lambda m: m['raw'][0].pop(), 'is not 66 rows of 19 counts'),
        (lambda m: m['raw'][0].__setitem__(0, -1), 'is not 66 rows of 19 counts'),
        (lambda m: m.update(raw='x'), "'raw' is 'x'; expected a list"),
        (lambda m: m['protocol'].update(space='mars'), "label space 'mars' of .* is unknown"),
        (lambda m: m['protocol'].update(space=[1]), 'is unknown'),
        (lambda m: m['protocol'].update(space='bdd100k-drivable'), 'is not 3 rows of 19 counts'),
    ],
)
def test_damaged_raw_matrix_is_named(tmp_path, change, says):
    path = records.write(mapped(), tmp_path / 'a.record.json')
    content = json.loads(path.read_text())
    (measured,) = content['domains']
    change(measured)
    measured['protocol_hash'] = protocol_hash(measured['protocol'])
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match=says) as caught:
        records.read(path)
    assert str(caught.value).startswith(f'{path}: ')


@pytest.mark.parametrize('broken', ['fsync', 'replace', 'content'])
def test_failing_write_keeps_the_old_file(tmp_path, monkeypatch, broken):
    path, record = tmp_path / 'a.record.json', example()
    path.write_text('old')

    def full(*_):
        raise OSError('disk full')

    if broken == 'content':
        record.provenance['odd'] = object()
    else:
        monkeypatch.setattr(os, broken, full)
    with pytest.raises(TypeError if broken == 'content' else OSError):
        records.write(record, path)
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def damaged(**changes) -> bytes:
    """The example as bytes; a key with __ goes into the first domain, `...` removes."""
    record = example()
    record.domains[0].matrix = record.domains[0].matrix.tolist()
    content = {'schema': records.SCHEMA, **vars(record), 'domains': [vars(record.domains[0])]}
    for key, value in changes.items():
        inside, _, name = key.rpartition('__')
        where = content['domains'][0] if inside else content
        if value is ...:
            del where[name]
        else:
            where[name] = value
    return json.dumps(content).encode()


TOP = ('schema', 'model', 'source', 'classes', 'provenance', 'domains')
INSIDE = ('domain', 'images', 'protocol', 'protocol_hash', 'matrix')
DAMAGED = {
    'empty': b'',
    'nested too deep': b'[' * 100_000,
    'a protocol edited after its hash': damaged(domains__protocol={'name': 'b', 'classes': [0, 1]}),
    'a class counted twice': damaged(domains__protocol={'classes': [0, 0]}),
    'no class counted': damaged(domains__protocol={'classes': []}),
    'class names of other types': damaged(classes=[1, [2]]),
    'negative images': damaged(domains__images=-5),
    'images true': damaged(domains__images=True),
    'a domain twice': damaged(
        domains=[vars(example().domains[0]) | {'matrix': [[1, 2], [3, 4]]}] * 2
    ),
    'counts past any picture': damaged(domains__matrix=[[2**62, 0], [0, 1]]),
    'binary': bytes(range(256)),
    'PNG': b'\x89PNG\r\n\x1a\n' + b'\0' * 50,
    'truncated': damaged()[:-20],
    'list': b'[]',
    'null': b'null',
    'another schema': damaged(schema='ibnseg-record-999'),
    'schema of another type': damaged(schema=['ibnseg-record-1']),
    **{f'no {key}': damaged(**{key: ...}) for key in TOP},
    **{f'{key} null': damaged(**{key: None}) for key in TOP},
    **{f'no domain {key}': damaged(**{f'd__{key}': ...}) for key in INSIDE},
    **{f'domain {key} null': damaged(**{f'd__{key}': None}) for key in INSIDE},
    'domain is no object': damaged(domains=['cityscapes:val']),
    'matrix ragged': damaged(d__matrix=[[1, 2], [3]]),
    'matrix negative': damaged(d__matrix=[[1, 2], [3, -4]]),
    'matrix of floats': damaged(d__matrix=[[1.0, 2.0], [3.0, 4.5]]),
    'matrix of texts': damaged(d__matrix=[['1', '2'], ['3', '4']]),
    'matrix of truths': damaged(d__matrix=[[True, False], [False, True]]),
    'matrix with null': damaged(d__matrix=[[1, 2], [3, None]]),
    'matrix with NaN': damaged(d__matrix=[[1, 2], [3, float('nan')]]),
    'matrix empty': damaged(d__matrix=[]),
    'matrix too small': damaged(d__matrix=[[1]]),
    'matrix too large': damaged(d__matrix=[[1, 2, 3]] * 3),
    'matrix not square': damaged(d__matrix=[[1, 2, 3]] * 2),
    'matrix too deep': damaged(d__matrix=[[[1, 2], [3, 4]]] * 2),
    'counts above int64': damaged(d__matrix=[[1, 2], [3, 2**63]]),
    'counts above uint64': damaged(d__matrix=[[1, 2], [3, 10**40]]),
    'counts beyond conversion': damaged().replace(b'1099511627776', b'9' * 5000),
    'class above': damaged(d__protocol={'classes': [0, 2]}),
    'class below': damaged(d__protocol={'classes': [-1]}),
    'class of text': damaged(d__protocol={'classes': ['road']}),
    'classes absent': damaged(d__protocol={}),
    'images of text': damaged(d__images='many'),
}


@pytest.mark.parametrize('kind', DAMAGED)
def test_damage_is_named_with_its_file(tmp_path, kind):
    path = tmp_path / 'damaged.record.json'
    path.write_bytes(damaged())
    assert records.read(path).model == 'ibn_a', 'the undamaged one reads'
    path.write_bytes(DAMAGED[kind])
    with pytest.raises(RecordError) as caught:
        records.read(path)
    message = str(caught.value)
    assert message.startswith(f'{path}: ')
    assert '\n' not in message
    assert len(message) < len(str(path)) + 200


@pytest.mark.parametrize('path', ['absent.record.json', '.'])
def test_what_is_no_file_is_named(tmp_path, path):
    with pytest.raises(RecordError, match='directory'):
        records.read(tmp_path / path)


def test_find_looks_below_folders_and_counts_a_file_once(tmp_path):
    (tmp_path / 'empty').mkdir()
    for path in ('absent', 'empty'):
        with pytest.raises(RecordError, match=path):
            records.find([tmp_path / path])
    paths = [tmp_path / name for name in ('b.record.json', 'deep/a.record.json', 'deep/note.json')]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert records.find([tmp_path]) == (paths[:2], [])
    other = [tmp_path / 'empty', tmp_path / 'picture.png']
    other[1].touch()
    assert records.find([paths[0], tmp_path, *other, paths[2]]) == (paths, other)


def test_sha256(tmp_path):
    (tmp_path / 'file').write_bytes(b'abc')
    assert disk.sha256(tmp_path / 'file').startswith('ba7816bf8f01cfea')
