"""What `import ibnseg` says where the MM packages are absent or doubled."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from ibnseg import _stack

ROOT = Path(__file__).parents[1]


def test_import_without_the_mm_packages_says_how_to_get_them():
    # -S -I: no site-packages, as in an environment without MMSegmentation.
    code = f'import sys; sys.path.insert(0, {str(ROOT)!r}); import ibnseg'
    done = subprocess.run(
        [sys.executable, '-S', '-I', '-c', code], capture_output=True, text=True, cwd='/'
    )
    assert done.returncode == 1
    for part in ('ImportError', 'not installed: mmcv, mmengine, mmseg', 'pip install', 'onedl'):
        assert part in done.stderr


def test_both_distributions_are_refused(monkeypatch):
    monkeypatch.setattr(metadata, 'version', lambda name: '1.0')
    with pytest.raises(ImportError, match=r'both distributions .* new environment'):
        _stack.require()


def test_import_is_silent():
    done = subprocess.run(
        [sys.executable, '-c', 'import ibnseg'], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_exactly_one_distribution_is_here():
    assert len(_stack.installed()) == 1
