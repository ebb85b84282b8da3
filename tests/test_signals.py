"""A scheduler's signal to a real training: it saves itself, says so, and goes on where it was."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from test_tools import ROOT, TINY

from ibnseg import miniature, weights

#: Long enough to be met by the signal; no validation, so that the rest is quick.
OPTIONS = [*TINY, 'train_cfg.max_iters=30', 'train_cfg.val_interval=30',
           'train_dataloader.num_workers=2']  # fmt: skip


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp('worlds') / 'data'
    miniature.write(out, train=6, val=1, size=(64, 128), workers=1)
    return out


def start(data, out, *words, processes=1, options=(), config='configs/miniature/ibn_b.py'):
    command = [sys.executable]
    if processes > 1:
        command += ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}']
    command += [ROOT / 'tools/train.py', config, '--data-root', data]
    command += ['--work-dir', out, '--no-table', *words]
    command += ['--launcher', 'pytorch'] * (processes > 1)
    return subprocess.Popen(
        [*map(str, command), '--cfg-options', *OPTIONS, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT)),
        process_group=0,
    )


@pytest.fixture(scope='module')
def whole(data, tmp_path_factory):
    """Number of processes -> the weights of a run that nothing ended."""
    known = {}

    def get(processes):
        if processes not in known:
            out = tmp_path_factory.mktemp('whole')
            done = start(data, out, processes=processes)
            said = done.communicate()
            assert done.returncode == 0, said
            known[processes] = weights.read(out / 'iter_30.pth')['state_dict']
        return known[processes]

    return get


def saved(out) -> list[int]:
    return sorted(int(path.stem.rpartition('_')[2]) for path in out.glob('iter_*.pth'))


@pytest.mark.parametrize(
    ('number', 'to', 'processes'),
    [
        (signal.SIGTERM, 'the process', 1),
        (signal.SIGTERM, 'all', 1),
        (signal.SIGUSR1, 'the process', 1),
        (signal.SIGTERM, 'the process', 2),
    ],
)
def test_it_saves_itself_and_goes_on(data, whole, tmp_path, number, to, processes):
    running = start(data, tmp_path, processes=processes)
    while not saved(tmp_path) and running.poll() is None:
        time.sleep(0.02)
    (os.killpg if to == 'all' else os.kill)(running.pid, number)
    out, err = running.communicate()
    if processes == 1:
        assert running.returncode == 75, out + err
        (line,) = err.splitlines()
        assert re.fullmatch(
            r'terminated; \S+/iter_\d+\.pth is saved: continue from it with --resume', line
        )
    else:  # torchrun has words and a code of its own
        assert running.returncode != 0
        assert 'terminated; ' in err, out + err
    done = saved(tmp_path)[-1]
    assert done < 30
    assert not list(tmp_path.glob('.*.tmp'))
    running = start(data, tmp_path, '--resume', processes=processes)
    said = running.communicate()
    assert running.returncode == 0, said
    now = weights.read(tmp_path / 'iter_30.pth')['state_dict']
    for key, value in whole(processes).items():
        assert torch.equal(now[key], value), key
