"""Exports by every protocol: `ibnseg test --engine`, and how a report tells engines apart."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from ibnseg_tools import test as tool
from test_configs import ROOT
from test_export import saved

from ibnseg import miniature, report
from ibnseg.export import certificate, engines, write
from ibnseg.inference.model import load
from ibnseg.measure import matrices, records
from ibnseg.report import claims, flat

pytest.importorskip('onnxruntime', reason='onnxruntime is not installed (ibnseg[export])')
pytest.importorskip('openvino', reason='openvino is not installed (ibnseg[export])')
WINDOWS = ('model.test_cfg.mode=slide', 'model.test_cfg.crop_size=(48,64)',
           'model.test_cfg.stride=(32,48)')  # fmt: skip


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    miniature.write(root, ('gta5', 'cityscapes'), 2, 3, (64, 128), 0, 1)
    return root


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return saved(ROOT / 'miniature' / 'ibn_b.py', tmp_path_factory.mktemp('run') / 'ibn_b')


def measure(run, root, *words, code=0):
    """Measure a run on both datasets; returns the record, None for an error."""
    before = {*run.rglob('*.record.json')}
    given = [str(run / 'config.py'), str(run / 'iter_120.pth'), '--data-root', str(root)]
    assert tool.main([*given, '--domains', 'gta5:val', 'cityscapes:val', *words]) == code
    new = {*run.rglob('*.record.json')} - before
    return next(iter(new)) if new else None


def moved(one, other):
    """The share of pixels that two records count in other cells, of each domain."""
    pairs = zip(records.read(one).domains, records.read(other).domains, strict=True)
    return [np.abs(a.matrix - b.matrix).sum() / 2 / a.matrix.sum() for a, b in pairs]


@pytest.fixture(scope='module')
def by_torch(run, root):
    return measure(run, root)


@pytest.fixture(scope='module')
def by_engine(run, root, by_torch):
    return {name: measure(run, root, '--engine', name) for name in engines.ENGINES}


@pytest.mark.parametrize('name', engines.ENGINES)
def test_an_engine_measures_what_torch_measures(by_torch, by_engine, name):
    ours, other = records.read(by_torch), records.read(by_engine[name])
    assert max(moved(by_torch, by_engine[name])) < 1e-4
    assert [d.protocol_hash for d in ours.domains] == [d.protocol_hash for d in other.domains]
    assert ours.domains[0].matrix.sum() > 10_000 and np.count_nonzero(ours.domains[0].matrix) > 9
    engine = other.provenance.pop('engine')
    assert (engine['name'], engine['precision']) == (name, 'float32') and engine['version']
    assert 'engine' not in ours.provenance
    changed = ('date',)
    assert {k: v for k, v in ours.provenance.items() if k not in changed} == {
        k: v for k, v in other.provenance.items() if k not in changed
    }
    rows = matrices.read(by_engine[name], other)
    assert len(rows['cityscapes:val'].keys) == other.domains[1].images


def test_windows_and_reliability_are_as_with_torch(run, root, capsys):
    words = ['--reliability', '--cfg-options', *WINDOWS]
    ours = measure(run, root, *words)
    other = measure(run, root, *words, '--engine', 'onnxruntime')
    assert max(moved(ours, other)) < 1e-4
    assert records.read(ours).domains[0].protocol['mode'] == 'slide'
    assert other.with_name(other.name.replace('.record.json', '.reliability.npz')).is_file()


@pytest.mark.parametrize(('name', 'inside'), [('onnxruntime', False), ('openvino', True)])
def test_a_given_export(run, root, by_torch, tmp_path, capsys, name, inside):
    photos = {'a': np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)}
    model = load(run, device='cpu')
    kind = 'openvino' if name == 'openvino' else 'onnx'
    files, _ = write.export(
        model, kind, photos, tmp_path / f'x{".xml" if kind == "openvino" else ".onnx"}', inside
    )
    words = ['--engine', name, '--export', str(files[0]), '--name', f'ibn_{inside}']
    found = measure(run, root, *words)
    assert max(moved(by_torch, found)) < 1e-4
    assert len(records.read(found).provenance['engine']['export_sha256']) == 64


def test_int8_is_another_network_with_a_name_of_its_own(run, root, by_engine, tmp_path, capsys):
    model = load(run, device='cpu')
    photos = {path.name: model.scaled(path) for path in write.source_photos(model, str(root))}
    assert len(photos) == 2 and all('gta5' in str(p) for p in write.source_photos(model, str(root)))
    files, said = write.export(model, 'onnx', photos, tmp_path / 'x.int8.onnx', ranges=photos)
    assert said['export']['ranges_of'] == [*photos] and said['export']['operations'] == ['Conv']
    precision = said['engine']['precision']
    assert re.fullmatch('int8-[0-9a-f]{8}', precision)
    assert min(case['agreement'] for case in said['cases']) > 0.5
    assert max(case['difference'] for case in said['cases']) > certificate.TOLERANCE
    found = measure(run, root, '--engine', 'onnxruntime', '--export', str(files[0]))
    assert found != by_engine['onnxruntime']
    assert records.read(found).provenance['engine']['precision'] == precision
    assert 0 < max(moved(by_engine['onnxruntime'], found)) < 0.5
    other = dict(list(photos.items())[:1])
    again = write.export(model, 'onnx', photos, tmp_path / 'y.int8.onnx', ranges=other)[1]
    assert again['engine']['precision'] != precision
    words = ['--engine', 'openvino', '--precision', 'bfloat16', '--export', str(files[0])]
    measure(run, root, *words, code=2)
    with pytest.raises(ValueError, match='--int8 is of --to onnx alone'):
        write.export(model, 'openvino', photos, ranges=photos)


def test_an_export_of_another_checkpoint_is_refused(run, root, tmp_path, capsys):
    other = load(saved(ROOT / 'miniature' / 'ibn_b.py', tmp_path / 'o', 1), device='cpu')
    photos = {'a': np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)}
    files, _ = write.export(other, 'onnx', photos, tmp_path / 'x.onnx')
    measure(run, root, '--engine', 'onnxruntime', '--export', str(files[0]), code=2)
    assert f'{files[0]} is no export of' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['--export', 'x.onnx'], 'say --engine'),
        (['--precision', 'bfloat16'], 'say --engine'),
        (['--engine', 'onnxruntime', '--precision', 'bfloat16'], 'only --engine openvino'),
        (['--engine', 'openvino', '--compile'], 'give one of them'),
        (['--engine', 'openvino', '--export', 'absent.onnx'], 'absent.onnx: no such file'),
    ],
)
def test_words_that_do_not_go_together(run, root, capsys, words, said):
    measure(run, root, *words, code=2)
    assert said in capsys.readouterr().err


def test_a_report_tells_engines_apart(by_torch, by_engine):
    files = [by_torch, *by_engine.values()]
    read = [records.read(file) for file in files]
    table = report.tabulate(read, files=files)
    names = [row.name for row in table.rows]
    assert names == ['config', 'config (onnxruntime)', 'config (openvino)'] or len(set(names)) == 3
    assert sum('not by torch' in note for note in table.notes) == 2
    grid = flat.long(table)
    at = grid.header.index('engine')
    assert {line[at] for line in grid.rows} == {'torch', 'onnxruntime', 'openvino'}


def test_a_comparison_across_engines_is_found(by_torch, by_engine, tmp_path):
    """The same network under another name, by an engine, is no improvement."""
    content = json.loads(by_engine['openvino'].read_text())
    content['model'] = 'better'
    content['provenance']['checkpoint_sha256'] = '0' * 64
    (tmp_path / 'a.record.json').write_text(json.dumps(content))
    found = claims.check([by_torch, tmp_path / 'a.record.json'], records.read(by_torch).model)
    kinds = [one for one in found.findings if one.kind == 'engine']
    assert [one.what for one in kinds] == ['predicted by openvino against torch']
    read = [records.read(by_torch), records.read(tmp_path / 'a.record.json')]
    notes = ' '.join(report.tabulate(read, read[0].model).notes)
    assert 'their difference is of both, network and engine' in notes


def test_an_engines_record_is_not_written_over_torchs(run, root, by_torch, tmp_path, capsys):
    words = ['--out', str(tmp_path / 'a.record.json')]
    measure(run, root, *words)
    measure(run, root, *words, '--engine', 'onnxruntime', code=2)
    assert 'would be overwritten' in capsys.readouterr().err


_OVERLAPPING = """
import gc, signal, subprocess, sys
from ibnseg.export import engines
signal.signal(signal.SIGCHLD, lambda *_: None)
opened = []
for _ in range(4):
    opened = [*opened, engines.open_file(sys.argv[1], 'openvino')][-2:]
opened.clear()
gc.collect()
for _ in range(3):
    subprocess.run([sys.executable, '-c', ''])  # its end is a signal
print('alive')
"""


def test_networks_in_openvino_come_and_go_and_signals_still_arrive(run, tmp_path):
    photos = {'a': np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)}
    model = load(run, device='cpu')
    files, _ = write.export(model, 'onnx', photos, tmp_path / 'x.onnx')
    given = [sys.executable, '-c', _OVERLAPPING, str(files[0])]
    done = subprocess.run(given, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()[-5:]) == (0, 'alive'), done.stderr[-500:]
