"""ImageNet with MMPretrain: real processes on a small folder in ImageNet's layout."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from documented import blocks
from PIL import Image

from .processes import ROOT, need

need('mmpretrain', 'torchvision')

from mmengine.config import Config  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from mmpretrain.registry import DATASETS, MODELS  # noqa: E402
from mmpretrain.structures import DataSample  # noqa: E402
from torchvision import datasets, transforms  # noqa: E402

from ibnseg import disk, hub  # noqa: E402
from ibnseg.domains import DataError  # noqa: E402
from ibnseg.plugins.imagenet import ImageFolder  # noqa: E402
from ibnseg.weights import table  # noqa: E402

CONFIGS = {'resnet50': 'bn', 'ibn_a_r50': 'ibn_a', 'ibn_b_r50': 'ibn_b'}
CLASSES, TRAIN, VAL = 6, 5, 2  # images a class
#: The real configs at a size for a test; images stay 224 x 224.
SMALL = f"""
    model.backbone.depth=18 model.backbone.base_channels=8 model.backbone.stem_channels=8
    model.head.in_channels=64 model.head.num_classes={CLASSES} param_scheduler.milestones=[1]
    train_dataloader.batch_size=8 train_dataloader.num_workers=2 val_dataloader.num_workers=0
    test_dataloader.num_workers=0 env_cfg.cudnn_benchmark=False
""".split()
ONE, TWO = 'train_cfg.max_epochs=1', 'train_cfg.max_epochs=2'


def draw(root: Path) -> None:
    """Photos of many sizes, one of them grey; a class is a colour and the width of its bars."""
    rng = np.random.default_rng(0)
    for split, images in (('train', TRAIN), ('val', VAL)):
        for label in range(CLASSES):
            folder = root / split / f'n0144{label:04d}'
            folder.mkdir(parents=True)
            for i in range(images):
                size = (int(rng.integers(180, 300)), int(rng.integers(180, 300)), 3)
                pixels = rng.integers(0, 60, size)
                pixels[..., label % 3] += 130
                pixels[:, :: 2 + label // 3 * 8] += 60
                photo = Image.fromarray(pixels.astype(np.uint8))
                photo = photo.convert('L') if (label, i) == (0, 0) else photo
                photo.save(folder / f'{folder.name}_{i}.JPEG')


@pytest.fixture(scope='module')
def here(tmp_path_factory) -> Path:
    """A folder to work in: the checkout's configs and tools, and data/imagenet."""
    folder = tmp_path_factory.mktemp('imagenet')
    for name in ('configs', 'tools'):
        (folder / name).symlink_to(ROOT / name)
    draw(folder / 'data' / 'imagenet')
    return folder


def words(command: str, *options: str) -> list[str]:
    """A command line as words, smaller by `options`."""
    assert command.startswith('ibnseg run ')
    start = [sys.executable, str(ROOT / 'tools/run.py')]
    return [*start, *shlex.split(command)[2:], '--cfg-options', *SMALL, *options]


#: One thread: sums of more are rounded otherwise.
ENVIRONMENT = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))


def run(folder: Path, command: list[str], code: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope='module')
def commands() -> list[str]:
    """Those of the document: train, resume, test."""
    make, *lines = blocks('plug-in.md', 'MMPretrain', 'bash')[0].splitlines()
    assert make.startswith('make setup-plugins')
    checkpoint = 'work_dirs/imagenet/ibn_a_r50/epoch_2.pth'
    return [line.replace('CHECKPOINT', checkpoint) for line in lines]


