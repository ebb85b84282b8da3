"""Twelve kinds of damage to every file that ibnseg writes: what was written, or one clear error."""

import hashlib
import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_matrices import example
from test_odd_contents import content
from test_reliability import written

from ibnseg import disk, domains, weights
from ibnseg.inference.files import MANIFEST, Job
from ibnseg.measure import matrices, predictions, records, reliability
from ibnseg.report.page import gallery
from ibnseg.train.runs import states

# ------------------------------------------------------------------------ what is written


def _record(tmp_path):
    path = records.write(example()[0], tmp_path / 'a.record.json')
    return path, lambda: matrices.identity(records.read(path))


def _matrices(tmp_path):
    record, images = example()
    path = matrices.write(tmp_path / 'a.record.json', record, images)
    return path, lambda: matrices.read(tmp_path / 'a.record.json', record)


def _reliability(tmp_path):
    path, record, found = written(tmp_path)
    file = reliability.write(path, record, found)
    return file, lambda: reliability.read(path, record)


def _checkpoint(tmp_path):
    torch.save(content(), tmp_path / 'iter_4.pth')
    return tmp_path / 'iter_4.pth', lambda: weights.read(tmp_path / 'iter_4.pth')


def _safetensors(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / 'x.safetensors'
    save_file(content()['state_dict'], path)
    return path, lambda: weights.read(path)


def _prediction(tmp_path):
    drawn = np.random.default_rng(0).integers(0, 19, (32, 64)).astype(np.uint8)
    palette = np.arange(57, dtype=np.uint8).reshape(19, 3)
    disk.write_atomically(tmp_path / 'x.png', predictions.encode(drawn, palette))
    return tmp_path / 'x.png', lambda: predictions.read_prediction(tmp_path / 'x.png')


def _skip_list(tmp_path):
    path = tmp_path / 'skip.txt'
    domains.skip.write(path, 'gta5', {'images/00001.png': 'ids', 'images/00002.png': 'size'})
    return path, lambda: domains.skip.read([path], domains.DOMAINS)


def _store(tmp_path):
    file = tmp_path / 'photo'
    file.write_text('x')
    store = disk.Store('sizes', 'x', 1)
    store.values(lambda path: [1, 2], [(file,)])
    return store.path, lambda: disk.Store('sizes', 'x', 1)._get(file)


def _config(tmp_path):
    path, text = tmp_path / 'sweep.config', "lr = 0.1\nmodel = dict(type='x')\n"
    disk.write_atomically(path, text)
    return path, lambda: states._content(disk.read(path), path)


def _gallery(tmp_path):
    names = dict(photo='a.png', truth='a.png', predictions=dict(m='a.png'))
    palette = np.zeros((2, 3), np.uint8)
    from PIL import Image

    Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / 'a.png')
    photo = dict(names, key='x.png', why='median', miou=dict(m=50.0))
    said = dict(version=1, classes=['a', 'b'], palette=palette.tolist(), domains={'d': [photo]})
    disk.write_atomically(tmp_path / 'gallery.json', json.dumps(said, indent=1))
    return tmp_path / 'gallery.json', lambda: gallery.read(tmp_path)


def _predicted(tmp_path):
    network = SimpleNamespace(sha256='ab', checkpoint='x.pth', classes=['road'], name='m')
    job = Job.__new__(Job)
    job.__dict__.update(out=tmp_path, names=['m'], models=[network])
    path = tmp_path / MANIFEST
    said = dict(models=[dict(sha256='ab')], files={'a': 1})
    disk.write_atomically(path, json.dumps(said, indent=1))

    def read():
        before = disk.read(path)
        try:
            return job._manifest()['files']
        finally:
            path.write_bytes(before) if path.is_file() else None

    return path, read


WRITTEN = {
    'a record': _record,
    'matrices': _matrices,
    'reliability': _reliability,
    'a checkpoint': _checkpoint,
    'weights': _safetensors,
    'a prediction': _prediction,
    'a skip list': _skip_list,
    'a cache': _store,
    'the config of a run of a sweep': _config,
    'a gallery': _gallery,
    'what predict did': _predicted,
}

# ------------------------------------------------------------------------ the damage


