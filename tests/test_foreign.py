"""Anyone's network by every protocol: `ibnseg test --model`, and the mapping of its classes."""

import sys

import numpy as np
import pytest
import torch
import yaml
from ibnseg_tools import test as tool
from test_configs import ROOT
from test_engines import moved
from test_export import saved

from ibnseg import labels, miniature, report
from ibnseg.errors import DataError
from ibnseg.export import foreign, mapping, write
from ibnseg.inference.model import load
from ibnseg.measure import matrices, records
from ibnseg.report import claims

CLASSES = labels.CLASSES


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    miniature.write(root, ('gta5', 'cityscapes'), 2, 2, (64, 128), 0, 1)
    return root


def measure(root, tmp_path, *words, code=0):
    """Run `ibnseg test --model`; returns the record's file."""
    out = tmp_path / f'{len([*tmp_path.glob("*.record.json")])}.record.json'
    given = ['--data-root', str(root), '--domains', 'cityscapes:val', 'gta5:val', '--out', str(out)]
    assert tool.main([*given, '--work-dir', str(tmp_path), *map(str, words)]) == code
    return out


def dump(path, **content):
    path.write_text(yaml.safe_dump(content))
    return path


MODULE = """
import torch

class Net(torch.nn.Module):
    def __init__(self, outputs, how):
        super().__init__()
        torch.manual_seed(3)
        self.conv, self.how = torch.nn.Conv2d(3, outputs, 5, 4, 2), how

    def forward(self, x):
        if self.how == 'strict':
            assert x.shape[2] % 48 == 0 == x.shape[3] % 48, x.shape
        y = self.conv(x)
        return dict(out=y, aux=y) if self.how == 'dict' else (y, x) if self.how == 'tuple' else y

def plain(): return Net(19, 'plain')
def as_dict(): return Net(19, 'dict')
def as_tuple(): return Net(19, 'tuple')
def strict(): return Net(19, 'strict')
def many(): return Net(30, 'plain')
def nothing(): return None
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / 'own_nets.py').write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop('own_nets', None)


def test_one_of_ours_as_onnx_gives_the_equal_matrix(root, tmp_path, capsys):
    run = saved(ROOT / 'miniature' / 'ibn_b.py', tmp_path / 'run')
    photos = {'a': np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)}
    for inside in (False, True):
        model = load(run, device='cpu')
        files, _ = write.export(model, 'onnx', photos, tmp_path / f'{inside}.onnx', inside)
        theirs = measure(root, tmp_path, '--model', f'onnx:{files[0]}', '--source', 'gta5:train')
        out = tmp_path / f'ours{inside}.record.json'
        tool.main([
            str(run / 'config.py'), str(run / 'iter_120.pth'), '--data-root', str(root), '--out',
            str(out), '--domains', 'cityscapes:val', 'gta5:val', '--engine', 'onnxruntime',
            '--export', str(files[0]),
        ])  # fmt: skip
        assert moved(out, theirs) == [0, 0]
        a, b = records.read(out), records.read(theirs)
        assert [d.protocol_hash for d in a.domains] == [d.protocol_hash for d in b.domains]
    assert np.count_nonzero(b.domains[0].matrix) > 20
    assert b.provenance['engine']['name'] == 'onnxruntime' and b.source == 'gta5:train'
    assert b.provenance['model']['classes']['road'] == ['road']
    assert matrices.read(theirs, b)['gta5:val'].total().sum() == b.domains[1].matrix.sum()


def test_own_code_that_gives_logits_in_any_wrapping(module, root, tmp_path, capsys):
    file = dump(tmp_path / 'c.yaml', classes=dict(enumerate(CLASSES)))
    words = ['--model-classes', file, '--reliability']
    found = [
        measure(root, tmp_path, '--model', f'own_nets:{name}', *words)
        for name in ('plain', 'as_dict', 'as_tuple')
    ]
    assert moved(found[0], found[1]) == moved(found[0], found[2]) == [0, 0]
    record = records.read(found[0])
    assert record.provenance['selection'] == 'as given' and record.source == 'unknown'
    assert 'engine' not in record.provenance and len(record.provenance['checkpoint_sha256']) == 64
    assert report.tabulate([record]).rows and not claims.check([found[0]]).findings


def test_a_network_that_takes_multiples_is_padded(module, root, tmp_path, capsys):
    classes = dict(enumerate(CLASSES))
    file = dump(tmp_path / 'c.yaml', classes=classes)
    given = ['--model', 'own_nets:strict', '--model-classes', file]
    measure(root, tmp_path, *given, code=2)
    dump(file, classes=classes, multiple=48)
    found = measure(root, tmp_path, *given)
    assert records.read(found).domains[0].matrix.sum() > 1000


def test_outputs_that_mean_one_class_are_that_class(module, root, tmp_path, capsys):
    """Predicted, then renamed: the network's own label map is what counts."""
    names = [*CLASSES, *CLASSES[:11]]
    file = dump(tmp_path / 'c.yaml', classes=dict(enumerate(names)))
    x = torch.randn(2, 3, 40, 56)
    network = foreign.open_spec('own_nets:many').network
    outputs, unused = mapping.resolve(dict(enumerate(names)), (), CLASSES)
    with torch.no_grad():
        own, found = network(x).argmax(1), mapping.Mapped(network, outputs)(x).argmax(1)
    assert unused == [] and torch.equal(own % 19, found) and (own >= 19).any()
    given = ['--model', 'own_nets:many', '--model-classes', file]
    assert records.read(measure(root, tmp_path, *given)).provenance['model']['classes']['road'] == [
        0, 19,
    ]  # fmt: skip
    measure(root, tmp_path, *given, '--reliability', code=2)
    assert 'outputs of this network are merged' in capsys.readouterr().err


