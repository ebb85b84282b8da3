"""Exports: what a file holds, that it gives what torch gives, and `ibnseg export`."""

import functools
import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from documented import blocks
from ibnseg_tools import export as tool
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from PIL import Image
from test_configs import LEAVES, ROOT

import ibnseg
from ibnseg.export import certificate, engines, formats, write
from ibnseg.export.network import Exportable
from ibnseg.inference.model import Model
from ibnseg.placement import METHODS, PLACEMENTS

pytest.importorskip('onnxruntime', reason='onnxruntime is not installed (ibnseg[export])')
pytest.importorskip('openvino', reason='openvino is not installed (ibnseg[export])')

#: Networks that the configs or the hub have, tiny.
NETWORKS = {
    'IBNResNet18': dict(type='IBNResNet', depth=18),
    'IBNResNet50': dict(type='IBNResNet', depth=50),
    'IBNResNeXt50': dict(type='IBNResNeXt', depth=50, groups=4, base_width=16),
    'IBNSEResNet50': dict(type='IBNSEResNet', depth=50),
    'IBNSEResNeXt50': dict(type='IBNSEResNeXt', depth=50, groups=4, base_width=16),
    'IBNDenseNet121': dict(type='IBNDenseNet', depth=121, growth=4),
}
HEADS = {
    'fcn': dict(type='FCNHead', num_convs=0, concat_input=False),
    'aspp': dict(type='ASPPHead', dilations=(1, 2)),
    'sep_aspp': dict(type='DepthwiseSeparableASPPHead', dilations=(1, 2), c1_channels=4),
}


def tiny(path):
    """Return what makes a config's model small, and leaves all else of it."""
    given = Config.fromfile(path).model
    per_stage = 8 if given.backbone.depth < 50 else 32
    wide = per_stage * 2 ** (given.backbone.get('num_stages', 4) - 1)
    plain = given.decode_head.type == 'FCNHead' and not given.decode_head.num_convs
    head = dict(in_channels=wide, channels=wide if plain else 8)
    if 'c1_in_channels' in given.decode_head:
        head |= dict(c1_in_channels=per_stage, c1_channels=4)
    small = dict(init_cfg=None, base_channels=8, stem_channels=8)
    return dict(backbone=small, decode_head=head, auxiliary_head=None)


def train(network, seed=0):
    """Give every norm statistics, scales and shifts of its own, as after a training."""
    torch.manual_seed(seed)
    for module in network.modules():
        if getattr(module, 'running_var', None) is not None:
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
        if 'Norm' in type(module).__name__ and getattr(module, 'weight', None) is not None:
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    torch.nn.init.normal_(network.decode_head.conv_seg.weight, std=0.3)


