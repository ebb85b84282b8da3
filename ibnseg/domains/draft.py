"""A first version of the file that describes a folder of photos and labels (`ibnseg domain new`).

Which class an id stands for is not guessed: it is said by `space`, by a published colour, or left
to be filled in.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from .. import labels
from ..errors import DataError
from ..labels import spaces
from ..text import clean
from .search import SPLITS, Family, pair

_READ = 100  # label files
Value = int | tuple[int, int, int]


@dataclass
class _Named:
    """What the values stand for: class -> values; without a class; not known."""

    of: dict[str, list[Value]] = field(default_factory=dict)
    ignored: list[Value] = field(default_factory=list)
    unknown: list[Value] = field(default_factory=list)


@dataclass(frozen=True)
class Draft:
    """The text of a domain file, and what was found, in lines."""

    text: str
    found: list[str]
    is_whole: bool


def draft(folder: str | Path, name: str, root: str | Path, space: str | None = None) -> Draft:
    """Look at a folder and describe it.

    Args:
        folder: of photos and labels, in any folders below it.
        name: of the dataset.
        root: what to write as `root`: the folder, as seen from the file.
        space: a label space of ibnseg whose ids the labels have, e.g. 'cityscapes'.

    Raises DataError: no photos with labels, or ids that `space` does not have.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f'{folder}: no such folder')
    photos, truth, others = pair(folder)
    both = sorted(photos.files.keys() & truth.files.keys())
    values = _values(folder, truth, [truth.files[key] for key in both])
    if space is not None and truth.kind == 'ids':
        named = _by_space(values, space, folder)
    elif truth.kind == 'colours':
        named = _by_colour({value: value for value in values})
    else:
        colours = _palette(folder / truth.files[both[0]])
        named = _by_colour({value: colours.get(value, (-1, -1, -1)) for value in values})
    splits = sorted({split for split, _ in both}, key=_order)
    read = min(_READ, len(both))
    found = [f'photos     {photos.pattern}', f'labels     {truth.pattern}']
    found += [
        f'pairs      {sum(of == one for of, _ in both):,} in {one or "all"}' for one in splits
    ]
    for what, mine in (('photos', photos), ('labels', truth)):
        if alone := len(mine.files.keys() - {*both}):
            found.append(f'alone      {alone:,} {what} without a partner')
    found += [f'not taken  {one.pattern} ({len(one.files):,} files)' for one in others]
    found.append(f'seen       {len(values)} {truth.kind} in {read:,} labels')
    top = dict(name=name, root=str(root), photos=photos.pattern, labels=truth.pattern)
    top['splits'] = [one or 'all' for one in splits]
    return Draft(
        _text(top, truth.kind, values, named, read), [*map(clean, found)], not named.unknown
    )


def _text(
    top: Mapping[str, object], kind: str, values: Mapping[Value, float], named: _Named, read: int
) -> str:
    def share(of: Iterable[Value]) -> str:
        part = sum(values.get(value, 0) for value in of)
        return f'# {100 * part:.3g} %' if part else '# not seen'

    lines = ['# Written by ibnseg domain new; docs/datasets.md says what each key means.']
    lines += [f'{key}: {_scalar(value)}' for key, value in top.items()]
    lines += [f'# Seen in {read:,} labels, each with its share of the pixels.', f'{kind}:']
    lines += [f'  {_scalar(c)}: {_scalar(_plain(of))}  {share(of)}' for c, of in named.of.items()]
    if named.unknown:
        lines += ['  # These have no class yet. Write "class: value", or move the value to ignore.']
        lines += [f'  # {_scalar(_plain([one]))}  {share([one])}' for one in named.unknown]
    lines.append(f'ignore: {_scalar([*map(_flat, named.ignored)])}')
    return '\n'.join(lines) + '\n'


def _flat(value: Value) -> int | list[int]:
    return list(value) if isinstance(value, tuple) else value


def _plain(values: Sequence[Value]) -> object:
    flat = [*map(_flat, values)]
    return flat[0] if len(flat) == 1 else flat


def _order(split: str) -> tuple[int, str]:
    return (SPLITS.index(split.lower()) if split.lower() in SPLITS else 99, split)


def _scalar(value: object) -> str:
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=False)
    return text.removesuffix('\n').removesuffix('\n...')


def _values(folder: Path, truth: Family, files: Sequence[Path]) -> dict[Value, float]:
    """Return each id or colour of some label files with its share of their pixels."""
    counts: Counter[Value] = Counter()
    for path in files[:: max(1, len(files) // _READ)][:_READ]:
        with Image.open(folder / path) as image:
            image = image if truth.kind == 'ids' else image.convert('RGB')
            raw = np.asarray(image).astype(np.uint8)
        flat = raw.reshape(-1) if truth.kind == 'ids' else raw.reshape(-1, 3)
        for value, n in zip(*np.unique(flat, axis=0, return_counts=True), strict=True):
            counts[tuple(value.tolist()) if value.ndim else int(value)] += int(n)
    whole = sum(counts.values())
    return {value: counts[value] / whole for value in sorted(counts)}


def _palette(path: Path) -> dict[Value, tuple[int, int, int]]:
    """Return the colour of each id of a palette PNG."""
    with Image.open(path) as image:
        flat = image.getpalette('RGB') if image.mode == 'P' else None
    return dict(enumerate(zip(*[iter(flat or ())] * 3, strict=False)))


def _by_space(values: Iterable[Value], space: str, folder: Path) -> _Named:
    """Name ids as a label space of ibnseg does. Raises DataError for ids that it does not have."""
    found, lut, possible = _Named(), labels.lut(space), labels.possible(space)
    if foreign := [value for value in values if not possible[value]]:
        raise DataError(
            f'{folder}: ids {foreign[:10]} do not exist in the label space {space!r}: these labels '
            'are not of it. Leave --ids out, and name the ids in the file'
        )
    for value in np.flatnonzero(possible).tolist():  # those that were not seen may be elsewhere
        if lut[value] == labels.IGNORE:
            found.ignored.append(value)
        else:
            found.of.setdefault(labels.CLASSES[lut[value]], []).append(value)
    return found


def _by_colour(colours: Mapping[Value, tuple[int, int, int]]) -> _Named:
    """Name values by the published colours of the 19 classes, all of them or none.

    Black is of what has no class.
    """
    names = {
        tuple(c): n for c, n in zip(spaces.STREETS.palette.tolist(), labels.CLASSES, strict=True)
    }
    found = _Named()
    for value, colour in colours.items():
        if colour == (0, 0, 0):
            found.ignored.append(value)
        elif colour in names:
            found.of.setdefault(names[colour], []).append(value)
        else:
            found.unknown.append(value)
    return found if found.of else _Named(unknown=list(colours))
