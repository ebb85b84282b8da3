"""The per-image file: what is written is read, and a stranger's file does no harm."""

import io
import json
import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from ibnseg.measure import matrices, records
from ibnseg.measure.matrices import Images
from ibnseg.measure.protocols import protocol_hash
from ibnseg.measure.records import Measurement, Record, RecordError


def drawn(size: int = 3, seed: int = 0, number: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 9, (number, size, size)) * (rng.random((number, size, size)) < 0.4)
    counts[0] = 0  # all of it ignored
    counts[1, 0, 0] = 2**31 + 5  # more pixels than int32 counts
    return counts


def example(model='ibn_a') -> tuple[Record, dict[str, Images]]:
    protocol = dict(name='native', classes=[0, 1])
    packed = {
        'gta5:val': Images.pack(drawn(), [f'gta5/images/{i}.png' for i in range(4)]),
        'camvid:Seq05VD': Images.pack(drawn(seed=1), ['camvid/test/ü|<b>.png', *'abc']),
    }
    measured = [
        Measurement(name, 4, protocol, protocol_hash(protocol), some.total())
        for name, some in packed.items()
    ]
    origin = dict(checkpoint_sha256='ab' * 32)
    return Record(model, 'gta5:train', ['road', 'car', 'sky'], origin, measured), packed


def test_packing_keeps_every_matrix():
    packed = Images.pack(drawn())
    assert len(packed) == 4
    for i, matrix in enumerate(drawn()):
        np.testing.assert_array_equal(packed[i], matrix)
    np.testing.assert_array_equal(packed.total(), drawn().sum(0))
    assert packed.total().dtype == packed[0].dtype == np.int64


def test_margins_are_right_truth_and_prediction():
    packed = Images.pack(drawn(19)).margins()
    for found, matrix in zip(packed, drawn(19), strict=True):
        np.testing.assert_array_equal(found, [np.diag(matrix), matrix.sum(1), matrix.sum(0)])


def test_round_trip(tmp_path):
    record, packed = example()
    path = matrices.write(tmp_path / 'new' / 'a.record.json', record, packed)
    assert path == tmp_path / 'new' / 'a.images.npz'
    assert list(path.parent.iterdir()) == [path]
    found = matrices.read(tmp_path / 'new' / 'a.record.json', record)
    assert list(found) == list(packed)
    for name, some in packed.items():
        assert found[name].keys == some.keys
        for i in range(4):
            np.testing.assert_array_equal(found[name][i], some[i])
    assert np.load(path, allow_pickle=False)['counts0'].dtype == np.uint32


@pytest.mark.parametrize('name', ['a.record.json', 'a.json', 'a', 'a.b.record.json'])
def test_two_records_never_share_a_file(name):
    assert matrices.beside(f'x/{name}').name == name.replace('.record', '').replace('.json', '') + (
        '.images.npz'
    )


def test_failing_write_keeps_the_old_file(tmp_path, monkeypatch):
    record, packed = example()
    path = matrices.write(tmp_path / 'a.record.json', record, packed)
    before = path.read_bytes()

    def full(*_):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='disk full'):
        matrices.write(tmp_path / 'a.record.json', record, packed)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_renamed_model_keeps_its_images(tmp_path):
    record, packed = example()
    matrices.write(tmp_path / 'a.record.json', record, packed)
    record.model, record.provenance['remark'] = 'ours', 'renamed'
    assert matrices.read(tmp_path / 'a.record.json', record)


CHANGES = {
    'checkpoint': lambda record: record.provenance.update(checkpoint_sha256='cd' * 32),
    'counts': lambda record: np.add.at(record.domains[0].matrix, (0, 0), 1),
    'protocol': lambda record: setattr(record.domains[1], 'protocol_hash', '01234567'),
    'order': lambda record: record.domains.reverse(),
}


@pytest.mark.parametrize('change', CHANGES.values(), ids=CHANGES)
def test_images_of_another_record_are_refused(tmp_path, change):
    record, packed = example()
    path = matrices.write(tmp_path / 'a.record.json', record, packed)
    change(record)
    with pytest.raises(RecordError, match='not of the record beside it') as caught:
        matrices.read(tmp_path / 'a.record.json', record)
    assert str(caught.value).startswith(str(path))


class Payload:
    def __reduce__(self):
        return os.mkdir, ('payload-ran',)


def npz(**changes) -> bytes:
    """The example's file with some arrays or header fields replaced; `...` removes."""
    record, packed = example()
    domains = [dict(domain=name, images=list(some.keys)) for name, some in packed.items()]
    header = dict(schema=matrices.SCHEMA, record=matrices.identity(record), domains=domains)
    arrays = {
        f'{part}{i}': getattr(some, part)
        for i, some in enumerate(packed.values())
        for part in ('starts', 'cells', 'counts')
    }
    for key, value in changes.items():
        where = header if key in header else arrays
        if value is ...:
            del where[key]
        else:
            where[key] = value(where[key]) if callable(value) else value
    text = json.dumps(header).encode()
    out = io.BytesIO()
    np.savez(out, **{'header': np.frombuffer(text, np.uint8), **arrays})
    return out.getvalue()


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w', method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