def test_a_class_that_no_output_means_is_never_predicted(module, root, tmp_path, capsys):
    few = {i: name for i, name in enumerate(CLASSES) if name not in ('train', 'sky')}
    given = ['--model', 'own_nets:plain', '--model-classes', dump(tmp_path / 'c.yaml', classes=few)]
    record = records.read(measure(root, tmp_path, *given))
    assert 'no output means sky, train' in capsys.readouterr().out
    matrix, sky = record.domains[0].matrix, CLASSES.index('sky')
    assert matrix[:, sky].sum() == 0 < matrix[sky].sum()


def test_the_order_of_channels_and_the_mean_matter(module, root, tmp_path, capsys):
    classes, found = dict(enumerate(CLASSES)), []
    for facts in ({}, dict(order='bgr'), dict(mean=[0, 0, 0], std=[255, 255, 255])):
        file = dump(tmp_path / 'c.yaml', classes=classes, **facts)
        found.append(measure(root, tmp_path, '--model', 'own_nets:plain', '--model-classes', file))
    assert min(moved(found[0], found[1]) + moved(found[0], found[2])) > 0.001


@pytest.mark.parametrize(
    ('spec', 'said'),
    [
        ('net.onnx', 'expected onnx:FILE'),
        ('onnx:absent.onnx', 'no such file'),
        ('own_nets:absent', 'Expected onnx:, torchvision:, hf:, smp:'),
        ('own_nets:nothing', 'returns NoneType; expected a torch module'),
        ('own_nets:plain', 'Say which is which by --model-classes'),
        ('smp:absent', 'not installed|no model.safetensors'),
    ],
)
def test_what_cannot_be_measured_is_said(module, root, tmp_path, capsys, spec, said):
    measure(root, tmp_path, '--model', spec, code=2)
    found = capsys.readouterr().err
    assert any(part in found for part in said.split('|')), found


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ('classes: {0: rood}', "did you mean 'road'"),
        ('classes: {30: road}', 'classes names output 30; the network has 19'),
        ('classes: {-1: road}', 'classes names outputs'),
        ('classes: {street: road}', 'no output named street'),
        ('classes: [road]', 'classes is no mapping'),
        ('clases: {0: road}', "did you mean 'classes'"),
        ('mean: [1, 2]', 'mean is [1, 2]; expected 3 numbers'),
        ('std: [1, 0, 1]', 'std is [1, 0, 1]'),
        ('order: gbr', "order is 'gbr'"),
        ('multiple: 0', 'multiple is 0'),
        ('photo: [10]', 'photo is [10]'),
        ('- a', 'expected keys and values'),
        ('a: !!python/object:os.system {}', 'not YAML'),
        ('a: [', 'not YAML'),
    ],
)
def test_a_file_of_classes_with_a_slip_is_refused(module, root, tmp_path, capsys, content, said):
    (tmp_path / 'c.yaml').write_text(content)
    given = ['--model', 'own_nets:plain', '--model-classes', tmp_path / 'c.yaml']
    measure(root, tmp_path, *given, code=2)
    found = capsys.readouterr().err
    assert any(part in found for part in said.split('|')), found


