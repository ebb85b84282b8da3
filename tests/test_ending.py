"""How commands end: signals, readers that leave, exceptions of any kind."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from ibnseg import command, ending
from ibnseg.errors import DataError, Incomplete
from ibnseg.text import clean

ROOT = Path(__file__).parents[1]


class Broken(Dataset):
    def __init__(self, error: Exception):
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int):
        raise self.error


def ended(error: Exception, capsys) -> tuple[int, str]:
    def job():
        raise error

    code = command.run(job)
    return code, capsys.readouterr().err


def in_worker(error: Exception) -> Exception:
    """The error as a data loader's process hands it on."""
    with pytest.raises(type(error)) as caught:
        list(DataLoader(Broken(error), num_workers=1))
    assert 'Original Traceback' in str(caught.value.args[0]) or isinstance(error, DataError)
    return caught.value


@pytest.mark.parametrize(
    ('error', 'code', 'text'),
    [
        (ValueError('a.py: x is 3'), 2, 'error: a.py: x is 3\n'),
        (KeyError('Foo is not in the registry'), 2, 'error: Foo is not in the registry\n'),
        (Incomplete('half of it'), 1, 'error: half of it\n'),
        (
            FileNotFoundError(2, 'No such file', 'x.png'),
            2,
            'error: x.png: No such file\n',
        ),
    ],
)
def test_a_message_for_a_person_is_all_that_is_said(error, code, text, capsys):
    assert ended(error, capsys) == (code, text)