@pytest.fixture(scope='module')
def trained(here, commands) -> tuple[Path, subprocess.CompletedProcess]:
    """One run of two epochs, by the document's command."""
    done = run(here, words(commands[0], TWO))
    return here / 'work_dirs/imagenet/ibn_a_r50/epoch_2.pth', done


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def test_analyses_of_a_run(trained, here):
    """The run's own test pipeline, with each change where it belongs."""
    path, _ = trained
    run_dir, folder = path.parent, 'data/imagenet/val'
    analyze = [sys.executable, 'tools/analyze.py']
    words = ['--changes', 'std*1.5', 'histogram', '--style-from', f'{folder}/n01440005']
    run(here, [*analyze, 'appearance', str(run_dir), *words, '--out', 'work_dirs/appearance'])
    found = json.loads((here / 'work_dirs/appearance/appearance.json').read_text())
    results = {one['change']: one for one in found['networks'][0]['results']}
    assert list(results) == ['none', 'std*1.5', 'histogram']
    assert len({one['protocol_hash'] for one in results.values()}) == 3
    assert {one['measure'] for one in results.values()} == {'accuracy/top1'}
    tested = [*analyze[:1], 'tools/run.py', 'test', str(run_dir / 'ibn_a_r50.py')]
    run(here, [*tested, str(path)])
    metrics = json.loads((run_dir / 'test/metrics.json').read_text())['metrics']
    assert results['none']['score'] == pytest.approx(metrics['accuracy/top1'])
    between = ['--between', f'{folder}/n01440000', f'{folder}/n01440001']
    run(here, [*analyze, 'divergence', str(run_dir), *between, '--out', 'work_dirs/divergence'])
    found = json.loads((here / 'work_dirs/divergence/divergence.json').read_text())
    assert len(found['networks'][0]['points']) == 9


def test_training_prints_top1_and_top5(trained):
    path, done = trained
    lines = done.stdout.splitlines()
    validated = [line for line in lines if line.startswith('validation ')]
    assert [re.sub(r'(?<=top\d )\d+(\.\d+)?', 'X', line) for line in validated] == [
        'validation after epoch 1: accuracy/top1 X  accuracy/top5 X',
        'validation after epoch 2: accuracy/top1 X  accuracy/top5 X',
    ]
    assert lines[-2] == 'checkpoint  work_dirs/imagenet/ibn_a_r50/epoch_2.pth'
    assert {line.split()[0] for line in lines} == {'train', 'validation', 'checkpoint', 'log'}
    assert done.stderr == ''
    assert read(path)['optimizer']['param_groups'][0]['lr'] == pytest.approx(0.01)  # dropped once


def test_resumed_equals_uninterrupted(here, trained, commands):
    """A run for one epoch is killed after it, then resumed for two; the rate drops in between."""
    train, resume, _ = (f'{command} --work-dir resumed' for command in commands)
    first = here / 'resumed' / 'epoch_1.pth'
    process = subprocess.Popen(
        words(train, ONE), cwd=here, stdout=subprocess.DEVNULL, env=ENVIRONMENT
    )
    while process.poll() is None and not first.exists():
        time.sleep(0.02)
    process.kill()
    process.wait()
    again = run(here, words(train, TWO), code=2)
    assert 'holds a run already (epoch_1.pth). Continue it with --resume' in again.stderr
    again = run(here, words(resume, TWO, 'optim_wrapper.optimizer.lr=0.05'), code=2)
    assert 'epoch_1.pth was begun as another experiment (optim_wrapper.optimizer.lr: 0.1, now' in (
        again.stderr
    )
    run(here, words(resume, TWO))
    found, expected = read(here / 'resumed/epoch_2.pth'), read(trained[0])
    assert set(found['state_dict']) == set(expected['state_dict'])
    for key, value in expected['state_dict'].items():
        assert torch.equal(found['state_dict'][key], value), key


def test_testing_repeats_the_validation(here, trained, commands):
    done = run(here, words(commands[2]))
    said = re.findall(r'epoch 2: accuracy/top1 (\S+)  accuracy/top5 (\S+)', trained[1].stdout)[0]
    lines = done.stdout.splitlines()
    assert lines[:2] == [f'accuracy/top1  {said[0]}', f'accuracy/top5  {said[1]}']
    assert done.stderr == ''
    written = json.loads((trained[0].parent / 'test/metrics.json').read_text())
    assert written['images'] == CLASSES * VAL


