"""A package: whole, moved, damaged, hostile; measured again; by its name on disk and on the web."""

import functools
import http.server
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from ibnseg_tools import export as export_tool
from ibnseg_tools import package as pack_tool
from ibnseg_tools import verify as verify_tool
from processes import run
from test_tools import train

import ibnseg
from ibnseg import domains, miniature, packages, weights
from ibnseg.domains import own
from ibnseg.measure import records
from ibnseg.packages import card, files


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp('worlds') / 'data'
    miniature.write(out, ('gta5', 'cityscapes'), 4, 3, (64, 128), 0, 1)
    return out


@pytest.fixture(scope='module')
def made(data, tmp_path_factory):
    """(folder of a run, its package)"""
    place = tmp_path_factory.mktemp('made')
    train(data, place / 'run')
    assert pack_tool.main([str(place / 'run'), '--out', str(place / 'package')]) == 0
    return place / 'run', place / 'package'


@pytest.fixture
def copy(made, tmp_path):
    return Path(shutil.copytree(made[1], tmp_path / 'copy'))


def test_it_holds_the_network_without_its_run(made, copy, data):
    folder, _ = made
    photo = domains.find('cityscapes:val', data)[0][0]
    one, other = ibnseg.load(folder)(photo), ibnseg.load(copy)(photo)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.classes == other.classes
    state = weights.read(copy / 'model.safetensors')
    record = records.read(folder / 'ibn_b.record.json')
    for key, value in weights.read(folder / record.provenance['checkpoint'])['state_dict'].items():
        assert torch.equal(state[key], value), key
    text = (copy / 'README.md').read_text()
    assert text.startswith('---\nlibrary_name: ibnseg\nlicense: other\n')
    assert '- gta5: https://download.visinf' in text and '| ibn_b |' in text
    assert str(folder.parent) not in ''.join(
        file.read_text()
        for file in copy.iterdir()
        if file.suffix in ('.md',) or file.name == 'config.json'
    )


def test_the_card_has_the_terms_of_the_data(made, tmp_path):
    text = (made[1] / 'README.md').read_text()
    assert text.count('. Terms: ') == 1 and 'Terms: as stated there' in text, 'gta5'
    said = [card._home(name) for name in ('cityscapes', 'kitti', 'absent')]
    assert 'non-commercial' in said[0] and said[1].endswith('Terms: CC BY-NC-SA 3.0')
    assert said[2] == 'a dataset of its author. Terms: ask there'
    own_file = tmp_path / 'own.yaml'
    text = 'name: owncity\nphotos: p/*.png\nlabels: l/*.png\nsplits: [val]\nids: {road: 1}\n'
    own_file.write_text(text + "terms: 'mine <b>alone</b>'\n")
    own.read(own_file)
    try:
        assert card._home('owncity').endswith('Terms: mine &lt;b&gt;alone&lt;/b&gt;')
    finally:
        del domains.DOMAINS['owncity'], own.FILES['owncity']
    own_file.write_text(text + 'terms: [1]\n')
    with pytest.raises(ibnseg.domains.DataError, match='terms is'):
        own.read(own_file)


def test_its_onnx_gives_the_networks_classes(made, data, tmp_path, capsys):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    out = tmp_path / 'package'
    words = [str(made[0]), '--out', str(out), '--onnx', '--data-root', str(data)]
    assert pack_tool.main(words) == 0
    manifest = packages.verify(out)
    assert {'model.onnx', 'model.onnx.certificate.json'} <= {*manifest['files']}
    capsys.readouterr()
    assert verify_tool.main([str(out)]) == 0
    said = capsys.readouterr().out
    assert "onnx        the network's class in 100.0000 % of the pixels" in said
    # another network's ONNX under hashes that fit
    import onnx

    net = onnx.load(out / 'model.onnx')
    for last in net.graph.initializer:
        values = onnx.numpy_helper.to_array(last)
        if values.dtype == np.float32 and values.ndim == 4:
            last.CopyFrom(onnx.numpy_helper.from_array(-values, last.name))
    onnx.save(net, out / 'model.onnx')
    manifest = json.loads((out / 'package.json').read_text())
    del manifest['sha256']
    manifest['files']['model.onnx'] = files.disk.sha256(out / 'model.onnx')
    (out / 'package.json').write_bytes(files.sealed(manifest))
    assert verify_tool.main([str(out)]) == 1


