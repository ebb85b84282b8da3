"""The audit: list the files of every split, look at each once in several processes, judge."""

import shlex
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

from .. import disk, domains, labels
from ..domains import DataError, Domain, advice, skip
from ..domains.listing import Listing
from . import facts
from .judge import Finding, Pair, judge
from .kinds import KINDS
from .report import Report

Progress = Callable[[int, int], None]


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
    pairs, splits, found, listings = _list(row, folder, wanted)
    if not pairs and not any(KINDS[finding.kind].severity == 'error' for finding in found):
        domains.find(f'{row.name}:{wanted[0]}', root)  # says what was expected, and where
    store = disk.Store('audit', row.name, (facts.FACTS, labels.space(row.space)))
    jobs = {(pair.photo, 'photo', row.space): None for pair in pairs if pair.photo}
    jobs |= {(pair.label, 'label', row.space): None for pair in pairs if pair.label}
    try:
        seen, known = store.values(facts.look, jobs, workers, progress)
    except BrokenProcessPool:
        raise DataError(
            'a process of the audit was killed, perhaps for want of memory. What was looked at '
            'is kept: run the same command again, with --workers 1'
        ) from None

    def look(path: Path, role: str) -> facts.Facts:
        job = path, role, row.space
        return seen[job] if job in seen else facts.look(*job)  # a photo, looked at as a label

    taken = row.taken(folder)
    found += _with_partners(judge(row, folder, pairs, look), listings, taken)
    found += _foreign(listings, taken)
    return Report(
        domain=row.name,
        root=folder,
        splits=splits,
        findings=found,
        files=len(jobs),
        known=known,
        seconds=time.monotonic() - began,
        note=store.blocked and f'nothing is remembered: {store.blocked}',
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
        skipped = named.get(domains.DOMAINS[name].folder, frozenset())
        report = audit(wanted, root, progress=progress).without(skipped)
        if report.errors:
            raise DataError(
                '\n'.join(report.lines())
                + '\nThe run would use these. Mend them, or leave them out:\n'
                f'  ibnseg audit {name} {shlex.quote(str(root))} --write-skip-list skip.txt\n'
                'and run it with --skip-list skip.txt'
            )
        reports.append(report)
    return reports


def _list(
    row: Domain, root: Path, wanted: Iterable[str]
) -> tuple[list[Pair], dict[str, tuple[int, int | None]], list[Finding], dict[str, Listing]]:
    """Pairs, also of one file; each split's whole pairs, found and published; what is wrong; the
    listings of splits."""
    names: dict[tuple[Path | None, Path | None], list[str]] = defaultdict(list)
    splits: dict[str, tuple[int, int | None]] = {}
    found: list[Finding] = []
    listings = {}
    for split in wanted:
        try:
            listings[split] = listing = row.listing(root, split)
        except FileNotFoundError as error:
            found.append(Finding('absent', Path(error.filename), f'split {split!r}', (split,)))
            continue
        except DataError as error:
            found.append(Finding(error.kind or 'layout', error.file or root, str(error), (split,)))
            continue
        photos, truth = listing.photos, listing.truth
        for key in sorted(photos.keys() | truth.keys()):
            names[photos.get(key), truth.get(key)].append(split)
        n, published = len(photos.keys() & truth.keys()), row.splits.get(split)
        splits[split] = n, published
        if published not in (None, n):
            text = f'split {split!r}: {n:,} pairs, published {published:,}'
            found.append(Finding('count', root, text, (split,)))
    return [Pair(*files, tuple(of)) for files, of in names.items()], splits, found, listings


def _with_partners(
    findings: Iterable[Finding], listings: Mapping[str, Listing], taken: Container[Path]
) -> Iterator[Finding]:
    """Say of each file that stands alone which one should be there, and which one may be it."""
    partners: dict[tuple[str, str], advice.Partners] = {}
    searched = 0
    for finding in findings:
        lacks = {'photo-alone': 'label', 'label-alone': 'photo'}.get(finding.kind)
        if lacks:
            of = finding.splits[0], lacks
            partners[of] = partners.get(of) or advice.Partners(listings[of[0]], lacks, taken)
            text = partners[of].say(finding.file, search=searched < 10)
            searched += 1
            finding = replace(finding, detail=f'{finding.detail}; {text}')
        yield finding


def _foreign(listings: Mapping[str, Listing], taken: Mapping[Path, str]) -> list[Finding]:
    """Files where those of a split lie that no split has, and that no tool made of one it has."""
    keys = set(taken.values())
    misnamed: set[Path] = set()
    found: dict[Path, Finding] = {}
    for split, listing in listings.items():
        for photo, label in listing.misnamed().values():
            text = f'expected {listing}'
            found[photo] = Finding('misnamed', photo, text, (split,), label, photo)
            misnamed |= {photo, label}
        for stray in listing.others + listing.unwanted:
            beside = stray.is_made and stray.key in keys
            if stray.path not in taken and stray.path not in misnamed and not beside:
                text = f'expected {stray.place.root / stray.place.pattern}'
                found[stray.path] = Finding('foreign', stray.path, text)
    return [found[path] for path in sorted(found)]