@pytest.mark.parametrize(
    'words',
    [
        ['--model', 'onnx:a.onnx'],
        ['config.py', 'a.pth', '--model', 'onnx:a.onnx', '--domains', 'gta5'],
        [],
        [str(ROOT / 'ibn_b_gta5_to_cityscapes.py')],
    ],
)
def test_words_that_are_missing_or_too_many(words, capsys):
    with pytest.raises(SystemExit) as ended:
        tool.main(words)
    assert ended.value.code == 2


def test_a_random_segformer_of_transformers(root, tmp_path, capsys):
    transformers = pytest.importorskip('transformers', reason='transformers is not installed')
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=8, id2label=dict(enumerate(CLASSES)),
    )  # fmt: skip
    folder = tmp_path / 'segformer'
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    found = measure(root, tmp_path, '--model', f'hf:{folder}')
    assert records.read(found).model == 'segformer'
    network = transformers.SegformerForSemanticSegmentation.from_pretrained(folder).eval()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(foreign.open_spec(f'hf:{folder}').network(x), network(x).logits)
    state = network.state_dict()
    next(folder.glob('*.safetensors')).unlink()
    torch.save(state, folder / 'pytorch_model.bin')
    with pytest.raises(DataError, match=r'no \*\.safetensors there'):
        foreign.open_spec(f'hf:{folder}')


def test_a_network_of_segmentation_models_pytorch(root, tmp_path, capsys):
    smp = pytest.importorskip('segmentation_models_pytorch', reason='smp is not installed')
    torch.manual_seed(0)
    network = smp.Unet('resnet18', encoder_weights=None, classes=19)
    network.save_pretrained(tmp_path / 'unet')
    file = dump(tmp_path / 'c.yaml', classes=dict(enumerate(CLASSES)), multiple=32)
    found = measure(root, tmp_path, '--model', f'smp:{tmp_path / "unet"}', '--model-classes', file)
    assert records.read(found).domains[0].matrix.sum() > 1000
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        given = foreign.open_spec(f'smp:{tmp_path / "unet"}').network(x)
        torch.testing.assert_close(given, network.eval()(x))


def test_a_network_of_torchvision(root, tmp_path, capsys):
    vision = pytest.importorskip('torchvision', reason='torchvision is not installed')
    torch.manual_seed(0)
    make = vision.models.segmentation.lraspp_mobilenet_v3_large
    network = make(weights=None, weights_backbone=None, num_classes=19).eval()
    torch.save(network.state_dict(), tmp_path / 'net.pth')
    spec = f'torchvision:lraspp_mobilenet_v3_large={tmp_path / "net.pth"}'
    file = dump(tmp_path / 'c.yaml', classes=dict(enumerate(CLASSES)))
    found = measure(root, tmp_path, '--model', spec, '--model-classes', file)
    assert records.read(found).domains[0].matrix.sum() > 1000
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(foreign.open_spec(spec).network(x), network(x)['out'])
    with pytest.raises(ValueError, match='choose from'):
        foreign.open_spec('torchvision:resnet18')
