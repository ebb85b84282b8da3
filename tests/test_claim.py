"""One process at a time writes a run into a folder; a child ends with its parent."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ibnseg import disk

ROOT = Path(__file__).parents[1]
#: Claims the folder, has a forked child that goes on, says so, and waits.
HOLDER = """
import multiprocessing, sys, time
from ibnseg import disk
with disk.claimed(sys.argv[1]):
    child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(600,), daemon=True)
    child.start()
    print(child.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, '-c', HOLDER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    child = int(process.stdout.readline())
    yield process, child
    process.kill()
    process.wait()
    subprocess.run(['kill', '-9', str(child)], check=False, capture_output=True)


def test_a_second_process_is_refused_and_told_which_has_it(tmp_path, holder):
    for _ in range(2):  # a refusal changes nothing
        with pytest.raises(FileExistsError) as error, disk.claimed(tmp_path):
            pass
        said = str(error.value)
        assert said.startswith(f'{tmp_path}: process {holder[0].pid} on ') and '--work-dir' in said
    with disk.claimed(tmp_path, rank=1):  # the first rank claims for all
        pass


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_a_claim_ends_with_its_process_though_a_child_goes_on(tmp_path, holder, number):
    process, child = holder
    process.send_signal(number)
    process.wait()
    assert Path(f'/proc/{child}').exists()
    with disk.claimed(tmp_path):
        pass


def test_a_claim_within_a_claim_is_one(tmp_path):
    with disk.claimed(tmp_path):
        with disk.claimed(tmp_path):
            pass
        code = 'import sys; from ibnseg import disk; disk.claimed(sys.argv[1]).__enter__()'
        done = subprocess.run(
            [sys.executable, '-c', code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
        )
        assert 'writes a run here' in done.stderr, 'still claimed'


def test_what_the_holder_wrote_is_cleaned(tmp_path, holder):
    (tmp_path / disk.RUNNING).write_text('\x1b[31mprocess 1')
    with pytest.raises(FileExistsError) as error, disk.claimed(tmp_path):
        pass
    assert '\x1b' not in str(error.value)


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells a child that its parent died')
def test_a_run_ends_with_the_sweep_that_began_it(tmp_path):
    train = tmp_path / 'train.py'
    train.write_text(
        f'import os, time; open({str(tmp_path / "up")!r}, "w").write(str(os.getpid()))\n'
        'time.sleep(600)'
    )
    driver = (
        'from pathlib import Path; from ibnseg.train.runs import states\n'
        f'where = Path({str(tmp_path / "run")!r})\n'
        "planned = states.Planned('c', 'x', 0, where, Path('r'), states.NEW, 'note')\n"
        f'states.begin(planned, {str(train)!r})'
    )
    sweep = subprocess.Popen([sys.executable, '-c', driver], cwd=ROOT)
    while not (tmp_path / 'up').exists() or not (tmp_path / 'up').read_text():
        time.sleep(0.05)
    child = Path('/proc') / (tmp_path / 'up').read_text() / 'stat'
    sweep.kill()
    sweep.wait()
    while child.exists() and child.read_text().rpartition(')')[2].split()[0] != 'Z':
        time.sleep(0.05)
