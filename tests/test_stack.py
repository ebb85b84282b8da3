"""What `import ibnseg` costs, and what it says where the MM packages are absent or doubled."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from ibnseg import _stack

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


def test_exactly_one_distribution_is_here():
    assert len(_stack.installed()) == 1
