"""Classifiers from `torch.hub`, which need torch alone."""

import hashlib
import json
import re
import runpy
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from conftest import SHARED
from documented import blocks
from mmseg.registry import MODELS
from test_golden import assert_sample, recipe  # noqa: F401
from torch.testing import assert_close

from ibnseg import hub, weights
from ibnseg.weights import table

ROOT = Path(__file__).parents[1]
GOLDEN = sorted(path.stem for path in SHARED.glob('golden/*.json')) or ['absent']


def load(name: str, **arguments) -> torch.nn.Module:
    return torch.hub.load(str(ROOT), name, source='local', **arguments)


def site_of(package: str, folder: Path) -> Path:
    """A site-packages folder of a distribution and what it requires, and of nothing else."""
    names, seen = [package], set()
    while names:
        name = re.match(r'[\w.-]+', names.pop())[0]
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # of another platform
        if found.name in seen:
            continue
        seen.add(found.name)
        names += [text for text in found.requires or () if 'extra ==' not in text]
        for top in {file.parts[0] for file in found.files if file.parts[0] != '..'}:
            link = folder / top
            if not link.exists():
                link.symlink_to(Path(found.locate_file(top)))
    return folder


_ALONE = """
import json, runpy, sys
site, root, golden, out, names = sys.argv[1:6]
sys.path.append(site)
import torch
torch.set_num_threads(1)
recipe = runpy.run_path(golden + '/recipe.py')
found = {}
for name in names.split(','):
    net = torch.hub.load(root, name, source='local').eval()
    keys = {key: list(tensor.shape) for key, tensor in net.state_dict().items()}
    net.load_state_dict({k: torch.from_numpy(recipe['draw'](k, tuple(s))) for k, s in keys.items()})
    with torch.no_grad():
        image = torch.from_numpy(recipe['image'](recipe['LOGITS_INPUT_SHAPE'])).double()
        found[name] = dict(keys=keys, logits=net.double()(image))
loaded = {name.partition('.')[0] for name in sys.modules}
torch.save(dict(found=found, modules=sorted(loaded)), out)
"""