@pytest.mark.parametrize(
    'error',
    [
        AssertionError('all must be\nequal'),
        AssertionError(),
        TypeError("'int' object is not iterable"),
        RuntimeError('size mismatch ' * 100),
        NotImplementedError(),
        ImportError('Failed to import my_model'),
        AttributeError("no attribute 'x'"),
        KeyError('placement'),
        ZeroDivisionError('division by zero'),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_other_exception_is_one_line_that_says_what_and_where(error, capsys):
    code, text = ended(error, capsys)
    assert code == 2 and text.count('\n') == 1 and 'Traceback' not in text
    assert text.startswith(f'error: {type(error).__name__} in {__file__}, line ')
    assert text.endswith('the trace, shown with IBNSEG_TRACE=1\n')


def test_a_fault_of_our_own_asks_for_the_trace(capsys):
    assert command.run(lambda: clean(3)) == 2
    text = capsys.readouterr().err
    assert text.startswith(f'error: AttributeError in {Path("ibnseg", "text.py")}, line ')
    assert 'this is a fault of ibnseg: report it with the trace' in text


def test_the_trace_goes_to_the_log_and_the_line_says_where(tmp_path, capsys):
    handler = logging.FileHandler(tmp_path / 'run.log')
    ending.log().addHandler(handler)
    try:
        _, text = ended(AssertionError('x'), capsys)
    finally:
        ending.log().removeHandler(handler)
        handler.close()
    assert text.endswith(f'the trace, in {tmp_path / "run.log"}\n')
    assert 'Traceback' in (tmp_path / 'run.log').read_text()


@pytest.mark.parametrize('name', ['ValueError', 'AssertionError', 'RuntimeError', 'DataError'])
def test_an_error_in_a_data_loaders_process_is_its_cause(name, capsys):
    kinds = dict(ValueError=ValueError, AssertionError=AssertionError, RuntimeError=RuntimeError)
    error = in_worker(kinds.get(name, DataError)('x.png: of two\nlines'))
    code, text = ended(error, capsys)
    assert code == 2 and 'x.png: of two' in text and 'Traceback' not in text
    assert 'DataLoader worker' not in text


def test_trace_is_shown_where_it_is_asked_for(monkeypatch):
    monkeypatch.setenv('IBNSEG_TRACE', '1')
    with pytest.raises(AssertionError):
        ended(AssertionError('x'), None)


# ------------------------------------------------------------------------ signals


JOB = """
import multiprocessing, sys, time
from ibnseg import command
def sleep():
    for _ in range(36000):  # one that comes just before a sleep is seen after it
        time.sleep(0.1)
def job():
    child = multiprocessing.get_context('fork').Process(target=sleep)
    child.start()
    try:
        print(child.pid, flush=True)
        sleep()
    finally:
        if 'slow' in sys.argv:
            print('ending', flush=True)
            sleep()
        child.kill()
sys.exit(command.run(job, lambda: command.resuming(sys.argv[1])))
"""


def start(*words) -> tuple[subprocess.Popen, int]:
    process = subprocess.Popen(
        [sys.executable, '-c', JOB, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    return process, int(process.stdout.readline())


def is_alive(pid: int) -> bool:
    status = Path(f'/proc/{pid}/stat')
    return status.exists() and status.read_text().rpartition(')')[2].split()[0] != 'Z'


@pytest.mark.parametrize(
    ('number', 'code', 'what'),
    [(signal.SIGINT, 130, 'interrupted'), (signal.SIGTERM, 143, 'terminated')],
)
@pytest.mark.parametrize('saved', [(), ('iter_900.pth', 'iter_1000.pth', 'best_iter_2000.pth')])
def test_what_is_said_of_an_interrupted_run_is_true(tmp_path, number, code, what, saved):
    for name in saved:
        (tmp_path / name).touch()
    process, child = start(tmp_path)
    process.send_signal(number)
    _, text = process.communicate()
    way_on = 'no checkpoint was saved yet: the same command begins anew'
    if saved:
        way_on = f'{tmp_path / "iter_1000.pth"} is saved: continue from it with --resume'
    assert (process.returncode, text) == (code, f'{what}; {way_on}\n')
    assert not is_alive(child)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_at_once_what_still_runs(tmp_path, number):
    process, child = start(tmp_path, 'slow')
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == 'ending\n'
    process.send_signal(number)
    _, text = process.communicate()
    assert (process.returncode, text) == (128 + number, '')
    while is_alive(child):  # killed; it is a matter of the system's time
        time.sleep(0.05)


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert command.run(lambda: 7) == 7
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


# ------------------------------------------------------------------------ a reader that leaves


@pytest.mark.parametrize('unbuffered', ['', '1'])
def test_a_job_whose_reader_leaves_is_done_to_its_end(tmp_path, unbuffered):
    code = (
        'import sys; from pathlib import Path; from ibnseg import command\n'
        'def job():\n'
        '    for number in range(9000): print(number, "x" * 90, flush=number % 100 == 0)\n'
        f'    Path({str(tmp_path / "written")!r}).touch()\n'
        '    return 3\n'
        'sys.exit(command.run(job))'
    )
    reader, writer = os.pipe()
    environment = dict(os.environ, PYTHONUNBUFFERED=unbuffered)
    process = subprocess.Popen(
        [sys.executable, '-c', code],
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment,
    )
    os.close(writer)
    assert os.read(reader, 10)
    os.close(reader)
    _, text = process.communicate()
    assert (process.returncode, text) == (3, b'')
    assert (tmp_path / 'written').exists()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_an_interrupt_that_a_library_turned_into_an_error(monkeypatch, capsys, number):
    """MMEngine formats a config behind a bare `except`, and raises SyntaxError with all of it."""
    from mmengine.config import Config
    from yapf.yapflib import yapf_api

    def formatting(*_, **__):
        os.kill(os.getpid(), number)
        time.sleep(0.01)  # the handler runs here at the latest

    monkeypatch.setattr(yapf_api, 'FormatCode', formatting)
    monkeypatch.setattr('mmengine.config.config.FormatCode', formatting, raising=False)
    all_of_them = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1
    before = {each: signal.getsignal(each) for each in all_of_them}
    try:
        code = command.run(lambda: Config(dict(a=1)).pretty_text, 'begin anew')
    finally:  # a command ends here; after its first signal the next one ends the process
        for each, handler in before.items():
            signal.signal(each, handler)
    said = 'interrupted' if number == signal.SIGINT else 'terminated'
    assert (code, capsys.readouterr().err) == (128 + number, f'{said}; begin anew\n')


_WITH_DEL = """
import os, signal, sys, time
from ibnseg import command
class Asked:
    def __del__(self):
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        time.sleep(0.01)
def job():
    Asked()
    time.sleep(30)
    print('outlived it')
sys.exit(command.run(job, 'kept'))
"""
_AT_THE_END = """
import atexit, os, signal, sys
from ibnseg import command
def ask():
    for _ in range(int(sys.argv[2])):
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
atexit.register(ask)
sys.exit(command.run(lambda: print('done')))
"""


@pytest.mark.parametrize(
    ('name', 'code', 'text'),
    [
        ('SIGINT', 130, 'interrupted'),
        ('SIGTERM', 143, 'terminated'),
        ('SIGUSR1', 138, 'terminated'),
    ],
)
def test_a_signal_in_a_finalizer_is_not_lost(name, code, text):
    """Python passes over what is raised in a `__del__`, and prints its trace."""
    done = subprocess.run(
        [sys.executable, '-c', _WITH_DEL, name], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, '', f'{text}; kept\n')


@pytest.mark.parametrize(('times', 'ends'), [(1, False), (2, True)])
@pytest.mark.parametrize('name', ['SIGINT', 'SIGTERM', 'SIGUSR1'])
def test_a_signal_while_python_ends_changes_nothing_and_a_second_ends_it(name, times, ends):
    words = [sys.executable, '-u', '-c', _AT_THE_END, name, str(times)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    code = 128 + getattr(signal, name) if ends else 0
    assert (done.returncode, done.stdout, done.stderr) == (code, 'done\n', '')
