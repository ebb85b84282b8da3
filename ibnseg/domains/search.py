"""Where the photos and labels of a folder lie, found by what their names share."""

import itertools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DataError
from . import own
from .listing import is_of_system, original

SPLITS = ('train', 'training', 'trainval', 'val', 'valid', 'validation', 'dev', 'eval', 'test',
          'testing')  # fmt: skip
_PICTURES = ('png', 'jpg', 'jpeg', 'bmp', 'tif', 'tiff', 'webp')
_SPLIT = re.compile(
    rf'(?:.*[_\-. ])?({"|".join(sorted(SPLITS, key=len, reverse=True))})(?:[_\-. ].*|annot)?', re.I
)
_MOST_COLOURS = 64  # of a label file; a photo has thousands


@dataclass(frozen=True)
class Family:
    """Files whose names differ by split and key alone.

    Args:
        pattern: as `own` reads it, e.g. 'images/{split}/img_*.jpg'.
        files: (split, key) -> file; split '' where the pattern has none.
        kind: 'photo', 'ids', 'colours', or '' for what is neither.
    """

    pattern: str
    files: Mapping[tuple[str, str], Path] = field(repr=False)
    kind: str


def _pictures(folder: Path) -> list[Path]:
    """Return all pictures below a folder, as paths from there."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_of_system(name))
        found += [
            Path(place, name).relative_to(folder)
            for name in sorted(files)
            if name.rpartition('.')[2].lower() in _PICTURES and not is_of_system(name)
        ]
    if not found:
        raise DataError(f'{folder}: no picture in it (.{", .".join(_PICTURES)})')
    return found


def _families(files: Iterable[Path]) -> list[Family]:
    """Group files by every pattern that fits many of them; kinds are not known yet."""
    groups: dict[tuple[str, ...], dict[tuple[str, tuple[str, ...]], list[Path]]] = {}
    for path in files:
        parts = list(path.parent.parts)
        split = next(filter(None, map(_split_in, parts)), '')
        same = [bool(split) and _split_in(part) == split for part in parts]
        parts = [
            part.replace(split, '{split}', 1) if its else part
            for part, its in zip(parts, same, strict=True)
        ]
        free = [i for i, part in enumerate(parts) if '{split}' not in part]
        suffix = path.suffix[1:].lower().replace('jpeg', 'jpg')
        for stars in itertools.chain(*(itertools.combinations(free, n) for n in range(3))):
            head = ('/'.join('*' if i in stars else part for i, part in enumerate(parts)), suffix)
            of = split, tuple(parts[i] for i in stars)
            groups.setdefault(head, {}).setdefault(of, []).append(path)
    return [
        family
        for (head, suffix), members in groups.items()
        if _worth(head, [stars for _, stars in members])
        for family in _by_affixes(head, suffix, members)
    ]


def _split_in(part: str) -> str:
    """Return the split that a folder is of: 'train' of train, train_labels, photos-train."""
    found = _SPLIT.fullmatch(part)
    return found.group(1) if found else ''


def _worth(head: str, values: Sequence[tuple[str, ...]]) -> bool:
    """Whether each star of a pattern stands for several folders."""
    return '*' not in head or all(len(set(one)) > 1 for one in zip(*values, strict=True))


def _by_affixes(
    head: str, suffix: str, members: Mapping[tuple[str, tuple[str, ...]], Sequence[Path]]
) -> Iterable[Family]:
    stems = [path.stem for paths in members.values() for path in paths]
    counts: Counter[tuple[str, str]] = Counter()
    for stem in stems[:: max(1, len(stems) // 500)]:
        ends = [match.span() for match in re.finditer(r'[_\-. ]+', stem)]
        before = ['', *(stem[:end] for _, end in ends[:2])]
        after = ['', *(stem[start:] for start, _ in ends[-4:])]
        counts.update((b, a) for b in before for a in after if len(b) + len(a) < len(stem))
    looked = len(stems[:: max(1, len(stems) // 500)])
    often = [pair for pair, n in counts.most_common() if n >= max(2, looked / 10) or looked < 4]
    for before, after in sorted(often, key=lambda pair: len(''.join(pair)))[:24]:
        files = {
            (split, '/'.join((*stars, path.stem[len(before) : len(path.stem) - len(after)]))): path
            for (split, stars), paths in members.items()
            for path in paths
            if path.stem.startswith(before) and path.stem.endswith(after)
            and len(path.stem) > len(before) + len(after)
        }  # fmt: skip
        pattern = '/'.join(filter(None, (head, f'{before}*{after}.{suffix}')))
        if files and own.is_pattern(pattern):
            yield Family(pattern, files, '')


def pair(folder: Path) -> tuple[Family, Family, list[Family]]:
    """Return photos and labels with the most pairs, and other labels that would do.

    Raises DataError: no pictures, or no photos and labels among them.
    """
    families = _families(_pictures(folder))
    known: dict[Path, str] = {}

    def kind(family: Family) -> str:
        paths = list(family.files.values())
        probes = {paths[0], paths[len(paths) // 2], paths[-1]}
        for path in probes - known.keys():
            known[path] = _kind(folder / path)
        kinds = {known[path] for path in probes}
        return kinds.pop() if len(kinds) == 1 else ''

    sides = defaultdict(list)
    for family in families:
        sides[kind(family)].append(Family(family.pattern, family.files, kind(family)))
    shared: dict[tuple[str, str], list[Family]] = defaultdict(list)
    for one in (*sides['ids'], *sides['colours']):
        for key in one.files:
            shared[key].append(one)
    best: list[tuple[tuple, Family, Family]] = []
    for photos in sides['photo']:
        common: Counter[str] = Counter()
        of = {}
        for key in photos.files:
            for one in shared.get(key, ()):
                common[one.pattern] += 1
                of[one.pattern] = one
        for pattern, n in common.items():
            best.append((_rank(n, photos, of[pattern]), photos, of[pattern]))
    if not best:
        kinds = ', '.join(f'{len(v)} {k or "unclear"}' for k, v in sides.items())
        raise DataError(
            f'{folder}: no photos and labels whose names share what tells them apart (patterns of '
            f'files: {kinds or "none"}). Labels are PNG files of ids or of at most {_MOST_COLOURS} '
            'colours; docs/datasets.md shows a file to fill in by hand'
        )
    rank, photos, truth = max(best, key=lambda one: one[0])
    taken = set(truth.files.values())
    others: dict[str, Family] = {}
    for other, mine, one in sorted(best, key=lambda one: one[0], reverse=True):
        if mine is photos and other[0] == rank[0] and not taken & set(one.files.values()):
            others[one.pattern] = one
            taken |= set(one.files.values())
    return photos, truth, list(others.values())


def _rank(common: int, photos: Family, truth: Family) -> tuple:
    """Order by: most pairs, fewest files alone, ids, original files, shortest patterns."""
    alone = len(photos.files) + len(truth.files) - 2 * common
    train_ids = 'trainid' in truth.pattern.lower().replace('_', '')
    made = bool(original(truth.pattern.rpartition('.')[0])) and 'label' not in truth.pattern.lower()
    stars = photos.pattern.count('*')
    around = len(photos.pattern) + len(truth.pattern)
    return common, -alone, truth.kind == 'ids', not train_ids, not made, -stars, -around


def _kind(path: Path) -> str:
    try:
        with Image.open(path) as image:
            if image.mode in ('L', 'P', '1'):
                values = len(np.unique(np.asarray(image)))
                return 'ids' if image.format == 'PNG' and values <= _MOST_COLOURS else 'photo'
            if image.mode not in ('RGB', 'RGBA'):
                return ''
            flat = np.asarray(image.convert('RGB')).reshape(-1, 3)
            some = flat[:: 1 + len(flat) // 100_000]
            few = len(np.unique(some, axis=0)) <= _MOST_COLOURS
            return 'colours' if few and image.format == 'PNG' else 'photo'
    except Exception:  # Pillow raises nearly anything of bad files
        return ''
