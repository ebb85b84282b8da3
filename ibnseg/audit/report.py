"""What an audit found: for a person, for a program, as a skip list."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .. import disk
from ..domains import skip
from ..text import clean
from .judge import Finding
from .kinds import KINDS


@dataclass(frozen=True)
class Report:
    """An audit of one dataset.

    Args:
        domain: its name.
        root: its folder.
        splits: name -> (pairs found, published number or None).
        findings: what is wrong.
        files, known: how many files there are; of how many of them the cache had the facts.
        seconds: it took.
        note: what a person should know beside, or None.
    """

    domain: str
    root: Path
    splits: dict[str, tuple[int, int | None]]
    findings: list[Finding]
    files: int
    known: int
    seconds: float
    note: str | None = None

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == 'error']

    @property
    def skipped(self) -> dict[str, str]:
        """The pairs to leave out: file below the dataset's folder -> kinds of their errors."""
        kinds: dict[str, list[str]] = {}
        for finding in self.errors:
            if finding.skip is not None:
                kinds.setdefault(self.below(finding.skip), []).append(finding.kind)
        return {file: ', '.join(dict.fromkeys(kinds[file])) for file in sorted(kinds)}

    def without(self, skipped: frozenset[str]) -> 'Report':
        """Return the report without what is wrong with the pairs that a skip list names."""
        left = [f for f in self.findings if f.skip is None or self.below(f.skip) not in skipped]
        return replace(self, findings=left)

    def below(self, path: Path | None) -> str | None:
        """The path from the dataset's folder, with '/'; '.' for that folder."""
        return None if path is None else Path(os.path.relpath(path, self.root)).as_posix()

    def lines(self, show: int = 3) -> Iterator[str]:
        """Say it to a person; of each kind, the first `show` files."""
        return map(clean, [*self._summary(), *self._shown(show), '', self.verdict])

    def _summary(self) -> Iterator[str]:
        yield f'{self.domain} in {self.root}'
        width = max([len(split) for split in self.splits] + [5])
        if self.splits:
            yield f'  {"split":{width}}  {"pairs":>7}  {"published":>9}'
        for split, (pairs, published) in self.splits.items():
            number = '-' if published is None else f'{published:,}'
            yield f'  {split:{width}}  {pairs:7,}  {number:>9}'
        known = f', {self.known:,} of them known from before' if self.known else ''
        yield f'{self.files:,} files looked at{known}, {self.seconds:.1f} s'
        if self.note:
            yield self.note

    def _shown(self, show: int) -> Iterator[str]:
        for kind, row in sorted(KINDS.items(), key=lambda item: item[1].severity):  # errors first
            findings = [finding for finding in self.findings if finding.kind == kind]
            if findings:
                yield ''
                yield f'{row.severity} {kind} ({len(findings):,}): {row.meaning}; {row.way_out}'
            for finding in findings[:show]:
                file = '' if finding.file == self.root else f'{self.below(finding.file)}: '
                other = f' [{self.below(finding.other)}]' if finding.other else ''
                yield f'  {file}{finding.detail}{other}'
            if len(findings) > show:
                yield f'  and {len(findings) - show:,} more'

    @property
    def verdict(self) -> str:
        if not self.findings:
            return 'nothing wrong'
        errors, pairs = len(self.errors), len(self.skipped)
        concerned = f' in {_count(pairs, "pair")}' if pairs else ''
        warnings = len(self.findings) - errors
        return f'{_count(errors, "error")}{concerned}, {_count(warnings, "warning")}'

    def write(self, path: str | Path) -> None:
        """Write every finding as JSON. Files are below `root`, '.' is `root` itself."""
        content = dict(
            schema='ibnseg-audit-1',
            domain=self.domain,
            root=str(self.root),
            splits={s: dict(pairs=n, published=p) for s, (n, p) in self.splits.items()},
            files=self.files,
            findings=[
                dict(
                    kind=finding.kind,
                    severity=finding.severity,
                    file=self.below(finding.file),
                    other=self.below(finding.other),
                    splits=list(finding.splits),
                    detail=finding.detail,
                )
                for finding in self.findings
            ],
        )
        disk.write_atomically(path, json.dumps(content, indent=1) + '\n')

    def write_skip_list(self, path: str | Path) -> None:
        """Write the pairs that have an error, to train and to measure without them."""
        skip.write(path, self.domain, self.skipped)


def _count(number: int, noun: str) -> str:
    return f'{number:,} {noun}{"s" * (number != 1)}'