def saved(path, folder, seed=0):
    """Save a config's network, tiny and never trained, as a run of `ibnseg train`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f'_base_ = [{str(path)!r}]\nmodel_name = {path.stem!r}\nmodel = {tiny(path)}\n'
    (folder / 'config.py').write_text(text)
    with DefaultScope.overwrite_default_scope('mmseg'):
        network = MODELS.build(Config.fromfile(folder / 'config.py').model)
    train(network, seed)
    torch.save(dict(state_dict=network.state_dict(), meta={}), folder / 'iter_120.pth')
    return folder


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return saved(ROOT / 'camvid' / 'ibn_b.py', tmp_path_factory.mktemp('run') / 'ibn_b')


@pytest.fixture(scope='module')
def model(run):
    return ibnseg.load(run, device='cpu')


@pytest.fixture(scope='module')
def files():
    """Real photos: CamVid's, of day and dusk."""
    folder = Path(__file__).parents[2] / 'shared' / 'data' / 'camvid' / 'test'
    if not folder.is_dir():
        pytest.skip(f'{folder} is absent: no real photos to compare on')
    found = sorted(folder.glob('*.jpg'))
    return found[:: len(found) // 3][:3]


@pytest.fixture(scope='module')
def photos(files):
    return {file.name: np.asarray(Image.open(file).resize((192, 144))) for file in files}


@pytest.fixture(scope='module')
def exported(model, photos, tmp_path_factory):
    """`exported('onnx', inside, logits)`: (files, certificate), each written once."""

    @functools.cache
    def make(to, inside=False, logits='input'):
        out = tmp_path_factory.mktemp('exported') / f'x{formats.FORMATS[to]}'
        return write.export(model, to, photos, out, inside, logits)

    return make


def check(cases):
    assert len({case.size for case in cases}) == 2
    assert {len(case.photos) for case in cases} == {1, 2}
    for case in cases:
        assert case.passed and case.largest > 0.1, case


@pytest.mark.parametrize('to', formats.FORMATS)
def test_a_file_gives_what_torch_gives_at_any_size(model, photos, exported, to):
    written, said = exported(to)
    out = written[0]
    assert {*out.parent.iterdir()} == {*written}
    assert all(case['passed'] for case in said['cases'])
    engine = engines.open_file(out)
    # By hand: photo, mean and deviation, the argmax.
    about, photo = engine.about, next(iter(photos.values()))[:101, :67]
    assert about['input']['channels'] == 'RGB' and about['classes'] == list(model.classes)
    assert about['checkpoint']['sha256'] == model.sha256
    x = (photo.astype(np.float32) - about['input']['mean']) / about['input']['std']
    logits = engine(x.transpose(2, 0, 1)[None].repeat(3, 0).astype(np.float32))
    assert logits.shape == (3, len(model.classes), 101, 67)
    model.network.test_cfg, before = dict(mode='whole'), model.network.test_cfg
    wanted = model.network.encode_decode(
        torch.from_numpy(x.transpose(2, 0, 1)[None].astype(np.float32)),
        [dict(img_shape=(101, 67), pad_shape=(101, 67))],
    )
    model.network.test_cfg = before
    np.testing.assert_allclose(logits[:1], wanted.detach().numpy(), atol=1e-4)


@pytest.mark.parametrize('logits', ['input', 'head'])
def test_preprocessing_inside_takes_photos_as_they_are(model, photos, exported, logits):
    engine = engines.open_file(exported('onnx', True, logits)[0][0])
    assert (engine.kind, engine.shape) == ('uint8', (None, None, None, 3))
    about = engine.about
    assert about['input']['layout'] == 'NHWC' and about['input']['normalised_inside']
    name, photo = next(iter(photos.items()))
    found = engine(photo[None])
    assert (found.shape[2:] == photo.shape[:2]) == (logits == 'input')
    full = torch.nn.functional.interpolate(
        torch.from_numpy(found), photo.shape[:2], mode='bilinear'
    )
    assert (full[0].argmax(0).numpy() == model(photo_native(model, photo)).labels).mean() > 0.999
    assert engine(photo[:77, :95][None].repeat(3, 0)).shape[0] == 3, name


def photo_native(model, photo):
    """The photo, where the config's protocol would not scale it; else the test means nothing."""
    assert (model.scaled(photo) == photo).all()
    return photo


def test_channels_in_the_order_of_opencv(run, photos, tmp_path):
    """A network that takes BGR: outside the file says so, inside photos stay RGB."""
    options = {
        'model.data_preprocessor.bgr_to_rgb': False,
        'model.data_preprocessor.mean': [100.0, 110.0, 120.0],
        'model.data_preprocessor.std': [50.0, 60.0, 70.0],
    }
    bgr = ibnseg.load(run, device='cpu', options=options)
    for inside in (False, True):
        out = tmp_path / f'{inside}.ts.pt'
        write.export(bgr, 'torchscript', photos, out, inside)
        about = engines.open_file(out).about['input']
        assert about['channels'] == ('RGB' if inside else 'BGR') and about['mean'][0] == 100


def test_the_file_has_native_norms_free_axes_and_no_paths(exported):
    import onnx

    out = exported('onnx')[0][0]
    found = onnx.load(out)
    onnx.checker.check_model(found)
    kinds = [node.op_type for node in found.graph.node]
    assert kinds.count('InstanceNormalization') == 3 and 'BatchNormalization' not in kinds
    axes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*found.graph.input, *found.graph.output)
    ]
    assert axes == [['batch', 3, 'height', 'width'], ['batch', 19, 'height', 'width']]
    assert not re.search(rb'\.py|/work|/tmp|/home', out.read_bytes())


