"""What a machine refuses gives one line with path and way out, and no half-written file."""

import errno
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import run
from torch.utils.data import DataLoader, Dataset

from ibnseg import command, disk, domains, ending, machine, weights, workers
from ibnseg.audit import facts
from ibnseg.errors import DataError
from ibnseg.inference import files
from ibnseg.measure import predictions, records
from ibnseg.pipeline import photos
from ibnseg.report import sheet
from ibnseg.report.page import gallery
from ibnseg.train.config import check_file
from ibnseg.train.runs import states

ROOT = Path(__file__).parents[1]
IS_ROOT = os.geteuid() == 0


def ended(job, capsys, *words) -> str:
    """Run a job that fails as a command does; return its one line."""
    assert command.run(job, *words) == 2
    text = capsys.readouterr().err
    assert text.startswith('error: ') and text.count('\n') == 1 and 'Traceback' not in text
    return text.removeprefix('error: ')


def _names(folder):
    return [path.name for path in folder.iterdir()]


def fails(error):
    def job():
        raise error

    return job


# ------------------------------------------------------------------------ files


@pytest.fixture
def full(tmp_path):
    """A folder on a disk of 64 kB; skips where none can be mounted."""
    folder = tmp_path / 'full'
    folder.mkdir()
    words = ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder]
    if not IS_ROOT or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip('no small disk can be mounted here')
    yield folder
    subprocess.run(['umount', folder], check=True)


def test_a_full_disk(full, capsys):
    path = full / 'a.record.json'
    disk.write_atomically(path, 'older')
    text = ended(lambda: disk.write_atomically(path, 'x' * 10**6), capsys, 'half is kept')
    assert text.startswith(f'{path}: No space left on device. Free some space there')
    assert text.endswith('; half is kept\n')
    assert path.read_text() == 'older' and _names(full) == [path.name]


