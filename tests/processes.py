"""Commands as processes of their own, which begin with torch and the MM packages imported.

A server imports them once and forks for each command: imports are half of a short command. Where
the imports themselves are tried, a test starts a fresh process.
"""

import atexit
import contextlib
import io
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(
    *words, cwd: Path = ROOT, code: int | None = 0, fresh: bool = False, **variables: str
) -> subprocess.CompletedProcess:
    """Run `python WORDS` and return the finished process.

    Args:
        code: the exit code that is expected; None for any.
        words: a script with its arguments, or '-m', a module and its.
        fresh: in a process that has imported nothing.
        variables: of the environment.
    """
    words = [*map(str, words)]
    environment = os.environ | dict(OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT)) | variables
    if fresh:
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, cwd=cwd, env=environment
        )
    else:
        done = _forked(words, str(cwd), environment)
    assert code in (None, done.returncode), done.stdout + done.stderr
    return done


def group_of_two(job: Callable, folder: Path, *words) -> None:
    """Run `job(rank, folder, *words)` in two processes that are one group; fails if one fails."""
    import torch.multiprocessing

    torch.multiprocessing.spawn(_rank, (job, str(folder), *words), nprocs=2)


def _rank(rank: int, job: Callable, folder: str, *words) -> None:
    import torch.distributed

    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', f'file://{folder}/meet', rank=rank, world_size=2, timeout=timedelta(minutes=5)
    )
    job(rank, folder, *words)
    torch.distributed.barrier()
    os._exit(0)  # Python's own end waits for gloo's threads, or aborts there


def _forked(words: list[str], cwd: str, environment: dict) -> subprocess.CompletedProcess:
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, name)) for name in ('out', 'err')]
        server = _server()
        server.stdin.write(json.dumps([words, cwd, environment, files]) + '\n')
        server.stdin.flush()
        try:
            code = int(server.stdout.readline())
        except BaseException:  # interrupted, or the command hangs: the next one begins anew
            os.killpg(server.pid, signal.SIGKILL)
            _server.cache_clear()
            raise
        said = [Path(file).read_text() for file in files]
    return subprocess.CompletedProcess(words, code, *said)


@cache
def _server() -> subprocess.Popen:
    server = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | dict(OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT)), process_group=0,
    )  # fmt: skip
    atexit.register(server.stdin.close)  # it ends with its input
    return server


def _serve() -> list:
    """Fork for each job; return it in the child."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter('ignore')
        import mmengine.runner  # noqa: F401
        import mmseg.datasets
        import mmseg.evaluation
        import mmseg.models  # noqa: F401
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            return json.loads(line)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    os._exit(0)


def _become(words: list[str], cwd: str, environment: dict, files: list[str]) -> None:
    """Be what `python WORDS` would be, with its output in files."""
    for number, path in enumerate(['/dev/null', *files]):
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    if words[0] == '-m':
        sys.argv, sys.path[0] = words[1:], cwd
        runpy.run_module(words[1], run_name='__main__', alter_sys=True)
    else:
        sys.argv, sys.path[0] = words, str(Path(words[0]).parent)
        runpy.run_path(words[0], run_name='__main__')


if __name__ == '__main__':
    _become(*_serve())