def test_native_instance_norm_is_right_where_the_mean_is_large(tmp_path):
    from ibnseg.export.network import _Native

    layer = _Native(ibnseg.norms.InstanceNorm(8))
    x = torch.randn(2, 8, 64, 96) + 1000
    free = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(layer, (x,), dynamic_shapes=(free,))
    with formats.quiet():
        torch.onnx.export(program, dynamo=True, verbose=False).save(tmp_path / 'x.onnx')
    wanted = torch.nn.functional.instance_norm(x.double()).numpy()
    for name in engines.ENGINES:
        found = engines.open_file(tmp_path / 'x.onnx', name)(x.numpy())
        assert abs(found - wanted).max() < 2e-5, name


def test_an_export_that_misses_is_not_left(model, photos, tmp_path, monkeypatch):
    out = tmp_path / 'x.ts.pt'
    forward = Exportable.forward
    monkeypatch.setattr(Exportable, 'forward', lambda self, x: forward(self, x) + x.mean() / 100)
    with pytest.raises(write.CertificateError, match=r'x\.ts\.pt is not written.* logits differ'):
        write.export(model, 'torchscript', photos, out)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize('what', ['batch', 'size'])
def test_an_export_tied_to_a_size_is_not_left(model, photos, tmp_path, monkeypatch, what):
    forward = Exportable.forward
    # `len` of a tensor is a number to an exporter.
    frozen = dict(
        batch=lambda self, x: forward(self, x).reshape(len(x), -1, *x.shape[2:]),
        size=lambda self, x: forward(self, x)[..., :96, :128],
    )
    monkeypatch.setattr(Exportable, 'forward', frozen[what])
    with pytest.raises(ValueError, match=r'batch of 1|the export gives'):
        write.export(model, 'torchscript', photos, tmp_path / 'x.ts.pt')
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize('value', [np.nan, 1.0])
def test_a_certificate_sees_one_wrong_pixel_in_a_thousand(value):
    case = certificate.Case((10, 10), ('a',), 0.999, 0.0, 5.0)
    assert not case.passed
    assert not certificate.Case((10, 10), ('a',), 1.0, value, 5.0).passed
    assert certificate.Case((10, 10), ('a',), 1.0, 4e-4, 5.0).passed


def test_another_networks_export_is_not_overwritten(run, model, photos, tmp_path):
    out = tmp_path / 'x.ts.pt'
    for _ in range(2):  # of this checkpoint it may be
        write.export(model, 'torchscript', photos, out)
    other = ibnseg.load(saved(ROOT / 'camvid' / 'ibn_b.py', tmp_path / 'other', 1), device='cpu')
    before = out.read_bytes()
    with pytest.raises(FileExistsError, match='an export of another checkpoint'):
        write.export(other, 'torchscript', photos, out)
    write.beside(out).unlink()
    with pytest.raises(FileExistsError, match='something else'):
        write.export(model, 'torchscript', photos, out)
    assert out.read_bytes() == before


def test_the_command(run, files, tmp_path, capsys):
    given = [str(run), '--to', 'torchscript', '--photos', *map(str, files)]
    assert tool.main([*given, '--out', str(tmp_path / 'x.ts.pt'), '--preprocessing']) == 0
    said = capsys.readouterr().out
    assert f'export      {tmp_path / "x.ts.pt"}' in said and '100.0000 % of the pixels' in said
    content = json.loads((tmp_path / 'x.ts.pt.certificate.json').read_text())
    assert content['export']['input']['normalised_inside'] and len(content['cases']) == 4
    assert tool.main([*given, '--out', str(tmp_path / 'x.onnx')]) == 2
    assert 'expected a name that ends with .ts.pt' in capsys.readouterr().err
    assert tool.main([str(run), '--to', 'onnx', '--data-root', str(tmp_path)]) == 2
    assert 'the export needs photos' in capsys.readouterr().err
    config = [str(run / 'config.py'), str(run / 'iter_120.pth'), '--to', 'torchscript']
    assert tool.main([*config, '--photos', str(files[0])]) == 0
    assert (run / 'iter_120.ts.pt.certificate.json').is_file()


