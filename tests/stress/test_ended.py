"""Runs that are killed or signalled at random moments, and a long one; `make test-stress`.

Counts from the environment. IBNSEG_KILLS: SIGKILLs in all, each followed by a resume.
IBNSEG_SIGNALS: other signals in all. IBNSEG_SOAK: iterations. IBNSEG_SEED: of the moments.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from test_signals import saved, start
from test_tools import ROOT

from ibnseg import miniature, weights

pytestmark = pytest.mark.stress

KILLS = int(os.environ.get('IBNSEG_KILLS', 100))
SIGNALS = int(os.environ.get('IBNSEG_SIGNALS', 200))
SOAK = int(os.environ.get('IBNSEG_SOAK', 2000))
SEED = int(os.environ.get('IBNSEG_SEED', 0))
_PASS = 'custom_hooks.0.type=StatisticsPass', 'custom_hooks.0.trials=1'
_TEACHER = ('type=IBNResNet', 'depth=18', 'stem_channels=8', 'base_channels=8', 'out_indices=(3,)',
            'strides=(1,2,2,1)', 'dilations=(1,1,1,2)')  # fmt: skip
#: Methods with a state of their own.
METHODS = {
    'isw': ['model.type=SiteSegmentor', 'model.site_loss.ISW=0.6', 'model.backbone.placement=isw',
            *_PASS, 'custom_hooks.0.at=8', 'custom_hooks.0.images=4'],
    'shade': ['model.type=SHADESegmentor',
              *(f'model.teacher.{one}' for one in _TEACHER), *_PASS, 'custom_hooks.0.at=0',
              'custom_hooks.0.every=8', 'custom_hooks.0.images=None', 'custom_hooks.0.change=None'],
    'sw': ['model.backbone.placement=sw'],
    'san': ['model.type=SiteSegmentor', 'model.site_loss.SAN=0.2', 'model.backbone.placement=san'],
}  # fmt: skip
#: What a run may have that must survive: (words, processes).
KINDS = {
    'no workers': (['train_dataloader.num_workers=0'], 1),
    'two workers': (['train_dataloader.num_workers=2'], 1),
    'four workers': (['train_dataloader.num_workers=4'], 1),
    'accumulated gradients': (['optim_wrapper.accumulative_counts=3'], 1),
    'averaged weights': (['custom_hooks.0.type=EMAHook'], 1),
    'bfloat16': (['optim_wrapper.type=CPUAmpOptimWrapper'], 1),
    'two ranks': (['train_dataloader.num_workers=0'], 2),
    'two ranks, averaged, accumulated, bfloat16': (
        ['custom_hooks.0.type=EMAHook', 'optim_wrapper.accumulative_counts=3',
         'optim_wrapper.type=CPUAmpOptimWrapper', 'train_dataloader.num_workers=1'], 2),
    'other workers each time': ([], 1),
    **{name: (words, 1) for name, words in METHODS.items()},
    'isw, two ranks': (METHODS['isw'], 2),
}  # fmt: skip
#: Of 'other workers each time'.
WORKERS = (0, 1, 2, 4)
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
    moments = random.Random(f'{SEED} {kind}')

    def options():
        workers = f'train_dataloader.num_workers={moments.choice(WORKERS)}'
        more = [workers] if kind == 'other workers each time' else []
        given = dict(config=few_styles(tmp_path)) if kind == 'shade' else {}
        return dict(processes=processes, options=[*words, *OFTEN, *more], **given)

    begun = time.monotonic()
    whole = start(data, tmp_path / 'whole', **options())
    said = whole.communicate()
    assert whole.returncode == 0, said
    lasted, expected = time.monotonic() - begun, result(tmp_path / 'whole')
    killed, out = 0, tmp_path / 'killed'
    while killed < max(KILLS // len(KINDS), 1):
        resumed = ['--resume'] * bool(saved(out))
        running = start(data, out, *resumed, **options())
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
    finished = start(data, out, *['--resume'] * bool(saved(out)), **options())
    said = finished.communicate()
    assert finished.returncode == 0, said
    equal(result(out), expected)
    print(f'{kind}: {killed} killed and resumed to equal bits')
    assert not list(out.glob('.*.tmp'))


def few_styles(folder) -> Path:
    """A config with as many basis styles of SHADE as the data has photos."""
    layer = dict(layer='SHM', at='after_pool', options=dict(styles=4))
    path = folder / 'few_styles.py'
    path.write_text(
        f"_base_ = '{ROOT}/configs/miniature/ibn_b.py'\n"
        f'model = dict(backbone=dict(placement=[{layer!r}]))\n'
    )
    return path


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
        while running.poll() is None and not catches(running.pid, signal.SIGUSR1):
            time.sleep(0.001)  # Python's own start
        # Half of them while it still imports.
        after = moments.uniform(0, 15) if i % 2 else moments.uniform(0, 3)
        time.sleep(after)
        running.send_signal(number)
        _, err = running.communicate()
        codes[running.returncode] += 1
        fits = running.returncode in ((0,) if not err else (128 + number, 75))
        if not fits or len(err.splitlines()) > 1:
            wrong.append((number.name, round(after, 2), running.returncode, err[-2000:]))
    print(codes)
    assert not wrong, '\n'.join(map(str, wrong))


def catches(process: int, number: int) -> bool:
    """Whether a process has a handler of a signal; Linux alone says so."""
    with contextlib.suppress(OSError):
        for line in Path(f'/proc/{process}/status').read_text().splitlines():
            if line.startswith('SigCgt:'):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def test_a_long_run_grows_in_nothing(data, tmp_path):
    """Memory, open files, threads and child processes, over checkpoints and validations."""
    options = [f'train_cfg.max_iters={SOAK}', f'train_cfg.val_interval={SOAK // 8}',
               f'default_hooks.checkpoint.interval={SOAK // 40}']  # fmt: skip
    running, seen = start(data, tmp_path / 'long', options=options), []
    while running.poll() is None:
        if (tmp_path / 'long').is_dir() and saved(tmp_path / 'long'):
            with contextlib.suppress(OSError, AttributeError):  # it has just ended
                seen.append(held(running.pid))
        time.sleep(0.5)
    said = running.communicate()
    assert running.returncode == 0, said
    early, late = seen[len(seen) // 5 : 2 * len(seen) // 5], seen[4 * len(seen) // 5 :]
    for what in seen[0]:
        before, after = (sorted(one[what] for one in part) for part in (early, late))
        before, after = before[len(before) // 2], after[len(after) // 2]
        print(f'{SOAK} iterations, {what}: median {before} early, {after} late')
        assert after <= before + (0.02 * before if what == 'memory in KiB' else 0), what


def held(pid: int) -> dict[str, int]:
    """What a process holds now."""
    status = Path(f'/proc/{pid}/status').read_text()
    return {
        'memory in KiB': int(re.search(r'VmRSS:\s+(\d+)', status)[1]),
        'open files': len(list(Path(f'/proc/{pid}/fd').iterdir())),
        'threads': int(re.search(r'Threads:\s+(\d+)', status)[1]),
    }
