"""The built wheel in a fresh environment outside of any checkout: what an engineer gets."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata, util
from pathlib import Path

import pytest

from ibnseg import named

ROOT = Path(__file__).parents[1]
MM = ('mmcv', 'mmengine', 'mmseg', 'onedl')
TINY = [
    *('model.backbone.base_channels=8', 'model.backbone.stem_channels=8'),
    *('model.decode_head.in_channels=64', 'model.decode_head.channels=64'),
    *('train_dataloader.batch_size=2', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2'),
]


@pytest.fixture(scope='session')
def wheel(tmp_path_factory):
    """Built from a copy of the sources, so that nothing else of the checkout can slip in."""
    if int(metadata.version('setuptools').split('.')[0]) < 71 and not util.find_spec('wheel'):
        pytest.skip('building a wheel needs setuptools >= 71 or the package wheel')
    source = tmp_path_factory.mktemp('source') / 'ibnseg'
    skip = shutil.ignore_patterns('__pycache__', '*.egg-info')
    for name in ('ibnseg', 'tools', 'configs'):
        shutil.copytree(ROOT / name, source / name, ignore=skip)
    for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    build = 'from setuptools import build_meta; print(build_meta.build_wheel("out"))'
    done = subprocess.run([sys.executable, '-c', build], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next((source / 'out').glob('*.whl'))


def installed(wheel, folder, without=()):
    """Install the wheel into a new environment; its requirements are those of this one."""
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', folder], check=True)
    pip = [sys.executable, '-m', 'pip', '--python', str(folder / 'bin' / 'python')]
    offline = ['--no-deps', '--no-index', '--quiet', '--disable-pip-version-check']
    subprocess.run([*pip, 'install', *offline, wheel], check=True)
    needed = folder / 'needed'
    needed.mkdir()
    for place in (Path(path) for path in sys.path if path.endswith('site-packages')):
        for part in place.iterdir():
            name = part.name.lower()
            other = name.startswith(('ibnseg', '__editable__', '__pycache__', *without))
            if not (other or name.endswith('.pth') or (needed / part.name).exists()):
                (needed / part.name).symlink_to(part)
    site = next((folder / 'lib').glob('python3*')) / 'site-packages'
    (site / 'needed.pth').write_text(f'{needed}\n')
    return folder / 'bin'


@pytest.fixture(scope='session')
def full(wheel, tmp_path_factory):
    return installed(wheel, tmp_path_factory.mktemp('full') / 'venv')


@pytest.fixture(scope='session')
def bare(wheel, tmp_path_factory):
    """Without the MM packages."""
    return installed(wheel, tmp_path_factory.mktemp('bare') / 'venv', MM)


def ran(command, cwd, code=0):
    hidden = ('PYTHONPATH', 'VIRTUAL_ENV')
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, cwd=cwd,
        env=environment | dict(OMP_NUM_THREADS='1'),
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_the_wheel_holds_what_a_user_needs(wheel):
    held = zipfile.ZipFile(wheel).namelist()
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'configs').rglob('*.py')}
    assert {f'ibnseg/{name}' for name in ours} <= {*held}
    assert 'ibnseg/report/published.yaml' in held and 'ibnseg_tools/cli.py' in held
    assert not [name for name in held if name.startswith(('tests', 'configs', 'tools', 'build'))]


@pytest.mark.parametrize('how', [['ibnseg'], ['python', '-m', 'ibnseg']], ids=' '.join)
def test_version_and_configs_from_any_folder(full, tmp_path, how):
    start = [full / how[0], *how[1:]]
    said = ran([*start, '--version'], tmp_path).stdout
    assert said.startswith('ibnseg ') and 'torch 2.' in said
    assert 'mmsegmentation ' in said
    lines = ran([*start, 'configs'], tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in lines] == [*named.names()]
    assert 'ibnseg COMMAND' in ran([*start, '--help'], tmp_path).stdout


def test_a_config_by_name_trains_and_predicts(full, tmp_path):
    ibnseg = full / 'ibnseg'
    small = ['--train', 2, '--val', 2, '--size', '64x128', '--workers', 1]
    ran([ibnseg, 'miniature', 'data', *small], tmp_path)
    ran(
        [ibnseg, 'train', 'miniature/ibn_b', '--data-root', 'data', '--cfg-options', *TINY],
        tmp_path,
    )
    run = tmp_path / 'work_dirs' / 'miniature' / 'ibn_b'
    assert (run / 'ibn_b.record.json').is_file()
    photos = tmp_path / 'data' / 'cityscapes' / 'leftImg8bit' / 'val'
    ran([ibnseg, 'predict', run, photos, '--out', 'predicted'], tmp_path)
    assert len([*(tmp_path / 'predicted' / 'labels').rglob('*.png')]) == 2
    ran([ibnseg, 'package', run, '--out', 'package'], tmp_path)
    said = ran([ibnseg, 'verify', 'package', '--data-root', 'data'], tmp_path).stdout
    assert said.count('every pixel as recorded') == 2
    jobs = ['--on', 'local:2'] if util.find_spec('submitit') else []
    sweep = [ibnseg, 'sweep', 'miniature/ibn_b', '--seeds', 0, 1, '--data-root', 'data', *jobs]
    ran([*sweep, '--no-gallery', '--cfg-options', *TINY], tmp_path)
    assert '| ibn_b | 2 |' in (tmp_path / 'work_dirs/sweep/report/report.md').read_text()


def test_data_and_methods_are_looked_at_from_any_folder(full, tmp_path):
    ibnseg = full / 'ibnseg'
    small = ['--train', 1, '--val', 2, '--size', '64x128', '--workers', 1]
    ran([ibnseg, 'miniature', 'data', *small], tmp_path)
    ran([ibnseg, 'browse', 'cityscapes', '--data-root', 'data'], tmp_path)
    assert '<img' in (tmp_path / 'cityscapes.html').read_text()
    (tmp_path / 'mycity').mkdir()
    for name, of in (('images', 'leftImg8bit'), ('masks', 'gtFine')):
        shutil.copytree(tmp_path / 'data/cityscapes' / of, tmp_path / 'mycity' / name)
    ran([ibnseg, 'domain', 'new', 'mycity', '--ids', 'cityscapes'], tmp_path)
    audit = [ibnseg, 'audit', 'mycity', 'data', '--domain-file', 'mycity.yaml']
    assert 'mycity' in ran(audit, tmp_path).stdout
    assert ran([ibnseg, 'methods'], tmp_path).stdout.startswith('mixstyle ')


def test_configs_are_copied_with_what_they_inherit(full, tmp_path):
    ibnseg = full / 'ibnseg'
    copy = [ibnseg, 'configs', 'ibn_b_gta5_to_cityscapes', '--copy-to', 'mine']
    said = ran(copy, tmp_path).stdout.split()
    assert 'mine/ibn_b_gta5_to_cityscapes.py' in said
    assert 'mine/_base_/models/fcn_ibn_r50.py' in said
    code = (
        'from mmengine.config import Config;'
        "print(Config.fromfile('mine/ibn_b_gta5_to_cityscapes.py').model.backbone.placement)"
    )
    assert ran([full / 'python', '-c', code], tmp_path).stdout == 'ibn_b\n'
    ran(copy, tmp_path)  # equal files stay
    (tmp_path / 'mine' / 'ibn_b_gta5_to_cityscapes.py').write_text('x = 1\n')
    assert 'exists already' in ran(copy, tmp_path, code=2).stderr


@pytest.mark.parametrize(
    'words',
    ['train miniature/ibn_b', 'test miniature/ibn_b a.pth', 'sweep miniature/ibn_b',
     'predict miniature/ibn_b a.pth a.png --out o', 'demo',
     'weights convert a.pth a.safetensors', 'run train imagenet/resnet50',
     'finetune miniature/ibn_b a.pth --target cityscapes',
     'analyze divergence work --between a.png b.png'],
)  # fmt: skip
def test_without_the_mm_packages_one_line_says_what_to_install(bare, tmp_path, words):
    for name in ('a.pth', 'a.png'):
        (tmp_path / name).write_text('')
    done = ran([bare / 'ibnseg', *words.split()], tmp_path, code=2)
    said = done.stderr.splitlines()
    assert len(said) == 1, done.stderr
    assert 'not installed: mmcv, mmengine, mmseg' in said[0]
    assert 'pip install "onedl-mmsegmentation' in said[0] and 'checkout' not in said[0]


def test_without_the_mm_packages_the_rest_works(bare, tmp_path):
    ran([bare / 'ibnseg', '--version'], tmp_path)
    ran([bare / 'ibnseg', 'configs'], tmp_path)
    small = ['--train', 1, '--val', 1, '--size', '64x128', '--workers', 1]
    ran([bare / 'ibnseg', 'miniature', 'data', *small], tmp_path)
    ran([bare / 'ibnseg', 'published'], tmp_path)


@pytest.mark.slow
def test_the_demo_without_a_checkout(full, tmp_path):
    words = ['demo', '--images', 4, '--iterations', 3]
    ran([full / 'ibnseg', *words], tmp_path)
    report = tmp_path / 'work_dirs' / 'demo' / 'seed0' / 'report'
    assert (report / 'report.html').is_file() and (report / 'picture.png').is_file()
    record = next((report.parent / 'ibn_b').glob('*.record.json'))
    before = record.stat().st_mtime_ns
    ran([full / 'ibnseg', *words], tmp_path)  # goes on from what is there
    assert record.stat().st_mtime_ns == before
