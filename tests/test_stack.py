"""What `import ibnseg` costs, and what it says where the MM packages are absent or doubled."""

import importlib
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from ibnseg import _stack, miniature

ROOT = Path(__file__).parents[1]
HEAVY = ('torch', 'mmcv', 'mmengine', 'mmseg')


def python(code: str, *options: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *options, '-c', code], capture_output=True, text=True, cwd=ROOT
    )


def bare(code: str) -> subprocess.CompletedProcess:
    """Run code without site-packages, as in an environment without MMSegmentation."""
    return python(f'import sys; sys.path.insert(0, {str(ROOT)!r}); {code}', '-S', '-I')


def test_import_needs_nothing():
    done = bare('import ibnseg; print(ibnseg.__version__)')
    assert (done.returncode, done.stderr) == (0, '') and done.stdout


@pytest.mark.parametrize('package', ['backbones', 'pipeline', 'train.config', 'registered'])
def test_what_needs_the_mm_packages_says_how_to_get_them(package):
    done = bare(f'import ibnseg.{package}')
    assert done.returncode == 1
    for part in ('StackError', 'not installed: mmcv, mmengine, mmseg', 'pip install', 'onedl'):
        assert part in done.stderr


LIGHT = [
    *('ibnseg', 'ibnseg.domains', 'ibnseg.labels', 'ibnseg.splits', 'ibnseg.audit'),
    *(
        f'ibnseg.measure.{name}'
        for name in ('protocols', 'selection', 'confusion', 'records', 'matrices', 'bootstrap',
                     'predictions', 'from_files', 'origin', 'power')
    ),
    *(
        f'ibnseg.report.{path.stem}'
        for path in sorted((ROOT / 'ibnseg' / 'report').glob('*.py'))
        if path.stem != '__init__'
    ),
    *(f'ibnseg.report.page{name}' for name in ('', '.data', '.gallery')),
    'ibnseg.report.curves',
    'ibnseg.analysis.choice',
]  # fmt: skip


def test_numbers_and_reports_need_neither_torch_nor_the_mm_packages():
    done = python(
        'import importlib, sys\n'
        f'for name in {LIGHT}:\n'
        '    importlib.import_module(name)\n'
        f'    heavy = [other for other in {HEAVY} if other in sys.modules]\n'
        '    assert not heavy, (name, heavy)'
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


FIRST = {
    'ibnseg first': 'import ibnseg; from mmseg.registry import MODELS, METRICS',
    'mmseg first': 'from mmseg.registry import MODELS, METRICS; import ibnseg',
    'after a look-up': 'from mmseg.registry import MODELS, METRICS; MODELS.get("ResNet"); '
    'METRICS.get("IoUMetric"); import ibnseg',
    'through mmseg.apis': 'import ibnseg, mmseg.apis; from mmseg.registry import MODELS, METRICS',
}


@pytest.mark.parametrize('order', FIRST)
def test_types_are_registered_in_any_order_of_imports(order):
    done = python(f'{FIRST[order]}\nprint("IBNResNet" in MODELS, "CrossDomainIoU" in METRICS)')
    assert done.stdout.endswith('True True\n'), done.stderr


def test_both_distributions_are_refused(monkeypatch):
    monkeypatch.setattr(metadata, 'version', lambda name: '1.0')
    with pytest.raises(ImportError, match=r'both distributions .* new environment'):
        _stack.require()


def test_the_mm_packages_are_imported_silently():
    done = python('import ibnseg.registered')
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


@pytest.fixture
def unfit(tmp_path) -> dict[str, str]:
    """An environment with a timm, and a torchvision that was built for another torch."""
    (tmp_path / 'timm').mkdir()
    (tmp_path / 'timm' / '__init__.py').write_text('import torchvision')
    (tmp_path / 'torchvision').mkdir()
    (tmp_path / 'torchvision' / '__init__.py').write_text('from . import _registrations')
    (tmp_path / 'torchvision' / '_registrations.py').write_text(
        "import torch\ntorch.library.register_fake('torchvision::nms')(lambda *given: None)\n"
    )
    about = tmp_path / 'torchvision-0.99.0.dist-info'
    about.mkdir()
    (about / 'METADATA').write_text('Metadata-Version: 2.1\nName: torchvision\nVersion: 0.99.0\n')
    return dict(os.environ, PYTHONPATH=f'{tmp_path}{os.pathsep}{ROOT}')


UNFIT = (
    f'torchvision 0.99.0 does not fit torch {torch.__version__} (RuntimeError: operator '
    'torchvision::nms does not exist), and '
)
MENDS = 'Install the one that fits: pip install --force-reinstall --no-deps '


def test_a_torchvision_of_another_torch_is_said_in_a_line(unfit, tmp_path):
    miniature.write(tmp_path, ('gta5', 'cityscapes'), 1, 1, (64, 128), 0, 1)
    command = [sys.executable, '-m', 'ibnseg', 'train', ROOT / 'configs/miniature/ibn_b.py']
    command += ['--data-root', tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=unfit)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f'error: {UNFIT}timm imports it. {MENDS}'), done.stderr
    done = subprocess.run(
        [sys.executable, '-c', 'import ibnseg.registered'],
        capture_output=True, text=True, env=unfit,
    )  # fmt: skip
    assert f'StackError: {UNFIT}timm imports it. {MENDS}' in done.stderr


VERSIONS = {
    '2.13.0+cpu': '"torchvision==0.28.*" --index-url https://download.pytorch.org/whl/cpu',
    '2.5.1+cu124': '"torchvision==0.20.*" --index-url https://download.pytorch.org/whl/cu124',
    '2.1.0': '"torchvision==0.16.*"',
    '2.9.0a0+git1234': '"torchvision==0.24.*"',
    '3.0.0+cpu': 'torchvision --index-url https://download.pytorch.org/whl/cpu',
}


@pytest.mark.parametrize('version', VERSIONS)
def test_the_torchvision_that_fits(version, tmp_path, monkeypatch):
    (tmp_path / 'torchvision.py').write_text("raise OSError('undefined symbol')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(torch, '__version__', version)
    with pytest.raises(OSError) as caught:
        importlib.import_module('torchvision')
    assert isinstance(_stack.cause(caught.value), _stack.StackError)
    assert str(_stack.cause(caught.value)).endswith(f'--no-deps {VERSIONS[version]}')
    assert _stack.unfit_torchvision(OSError('another')) == ''


def test_exactly_one_distribution_is_here():
    assert len(_stack.installed()) == 1
