"""MMSegmentation's own tools on our configs, each as a real process, from the installed package."""

import importlib.util
import json
from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch
from ibnseg_tools import weights as weights_tool
from mmseg.apis import MMSegInferencer, inference_model, init_model
from PIL import Image
from processes import run

import ibnseg
from ibnseg import _stack, domains, miniature, weights
from ibnseg.measure.predictions import read_prediction

ROOT = Path(__file__).parents[1]
TOOLS = Path(mmseg.__file__).parent / '.mim' / 'tools'
IMAGES = 6


#: Faults of mmseg 1.2.2 on any data, which OneDL has mended: what they say.
OLD = {
    'Layout of the output array img is incompatible': 'draws into an array that OpenCV 5 refuses',
    '"input_shape" and "inputs" cannot be both set': 'get_flops.py hands both to mmengine 0.10.7',
}


def tool(name, *words, code=0, cwd):
    """Run a script of the installed mmseg; return what it printed."""
    if not (TOOLS / name).is_file():
        pytest.skip(f'this mmseg ships no tools/{name}')
    done = run(TOOLS / name, *words, cwd=cwd, code=None, MPLBACKEND='Agg')
    for said, fault in OLD.items():
        if done.returncode != code and said in done.stderr and mmseg.__version__ == '1.2.2':
            pytest.skip(f'mmseg 1.2.2 {fault}')
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with data and a config that makes one of ours tiny."""
    place = tmp_path_factory.mktemp('mmseg')
    miniature.write(place / 'data', train=4, val=IMAGES, size=(64, 128), workers=2)
    (place / 'tiny.py').write_text(
        f'_base_ = {str(ROOT / "configs" / "miniature" / "ibn_b.py")!r}\n'
        "model_name = 'tiny'\n"
        'model = dict(backbone=dict(base_channels=8, stem_channels=8),\n'
        '    decode_head=dict(in_channels=64, channels=64))\n'
        f'here = dict(data_root={str(place / "data")!r})\n'
        'train_dataloader = dict(batch_size=2, dataset=here)\n'
        'val_dataloader = dict(dataset=here)\n'
        'test_dataloader = dict(dataset=here)\n'
        'train_cfg = dict(max_iters=2, val_interval=2)\n'
        'default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=1))\n'
    )
    return place


@pytest.fixture(scope='module')
def trained(place):
    """The checkpoint of mmseg's tools/train.py."""
    said = tool('train.py', 'tiny.py', '--work-dir', 'run', cwd=place)
    assert 'gta5:val/mIoU' in said
    return place / 'run' / 'iter_2.pth'


@pytest.fixture(scope='module')
def converted(trained):
    out = trained.with_name('plain.pth')
    assert weights_tool.main(['convert', str(trained), str(out), '--trust']) == 0
    return out


def test_what_train_py_saves_is_read_once_it_is_trusted(trained, converted, tmp_path, capsys):
    with pytest.raises(ValueError, match=r'weights convert .*iter_2.pth .* --trust'):
        weights.read(trained)
    held = weights.read(converted)
    raw = torch.load(trained, weights_only=False)
    for key, tensor in raw['state_dict'].items():
        assert torch.equal(held['state_dict'][key], tensor), key
    assert held['meta']['trained']['source'] == 'gta5:train'
    assert len(held['meta']['dataset_meta']['classes']) == 19
    assert weights_tool.main(['convert', str(trained), str(converted), '--trust']) == 2
    assert 'exists already' in capsys.readouterr().err
    assert weights_tool.main(['convert', str(trained), str(tmp_path / 'a.npz'), '--trust']) == 2
    assert 'ends in .pth' in capsys.readouterr().err
    (tmp_path / 'junk.pth').write_bytes(b'junk')
    assert weights_tool.main(['convert', str(tmp_path / 'junk.pth'), 'out.pth', '--trust']) == 2
    torch.save(dict(meta={}), tmp_path / 'none.pth')
    assert weights_tool.main(['convert', str(tmp_path / 'none.pth'), 'out.pth', '--trust']) == 2
    said = capsys.readouterr().err
    assert 'cannot be unpickled' in said and 'no weights in it' in said


def test_mim_trains_and_tests(place, converted):
    """OpenMIM calls the scripts of the package that it is told."""
    if not importlib.util.find_spec('mim'):
        pytest.skip('openmim is not installed: mim train and mim test are not tried')
    (package,) = [_stack._DISTRIBUTIONS[name] for name in _stack.installed()]
    options = ['tiny.py', '--gpus', '0']
    run('-m', 'mim', 'train', package, *options, '--work-dir', 'mim', cwd=place, fresh=True)
    assert (place / 'mim' / 'iter_2.pth').is_file()
    words = [*options, '--checkpoint', converted, '--work-dir', 'mim-test']
    run('-m', 'mim', 'test', package, *words, cwd=place, fresh=True)
    metrics = json.loads(next((place / 'mim-test').rglob('2*.json')).read_text())
    assert 0 <= metrics['cityscapes:val/mIoU'] <= 100


