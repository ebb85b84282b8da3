"""Files that are whole or not there, their hashes, and what is remembered of them."""

import contextlib
import errno
import hashlib
import io
import json
import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from . import workers as spread
from .leftover import lock, new_folder, remove_left  # noqa: F401
from .text import clean

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None


def cache_folder(kind: str) -> Path:
    """Return `$XDG_CACHE_HOME/ibnseg/<kind>`, by default `~/.cache/ibnseg/<kind>`.

    What lies there may be deleted at any time.
    """
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'ibnseg' / kind


def sha256(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 of a file. Raises OSError as `opened`."""
    digest = hashlib.sha256()
    with opened(path) as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def opened(path: str | Path) -> BinaryIO:
    """Open a file to read its bytes.

    Raises OSError: as `open`, and for what is no file: a pipe would wait for ever, and a device may
    have no end.
    """
    path = os.fspath(path)
    # Without O_NONBLOCK a pipe that nobody writes would keep `open` itself.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, 'O_NONBLOCK', 0))
    try:
        _check_file(path, os.fstat(handle).st_mode)
        return os.fdopen(handle, 'rb')
    except BaseException:
        os.close(handle)
        raise


def read(path: str | Path) -> bytes:
    """Return the bytes of a file. Raises OSError as `opened`."""
    with opened(path) as file:
        return file.read()


def _check_file(path: str, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    kinds = dict(S_ISFIFO='a pipe', S_ISSOCK='a socket', S_ISCHR='a device', S_ISBLK='a device')
    kind = next((name for test, name in kinds.items() if getattr(stat, test)(mode)), 'no file')
    raise OSError(errno.ENXIO, f'{kind}, not a file', path)


@contextlib.contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Have an OSError within name this file: one of a full disk names none, others a temporary."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write a file whole or not at all; text as UTF-8.

    Raises OSError, naming the file; also where a pipe or a device has its name.
    """
    path = Path(path)
    content = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    with named(path):
        if path.exists():
            _check_file(str(path), path.stat().st_mode)
        remove_left(path.parent)
        handle, temporary = tempfile.mkstemp('.tmp', f'.{path.name[:200]}.', path.parent)
        try:
            with os.fdopen(handle, 'wb') as file:
                lock(file.fileno())
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)  # mkstemp's own is 0o600
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def write_by(path: str | Path, write: Callable[[io.BytesIO], Any]) -> None:
    """Write what `write` puts into a file that it is given, whole or not at all."""
    content = io.BytesIO()
    write(content)
    write_atomically(path, content.getvalue())


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process at a time work in a folder, which is made where it is absent.

    Raises OSError for a folder that cannot be made or opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot lock; then all work
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


#: In a folder that a process writes a run into: who that is.
RUNNING = '.running'
_claimed: set[Path] = set()


