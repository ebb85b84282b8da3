"""Numbers and provenance in words. What is foreign in them is escaped by renderers."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from .table import Provenance, Stat

NOTHING = 'n/a'
MIXED = '†'


def number(value: float | None, sign: str = '', mixed: bool = False) -> str:
    """'5.1', with `sign` '+' '+5.1'; never '-0.0'. 'n/a' for NaN, '' for None."""
    if value is None:
        return ''
    if not np.isfinite(value):
        return NOTHING
    return f'{round(value, 1) + 0.0:{sign}.1f}{MIXED if mixed else ""}'


def percent(stat: Stat | None, mixed: bool = False, sign: str = '') -> str:
    """'36.6 ± 0.2'; `sign` '+' for differences. 'n/a' where there is nothing."""
    if stat is None or not np.isfinite(stat.mean):
        return NOTHING
    spread = f' ± {stat.std:.1f}' if stat.n > 1 else ''
    return number(stat.mean, sign) + spread + (MIXED if mixed else '')


def short(content: Mapping[str, Any], digest: str) -> str:
    """A protocol's name and hash, to stand with its numbers."""
    return f'{content.get("name", "unnamed")!s} {digest}'


def facts(origin: Provenance) -> dict[str, str]:
    """A checkpoint's provenance as {what: words}; what is unknown is said to be."""
    found = (
        dict(seed=origin.seed)
        | asdict(origin)
        | dict(
            sha256=(origin.sha256 or '')[:12],
            validated=', '.join(origin.validated),
            commit=short_commit(origin.commit),
            versions=', '.join(f'{name} {version}' for name, version in origin.versions.items()),
        )
    )
    found['file'] = found.pop('file')  # the longest comes last
    return {key: 'unknown' if value in (None, '') else str(value) for key, value in found.items()}


def short_commit(commit: str | None) -> str:
    """Twelve digits, and '-dirty' where it stood there."""
    if not commit:
        return 'unknown'
    match = re.fullmatch(r'([0-9a-f]{12})[0-9a-f]*(-dirty)?', commit)
    return match[1] + (match[2] or '') if match else commit