@pytest.fixture(scope='module')
def alone(tmp_path_factory) -> dict:
    """What a process says that has only torch, numpy and what torch requires."""
    if GOLDEN == ['absent']:
        pytest.skip(f'{SHARED / "golden"} is absent: nothing to compare with')
    folder = tmp_path_factory.mktemp('alone')
    (folder / 'site').mkdir()
    site = site_of('numpy', site_of('torch', folder / 'site'))
    arguments = [site, ROOT, SHARED / 'golden', folder / 'out.pth', ','.join(GOLDEN)]
    done = subprocess.run(
        [sys.executable, '-S', '-I', '-c', _ALONE, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd='/',
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
    return torch.load(folder / 'out.pth', weights_only=True)


def test_nothing_but_torch_is_imported(alone):
    assert 'ibnseg' in alone['modules'] and 'torch' in alone['modules']
    strangers = {'mmseg', 'mmengine', 'mmcv', 'safetensors', 'cv2', 'PIL', 'rich', 'torchvision'}
    assert not strangers & set(alone['modules'])


@pytest.mark.parametrize('name', GOLDEN)
def test_the_originals_keys_and_logits(name, alone, recipe):  # noqa: F811
    golden = json.loads((SHARED / 'golden' / f'{name}.json').read_text())
    found = alone['found'][name]
    assert found['keys'] == golden['keys']
    assert_sample(recipe, 'logits', found['logits'], golden['logits'])


SPELT = ('resnet50', dict(placement='ibn_a_stage1-2', ratio=0.25))


@pytest.mark.parametrize(('name', 'options'), [*((name, {}) for name in hub.NAMES), SPELT])
def test_keys_are_the_backbones_and_a_head(name, options):
    with torch.device('meta'):
        net = load(name, num_classes=5, **options)
        backbone = MODELS.build(weights.network(name) | options)
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    head = {key: shapes.pop(key) for key in list(shapes) if key.startswith(('fc.', 'classifier.'))}
    assert shapes == {key: tuple(value.shape) for key, value in backbone.state_dict().items()}
    assert sorted(map(len, head.values())) == [1, 2] and {s[0] for s in head.values()} == {5}


@pytest.mark.parametrize(
    'name',
    ['resnet34', 'se_resnet18_ibn_b', 'resnext50_ibn_b', 'se_resnext50_ibn_a', 'densenet161'],
)
@pytest.mark.parametrize('mode', [True, False])
def test_maps_are_the_backbones(name, mode):
    """Where no golden file is: the pooled last map, classified."""
    net = load(name, num_classes=3).double().train(mode)
    backbone = MODELS.build(weights.network(name)).double().train(mode)
    backbone.load_state_dict(net.state_dict(), strict=False)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    head = net.classifier if hasattr(net, 'classifier') else net.fc
    assert_close(net(x), head(backbone(x)[-1].mean((2, 3))), rtol=0, atol=1e-9)


@pytest.mark.parametrize('name', ['resnet18_ibn_a', 'densenet121'])
def test_initialised_as_the_original(name):
    net = load(name)
    for key, module in net.named_modules():
        if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 1e5:
            expected = (2 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5
            assert abs(module.weight.std().item() / expected - 1) < 0.05, key


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Lay a state dict in the torch hub's cache, as the published file of a name."""

    def lay(name: str, content: dict) -> Path:
        monkeypatch.setenv('TORCH_HOME', str(tmp_path))
        folder = tmp_path / 'hub' / 'checkpoints'
        folder.mkdir(parents=True)
        torch.save(content, folder / 'file')
        digest = hashlib.sha256((folder / 'file').read_bytes()).hexdigest()[:8]
        row = table.Published(name, 'http://127.0.0.1:9/', digest)
        monkeypatch.setitem(table.PUBLISHED, name, row)
        return (folder / 'file').rename(folder / f'{name}-{digest}.pth')

    return lay


@pytest.mark.parametrize(
    ('published', 'entry'),
    [
        ('resnet18_ibn_b', 'resnet18_ibn_b'),
        ('resnext50_32x4d', 'resnext50'),
        ('densenet121', 'densenet121'),
    ],
)
def test_pretrained(published, entry, publish):
    expected = hub.build(entry).state_dict()
    older = {key: value for key, value in expected.items() if 'num_batches' not in key}
    names = {re.sub(r'(denselayer\d+\.(?:norm|conv))(\d)', r'\1.\2', key): key for key in older}
    publish(published, {name: older[key] for name, key in names.items()})  # torchvision's DenseNets
    found = load(entry, pretrained=True).state_dict()
    assert_close(found, expected, rtol=0, atol=0)


def test_a_file_of_another_network_is_refused(publish):
    path = publish('resnet18_ibn_b', hub.build('resnet18').state_dict())
    with pytest.raises(ValueError, match=r'resnet18_ibn_b-.*layer1\.1\.IN\.weight') as error:
        load('resnet18_ibn_b', pretrained=True)
    assert str(path) in str(error.value)


class _Payload:
    def __reduce__(self):
        return print, ('the file ran',)


def test_a_file_never_runs(publish, capsys):
    publish('resnet18_ibn_b', {'conv1.weight': _Payload()})
    with pytest.raises(ValueError, match='is to run code from the file, which is refused'):
        load('resnet18_ibn_b', pretrained=True)
    assert 'the file ran' not in capsys.readouterr().out


def test_without_a_network(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    row = table.Published('resnet18_ibn_b', 'http://127.0.0.1:9/', 'bc2f3c11')  # nobody listens
    monkeypatch.setitem(table.PUBLISHED, row.name, row)
    with pytest.raises(FileNotFoundError, match=r'lay the file at .*resnet18_ibn_b-bc2f3c11\.pth'):
        load('resnet18_ibn_b', pretrained=True)
    assert capsys.readouterr().err.startswith(f'fetching {row.url} to {tmp_path}')


@pytest.mark.parametrize(
    ('name', 'arguments', 'message'),
    [
        ('resnet152_ibn_a', dict(pretrained=True), 'resnet152_ibn_a: no weights are published'),
        ('resnet50', dict(pretrained=True, placement='ibn_d'), 'no weights are published'),
        ('resnet50_ibn_a', dict(pretrained=True, ratio=0.25), 'no weights are published'),
        ('resnet50_ibn_a', dict(pretrained=True, num_classes=7), r'1000 classes.*`model\.fc`'),
        ('densenet121', dict(pretrained=True, num_classes=7), r'`model\.classifier`'),
        ('resnet50', dict(placement='ibn_z'), "unknown placement 'ibn_z'; choose from"),
        ('densenet121', dict(placement='ibn_b'), "unknown placement 'ibn_b'; choose from"),
        ('resnet51', {}, r'resnet51: depth is 51; choose from \[18, 34, 50, 101, 152\]'),
        ('resnext18', {}, r'resnext18: depth is 18; choose from \[50, 101, 152\]'),
        ('densenet50', {}, r'densenet50: depth is 50; choose from \[121, 161, 169, 201\]'),
        ('resnext50', dict(placement='ibn_c'), r'resnext50: layer1\.0\.norm1: ParallelIBN gives'),
    ],
)
def test_errors(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        hub.build(name, **arguments)


def test_entries_are_all_that_hubconf_shows():
    shown = {k for k, v in runpy.run_path(str(ROOT / 'hubconf.py')).items() if callable(v)}
    assert {name for name in shown if not name.startswith('_')} == set(hub.NAMES)
    assert set(table.PUBLISHED) <= set(hub.NAMES)


def test_the_documents_blocks(publish, tmp_path):
    publish('resnet18_ibn_a', hub.build('resnet18_ibn_a').state_dict())
    (tmp_path / 'path' / 'to').mkdir(parents=True)
    (tmp_path / 'path' / 'to' / 'ibnseg').symlink_to(ROOT)
    code = '\n'.join(blocks('plug-in.md', 'torch.hub')).replace("'path/to", f"'{tmp_path}/path/to")
    names: dict = {}
    exec(code, names)
    assert names['logits'].shape == (1, 10) and names['model'].fc.out_features == 10


SLOW_NAMES = [
    name
    if name in ('resnet18_ibn_a', 'se_resnet18_ibn_b')
    else pytest.param(name, marks=pytest.mark.slow)
    for name in hub.NAMES
]


@pytest.mark.parametrize('name', SLOW_NAMES)
def test_traced_scripted_and_exported_with_a_free_batch(name):
    net = hub.build(name, num_classes=4).eval()
    two, three = torch.randn(2, 3, 64, 64), torch.randn(3, 3, 64, 64)
    batch = {0: torch.export.Dim('n', min=1, max=64)}
    with torch.no_grad():
        expected = net(three)
        assert_close(torch.fx.symbolic_trace(net)(three), expected)
        scripted = torch.jit.script(net)
        assert_close(scripted(three), expected)
        assert scripted.state_dict().keys() == net.state_dict().keys()
        program = torch.export.export(net, (two,), dynamic_shapes=(batch,))
        assert_close(program.module()(three), expected)