def test_export_takes_a_package_and_its_name(made, data, copy, tmp_path, capsys):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    words = ['--to', 'onnx', '--data-root', str(data)]
    assert export_tool.main([str(copy), *words]) == 2
    assert 'takes no further file' in capsys.readouterr().err
    for name in (str(copy), f'ibnseg://{packages.digest_of(copy)}@{copy}'):
        assert export_tool.main([name, *words, '--out', str(tmp_path / 'a.onnx')]) == 0
    packages.verify(copy)
    assert (tmp_path / 'a.onnx.certificate.json').is_file()
    assert export_tool.main([str(copy), 'more', *words]) == 2
    assert 'and no more' in capsys.readouterr().err


def test_numbers_are_measured_again(copy, data, tmp_path):
    done = run('-m', 'ibnseg', 'verify', copy, '--data-root', data)
    assert done.stdout.count('every pixel as recorded') == 2 and done.stderr == ''
    other = Path(shutil.copytree(data, tmp_path / 'other'))
    (_, label), (_, another), *_ = domains.find('cityscapes:val', other)
    shutil.copy(another, label)
    said = run('-m', 'ibnseg', 'verify', copy, '--data-root', other, code=1).stdout
    assert said.count('every pixel as recorded') == 1 and ', recorded ' in said
    none = run('-m', 'ibnseg', 'verify', copy, '--data-root', tmp_path / 'none', code=1)
    assert none.stdout.count('not measured: ') == 2


def test_any_flipped_byte_is_found(copy):
    rng = np.random.default_rng(0)
    for file in sorted(copy.iterdir()):
        content = file.read_bytes()
        places = {0, len(content) - 1, *rng.integers(0, len(content), 30).tolist()}
        for at in places:
            damaged = bytearray(content)
            damaged[at] ^= 1 << int(rng.integers(8))
            file.write_bytes(damaged)
            with pytest.raises(packages.PackageError, match=file.name.replace('.', r'\.')):
                packages.verify(copy)
        file.write_bytes(content)
    packages.verify(copy)


def test_what_is_absent_or_foreign_is_named(copy):
    (copy / 'more.txt').write_text('x')
    with pytest.raises(packages.PackageError, match=r'more\.txt: package\.json does not name it'):
        packages.verify(copy)
    (copy / 'more.txt').unlink()
    (copy / 'README.md').unlink()
    with pytest.raises(packages.PackageError, match=r'README\.md: not there'):
        packages.verify(copy)
    with pytest.raises(packages.PackageError, match='no package of ibnseg'):
        packages.verify(copy.parent)
    (copy / 'package.json').unlink()
    os.mkfifo(copy / 'package.json')
    with pytest.raises(packages.PackageError, match=r'package\.json: a pipe, not a file'):
        packages.verify(copy)


def forged(copy: Path, change) -> Path:
    """A package with another config and hashes that fit."""
    config = json.loads((copy / 'config.json').read_text())
    change(config)
    (copy / 'config.json').write_text(json.dumps(config))
    manifest = json.loads((copy / 'package.json').read_text())
    del manifest['sha256']
    manifest['files']['config.json'] = files.disk.sha256(copy / 'config.json')
    (copy / 'package.json').write_bytes(files.sealed(manifest))
    return copy