def test_the_photos_of_a_certificate_are_those_that_are_measured(model, files):
    root = files[0].parents[2]
    found = write.evaluation_photos(model, str(root))
    assert len(found) == 4 and all(file.is_file() for file in found)
    assert len({file.name.partition('_')[0] for file in found}) > 1


def test_the_documents_block(model, exported, files, tmp_path, monkeypatch):
    shutil.copy(exported('onnx', True, 'input')[0][0], tmp_path / 'iter_40000.uint8.onnx')
    (block,) = blocks('export.md', 'Input and output')
    monkeypatch.chdir(tmp_path)
    Image.open(files[0]).save('photo.jpg', quality=95)
    found = {}
    exec(block, found)
    assert found['labels'].shape == found['photo'].shape[:2]
    assert found['about']['classes'] == list(model.classes)


def segmentor(backbone, head, placement):
    """A tiny segmentor of any network, with a head and statistics as after a training."""
    backbone = dict(backbone, placement=placement, init_cfg=None)
    if backbone['type'] != 'IBNDenseNet':
        backbone |= dict(base_channels=8, stem_channels=8)
    with DefaultScope.overwrite_default_scope('mmseg'):
        probe = MODELS.build(backbone).eval()
        with torch.no_grad():
            maps = [one.shape[1] for one in probe(torch.zeros(1, 3, 64, 64))]
        head = dict(
            HEADS[head],
            num_classes=11,
            dropout_ratio=0,
            align_corners=False,
            norm_cfg=dict(type='SyncBN'),
        )
        head |= dict(in_channels=maps[-1], in_index=len(maps) - 1)
        head['channels'] = maps[-1] if head['type'] == 'FCNHead' else 8
        if 'c1_channels' in head:
            head['c1_in_channels'] = maps[0]
        return Config(
            dict(
                model=dict(
                    type='EncoderDecoder',
                    data_preprocessor=dict(
                        type='SegDataPreProcessor', bgr_to_rgb=True,
                        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                    ),
                    backbone=backbone, decode_head=head, test_cfg=dict(mode='whole'),
                ),
                test_pipeline=[dict(type='LoadImageFromFile'), dict(type='PackSegInputs')],
            )
        )  # fmt: skip


def opened(config, folder):
    with DefaultScope.overwrite_default_scope('mmseg'):
        network = MODELS.build(config.model)
    train(network)
    torch.save(dict(state_dict=network.state_dict(), meta={}), folder / 'a.pth')
    return Model(config, folder / 'a.pth', 'cpu', 'tiny')


#: What is exported in every run of the suite; the whole table is slow.
FAST = {('IBNResNet18', 'ibn_a', 'sep_aspp')}
_MAIN = ('bn', 'ibn_a', 'ibn_b')
TABLE = [
    *(
        row
        for row in itertools.product(NETWORKS, _MAIN, HEADS)
        if row[:2] != ('IBNDenseNet121', 'ibn_b')  # it has no such row
    ),
    *(('IBNResNet18', placement, 'fcn') for placement in PLACEMENTS if placement not in _MAIN),
    *(('IBNResNet50', method, 'fcn') for method in METHODS),
]


@pytest.mark.parametrize(
    ('network', 'placement', 'head'),
    [
        pytest.param(*row, marks=() if row in FAST else pytest.mark.slow, id='-'.join(row))
        for row in TABLE
    ],
)
def test_every_network_placement_and_head(network, placement, head, photos, tmp_path):
    model = opened(segmentor(NETWORKS[network], head, placement), tmp_path)
    exportable = Exportable(model.network, model.config.model.data_preprocessor)
    about = write.describe(model, False, 'input')
    (path,) = formats.write(exportable, 'onnx', tmp_path / 'x.onnx', about)
    for name in engines.ENGINES:
        check(certificate.certify(model, engines.open_file(path, name), photos))


@pytest.mark.slow
@pytest.mark.parametrize('path', LEAVES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_config(path, photos, tmp_path):
    model = ibnseg.load(saved(path, tmp_path / 'run'), device='cpu')
    out = tmp_path / 'x.onnx'
    write.export(model, 'onnx', photos, out)
    check(certificate.certify(model, engines.open_file(out, 'openvino'), photos))
