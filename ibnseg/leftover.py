"""What a killed process left half-written: recognised, and removed at the next start."""

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

_LEFT = re.compile(r'\..+\.[a-z0-9_]{8}\.tmp')
_YOUNG = 60  # seconds: one that is just made may not be locked yet


@contextlib.contextmanager
def new_folder(parent: Path, name: str) -> Iterator[Path]:
    """Give a hidden folder in `parent`, in which `name` is made before it is moved to its place.

    What is left of it at the end is removed. Raises OSError where none can be made.
    """
    parent.mkdir(parents=True, exist_ok=True)
    remove_left(parent)
    folder = Path(tempfile.mkdtemp('.tmp', f'.{name[:200]}.', parent))
    handle = os.open(folder, os.O_RDONLY)
    try:
        lock(handle)
        yield folder
    finally:
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)


@cache
def remove_left(folder: Path) -> None:
    """Remove what a process left in a folder that was killed while it wrote, once."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _LEFT.fullmatch(path.name) and time.time() - path.lstat().st_mtime > _YOUNG:
                _remove(path)


def _remove(path: Path) -> None:
    """Remove a file or folder that no process has locked; no link is followed."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            if lock(handle):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        finally:
            os.close(handle)


def lock(handle: int) -> bool:
    """Lock an open file or folder, if nobody has; it is free again once it is closed."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