# From here on the converted file: OpenMMLab's own mmengine cannot read what its Runner saves on
# torch >= 2.6.
def test_inference_and_the_inferencer_see_a_photo_as_we_do(place, converted, tmp_path):
    key = domains.use('cityscapes:val', place / 'data').photos[0]
    photo = place / 'data' / key
    model = init_model(str(place / 'tiny.py'), str(converted), device='cpu')
    wanted = ibnseg.load(place / 'tiny.py', converted)(photo).labels
    assert wanted.shape == (64, 128)
    bgr = np.ascontiguousarray(np.asarray(Image.open(photo).convert('RGB'))[..., ::-1])
    infer = MMSegInferencer(str(place / 'tiny.py'), str(converted), device='cpu')
    by = infer(str(photo), out_dir=str(tmp_path), show=False)['predictions']
    for found in (
        inference_model(model, str(photo)).pred_sem_seg.data[0].numpy(),
        inference_model(model, bgr).pred_sem_seg.data[0].numpy(),
        by,
        infer(bgr)['predictions'],
    ):
        assert np.mean(found != wanted) < 0.002  # folded and plain networks round apart
    assert (tmp_path / 'vis' / photo.name).is_file()


def test_test_py_measures_and_paints(place, converted):
    said = tool(
        'test.py', 'tiny.py', converted, '--work-dir', 'tested', '--show-dir', 'shown', '--out',
        'predicted', '--cfg-options', 'default_hooks.visualization.interval=1', cwd=place,
    )  # fmt: skip
    metrics = json.loads(next((place / 'tested').rglob('2*.json')).read_text())
    assert 0 <= metrics['cityscapes:val/mIoU'] <= 100 and 'gta5:val/aAcc' in said
    painted = [*(place / 'shown').rglob('vis_image/*.png')]
    assert len(painted) == 2 * IMAGES
    names = sorted(path.name for path in (place / 'predicted').iterdir())
    assert len(names) == 2 * IMAGES
    keys = [key for of in ('gta5:val', 'cityscapes:val')
            for key in domains.use(of, place / 'data').photos]  # fmt: skip
    assert names == [f'{i:06}_{Path(key).stem}.png' for i, key in enumerate(keys)]
    assert read_prediction(place / 'predicted' / names[0]).max() < 19
    if importlib.util.find_spec('matplotlib'):
        tool('analysis_tools/confusion_matrix.py', 'tiny.py', 'predicted', 'matrix', cwd=place)
        assert (place / 'matrix' / 'confusion_matrix.png').is_file()


@pytest.mark.parametrize('name', ['analysis_tools/browse_dataset.py', 'misc/browse_dataset.py'])
def test_browse_dataset_paints_the_training_pairs(place, name):
    out = place / name.replace('/', '_')
    tool(name, 'tiny.py', '--output-dir', out, '--not-show', cwd=place)
    painted = sorted(out.rglob('*.png'))
    assert len(painted) == 4 and Image.open(painted[0]).size == (256, 128)


def test_get_flops_counts(place):
    said = tool('analysis_tools/get_flops.py', 'tiny.py', '--shape', 64, 128, cwd=place)
    flops = float(said.partition('Flops: ')[2].partition('M')[0])
    params = float(said.partition('Params: ')[2].partition('M')[0])
    model = init_model(str(place / 'tiny.py'), device='cpu')
    assert params * 1e6 == pytest.approx(sum(p.numel() for p in model.parameters()), rel=0.01)
    assert flops > 5


def test_benchmark_times(place, converted):
    # It times 200 images and says nothing of fewer.
    (photo, label), *_ = domains.find('cityscapes:val', place / 'data')
    for number in range(200):
        for file in (photo, label):
            copy = place / 'many' / file.relative_to(place / 'data')
            copy = copy.with_name(copy.name.replace('_000019_', f'_{number:06}_'))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.hardlink_to(file)
    (place / 'many.py').write_text(
        "_base_ = 'tiny.py'\n"
        f'test_dataloader = dict(dataset=dict(data_root={str(place / "many")!r},'
        " domains=['cityscapes:val']))\n"
    )
    said = tool('analysis_tools/benchmark.py', 'many.py', converted, '--work-dir', 'b', cwd=place)
    assert float(said.partition('Overall fps: ')[2].split()[0]) > 0


def test_analyze_logs_plots(place, trained):
    log = next((place / 'run').rglob('scalars.json'))
    assert any('loss' in json.loads(line) for line in log.read_text().splitlines())
    if importlib.util.find_spec('seaborn') is None:
        pytest.skip('analyze_logs.py needs seaborn')
    tool('analysis_tools/analyze_logs.py', log, '--keys', 'loss', '--out', 'c.png', cwd=place)
    assert (place / 'c.png').is_file()


def test_print_config_prints(place):
    assert "type='IBNResNet'" in tool('misc/print_config.py', 'tiny.py', cwd=place)