def lying_bomb(start: bytes = b'', method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A member that unpacks to 300 MB and says that it has 100 bytes."""
    content = archive({'header.npy': start.ljust(300_000_000, b'\0')}, method)
    return content.replace((300_000_000).to_bytes(4, 'little'), (100).to_bytes(4, 'little'))


def header(shape: str) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + '\n'
    return b'\x93NUMPY\x01\x00' + len(text).to_bytes(2, 'little') + text.encode()


def swap(array):
    array = array.copy()
    array[[0, 1]] = array[[1, 0]]
    return array


DAMAGED = {
    'empty': b'',
    'text': b'IoU',
    'truncated': npz()[:-200],
    'a flipped byte': npz().replace(b'ibnseg-images', b'ibnseg-imagex'),
    'pickle': pickle.dumps(Payload()),
    'a pickle inside': archive({'header.npy': pickle.dumps(Payload())}),
    'objects inside': npz(cells0=lambda a: np.array([Payload()] * len(a), object)),
    'no members': archive({}),
    'bomb': archive({'header.npy': bytes(300_000_000)}),
    'lying bomb': lying_bomb(),
    'lying bomb with a long header': lying_bomb(b'\x93NUMPY\x02\x00\xff\xff\xff\x10'),
    'lying bomb in bz2': lying_bomb(method=zipfile.ZIP_BZIP2),
    'a zip inside': archive({'header.npy': npz()}),
    'a huge shape': archive({'header.npy': header('(10**15,)')}),
    'many axes': archive({'header.npy': header('(1, ' * 900 + ')' * 900)}),
    'deep JSON': archive({'header.npy': header('(100000,)') + b'[' * 100_000}),
    'path out of the folder': npz() + archive({'../../x.npy': b''}),
    'another schema': npz(schema='ibnseg-images-9'),
    'no domains': npz(domains=...),
    'domains null': npz(domains=None),
    'a domain less': npz(domains=lambda d: d[:1]),
    'domain is text': npz(domains=lambda d: [d[0], 'x']),
    'domains swapped': npz(domains=lambda d: d[::-1]),
    'names are numbers': npz(domains=lambda d: [dict(d[0], images=[1, 2, 3, 4]), d[1]]),
    'a name twice': npz(domains=lambda d: [dict(d[0], images=['a'] * 4), d[1]]),
    'a name less': npz(domains=lambda d: [dict(d[0], images=d[0]['images'][1:]), d[1]]),
    'an array less': npz(cells1=...),
    'an array more': npz(more=np.zeros(3)),
    'two axes': npz(cells0=lambda a: a[None]),
    'another type': npz(counts0=lambda a: a.astype(np.float64)),
    'header cut': archive({'header.npy': header('((((')}),
    'header of a strange type': archive({'header.npy': header("(), 'descr': ('<i8',)")}),
    'byte order': npz(counts0=lambda a: a.astype('>u4')),
    'an image less': npz(starts0=lambda a: a[:-1]),
    'starts late': npz(starts0=lambda a: a + 1),
    'starts go back': npz(starts0=lambda a: swap(a[::-1])[::-1]),
    'starts far away': npz(starts0=lambda a: np.array([0, 2**62, 0, 0, a[-1]])),
    'cells negative': npz(cells0=lambda a: a - 9),
    'cells too large': npz(cells0=lambda a: a + 9),
    'cells out of order': npz(cells0=swap, counts0=swap),
    'counts too few': npz(counts0=lambda a: a[:-1]),
    'counts of zero': npz(counts0=lambda a: a * 0),
    'counts changed': npz(counts0=lambda a: a + np.uint32(1)),
    'counts exchanged between images': npz(starts0=lambda a: np.array([0, 0, 0, 0, a[-1]])),
}


@pytest.mark.parametrize('kind', DAMAGED)
def test_damage_is_one_error_with_its_file_and_unpacks_no_bomb(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, (record, _) = tmp_path / 'a.images.npz', example()
    path.write_bytes(npz())
    assert matrices.read(tmp_path / 'a.record.json', record), 'the undamaged one reads'
    path.write_bytes(DAMAGED[kind])
    tracemalloc.start()
    with pytest.raises(RecordError) as caught:
        matrices.read(tmp_path / 'a.record.json', record)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    message = str(caught.value)
    assert message.startswith(f'{path}: ') and '\n' not in message
    assert len(message) < len(str(tmp_path)) + 230
    assert list(tmp_path.iterdir()) == [path]


def test_no_file_is_no_error_nor_is_a_folder_in_its_place(tmp_path):
    record, packed = example()
    assert matrices.read(tmp_path / 'a.record.json', record) is None
    (tmp_path / 'a.images.npz').mkdir()
    assert matrices.read(tmp_path / 'a.record.json', record) is None
    with pytest.raises(OSError):
        matrices.write(tmp_path / 'a.record.json', record, packed)


def test_size_of_a_whole_data_set(tmp_path):
    """500 images of Cityscapes' kind (some 60 class pairs each) take below 200 kB."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9000, (500, 19, 19)) * (rng.random((500, 19, 19)) < 0.16)
    packed = Images.pack(counts, [f'cityscapes/leftImg8bit/val/x/x_{i:06}.png' for i in range(500)])
    record, _ = example()
    protocol = record.domains[0].protocol
    record.domains = [Measurement('c:val', 500, protocol, 'x', packed.total())]
    path = matrices.write(tmp_path / 'a.record.json', record, {'c:val': packed})
    assert path.stat().st_size < 200_000
    records.write(record, tmp_path / 'a.record.json')