def test_what_a_killed_process_left_is_removed_at_the_next_start(tmp_path):
    code = (
        'import os, sys\nfrom ibnseg import disk\n'
        'os.fsync = lambda _: (print(flush=True), sys.stdin.read())\n'
        'disk.write_atomically(sys.argv[1], "half")'
    )
    writing = subprocess.Popen(
        [sys.executable, '-c', code, tmp_path / 'x.json'],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    writing.stdout.readline()
    (half,) = tmp_path.iterdir()
    others = [tmp_path / name for name in ('.notes.tmp', 'x.json.abcdefgh.tmp', '.x.ABCDEFGH.tmp')]
    for path in others:
        path.touch()
    for path in (half, *others):
        os.utime(path, (0, 0))

    def write():
        disk.remove_left.cache_clear()  # a start
        disk.write_atomically(tmp_path / 'other.json', 'x')
        return half.exists()

    assert write(), 'somebody still writes it'
    writing.kill()
    writing.communicate()
    os.utime(half)
    assert write(), 'a young one may be about to be locked'
    os.utime(half, (0, 0))
    assert not write()
    assert all(path.exists() for path in others)


def test_a_folder_that_a_killed_process_left_is_removed_at_the_next_start(tmp_path):
    """As a gallery, a package or an export is made in."""
    code = (
        'import sys\nfrom pathlib import Path\nfrom ibnseg import disk\n'
        'with disk.new_folder(Path(sys.argv[1]), "gallery") as new:\n'
        '    (new / "0000.png").write_text("half")\n    print(flush=True)\n    sys.stdin.read()'
    )
    making = subprocess.Popen(
        [sys.executable, '-c', code, tmp_path], cwd=ROOT, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    making.stdout.readline()
    (half,) = tmp_path.iterdir()
    link = tmp_path / '.gallery.abcdefgh.tmp'
    (tmp_path / 'other').mkdir()
    link.symlink_to(tmp_path / 'other')
    for path in (half, link):
        os.utime(path, (0, 0), follow_symlinks=False)

    def start():
        disk.remove_left.cache_clear()
        with disk.new_folder(tmp_path, 'gallery') as new:
            assert new.is_dir()
        return half.exists()

    assert start(), 'somebody still makes it'
    making.kill()
    making.communicate()
    assert not start()
    assert link.is_symlink() and {*_names(tmp_path)} == {link.name, 'other'}


@pytest.mark.parametrize('size', [512, 10**6])
def test_a_limit_of_the_size_of_files(tmp_path, size):
    """A real error of the system, on every machine."""
    path = tmp_path / 'a.json'
    path.write_text('older')
    job = f'disk.write_atomically({str(path)!r}, "x" * 2000)'
    code = f'from ibnseg import command, disk\nimport sys\nsys.exit(command.run(lambda: {job}))'
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    if size < 2000:
        assert done.returncode == 2
        assert done.stderr.startswith(f'error: {path}: File too large. Raise the largest size')
        assert path.read_text() == 'older'
    else:
        assert (done.returncode, done.stderr, path.stat().st_size) == (0, '', 2000)
    assert _names(tmp_path) == [path.name]


def test_what_mmengine_writes_on_a_full_disk_names_the_folder_of_the_run(tmp_path, capsys):
    def job():
        with machine.written_in(tmp_path):
            raise OSError(errno.ENOSPC, 'No space left on device')

    assert ended(job, capsys).startswith(f'{tmp_path}: No space left on device. Free some space')
    for error in (OSError(errno.EIO, 'x'), OSError(errno.ENOSPC, 'x', 'own'), OSError('words')):
        with pytest.raises(OSError) as found, machine.written_in(tmp_path):
            raise error
        assert found.value is error


def test_a_log_that_cannot_be_written_says_nothing(capsys):
    code = (
        'import logging, sys\nfrom ibnseg import command\n'
        'log = logging.getLogger("x"); log.addHandler(logging.FileHandler("/dev/full"))\n'
        'sys.exit(command.run(lambda: log.error("x")))'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, '')


#: How a folder refuses this process -> what is done before, and after.
def _immutable(folder):
    return subprocess.run(['chattr', '+i', folder], check=False, capture_output=True).returncode


def _read_only(folder):
    words = (['--bind', folder, folder], ['-o', 'remount,ro,bind', folder])
    found = (subprocess.run(['mount', *w], check=False, capture_output=True) for w in words)
    return any(one.returncode for one in found)


def _of_another(folder):
    folder.chmod(0o555)
    if IS_ROOT:
        os.seteuid(65534)
    return 0


REFUSED = {
    'immutable': (_immutable, 'Operation not permitted. Allow this user'),
    'read-only': (_read_only, 'Read-only file system. Name a folder that can be written'),
    'of another user': (_of_another, 'Permission denied. Allow this user'),
}


@pytest.fixture(params=REFUSED)
def refusing(request, tmp_path):
    """(a folder that takes no file, what is said of one)."""
    folder = tmp_path / 'refusing'
    folder.mkdir()
    for above in (*tmp_path.parents[:3], tmp_path):
        if above.stat().st_uid == os.getuid():
            above.chmod(above.stat().st_mode | 0o055)
    (folder / 'older.json').write_text('older')
    refuse, text = REFUSED[request.param]
    try:
        if refuse(folder):
            pytest.skip(f'no {request.param} folder can be made here')
        yield folder, text
    finally:
        if IS_ROOT:
            os.seteuid(0)
        subprocess.run(['chattr', '-i', folder], check=False, capture_output=True)
        subprocess.run(['umount', folder], check=False, capture_output=True)
        folder.chmod(0o755)
        assert _names(folder) == ['older.json']


def test_a_folder_that_takes_no_file(refusing, capsys):
    folder, reason = refusing
    for name in ('new.json', 'older.json', 'below/new.json'):
        text = ended(lambda name=name: disk.write_atomically(folder / name, 'x'), capsys, 'half')
        path = folder / ('below' if name.startswith('below') else name)
        assert text.startswith(f'{path}: {reason}') and 'half' not in text
    assert (folder / 'older.json').read_text() == 'older'

    def claim():
        with disk.claimed(folder):
            pass

    assert ended(claim, capsys).startswith(f'{folder / disk.RUNNING}: {reason}')


# ------------------------------------------------------------------------ no files


def _photo(path):
    photos.LoadPhoto().transform(dict(img_path=str(path)))


def _facts(path):
    (found,) = facts.look(path, 'label', 'cityscapes')['wrong']
    raise DataError(f'{path}: {found[1]}')


def _sizes(path):
    path = path.rename(path.with_suffix('.png'))
    raise domains.pairs._wrong(path, path, {path: domains.pairs._size(path)})


#: What reads a file that somebody names, or that lies in a folder that somebody names.
READERS = {
    'a record': lambda path: records.read(path),
    'records of a folder': lambda path: [records.read(p) for p in records.find([path.parent])[0]],
    'a checkpoint': lambda path: weights.read(path),
    'safetensors': lambda path: weights.read(path.rename(path.with_suffix('.safetensors'))),
    'a label': lambda path: domains.read_labels(path, 'cityscapes'),
    'polygons': lambda path: domains.read_labels(path, 'idd'),
    'a photo': _photo,
    'a prediction': lambda path: predictions.read_prediction(path),
    'a skip list': lambda path: domains.skip.read([path], domains.DOMAINS),
    'a domain file': lambda path: domains.own.read(path),
    'a table': lambda path: sheet.read(path),
    'a config': lambda path: check_file(path, 'config file'),
    'an input of predict': lambda path: files.find([path], path.parent / 'out'),
    'a file of the audit': _facts,
    'the size of a photo': _sizes,
    'a hash': lambda path: disk.sha256(path),
    'a file to write': lambda path: disk.write_atomically(path, 'x'),
}


@pytest.mark.parametrize('kind', ['a pipe', 'a device'])
@pytest.mark.parametrize('reader', READERS)
def test_a_pipe_or_a_device_is_no_file(tmp_path, capsys, reader, kind):
    path = tmp_path / 'x.record.json'
    if kind == 'a pipe':
        os.mkfifo(path)
    else:
        path.symlink_to('/dev/zero')
    text = ended(lambda: READERS[reader](path), capsys)
    assert str(path.with_suffix('')) in text and f'{kind}, not a file' in text
    assert Path('/dev/zero').is_char_device()


def test_matrices_and_galleries_that_are_pipes(tmp_path, capsys):
    from test_matrices import example

    from ibnseg.measure import matrices, reliability

    record, _ = example()
    for module, name in ((matrices, 'a.images.npz'), (reliability, 'a.reliability.npz')):
        os.mkfifo(tmp_path / name)
        text = ended(lambda m=module: m.read(tmp_path / 'a.record.json', record), capsys)
        assert text.startswith(f'{tmp_path / name}: ') and 'a pipe, not a file' in text
    os.mkfifo(tmp_path / 'gallery.json')
    assert 'a pipe' in ended(lambda: gallery.read(tmp_path), capsys)


# ------------------------------------------------------------------------ memory, processes


def _worker_error() -> Exception:
    class Refused(Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            raise PermissionError(13, 'Permission denied', 'x.png')

    with pytest.raises(PermissionError) as error:
        list(DataLoader(Refused(), num_workers=1))
    return error.value


SAID = {
    'memory of Python': (MemoryError, 'out of memory. Take a smaller batch'),
    'memory of numpy': (lambda: np.zeros(2**55), 'out of memory (Unable to allocate 256. PiB'),
    'memory of torch': (lambda: torch.empty(2**60), 'out of memory (asked for 4611686018427387904'),
    'of a GPU': (
        lambda: torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0'),
        'out of memory',
    ),
    'a worker': (
        lambda: RuntimeError('DataLoader worker (pid 3) is killed by signal: Killed. '),
        'a data-loading process (pid 3) was ended from outside',
    ),
    'workers': (
        lambda: RuntimeError('DataLoader worker (pid(s) 3, 4) exited unexpectedly'),
        'a data-loading process (pid(s) 3, 4) was ended from outside',
    ),
    'shared memory': (
        lambda: RuntimeError('DataLoader worker (pid 3) is killed by signal: Bus error. It is'),
        'a data-loading process found no shared memory left. Give /dev/shm more',
    ),
    'a socket of a worker': (
        lambda: ConnectionResetError(104, 'Connection reset by peer'),
        'a data-loading process was ended from outside',
    ),
    'a rank': (
        lambda: RuntimeError('[pair.cc:553] Connection closed by peer [127.0.0.1]:13703. This'),
        'another process of this run Connection closed',
    ),
    'a slow rank': (
        lambda: RuntimeError('[x.cc:78] Timed out waiting 4000ms for recv operation to complete'),
        'another process of this run did not answer',
    ),
    'a refused file in a worker': (_worker_error, 'x.png: Permission denied. Allow this user'),
    'many open files': (
        lambda: OSError(errno.EMFILE, 'Too many open files', 'x.png'),
        'x.png: Too many open files. Raise the limit of this shell (ulimit)',
    ),
}


@pytest.mark.parametrize('kind', SAID)
def test_what_has_no_type_of_its_own_is_known_by_its_words(kind, capsys):
    make, text = SAID[kind]

    def job():
        raise make()

    assert ended(job, capsys).startswith(text)


def test_errors_of_ibnseg_keep_their_words():
    for error in (
        ValueError('x.py: out of memory of what it was'),
        DataError('x.png: Connection closed by peer'),
        FileNotFoundError(2, 'No such file', 'x'),
        RuntimeError('mat1 and mat2 shapes cannot be multiplied'),
        OSError('cannot identify image file'),
    ):
        assert machine.said(error) == ''


def test_a_checkpoint_that_may_not_be_read_is_not_damaged(tmp_path, monkeypatch):
    """Else an older one would be taken in its place."""
    torch.save({}, tmp_path / 'x.pth')
    for error, kind in (
        (PermissionError(13, 'Permission denied', 'x'), PermissionError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), MemoryError),
        (MemoryError(), MemoryError),
    ):
        monkeypatch.setattr(weights.files.plain, 'load', fails(error))
        monkeypatch.setattr(weights.files.plain, 'load', lambda _, error=error: fails(error)())
        with pytest.raises(kind):
            weights.read(tmp_path / 'x.pth')


#: Reads data with two workers, one of which is sent a signal; its end is the command's.
LOADING = """
import os, signal, sys
import torch
from ibnseg import command
from ibnseg.train import feeding
import ibnseg
from ibnseg.train.runner import SegRunner
class Data(torch.utils.data.Dataset):
    metainfo = {}
    def __len__(self):
        return 100
    def __getitem__(self, index):
        if index == 30:
            os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        return torch.zeros(1)
def job():
    sampler = torch.utils.data.SequentialSampler(Data())
    loader = torch.utils.data.DataLoader(Data(), num_workers=2, sampler=sampler)
    loader = SegRunner.build_dataloader(loader)
    assert loader.timeout == 600
    loader.timeout = 3
    for batch in feeding.batches(loader):
        pass
sys.exit(command.run(job, 'the rest is kept'))
"""


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('SIGKILL', 'a data-loading process'),
        ('SIGBUS', 'a data-loading process'),
        ('SIGSTOP', 'no data came for 3 seconds: a data-loading process is stopped'),
    ],
)
def test_a_worker_that_is_killed_or_stopped_ends_the_command(name, text):
    done = subprocess.run(
        [sys.executable, '-c', LOADING, name], cwd=ROOT, capture_output=True, text=True
    )
    said = done.stderr.replace('\0', '\n').splitlines()  # torch's own ends with a zero
    lines = [line.strip() for line in said if line.strip() and 'ERROR: Unexpected' not in line]
    assert done.returncode == 2 and len(lines) == 1, done.stderr
    assert lines[0].startswith(f'error: {text}') and lines[0].endswith('; the rest is kept')


