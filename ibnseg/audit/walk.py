"""The audit: list the files of every split, look at each once in several processes, judge."""

import hashlib
import shlex
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from pathlib import Path

from .. import domains, labels
from .. import workers as spread
from ..domains import DataError, Domain, skip
from . import facts
from .cache import Cache, stamp
from .facts import Facts
from .judge import Finding, Pair, judge
from .kinds import KINDS
from .report import Report

Progress = Callable[[int, int], None]
Job = tuple[Path, str]
#: (stamp, SHA-256, facts or None where the cache has them).
Answer = tuple[list[int] | None, str, Facts | None]


def audit(
    domain: str | Sequence[str],
    root: str | Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Look at every photo and label file of a dataset and say what is wrong.

    Args:
        domain: 'name' for all of its splits, 'name:split', or several 'name:split' of one name.
        root: the data root, with the dataset's folder in it; or that folder itself.
        workers: processes; default one a core.
        progress: called with (files looked at, files to look at); not for those in the cache.

    Raises:
        DataError: unknown domain or split, or nothing of it below `root`: see `domains.find`.
        KeyboardInterrupt: what was looked at until then is in the cache.
    """
    began = time.monotonic()
    asked = [domain] if isinstance(domain, str) else list(domain)
    row = domains.parse(asked[0])[0]
    every = asked == [row.name]
    wanted = list(row.splits) if every else [domains.parse(name)[1] for name in asked]
    folder = row.root(root)
    folder = folder if folder.is_dir() else Path(root)
    pairs, counts, found = _list(row, folder, wanted)
    if not pairs and not any(KINDS[finding.kind].severity == 'error' for finding in found):
        domains.find(f'{row.name}:{wanted[0]}', root)  # says what was expected, and where
    look = _Looker(row)
    jobs = [(pair.photo, 'photo') for pair in pairs if pair.photo]
    jobs += [(pair.label, 'label') for pair in pairs if pair.label]
    look.all(jobs, workers, progress)
    files, known = look.looked + look.known, look.known
    found += judge(row, folder, pairs, look)  # may look at a photo as a label
    if every:
        found += _foreign(pairs)
    return Report(
        domain=row.name,
        root=folder,
        splits={split: (n, row.splits.get(split)) for split, n in counts.items()},
        findings=found,
        files=files,
        known=known,
        seconds=time.monotonic() - began,
        note=look.cache.blocked and f'nothing is remembered: {look.cache.blocked}',
    )


def before_training(
    used: Iterable[tuple[str, str]], skip_lists: Iterable[str], progress: Progress | None = None
) -> list[Report]:
    """Audit what a run is about to use; returns the reports, without what skip lists name.

    Args:
        used: ('name:split', data root) of whatever it trains on, validates and measures.

    Raises DataError where there are errors left.
    """
    splits: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, root in dict.fromkeys(used):
        splits[domains.parse(name)[0].name, root].append(name)
    named = skip.read(sorted(skip_lists), domains.DOMAINS)
    reports = []
    for (name, root), wanted in splits.items():
        report = audit(wanted, root, progress=progress).without(named.get(name, frozenset()))
        if report.errors:
            raise DataError(
                '\n'.join(report.lines())
                + '\nTraining would use these. Mend them, or leave them out:\n'
                f'  ibnseg audit {name} {shlex.quote(str(root))} --write-skip-list skip.txt\n'
                'and train with --skip-list skip.txt'
            )
        reports.append(report)
    return reports


def _list(
    row: Domain, root: Path, wanted: Iterable[str]
) -> tuple[list[Pair], dict[str, int], list[Finding]]:
    """Pairs, also of one file; the whole pairs of each split; what is wrong with the lists."""
    splits: dict[tuple[Path | None, Path | None], list[str]] = defaultdict(list)
    counts: dict[str, int] = {}
    found: list[Finding] = []
    for split in wanted:
        try:
            photos, truth = row.files(root, split)
        except FileNotFoundError as error:
            found.append(
                Finding('absent', Path(error.filename or root), f'split {split!r}', (split,))
            )
            continue
        except DataError as error:
            kind = error.kind or 'layout'
            found.append(Finding(kind, error.file or root, str(error), (split,)))
            continue
        for key in sorted(photos.keys() | truth.keys()):
            splits[photos.get(key), truth.get(key)].append(split)
        counts[split] = n = len(photos.keys() & truth.keys())
        if row.splits.get(split) not in (None, n):
            text = f'split {split!r}: {n:,} pairs, published {row.splits[split]:,}'
            found.append(Finding('count', root, text, (split,)))
    return [Pair(*files, tuple(names)) for files, names in splits.items()], counts, found


def _foreign(pairs: Iterable[Pair]) -> list[Finding]:
    """Pictures in the photos' folders that no split has."""
    known = {path for pair in pairs for path in pair[:2] if path}
    kinds = defaultdict(set)
    for pair in pairs:
        if pair.photo:
            kinds[pair.photo.parent].add(pair.photo.suffix)
    return [
        Finding('foreign', path, 'no split has a photo of this name')
        for folder, suffixes in kinds.items()
        for path in sorted(folder.iterdir())
        if path.suffix in suffixes and path not in known
    ]


class _Looker:
    """Facts of files by (path, role), out of the cache where they are known."""

    def __init__(self, row: Domain):
        self.space, self.cache = row.space, Cache(row.name)
        self.looked = self.known = 0
        self._facts: dict[Job, Facts] = {}

    def __call__(self, path: Path, role: str) -> Facts:
        if (path, role) not in self._facts:
            self.all([(path, role)])
        return self._facts[path, role]

    def all(
        self, jobs: Iterable[Job], workers: int | None = 1, progress: Progress | None = None
    ) -> None:
        found = {(p, role): self.cache.get(p, _key(self.space, role)) for p, role in jobs}
        self._facts.update((job, facts) for job, facts in found.items() if facts is not None)
        new = [job for job, facts in found.items() if facts is None]
        self.known += len(found) - len(new)
        try:
            shared = self.space, set(self.cache.facts)
            answers = spread.run(_look, new, workers, shared)
            for job, answer in zip(new, answers, strict=True):
                self._keep(*job, *answer)
                self.looked += 1
                if progress:
                    progress(self.looked, len(new))
        except BrokenProcessPool:
            raise DataError(
                'a process of the audit was killed, perhaps for want of memory. What was looked at '
                'is kept: run the same command again, with --workers 1'
            ) from None
        finally:
            self.cache.save()

    def _keep(
        self, path: Path, role: str, when: list[int] | None, sha: str, facts: Facts | None
    ) -> None:
        key = _key(self.space, role)
        facts = self.cache.facts[f'{key} {sha}'] if facts is None else facts
        self._facts[path, role] = facts
        if when:
            self.cache.put(path, key, when, sha, facts)


@cache
def _key(space: str, role: str) -> str:
    """What facts depend on beside the file's content: for a label, its space as it is now."""
    if role == 'photo':
        return role
    return f'label {space} {hashlib.sha256(repr(labels.space(space)).encode()).hexdigest()[:8]}'


def _look(space: str, known: set[str], path: Path, role: str) -> Answer:
    when = stamp(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        return None, '', {'fault': ['unreadable', error.strerror or type(error).__name__]}
    sha = hashlib.sha256(data).hexdigest()
    if f'{_key(space, role)} {sha}' in known:
        return when, sha, None
    return when, sha, facts.photo(data) if role == 'photo' else facts.label(path, data, space)
