"""What the tests of other projects' configs share: environments, real processes."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def need(*modules: str) -> None:
    """Import all, or skip saying what is missing; with IBNSEG_NO_SKIP set, fail instead."""
    try:
        for module in modules:
            importlib.import_module(module)
    except (ImportError, RuntimeError, AssertionError) as error:
        reason = f'needs {", ".join(modules)} ({error}); `make test-plugins` sets them up'
        if 'IBNSEG_NO_SKIP' in os.environ:
            raise
        pytest.skip(reason.replace('\n', ' '), allow_module_level=True)


def begun() -> dict:
    """A checkpoint that a run goes on from, of no network."""
    meta = dict(seed=0, epoch=1, iter=1)
    return dict(meta=meta, state_dict={}, optimizer={}, message_hub={}, param_schedulers=[])


def run(*words, code=0, processes=0):
    """Run tools/run.py as a user would; return the finished process."""
    start = [sys.executable]
    if processes:
        start += ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}']
    environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    done = subprocess.run(
        [*start, str(ROOT / 'tools' / 'run.py'), *map(str, words)],
        capture_output=True, text=True, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done