def _stop(index: int) -> int:
    if index == 30:
        os.kill(os.getpid(), signal.SIGSTOP)
    return index


def test_a_stopped_process_of_the_audit_ends_it(monkeypatch, capsys):
    monkeypatch.setattr(workers, 'TIMEOUT', 2)
    text = ended(lambda: list(workers.run(_stop, [(i,) for i in range(64)], 2)), capsys)
    assert text.startswith('no answer came for 2 seconds: a process that reads data is stopped')


RANKS = """
import os, signal, sys, time, types
import torch
from ibnseg import command
import ibnseg
from ibnseg.train.runner import SegRunner
def job():
    runner = SegRunner.__new__(SegRunner)
    runner._launcher, runner._distributed = 'pytorch', True
    runner.setup_env(dict(dist_cfg=dict(backend='gloo', timeout=3)))
    torch.distributed.all_reduce(torch.ones(1))
    if os.environ['RANK'] == '1':
        print(os.getpid(), flush=True)
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    for _ in range(9):
        torch.distributed.all_reduce(torch.ones(1))
sys.exit(command.run(job))
"""


@pytest.mark.parametrize('name', ['SIGKILL', 'SIGSTOP'])
def test_a_rank_that_is_killed_or_stopped_ends_the_others(tmp_path, name):
    script = tmp_path / 'ranks.py'
    script.write_text(RANKS)
    common = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', MASTER_ADDR='127.0.0.1')
    common |= dict(MASTER_PORT=str(20000 + os.getpid() % 20000), WORLD_SIZE='2')
    ranks = [
        subprocess.Popen(
            [sys.executable, script, name],
            env=dict(common, RANK=str(rank), LOCAL_RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for rank in range(2)
    ]
    try:
        _, said = ranks[0].communicate()
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    (line,) = [line for line in said.splitlines() if line.startswith('error: ')]
    assert ranks[0].returncode == 2
    assert line.startswith('error: another process of this run') and 'dist_cfg.timeout' in line


_TWO_LOADERS = """
import ibnseg
from ibnseg.train.runner import SegRunner
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

@DATASETS.register_module()
class Numbers(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return i

loader = dict(
    batch_size=2, num_workers=1, persistent_workers=True, dataset=dict(type='Numbers'),
    sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=dict(type='pseudo_collate'),
)
kept = [iter(SegRunner.build_dataloader(loader)) for _ in range(2)]
print([next(one) for one in kept])
"""


def test_a_script_that_keeps_its_loaders_ends_at_once_and_quietly():
    words = [sys.executable, '-c', _TWO_LOADERS]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == '[[0, 1], [0, 1]]\n'
    assert 'Traceback' not in done.stderr and 'killed' not in done.stderr  # half a minute later


@pytest.mark.parametrize(
    ('then', 'found', 'said'),
    [
        ('nothing', 1, 'was stopped for 1 seconds, and has ended'),
        ('it goes on', 0, 'kill -CONT'),
        ('SIGTERM', ending.Terminated, 'kill -CONT'),
    ],
)
def test_a_stopped_run_of_a_sweep_saves_and_ends(then, found, said, tmp_path, monkeypatch, capsys):
    """The run stops itself; asked to end, it saves its work."""
    script = tmp_path / 'run.py'
    script.write_text(
        'import os, pathlib, signal, sys\n'
        'def end(*_):\n'
        f'    pathlib.Path({str(tmp_path / "saved")!r}).touch()\n'
        '    sys.exit(75)\n'
        'signal.signal(signal.SIGTERM, end)\n'
        'os.kill(os.getpid(), signal.SIGSTOP)\n'
        'signal.pause() if len(sys.argv) > 1 else None\n'
    )
    monkeypatch.setattr(states, '_LOOK', 0.2)
    monkeypatch.setattr(states, 'TIMEOUT', 1 if then == 'nothing' else 60)
    command = [sys.executable, str(script), *(['wait'] * (then != 'it goes on'))]
    real = states.say

    def heard(text):
        real(text)
        if then == 'it goes on':
            os.kill(int(re.search(r'process (\d+)', text)[1]), signal.SIGCONT)
        elif then == 'SIGTERM':
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(states, 'say', heard)
    if then == 'SIGTERM':
        with pytest.raises(found):
            states._launch(command)
    else:
        assert states._launch(command) == found
    assert said in capsys.readouterr().out
    assert (tmp_path / 'saved').exists() == (then != 'it goes on')


_LAUNCHED = """
import os, sys, time
from ibnseg import command
def job():
    if sys.argv[1] == 'after':
        from ibnseg.train.runner import SegRunner
        runner = SegRunner.__new__(SegRunner)
        runner._launcher, runner._distributed = 'pytorch', True
        runner.setup_env(dict(dist_cfg=dict(backend='gloo')))
        import torch.distributed
        torch.distributed.barrier()
    os.kill(os.getppid(), 9)
    time.sleep(60)
    print('outlived it', flush=True)
sys.exit(command.run(job))
"""


@pytest.mark.parametrize('when', ['before', 'after'])
def test_ranks_end_with_a_killed_torchrun(when, tmp_path):
    """Before and after they know each other: then there may be work to save, so they are asked."""
    script = tmp_path / 'ranks.py'
    script.write_text(_LAUNCHED)
    torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', script, when]
    done = run(*torchrun, code=-9, fresh=True)
    assert 'outlived' not in done.stdout
    assert ('terminated' in done.stderr) == (when == 'after')