@contextlib.contextmanager
def claimed(folder: str | Path, rank: int = 0) -> Iterator[None]:
    """Let no other process write a run into a folder, which is made where it is absent.

    The claim ends with the process, however that ends. It holds over a network where the file
    system has locks there; where it has none, nothing is refused.

    Args:
        rank: of this process among those of the run; the first claims for all.

    Raises:
        FileExistsError: another process has it.
        OSError: the folder cannot be made or written.
    """
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None or rank or folder in _claimed:
        yield
        return
    handle = os.open(folder / RUNNING, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        # Not flock, nor filelock, which uses it: forked workers of a killed run would keep it.
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise FileExistsError(
                f'{folder}: {_holder(handle)} writes a run here. Wait for its end or end it, or '
                'name another folder with --work-dir'
            ) from None
        except OSError:
            pass
        os.ftruncate(handle, 0)
        since = time.strftime('%Y-%m-%d %H:%M:%S')
        os.write(
            handle, f'process {os.getpid()} on {socket.gethostname()}, since {since},'.encode()
        )
        _claimed.add(folder)
        yield
    finally:
        _claimed.discard(folder)
        os.close(handle)


def holder(folder: str | Path) -> str:
    """Return which other process writes a run into a folder, '' where none does or can be seen."""
    folder = Path(folder).absolute()
    if fcntl is None or folder in _claimed:
        return ''
    try:
        handle = os.open(folder / RUNNING, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return ''
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return _holder(handle)
    except OSError:
        return ''
    finally:
        os.close(handle)
    return ''


def _holder(handle: int) -> str:
    return clean(os.read(handle, 200).decode(errors='replace')) or 'another process'


class Store:
    """What was found out about files, kept from one run to the next.

    A damaged store, or one of another version, is ignored and written anew. Two processes may use
    one at a time: each keeps what the other has saved.

    Args:
        kind, name: the file is `cache_folder(kind) / '<name>.json'`.
        version: anything; another one for values that would differ.
        by_content: values belong to what a file holds, wherever it lies, and processes share the
            work. Else to its path, size and time of change, and threads do: for work that reads
            little of a file.

    Attributes:
        blocked: why the file could not be saved, None where it was.
    """

    _SECONDS = 60  # between savings: a killed process loses no more

    def __init__(self, kind: str, name: str, version: object, by_content: bool = True):
        self.path, self.version = cache_folder(kind) / f'{name}.json', str(version)
        self.by_content = by_content
        self.blocked: str | None = None
        self._files: dict[str, list] = {}  # path -> [size, time of change, SHA-256]
        self._values: dict[str, Any] = {}  # SHA-256 and arguments -> value
        self._read()

    def values(
        self,
        work: Callable[..., Any],
        jobs: Iterable[tuple],
        workers: int | None = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[dict[tuple, Any], int]:
        """Return {job: work(*job)}, and how many of them were remembered.

        What is done before an error or Ctrl-C is kept.

        Args:
            work: returns what JSON can hold; None is not kept. Nothing is where the file can't be
                read.
            jobs: (path, further arguments) each.
            workers: as `workers.run`.
            progress: called with (done, to do) for each job that is not remembered.
        """
        found = {job: self._get(*job) for job in jobs}
        new = [job for job, value in found.items() if value is None]
        if self.by_content:
            answers = spread.run(partial(_work, work, frozenset(self._values)), new, workers)
        else:
            answers = spread.threads(partial(_work_by_place, work), new)
        saved = time.monotonic()
        try:
            for done, (job, answer) in enumerate(zip(new, answers, strict=True), 1):
                found[job] = self._keep(*job, *answer)
                if progress:
                    progress(done, len(new))
                if time.monotonic() - saved > self._SECONDS:
                    self._save()
                    saved = time.monotonic()
        finally:
            if new:
                self._save()
        return found, len(found) - len(new)

    def _get(self, path: Path, *arguments: Any) -> Any:
        *stamp, sha = self._files.get(str(path.absolute()), [''])
        return self._values.get(_key(sha, arguments)) if stamp == _stamp(path) else None

    def _keep(self, path: Path, *rest: Any) -> Any:
        *arguments, stamp, sha, value = rest
        if not sha:
            return value
        self._files[str(path.absolute())] = [*stamp, sha]
        key = _key(sha, arguments)
        if self._values.get(key) is None:
            self._values[key] = value
        return self._values[key]

    def _head(self, body: bytes) -> bytes:
        return json.dumps([self.version, hashlib.sha256(body).hexdigest()]).encode()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            head, _, body = read(self.path).partition(b'\n')
            if head == self._head(body):
                files, values = json.loads(body)
                self._files, self._values = files | self._files, values | self._values

    def _save(self) -> None:
        self._read()  # what another process has saved meanwhile
        body = json.dumps([self._files, self._values], separators=(',', ':')).encode()
        try:
            write_atomically(self.path, self._head(body) + b'\n' + body)
        except OSError as error:
            self.blocked = f'{self.path}: {error.strerror}'


def _key(sha: str, arguments: Iterable[Any]) -> str:
    return ' '.join(map(str, (sha, *arguments)))


def _stamp(path: Path) -> list[int] | None:
    """Return size and time of change in ns; None without a file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


def _work(work: Callable, known: frozenset[str], path: Path, *arguments: Any) -> tuple:
    """(stamp, SHA-256, value); no SHA-256 of a file that can't be read, no value of a known one."""
    stamp = _stamp(path)  # of before it is read
    try:
        sha = sha256(path)
    except OSError:
        return stamp, '', work(path, *arguments)
    value = None if _key(sha, arguments) in known else work(path, *arguments)
    return stamp, sha, value


def _work_by_place(work: Callable, path: Path, *arguments: Any) -> tuple:
    """As `_work`, with a hash over path and stamp in the place of the content's."""
    stamp = _stamp(path)
    place = hashlib.sha256(f'{path.absolute()} {stamp}'.encode()).hexdigest()[:16]
    return stamp, place if stamp else '', work(path, *arguments)
