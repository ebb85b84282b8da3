"""`ibnseg analyze` on small networks and data, in this process."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from PIL import Image

from ibnseg import hub, miniature
from ibnseg.measure import matrices, records, reliability
from ibnseg.train.config import load_config
from ibnseg.train.test import test as run_test

ROOT = Path(__file__).parents[1]
TINY = {
    'model.backbone.base_channels': 8,
    'model.backbone.stem_channels': 8,
    'model.decode_head.in_channels': 64,
    'model.decode_head.channels': 64,
    'test_dataloader.num_workers': 0,
    'test_dataloader.dataset.domains': ['cityscapes:val'],
}
analyze = importlib.import_module('tools.analyze')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp('worlds') / 'data'
    miniature.write(out, train=2, val=5, size=(64, 128), workers=1)
    return out


@pytest.fixture(scope='module')
def runs(data, tmp_path_factory):
    """Work dirs of a plain and a b network that nobody has trained."""
    return [_run(tmp_path_factory.mktemp(name), data, name) for name in ('resnet18', 'ibn_b')]


def _run(folder: Path, data: Path, name: str) -> Path:
    path = ROOT / f'configs/miniature/{name}.py'
    config = load_config(path, work_dir=str(folder), data_root=str(data), options=TINY)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config.model)
    model.init_weights()
    for parameter in model.parameters():
        if parameter.ndim == 1:  # without biases, twice the input gives twice the logits
            parameter.data += 0.5 * torch.randn_like(parameter)
    torch.save(dict(meta=dict(iter=1), state_dict=model.state_dict()), folder / 'iter_1.pth')
    config.dump(folder / f'{name}.py')
    return folder


def call(*words) -> int:
    return analyze.main([str(word) for word in words])


def test_divergence(runs, data, tmp_path, capsys):
    words = ['--data-root', data, '--out', tmp_path]
    assert call('divergence', *runs, '--between', 'gta5:val', 'cityscapes:val', *words) == 0
    found = json.loads((tmp_path / 'divergence.json').read_text())
    assert found['compared'] == 'gta5:val (5 images) and cityscapes:val (5 images)'
    assert len({one['digest'] for one in found['sets']}) == 2
    for one in found['networks']:
        points = [row['point'] for row in one['points']]
        assert points == ['stem', *(f'layer{i}.{j}' for i in (1, 2, 3, 4) for j in (0, 1))]
        for row in one['points']:
            finite = [d for d in row['each'] if d is not None]
            assert row['divergence'] == pytest.approx(np.mean(finite))
            shapes = np.shape(row['means']), np.shape(row['variances'])
            assert shapes == ((2, row['channels']),) * 2
    flags = [
        [row['point'] for row in one['points'] if row['after_in']] for one in found['networks']
    ]
    assert flags == [[], ['stem', 'layer1.1', 'layer2.1']]
    out = capsys.readouterr().out
    assert 'Feature divergence between gta5:val (5 images) and cityscapes:val' in out
    assert Image.open(tmp_path / 'divergence.png').size[0] > 300


def test_divergence_of_one_set_in_two_styles(runs, data, tmp_path):
    words = ['--between', 'gta5:val', '--style', 'std*1.5', '--images', 3]
    assert call('divergence', *runs, runs[1], *words, '--data-root', data, '--out', tmp_path) == 0
    found = json.loads((tmp_path / 'divergence.json').read_text())
    assert found['compared'] == 'gta5:val (3 images) and gta5:val, std*1.5 (3 images)'
    plain, b, _ = ([row['divergence'] for row in one['points']] for one in found['networks'])
    assert max(b) < 1e-3 < min(plain), 'b does not see contrast'
    names = [one['name'] for one in found['networks']]
    assert names[0] == 'resnet18' and names[1] == f'ibn_b ({runs[1].name}/iter_1.pth)'


@pytest.fixture(scope='module')
def measured(runs, data, tmp_path_factory):
    """Folder and content of one analysis of appearance, and its words."""
    out = tmp_path_factory.mktemp('appearance')
    words = ['appearance', *runs, '--data-root', data, '--out', out]
    words += ['--changes', 'std*1.5', 'histogram', '--style-from', 'gta5:val']
    assert call(*words) == 0
    return out, json.loads((out / 'appearance.json').read_text()), words


def test_appearance(measured, runs):
    out, found, _ = measured
    for one in found['networks']:
        changes = {result['change']: result for result in one['results']}
        assert list(changes) == ['none', 'std*1.5', 'histogram']
        assert len({result['protocol_hash'] for result in changes.values()}) == 3
        for name, result in changes.items():
            assert result['drop'] == pytest.approx(changes['none']['score'] - result['score'])
            counted = [iou for iou in result['per_class'].values() if iou is not None]
            assert result['score'] == pytest.approx(np.mean(counted))
            suffix = '' if name == 'none' else f'-{name}'
            assert result['protocol']['name'] == f'native{suffix}'
    assert '| std\\*1.5 |' in (out / 'appearance.md').read_text()
    assert Image.open(out / 'appearance.png').size[0] > 300


def matrix(out: Path, network: str, change: str) -> np.ndarray:
    (path,) = out.glob(f'records/{network}-*/{change}/*.record.json')
    return records.read(path).domains[0].matrix


def test_contrast_changes_no_prediction_of_b(measured):
    out, *_ = measured
    before, after = (matrix(out, 'ibn_b', change) for change in ('none', 'stdx1.5'))
    assert np.abs(before - after).sum() <= 1e-3 * before.sum(), 'but for ties in rounding'
    plain, changed = (matrix(out, 'resnet18', change) for change in ('none', 'stdx1.5'))
    assert np.abs(plain - changed).sum() > 1e-2 * plain.sum()


def test_none_is_the_plain_measurement(measured, runs, data, tmp_path):
    out, *_ = measured
    config = load_config(runs[1] / 'ibn_b.py', work_dir=str(tmp_path), data_root=str(data))
    record = run_test(config, runs[1] / 'iter_1.pth', show=False)
    np.testing.assert_array_equal(record.domains[0].matrix, matrix(out, 'ibn_b', 'none'))
    (path,) = out.glob('records/ibn_b-*/none/*.record.json')
    assert records.read(path).domains[0].protocol_hash == record.domains[0].protocol_hash


def test_what_is_measured_is_not_measured_again(measured, monkeypatch):
    _, found, words = measured
    robustness = importlib.import_module('ibnseg.analysis.robustness')
    monkeypatch.setattr(robustness, 'test', None)
    assert call(*words) == 0
    again = json.loads((words[6] / 'appearance.json').read_text())
    assert again['networks'] == found['networks']


@pytest.fixture(scope='module')
def classes(tmp_path_factory):
    """Three classes of one colour each."""
    root = tmp_path_factory.mktemp('imagenet') / 'val'
    draw = np.random.default_rng(0)
    for label, colour in enumerate(((200, 60, 60), (60, 200, 60), (60, 60, 200))):
        (root / f'n{label}').mkdir(parents=True)
        for i in range(3):
            image = np.clip(draw.normal(colour, 30, (80, 90, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(root / f'n{label}' / f'{i}.png')
    return root


def test_classifiers(classes, tmp_path):
    net = hub.build('resnet18', num_classes=1000)
    torch.save(net.state_dict(), tmp_path / 'net.pth')
    spec = f'resnet18={tmp_path / "net.pth"}'
    words = ['--images', classes, '--changes', 'r+50', '--out', tmp_path]
    assert call('appearance', spec, *words) == 2, '3 folders, 1000 classes'
    between = ['--between', classes / 'n0', classes / 'n1', '--out', tmp_path]
    assert call('divergence', spec, *between) == 0
    found = json.loads((tmp_path / 'divergence.json').read_text())
    assert [one['images'] for one in found['sets']] == [3, 3]


def test_accuracy_of_a_classifier(classes, tmp_path, monkeypatch):
    """One that names the strongest colour."""

    class Colour(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(3, 3)
            self.fc.load_state_dict(dict(weight=torch.eye(3), bias=torch.zeros(3)))

        def forward(self, x):
            return self.fc(x.mean((2, 3)))

    torch.save(Colour().state_dict(), tmp_path / 'net.pth')
    monkeypatch.setattr(hub, 'build', lambda *_, **__: Colour())
    words = ['--images', classes, '--changes', 'r+500', '--out', tmp_path]
    assert call('appearance', f'resnet18={tmp_path / "net.pth"}', *words) == 0
    (one,) = json.loads((tmp_path / 'appearance.json').read_text())['networks']
    plain, red = one['results']
    assert (plain['score'], plain['images']) == (100, 9)
    assert red['score'] == pytest.approx(100 / 3), 'all is red'
    assert red['per_class'] == dict(n0=100, n1=0, n2=0)
    assert red['drop'] == pytest.approx(200 / 3)
    assert plain['protocol_hash'] != red['protocol_hash']


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        ('divergence x --between gta5:val', 'expected two, or one and --style'),
        ('divergence nowhere --between {data} {data}', 'nowhere: no folder of a run, and no class'),
        ('divergence x --between gta5:val gta5:val --images 1', '--images 1: expected at least 2'),
        ('divergence x --between {data}/n0/0.png.txt {data}', '1 image; expected at least 2'),
        ('appearance x --changes fourier', "'fourier' needs images: give --style-from"),
        ('appearance nowhere --changes r+50', 'nowhere: no folder of a run, and no classifier'),
        ('appearance resnet18 --changes r+50', 'a classifier of the hub needs images: give --ima'),
        ('divergence x --between gta5:vla b', "gta5 has no split 'vla'"),
    ],
)
def test_errors_name_the_way_out(words, said, classes, tmp_path, capsys):
    (classes / 'n0/0.png.txt').write_text('0.png\n')
    assert call(*words.format(data=classes).split(), '--out', tmp_path) == 2
    assert said in capsys.readouterr().err


def test_corruptions(runs, data, tmp_path, capsys, monkeypatch):
    words = ['corruptions', *runs, '--data-root', data, '--out', tmp_path]
    words += ['--corruptions', 'fog', 'gaussian_noise', '--severities', 5, 1]
    assert call(*words) == 0
    out = capsys.readouterr().out
    assert '10 measurements, 0 of them have a record; the others take about ' in out
    assert '9 of 10 measured, about ' in out
    found = json.loads((tmp_path / 'corruptions.json').read_text())
    for one in found['networks']:
        scores = {result['change']: result['score'] for result in one['results']}
        assert list(scores) == ['none', 'fog-1', 'fog-5', 'gaussian_noise-1', 'gaussian_noise-5']
        summary = one['summary']['cityscapes:val']
        assert summary['clean'] == scores['none']
        assert summary['mean'] == pytest.approx(np.mean([*scores.values()][1:]))
        altered = one['results'][1]['protocol']['altered']
        assert altered['library'].startswith('imagecorruptions-imaug ')
        assert 'where' not in altered
    assert '| gaussian\\_noise |' in (tmp_path / 'corruptions.md').read_text()
    assert Image.open(tmp_path / 'corruptions.png').size[0] > 300

    def fails(*args, **kwargs):
        raise AssertionError('measured again')

    monkeypatch.setattr('ibnseg.analysis.robustness.test', fails)
    assert call(*words) == 0, 'what has a record is read'
    assert '10 measurements, 10 of them have a record' in capsys.readouterr().out
    assert json.loads((tmp_path / 'corruptions.json').read_text())['networks'] == found['networks']
    assert call(*words[:-4], '--corruptions', 'smog') == 2
    assert "unknown corruption 'smog'" in capsys.readouterr().err
    assert call('corruptions', 'resnet50_ibn_b', '--out', tmp_path) == 2
    assert 'expected the work dir of ibnseg train' in capsys.readouterr().err


@pytest.mark.parametrize('domain', ['cityscapes:val', 'mapillary:val'])  # one has raw ids
def test_reliability_is_of_the_same_pixels_and_changes_no_matrix(runs, data, tmp_path, domain):
    if domain.startswith('mapillary'):
        miniature.write(tmp_path, worlds=['mapillary'], train=1, val=3, size=(64, 128), workers=1)
        data = tmp_path
    config_file, checkpoint = runs[0] / 'resnet18.py', runs[0] / 'iter_1.pth'

    def record(name, **options):
        config = load_config(config_file, work_dir=str(tmp_path), data_root=str(data))
        out = tmp_path / f'{name}.record.json'
        options |= dict(domains=[domain], out=out, show=False)
        return out, run_test(config, checkpoint, **options)

    (_, plain), (path, doubted) = record('plain'), record('doubted', with_reliability=True)
    np.testing.assert_array_equal(plain.domains[0].matrix, doubted.domains[0].matrix)
    assert reliability.read(tmp_path / 'plain.record.json', plain) is None
    found = reliability.read(path, doubted)[domain]  # which compares right and wrong pixels
    images = matrices.read(path, doubted)[domain]
    assert found.keys == images.keys
    for i in range(len(images)):
        assert found.counts[i, 1].sum() == np.trace(images[i])
        assert found.counts[i].sum() == images[i].sum()
    with pytest.raises(ValueError, match='--reliability with --save-predictions'):
        record('both', with_reliability=True, save_predictions=tmp_path / 'p')
