"""Numbers and protocols in words, and strangers' text made harmless."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..text import clean
from .table import Provenance, Stat

NOTHING = 'n/a'
MIXED = '†'


def escape(text: str, limit: int | None = 200) -> str:
    """Make `text` literal in a Markdown paragraph or table cell."""
    text = clean(text, limit)
    text = text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')
    text = re.sub(r'([\\`*\[\]|~$])', r'\\\1', text)
    # An underscore within a word is literal; escaping it would only spoil the plain text.
    text = re.sub(r'(?<![^\W_])_|_(?![^\W_])', r'\\_', text)
    # GitHub links bare addresses.
    return text.replace('://', ':&#47;&#47;').replace('www.', 'www&#46;')


def percent(stat: Stat | None, mixed: bool = False, space: str = ' ', sign: str = '') -> str:
    """'36.6 ± 0.2'; `sign` '+' for differences. 'n/a' where there is nothing."""
    if stat is None or not np.isfinite(stat.mean):
        return NOTHING
    spread = f'{space}±{space}{stat.std:.1f}' if stat.n > 1 else ''
    return f'{_round(stat.mean):{sign}.1f}{spread}{MIXED if mixed else ""}'


def difference(value: float | None, mixed: bool = False) -> str:
    """'+5.1', or '' where there is none."""
    if value is None:
        return ''
    return f'{_round(value):+.1f}{MIXED if mixed else ""}' if np.isfinite(value) else NOTHING


def _round(value: float) -> float:
    """To one decimal, and never -0.0."""
    return round(value, 1) + 0.0


def _size(value: Any, sep: str = '×') -> str:
    whole = isinstance(value, Sequence) and len(value) == 2 and all(type(v) is int for v in value)
    return f'{value[0]}{sep}{value[1]}' if whole else 'size unknown'


def protocol(content: Mapping[str, Any], classes: Sequence[str]) -> str:
    """Say how a domain was measured. Sizes are width×height; fields may be of any type."""
    photo, mode = content.get('photo'), content.get('mode')
    if mode == 'files':
        photos = 'predictions read from files, whose geometry is not known'
    elif photo is None:
        photos = 'photos in their own size'
    else:
        kept = ', keeping their ratio' if content.get('keep_ratio') else ''
        photos = f'photos scaled to {_size(photo)}{kept}'
    photos = '; '.join((*_pair(content, classes), photos))
    if mode == 'slide':
        crop, stride = ((v or ())[::-1] for v in (_list(content, 'crop'), _list(content, 'stride')))
        windows = f'sliding windows of {_size(crop)} every {_size(stride)}'
    else:
        known = dict(whole='whole photo at once', files='in the size of the labels')
        windows = known.get(str(mode), f'mode {mode!r:.40}')
    ids = _list(content, 'classes')
    which = (
        f'all {len(ids)} classes'
        if len(ids) == len(classes)
        else f'{len(ids)} of {len(classes)} classes: {", ".join(classes[i] for i in ids)}'
    )
    images, space = (f'{content.get(key)!s:.40}' for key in ('images', 'space'))
    left_out = ', others left out by a skip list' if content.get('skipped') else ''
    return f'{images} images{left_out}; {photos}; {windows}; label space {space}; {which}'


def _pair(content: Mapping[str, Any], classes: Sequence[str]) -> Iterator[str]:
    """What was done to photos and labels alike."""
    scale, height, pad = (content.get(f'label_{key}') for key in ('scale', 'height', 'pad'))
    crop = _list(content, 'label_crop')[::-1]
    if scale is not None:
        yield f'photos and labels scaled by {scale!s:.20}'
    if height is not None:
        yield f'photos and labels scaled to height {height!s:.20}'
    if crop:
        known = type(pad) is int and 0 <= pad < len(classes)
        beyond = f', beyond them the truth is {classes[pad]}' if known else ''
        yield f'of both the {_size(crop)} centre{beyond}'


def short(content: Mapping[str, Any], digest: str) -> str:
    """A protocol's name and hash, to stand with its numbers."""
    return f'{content.get("name", "unnamed")!s} {digest}'


def _list(content: Mapping[str, Any], key: str) -> list:
    value = content.get(key)
    return list(value) if isinstance(value, (list, tuple)) else []


def origin(facts: Provenance) -> dict[str, str]:
    """A checkpoint's provenance as {what: words}; what is unknown is said to be."""
    iteration = 'unknown' if facts.iteration is None else str(facts.iteration)
    if facts.training_iterations is not None:
        iteration += f' of {facts.training_iterations}'
    return {
        'seed': 'unknown' if facts.seed is None else str(facts.seed),
        'selected by': facts.rule or 'unknown',
        'checkpoint': facts.checkpoint or 'unknown',
        'sha256': (facts.sha256 or 'unknown')[:12],
        'iteration': iteration,
        'commit': short_commit(facts.commit),
        'date': facts.date or 'unknown',
        'versions': ', '.join(f'{k} {v}' for k, v in facts.versions.items()) or 'unknown',
    }


def short_commit(commit: str | None) -> str:
    """Twelve digits, and '-dirty' where it stood there."""
    if not commit:
        return 'unknown'
    match = re.fullmatch(r'([0-9a-f]{12})[0-9a-f]*(-dirty)?', commit)
    return match[1] + (match[2] or '') if match else commit