@pytest.mark.parametrize(
    'change',
    [
        lambda c: c['model'].update(type='os.system', command='touch ran'),
        lambda c: c['model']['backbone'].update(type='subprocess.Popen', args=['touch', 'ran']),
        lambda c: c['model']['backbone'].update(init_cfg=dict(type='Pretrained', checkpoint='x')),
        lambda c: c.update(custom_imports=dict(imports=['antigravity'])),
        lambda c: c.update(_base_='../evil.py'),
        lambda c: c['model'].update(type=['EncoderDecoder']),
        lambda c: c['model'].update(note='{{$HOME:x}}'),
        lambda c: c.pop('model'),
        lambda c: c['model']['decode_head']['loss_decode'].update(class_weight='https://x/y.pkl'),
        lambda c: c['model']['backbone'].update(_scope_='evil'),
        lambda c: c['model']['backbone'].update(checkpoint='/etc/passwd'),
        lambda c: c.update(default_scope='evil'),
    ],
)
def test_a_strangers_config_runs_nothing(copy, change, monkeypatch):
    monkeypatch.chdir(copy.parent)
    with pytest.raises(packages.PackageError, match=r'config\.json'):
        ibnseg.load(forged(copy, change))
    assert not (copy.parent / 'ran').exists()


@pytest.mark.parametrize('name', ['../../evil', '/evil', '.evil', 'a\nb', 'x' * 200])
def test_a_strangers_name_is_no_path(copy, name):
    with pytest.raises(ValueError, match='the name of the model is'):
        ibnseg.load(forged(copy, lambda c: c.update(model_name=name)))


def test_measured_again_without_a_strangers_hooks(copy, data, tmp_path):
    """Hooks, writers and metrics of MMEngine that may write wherever they are told."""
    outside = tmp_path / 'outside'

    def change(config):
        config['default_hooks']['logger']['out_dir'] = str(outside / 'log')
        config['custom_hooks'] = [
            dict(type='ProfilerHook', json_trace_path=str(outside / 'trace.json'))
        ]
        config['visualizer']['save_dir'] = str(outside / 'drawn')
        config['test_evaluator'] = [
            config['test_evaluator'],
            dict(type='DumpResults', out_file_path=str(outside / 'x.pkl')),
        ]

    package = forged(copy, change)
    done = run('-m', 'ibnseg', 'verify', package, '--data-root', data)
    assert done.stdout.count('every pixel as recorded') == 2
    assert not outside.exists()


def test_names_outside_are_refused(copy):
    manifest = json.loads((copy / 'package.json').read_text())
    del manifest['sha256']
    manifest['files']['../evil.txt'] = '0' * 64
    (copy / 'package.json').write_bytes(files.sealed(manifest))
    with pytest.raises(packages.PackageError, match='not below the package'):
        packages.verify(copy)


def test_by_name_on_disk_and_on_the_web(made, copy, monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    digest = packages.digest_of(copy)
    assert packages.locate(f'ibnseg://{digest}@{copy}') == copy
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(copy.parent))
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        web = f'http://127.0.0.1:{server.server_port}/copy'
        found = packages.locate(f'ibnseg://{digest}@{web}')
        assert found != copy and packages.verify(found)['model'] == 'ibn_b'
        with pytest.raises(packages.PackageError, match='another package'):
            packages.locate(f'ibnseg://{"0" * 64}@{web}')
        shutil.rmtree(found)
        (copy / 'README.md').write_text('changed')
        with pytest.raises(packages.PackageError, match=r'README\.md: changed'):
            packages.locate(f'ibnseg://{digest}@{web}')
        assert not list((tmp_path / 'cache').rglob('*.md'))
    finally:
        server.shutdown()
        server.server_close()
    shutil.rmtree(found, ignore_errors=True)
    with pytest.raises(FileNotFoundError, match='could not be fetched'):
        packages.locate(f'ibnseg://{digest}@{web}')
    for bad in ('ibnseg://x', f'ibnseg://{digest}', f'ibnseg://{digest[:8]}@{copy}'):
        with pytest.raises(packages.PackageError, match='no name of a package'):
            packages.locate(bad)


def test_what_cannot_be_packed(made, tmp_path, capsys):
    folder, package = made
    assert pack_tool.main([str(folder), '--out', str(package)]) == 2
    assert 'is there already' in capsys.readouterr().err
    bare = Path(shutil.copytree(folder, tmp_path / 'bare'))
    for file in bare.rglob('*.record.json'):
        file.unlink()
    assert pack_tool.main([str(bare), '--out', str(tmp_path / 'out')]) == 2
    assert 'no record of' in capsys.readouterr().err
    assert not list(tmp_path.glob('.out*')) and not (tmp_path / 'out').exists()
