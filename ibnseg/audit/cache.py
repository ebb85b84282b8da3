"""Facts by content: a file checked once is not decoded again, wherever it is moved."""

import hashlib
import json
import time
from pathlib import Path

from .. import disk
from .facts import FACTS, Facts

_SCHEMA = f'ibnseg-audit-cache-{FACTS}'
_SECONDS = 60  # between savings of a long audit


def _head(body: bytes) -> bytes:
    return json.dumps([_SCHEMA, hashlib.sha256(body).hexdigest()]).encode()


def stamp(path: Path) -> list[int] | None:
    """Return what changes with a file, size and time of change (ns); None without a file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


class Cache:
    """The facts of one domain's files: (path, size, time of change) -> SHA-256 -> facts.

    A file that is not, byte for byte, as it was saved is begun anew: it holds nothing that can't
    be found again.
    `blocked` says why it could not be saved, None where it was.
    """

    def __init__(self, domain: str):
        self.path = disk.cache_folder('audit') / f'{domain}.jsonl'
        self.files: dict[str, list] = {}
        self.facts: dict[str, Facts] = {}
        self.blocked: str | None = None
        self._changed, self._saved = False, time.monotonic()
        self._read()

    def _read(self) -> None:
        try:
            head, _, body = self.path.read_bytes().partition(b'\n')
        except OSError:
            return
        if head == _head(body):
            files, facts = json.loads(body)
            self.files = {**files, **self.files}
            self.facts = {**facts, **self.facts}

    def get(self, path: Path, role: str) -> Facts | None:
        """Return the facts of a file in a role, None where it is new or has changed."""
        known = self.files.get(str(path.absolute()))
        if known is None or known[:2] != stamp(path):
            return None
        return self.facts.get(f'{role} {known[2]}')

    def put(self, path: Path, role: str, when: list[int], sha256: str, facts: Facts) -> None:
        """Keep facts; `when` is the `stamp` of before the file was read."""
        self.files[str(path.absolute())] = [*when, sha256]
        self.facts[f'{role} {sha256}'] = facts
        self._changed = True
        if time.monotonic() - self._saved > _SECONDS:
            self.save()

    def save(self) -> None:
        """Write what is new, beside what another audit has written meanwhile."""
        if not self._changed:
            return
        self._read()
        body = json.dumps([self.files, self.facts], separators=(',', ':')).encode()
        try:
            disk.write_atomically(self.path, _head(body) + b'\n' + body)
        except OSError as error:
            self.blocked = f'{self.path}: {error.strerror}'
        self._changed, self._saved = False, time.monotonic()