def _flipped(data: bytes) -> bytes:
    at = len(data) // 3
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


def _huge(data: bytes) -> bytes:
    if re.search(rb'\d', data) and b'\0' not in data:
        return re.sub(rb'\d+', b'1' + b'0' * 400, data, count=1)
    return data[:40] + b'\xff' * 8 + data[48:]


DAMAGE = {
    'empty': lambda data: b'',
    'cut': lambda data: data[: len(data) * 2 // 3],
    'zeros': lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    'a flipped bit': _flipped,
    'doubled': lambda data: data * 2,
    'another kind': lambda data: b'\x89PNG\r\n\x1a\n' if data[:1] in b'{l#[' else b'{"a": [1, 2]}',
    'another encoding': lambda data: data.decode('latin-1').encode('utf-16'),
    'another version': lambda data: re.sub(rb'(-|"version": ?)1', rb'\g<1>0', data),
    'huge numbers': _huge,
    'no number': lambda data: re.sub(rb'\d+', b'NaN', data, count=1),
    'another type': lambda data: b'[1, "x", null]\n',
    'line ends': lambda data: data.replace(b'\n', b'\r\n'),
}
IN_PLACE = ('a folder', 'a link to itself', 'a link to nothing', 'a pipe')
#: Text without a checksum, which people edit by hand. What a skip list names has to be there when
#: it is used; a config says what a run is, and the record holds it.
_FREE = {
    ('a skip list', 'a flipped bit'),
    ('a skip list', 'huge numbers'),
    ('a skip list', 'no number'),
    ('the config of a run of a sweep', 'a flipped bit'),
    ('the config of a run of a sweep', 'huge numbers'),
    ('the config of a run of a sweep', 'no number'),
    ('the config of a run of a sweep', 'cut'),
    ('the config of a run of a sweep', 'empty'),
    ('a gallery', 'huge numbers'),
    ('a gallery', 'a flipped bit'),
    ('what predict did', 'huge numbers'),
    ('what predict did', 'no number'),
    ('what predict did', 'a flipped bit'),
    ('a skip list', 'empty'),
    ('a skip list', 'cut'),
    ('a skip list', 'doubled'),
}


def digest(value) -> str:
    """A hash over all that was read, whatever it is."""

    def plain(one):
        if isinstance(one, torch.Tensor):
            return one.tolist()
        if isinstance(one, np.ndarray):
            return one.tolist()
        if isinstance(one, dict):
            return {str(key): plain(item) for key, item in one.items()}
        if isinstance(one, list | tuple | set | frozenset):
            return [plain(item) for item in (sorted(one) if isinstance(one, frozenset) else one)]
        return plain(vars(one)) if hasattr(one, '__dict__') else repr(one)

    return hashlib.sha256(json.dumps(plain(value)).encode()).hexdigest()


def spoil(path, kind) -> None:
    if kind in DAMAGE:
        path.write_bytes(DAMAGE[kind](path.read_bytes()))
        return
    path.unlink()
    if kind == 'a folder':
        path.mkdir()
    elif kind == 'a pipe':
        disk.os.mkfifo(path)
    else:
        path.symlink_to(path if kind == 'a link to itself' else path.with_name('absent'))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.mark.parametrize('kind', [*DAMAGE, *IN_PLACE])
@pytest.mark.parametrize('file', WRITTEN)
def test_what_was_written_or_one_clear_error(tmp_path, file, kind):
    folder = tmp_path / 'written'
    folder.mkdir()
    path, read = WRITTEN[file](folder)
    before = digest(read())
    spoil(path, kind)
    around = sorted(tmp_path.rglob('*'))
    try:
        found = read()
    except (ValueError, OSError) as error:
        assert len(str(error)) < 2000 and str(error), 'one clear error'
        assert 'fault of ibnseg' not in str(error)
    else:
        absent = found is None and file in ('matrices', 'reliability', 'a cache', 'a gallery')
        anew = file == 'what predict did' and found == {}
        same = digest(found) == before
        assert absent or anew or same or (file, kind) in _FREE, 'silently another'
    assert sorted(tmp_path.rglob('*')) == around or file == 'what predict did'
    shutil.rmtree(folder)
