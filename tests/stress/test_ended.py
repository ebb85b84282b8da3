"""Runs that are killed or signalled at random moments; `make test-stress`.

Counts from the environment. IBNSEG_KILLS: SIGKILLs in all, each followed by a resume.
IBNSEG_SIGNALS: other signals in all. IBNSEG_SEED: of the moments.
"""

import os
import random
import shutil
import signal
import time
from collections import Counter

import pytest
import torch
from test_signals import saved, start

from ibnseg import miniature, weights

pytestmark = pytest.mark.stress

KILLS = int(os.environ.get('IBNSEG_KILLS', 100))
SIGNALS = int(os.environ.get('IBNSEG_SIGNALS', 200))
SEED = int(os.environ.get('IBNSEG_SEED', 0))
#: What a run may have that must survive: (words, processes).
KINDS = {
    'no workers': (['train_dataloader.num_workers=0'], 1),
    'two workers': (['train_dataloader.num_workers=2'], 1),
    'four workers': (['train_dataloader.num_workers=4'], 1),
    'accumulated gradients': (['optim_wrapper.accumulative_counts=3'], 1),
    'averaged weights': (['custom_hooks.0.type=EMAHook'], 1),
    'bfloat16': (['optim_wrapper.type=CPUAmpOptimWrapper'], 1),
    'two ranks': (['train_dataloader.num_workers=0'], 2),
}
OFTEN = ['default_hooks.checkpoint.interval=1', 'default_hooks.checkpoint.keep=2']


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp('worlds') / 'data'
    miniature.write(out, train=6, val=1, size=(64, 128), workers=1)
    return out


def result(out):
    return weights.read(out / 'iter_30.pth')['state_dict']


@pytest.mark.parametrize('kind', KINDS)
def test_killed_at_any_moment_it_ends_with_the_same_weights(data, tmp_path, kind):
    words, processes = KINDS[kind]
    options = dict(processes=processes, options=[*words, *OFTEN])
    begun = time.monotonic()
    whole = start(data, tmp_path / 'whole', **options)
    said = whole.communicate()
    assert whole.returncode == 0, said
    lasted, expected = time.monotonic() - begun, result(tmp_path / 'whole')
    moments, killed, out = random.Random(f'{SEED} {kind}'), 0, tmp_path / 'killed'
    while killed < max(KILLS // len(KINDS), 1):
        resumed = ['--resume'] * bool(saved(out))
        running = start(data, out, *resumed, **options)
        end = time.monotonic() + moments.uniform(0, lasted)
        while running.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        ended = running.poll() is not None
        if not ended:
            os.killpg(running.pid, signal.SIGKILL)
            killed += 1
        said = running.communicate()
        if ended:
            assert running.returncode == 0, said
            equal(result(out), expected)
            shutil.rmtree(out)
    finished = start(data, out, *['--resume'] * bool(saved(out)), **options)
    said = finished.communicate()
    assert finished.returncode == 0, said
    equal(result(out), expected)
    assert not list(out.glob('.*.tmp'))


def equal(one, other) -> None:
    assert one.keys() == other.keys()
    for key, value in other.items():
        assert torch.equal(one[key], value), key


def test_a_signal_at_any_moment_gives_one_line_and_its_code(data, tmp_path):
    moments, wrong, codes = random.Random(SEED), [], Counter()
    for i in range(SIGNALS):
        out = tmp_path / 'signalled'
        shutil.rmtree(out, ignore_errors=True)
        number = moments.choice([signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
        running = start(data, out)
        # Half of them while it still imports; the first quarter second is Python's own start.
        after = 0.25 + (moments.uniform(0, 15) if i % 2 else moments.uniform(0, 3))
        time.sleep(after)
        running.send_signal(number)
        _, err = running.communicate()
        codes[running.returncode] += 1
        fits = running.returncode in ((0,) if not err else (128 + number, 75))
        if not fits or len(err.splitlines()) > 1:
            wrong.append((number.name, round(after, 2), running.returncode, err[-2000:]))
    print(codes)
    assert not wrong, wrong
