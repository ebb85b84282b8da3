"""Fetched files: kept under the torch hub directory, whole and verified or not at all."""

import contextlib
import hashlib
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import torch

from .. import _stack

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

_TRIES = 3
_CHUNK = 1 << 20
_SECONDS = 30  # without a byte, until a try is given up


class _Unusable(Exception):
    """What was fetched so far can't be continued."""


def digest(path: str | os.PathLike) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    result = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(_CHUNK):
            result.update(block)
    return result.hexdigest()


def folder() -> Path:
    """Return where files lie; lay one there by hand to work offline."""
    return Path(torch.hub.get_dir()) / 'checkpoints'


def place(url: str) -> Path:
    """Return where the file of an address lies, or would. Raises ValueError if it names no file."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    if not name or name == '..' or '\\' in name:
        raise ValueError(f'{url}: names no file')
    return folder() / name


def fetch(url: str, sha256: str | None = None) -> Path:
    """Return the path of an address's file in the cache, fetched if it isn't there.

    A download goes to `<name>.partial` and is renamed when it is whole and its hash is right. One
    that broke is continued by the next call, where the hash is known to tell a bad seam.

    Args:
        sha256: first digits of the file's SHA-256; default: those in the file's name, if any
            (`-2f571257.pth`). A file in the cache is verified on every call, whoever laid it there.

    Raises:
        FileNotFoundError: not in the cache, and can't be fetched.
        ValueError: the file has another hash.
    """
    path = place(url)
    sha256 = sha256 or _hash_in(path.name)
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(path.parent):
                if not path.is_file():  # else another process has fetched it meanwhile
                    _download(url, path, sha256)
        except (OSError, HTTPException) as error:
            raise FileNotFoundError(
                f'{url}: could not be fetched ({error}). Without a network, lay the file at '
                f'{path}, or train from scratch with '
                '--cfg-options model.backbone.init_cfg=None'
            ) from error
    found = digest(path)
    if sha256 and not found.startswith(sha256):
        raise ValueError(
            f'{path}: the SHA-256 begins with {found[: len(sha256)]}, expected {sha256}: the file '
            f'is damaged or another one. Delete it; it comes from {url}'
        )
    return path


def _hash_in(name: str) -> str | None:
    # 8 digits that read as a date (`-20200604.pth`) are one.
    match = re.search(r'-(?!(?:19|20)\d{6}\.)([0-9a-f]{8,64})\.', name)
    return match and match[1]


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Let one process at a time in: the ranks of a run all want the same file at once."""
    handle = None
    try:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # some network file systems can't
                handle = os.open(directory, os.O_RDONLY)
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _download(url: str, path: Path, sha256: str | None) -> None:
    partial = path.with_name(f'{path.name}.partial')
    if sha256 is None:
        partial.unlink(missing_ok=True)
    _stack.log(f'fetching {url} to {path}')
    for left in reversed(range(_TRIES)):
        continued = partial.is_file() and partial.stat().st_size > 0
        try:
            _transfer(url, partial)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 416 or not continued or not left:
                raise
            partial.unlink()  # it is as long as the file already, and was not accepted
        except _Unusable:
            partial.unlink()
        except (OSError, HTTPException):
            if sha256 is None:
                partial.unlink(missing_ok=True)
            if not left:
                raise
        else:
            found = digest(partial)
            if not sha256 or found.startswith(sha256):
                os.replace(partial, path)
                return
            partial.unlink()
            if not continued:
                raise ValueError(
                    f'{url}: the SHA-256 of what came begins with {found[: len(sha256)]}, '
                    f'expected {sha256}; it was thrown away. Is a proxy or a login page between?'
                )
    raise OSError(f'broken off {_TRIES} times')


def _transfer(url: str, partial: Path) -> None:
    """Append what is missing to `partial`; start over where the server can't give a part."""
    have = partial.stat().st_size if partial.is_file() else 0
    headers = {'User-Agent': 'ibnseg', 'Accept-Encoding': 'identity'}
    if have:
        headers['Range'] = f'bytes={have}-'
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
        if answer.status == 206:
            start = re.match(r'bytes (\d+)-', answer.headers.get('Content-Range', ''))
            if start is None or int(start[1]) != have:
                raise _Unusable
        else:
            have = 0
        length = answer.headers.get('Content-Length')
        with open(partial, 'ab' if have else 'wb') as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            if length is not None and file.tell() != have + int(length):
                raise OSError(f'broke off after {file.tell()} of {have + int(length)} bytes')