def test_two_ranks_measure_what_one_does(here, trained):
    """Of 12 images one is taken away, so that the ranks get unequal shares."""
    shutil.copytree(here / 'data/imagenet', here / 'eleven')
    min((here / 'eleven/val').rglob('*.JPEG')).unlink()
    command = f'ibnseg run test configs/imagenet/ibn_a_r50.py {trained[0]}'
    one = words(f'{command} --data-root eleven --work-dir ranks')
    two = words(f'{command} --data-root eleven --work-dir ranks --launcher pytorch')
    two[1:1] = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2']
    lines = [run(here, command).stdout.splitlines()[:2] for command in (one, two)]
    assert lines[0] == lines[1]
    hits = float(lines[0][0].split()[1]) / 100 * 11
    assert abs(hits - round(hits)) < 0.01


def test_accuracy_is_torchvisions_count(here):
    """The oracle: torchvision's folder and transforms, the plain network, hits counted by hand."""
    net = hub.build('resnet18_ibn_a', num_classes=CLASSES).eval()
    normalise = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    steps = (transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), normalise)
    folder = datasets.ImageFolder(here / 'data/imagenet/val', transforms.Compose(steps))
    images, labels = zip(*folder, strict=True)
    with torch.no_grad():
        net.fc.bias -= net(torch.stack(images)).mean(0)  # predictions of several classes
        order = net(torch.stack(images)).argsort(1, descending=True)
    state = {classifier_key(key): value for key, value in net.state_dict().items()}
    torch.save(dict(state_dict=state), here / 'plain.pth')
    hits = (order == torch.tensor(labels)[:, None]).float()
    assert len(set(order[:, 0].tolist())) > 1
    top1, top5 = 100 * hits[:, 0].mean(), 100 * hits[:, :5].sum(1).mean()

    command = 'ibnseg run test configs/imagenet/ibn_a_r50.py plain.pth --work-dir plain'
    width = ('backbone.stem_channels=64', 'backbone.base_channels=64', 'head.in_channels=512')
    done = run(here, words(command, *(f'model.{option}' for option in width)))
    assert [line for line in done.stdout.splitlines() if line.startswith('accuracy')] == [
        f'accuracy/top1  {top1:.4g}',
        f'accuracy/top5  {top5:.4g}',
    ]


def classifier_key(key: str) -> str:
    return f'head.{key}' if key.startswith('fc.') else f'backbone.{key}'


@pytest.mark.parametrize('size', [(300, 200), (256, 256), (333, 500), (181, 777), (90, 61)])
def test_test_images_are_torchvisions(size, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    path = tmp_path / 'val' / 'n0' / 'x.JPEG'
    path.parent.mkdir(parents=True)
    Image.fromarray(pixels).save(path)
    config = Config.fromfile(ROOT / 'configs/imagenet/resnet50.py')
    data = dict(config.val_dataloader.dataset, data_root=str(tmp_path))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        found = DATASETS.build(data)[0]['inputs'].flip(0)  # BGR
    steps = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    expected = torch.from_numpy(np.array(steps(Image.open(path)))).permute(2, 0, 1)
    assert torch.equal(found, expected)


@pytest.mark.parametrize('name', CONFIGS)
def test_config_is_the_papers_recipe(name):
    path = ROOT / 'configs/imagenet' / f'{name}.py'
    assert f'configs/imagenet/{name}.py' in path.read_text().split('"""')[1]
    config = Config.fromfile(path)
    assert config.model.backbone.placement == CONFIGS[name]
    assert config.train_dataloader.batch_size == 256 and config.train_cfg.max_epochs == 100
    schedule = config.param_scheduler
    assert (schedule.type, schedule.milestones, schedule.gamma) == (
        'MultiStepLR',
        [30, 60, 90],
        0.1,
    )
    sgd = dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4)
    assert config.optim_wrapper == dict(optimizer=sgd)
    steps = [step.type for step in config.train_dataloader.dataset.pipeline]
    assert steps == ['LoadImageFromFile', 'RandomResizedCrop', 'RandomFlip', 'PackInputs']


