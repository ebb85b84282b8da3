"""What a machine refuses: errors of disks, memory and processes, and what to do about each."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

_SPACE = 'Free some space there, or name another folder; files that were whole before still are'
_ALLOWED = 'Allow this user to use it (ls -ld shows who may), or name another'
_LIMIT = 'Raise the limit of this shell (ulimit), or take fewer workers'
#: errno -> the way out.
_OF_FILES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: 'Raise the largest size of a file (ulimit -f), or name a folder on another disk',
    errno.EROFS: 'Name a folder that can be written',
    errno.EACCES: _ALLOWED,
    errno.EPERM: _ALLOWED,
    errno.EMFILE: _LIMIT,
    errno.ENFILE: _LIMIT,
    errno.EAGAIN: _LIMIT,
    errno.EIO: 'The disk or its connection fails: see the log of the system (dmesg)',
    errno.ESTALE: 'The network folder went away: mount it again',
    errno.ELOOP: 'The link leads to itself: remove it, or let it lead to a file',
    errno.ENAMETOOLONG: 'Name a shorter one',
    errno.ENOTDIR: 'A part of this path is a file: name another',
    errno.EISDIR: 'It is a folder: name a file',
    errno.EEXIST: 'Something else is there: name another, or move it away',
    errno.ENXIO: 'Name a regular file',
}
#: Of these, those of the name that was given: the same command fails again.
_OF_NAMES = (
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR),
    *(errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST, errno.ENXIO),
)
_MEMORY = (
    'out of memory{0}. Take a smaller batch (--cfg-options train_dataloader.batch_size=...) or '
    'fewer workers (train_dataloader.num_workers=...), or end other programs'
)
_ENDED = (
    'a data-loading process{0} was ended from outside. Mostly the system does so for want of '
    'memory: take fewer workers (train_dataloader.num_workers=...), or end other programs'
)
_SHARED = (
    'a data-loading process found no shared memory left. Give /dev/shm more (of a container: '
    '--shm-size), or read without workers: train_dataloader.num_workers=0'
)
_STOPPED = (
    'no data came for {0} seconds: a data-loading process is stopped, or the disk does not '
    'answer. Where it is only slow, state a longer time: train_dataloader.timeout=...'
)
_RANK = (
    'another process of this run {0}: it has ended, is stopped, or its computer went away. See '
    'what it says itself; where it is only slow, state a longer time in seconds: '
    'env_cfg.dist_cfg.timeout=...'
)
#: Words of errors that have no type of their own -> what to say, with what the words hold.
_KNOWN = [
    (re.compile(pattern, re.DOTALL), text)
    for pattern, text in (
        (r'DataLoader worker .*is killed by signal: Bus error', _SHARED),
        (r'DataLoader worker( \(pid\(?s?\)?[^)]*\)) (?:is killed|exited)', _ENDED),
        (r'DataLoader timed out after (\d+)', _STOPPED),
        (r'tried to allocate ([\d.]+ \w+)', _MEMORY),
        (r'can.t allocate memory|Insufficient memory|out of memory', _MEMORY),
        (r'(did not answer) in time', _RANK),
        (r'Timed out waiting|Watchdog caught collective operation timeout', _RANK),
        (r'(Connection (?:closed|reset)) by (?:remote )?peer', _RANK),
    )
]


def said(error: BaseException) -> str:
    """Return what to say of an error that the machine makes, with the way out; '' of others."""
    if isinstance(error, MemoryError):
        return _MEMORY.format(f' ({first})' if (first := str(error).split('\n')[0]) else '')
    if isinstance(error, OSError):
        return _of_file(error)
    # What they build on has no types for these; a ValueError's message is its own.
    if not isinstance(error, RuntimeError) and type(error).__module__ != 'cv2':
        return ''
    for words, text in _KNOWN:
        if found := words.search(str(error)):
            what = found[1] if words.groups else ''
            if text is _MEMORY and what:
                what = f' (asked for {what})'
            return text.format(what or ('did not answer' if text is _RANK else ''))
    return ''


def passing(error: BaseException) -> bool:
    """Whether an error is the machine's, and none of a name that was given."""
    named = isinstance(error, OSError) and error.errno in _OF_NAMES
    return bool(said(error)) and not named


def _of_file(error: OSError) -> str:
    number, name = error.errno, error.filename
    if number is None and (found := re.search(r'\[Errno (\d+)\]', str(error))):
        number = int(found[1])  # of a worker: the type and the text are kept alone
        name = (re.findall(r"'([^'\n]+)'\s*\Z", str(error)) or [None])[0]
    if name is None and isinstance(error, ConnectionError):
        return _ENDED.format('')
    if number not in _OF_FILES:
        return ''
    reason = error.strerror or os.strerror(number)
    where = f'{os.fsdecode(name)}: ' if isinstance(name, str | bytes) else ''
    return f'{where}{reason}. {_OF_FILES[number]}'


@contextlib.contextmanager
def written_in(folder: str | Path) -> Iterator[None]:
    """Have an error of a full disk that names no file name this folder."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if not full or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(folder)) from error