@pytest.mark.parametrize('name', CONFIGS)
def test_classifier_is_the_originals(name):
    """The same network as torch.hub's, and weights drawn alike."""
    config = Config.fromfile(ROOT / 'configs/imagenet' / f'{name}.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        net = MODELS.build(config.model)
    net.init_weights()
    plain = hub.build('resnet50', placement=CONFIGS[name])
    state = {classifier_key(key): value for key, value in plain.state_dict().items()}
    found = net.state_dict()
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in found.items()}
    for key, value in found.items():
        if value.ndim > 1 and value.numel() > 10_000:
            assert value.std().item() == pytest.approx(state[key].std().item(), rel=0.05), key
        elif value.ndim == 1 and not key.startswith('head.'):
            assert torch.equal(value, state[key]), key
    net.load_state_dict(state)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(net.eval()(x), plain.eval()(x))


def _empty(root: Path) -> None:
    for split in ('train', 'val'):
        (root / split / 'n0144000x').mkdir()


def _heap(root: Path) -> None:
    for path in list((root / 'val').rglob('*.JPEG')):
        path.rename(root / 'val' / path.name)
    for folder in filter(Path.is_dir, list((root / 'val').iterdir())):
        folder.rmdir()


def _renamed(root: Path) -> None:
    (root / 'val' / 'n01440003').rename(root / 'val' / 'n0144000a')


def _damaged(root: Path) -> None:
    path = root / 'val' / 'n01440002' / 'n01440002_1.JPEG'
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda root: shutil.rmtree(root / 'val'), r'val: no such folder\. .*val/n01440764/'),
        (_heap, r'val: no folders in it.*which come in one heap'),
        (_empty, r'val/n0144000x: no images in it'),
        (_renamed, r'other classes: n01440003 only in .*train, n0144000a only in .*val'),
        (_damaged, r'n01440002_1\.JPEG: could not be read or augmented \('),
    ],
)
def test_bad_data_is_named(here, tmp_path, change, message):
    root = tmp_path / 'data'
    shutil.copytree(here / 'data/imagenet', root)
    change(root)
    data = Config.fromfile(ROOT / 'configs/imagenet/resnet50.py').val_dataloader.dataset
    data.data_root = str(root)
    with (
        DefaultScope.overwrite_default_scope('mmpretrain'),
        pytest.raises(DataError, match=message),
    ):
        list(DATASETS.build(data))


def test_labels_count_the_folders(here):
    found = ImageFolder(str(here / 'data/imagenet'), 'train', pipeline=[])
    infos = [found.get_data_info(i) for i in range(len(found))]
    assert [info['gt_label'] for info in infos] == sorted([*range(CLASSES)] * TRAIN)
    assert all(f'n0144000{info["gt_label"]}' in info['img_path'] for info in infos)


def test_other_numbers_of_classes_are_refused(here, tmp_path):
    command = f'ibnseg run train configs/imagenet/ibn_b_r50.py --work-dir {tmp_path}/run'
    done = run(here, words(command, 'model.head.num_classes=7'), code=2)
    assert done.stderr == (
        'error: data/imagenet/train has 6 classes, the classifier 7. Unpack what is missing, or '
        'for another dataset than ImageNet say --cfg-options model.head.num_classes=6\n'
    )


def test_the_documents_config(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    net = hub.build('resnet50_ibn_a')
    folder = tmp_path / 'hub' / 'checkpoints'
    folder.mkdir(parents=True)
    torch.save(net.state_dict(), folder / 'file')
    digest = disk.sha256(folder / 'file')[:8]
    row = table.Published('resnet50_ibn_a', 'http://127.0.0.1:9/', digest)
    monkeypatch.setitem(table.PUBLISHED, row.name, row)
    (folder / 'file').rename(folder / f'{row.name}-{digest}.pth')

    path = tmp_path / 'config.py'
    path.write_text(blocks('plug-in.md', 'MMPretrain')[0])
    config = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config.model)
    model.init_weights()
    found, expected = model.backbone.state_dict(), net.state_dict()
    assert set(found) == {key for key in expected if not key.startswith('fc.')}
    assert all(torch.equal(found[key], expected[key]) for key in found)
    samples = [DataSample().set_gt_label(label) for label in (3, 4)]
    model.train()(torch.randn(2, 3, 64, 64), samples, mode='loss')['loss'].backward()
    assert model.backbone.layer1[0].bn1.IN.weight.grad.any()
