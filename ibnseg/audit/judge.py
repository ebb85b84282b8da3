"""Facts -> findings: what is wrong with a file, a pair, a split and the set."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

from .. import labels
from ..domains import Domain
from .facts import Facts
from .kinds import KINDS


class Pair(NamedTuple):
    """A photo and its label file, in the splits that hold them; None is missing."""

    photo: Path | None
    label: Path | None
    splits: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        kind: of `KINDS`.
        file: the file to look at; the dataset's folder, where it is of a split or of the set.
        detail: what was found, and what was expected.
        splits: those it is in.
        other: the second file, if one takes part.
        skip: the pair's file to name in a skip list: its photo, or the label that stands alone.
    """

    kind: str
    file: Path
    detail: str
    splits: tuple[str, ...] = ()
    other: Path | None = None
    skip: Path | None = None

    @property
    def severity(self) -> str:
        return KINDS[self.kind].severity


#: (path, role) -> its facts; roles are 'photo' and 'label'.
Look = Callable[[Path, str], Facts]


def judge(row: Domain, root: Path, pairs: Iterable[Pair], look: Look) -> list[Finding]:
    """Return what is wrong with `pairs`, pair by pair, then between them, then as a set."""
    pairs = list(pairs)
    found = [finding for pair in pairs for finding in _pair(row, pair, look)]
    return found + _sizes(row, root, pairs, look) + _copies(pairs, look)


# ------------------------------------------------------------------------------ one pair


def _pair(row: Domain, pair: Pair, look: Look) -> Iterable[Finding]:
    photo, label, splits = pair
    skip = photo or label

    def finding(kind: str, file: Path, detail: str, other: Path | None = None) -> Finding:
        return Finding(kind, file, detail, splits, other, skip)

    if label is None:
        yield finding('photo-alone', photo, 'no label file for it')
    if photo is None:
        yield finding('label-alone', label, 'no photo for it')
    of_photo = look(photo, 'photo') if photo else None
    of_label = look(label, 'label') if label else None
    if photo and label and 'size' in of_photo and 'size' in of_label:
        if of_label.get('pixels') == of_photo['pixels'] and not of_photo['flat']:
            yield finding('same-file', label, 'the pixels of both are the same', photo)
            return
        if 'fault' in of_label and _reads(row, look(photo, 'label')):
            text = 'the photo reads as a label, the label as a photo'
            yield finding('swapped', label, text, photo)
            return
    if photo:
        yield from (finding(kind, photo, detail) for kind, detail in _photo(of_photo))
    if label:
        yield from (finding(kind, label, detail) for kind, detail in _label(row, of_label))
    if photo and label and 'size' in of_photo and 'size' in of_label:
        yield from (finding(k, f, d, o) for k, f, d, o in _sizes_of(pair, of_photo, of_label))


def _reads(row: Domain, facts: Facts) -> bool:
    """Whether facts are of a good label file."""
    return 'fault' not in facts and not any(True for _ in _label(row, facts))


def _photo(facts: Facts) -> Iterable[tuple[str, str]]:
    if 'fault' in facts:
        yield tuple(facts['fault'])
        return
    if facts['flat']:
        yield 'constant', 'every pixel is the same'
    elif facts['grey']:
        yield 'grey', f'mode {facts["mode"]}, red, green and blue are equal'
    if facts['mode'] not in ('RGB', 'L') or facts['format'] not in ('PNG', 'JPEG'):
        yield 'photo-form', f'{facts["format"]}, mode {facts["mode"]}; expected 8-bit RGB'


def _label(row: Domain, facts: Facts) -> Iterable[tuple[str, str]]:
    if 'fault' in facts:
        yield tuple(facts['fault'])
    if 'ids' not in facts:
        return
    ids = [int(raw) for raw in facts['ids']]
    lut = labels.lut(row.space)
    if _is_converted(row.space, ids):
        yield 'train-ids', 'ids 0 to 18 only, road (0) among them, and no sky, vegetation or car'
    elif all(lut[raw] == labels.IGNORE for raw in ids):
        names = labels.space(row.space).names
        text = ', '.join(f'{raw} ({names[raw]})' if raw < len(names) else str(raw) for raw in ids)
        yield 'all-ignored', f'its ids have no class: {text:.200}'
    elif len(ids) == 1:
        yield 'single-class', f'id {ids[0]} in every pixel'


def _is_converted(space: str, ids: Iterable[int]) -> bool:
    """Whether raw ids look like training classes where those never stand for themselves."""
    usual = [labels.raw_id(space, name) for name in ('road', 'vegetation', 'sky', 'car')]
    used, last = set(ids) - {labels.IGNORE}, len(labels.CLASSES) - 1
    return (
        None not in usual
        and usual[0] > 0
        and min(usual[1:]) > last >= max(used, default=0)
        and {0} < used
    )


def _sizes_of(pair: Pair, photo: Facts, label: Facts):
    """(kind, file, detail, other): sizes as read, where a photo is turned by its EXIF tag."""
    size, turned = tuple(photo['size']), photo['orientation'] > 4
    as_read = size[::-1] if turned else size
    truth = tuple(label['size'])
    both = f'label is {_x(truth)}, its photo {_x(as_read)}'
    if label['orientation'] > 1:
        yield 'orientation', pair.label, f'EXIF orientation {label["orientation"]}', pair.photo
    if photo['orientation'] > 1 and not (turned and truth == as_read != size):
        text = f'EXIF orientation {photo["orientation"]}, its label is not turned'
        yield 'orientation', pair.photo, text, pair.label
    elif truth == as_read[::-1] != as_read:
        yield 'rotated', pair.label, both, pair.photo
    elif truth != as_read:
        yield 'size', pair.label, both, pair.photo


def _x(size: Iterable[int]) -> str:
    return 'x'.join(map(str, size))


# ----------------------------------------------------------------------------- the whole set


def _sizes(row: Domain, root: Path, pairs: list[Pair], look: Look) -> list[Finding]:
    """Photos of another size than the published one; of all of them, one finding."""
    if row.size is None:
        return []
    sizes = {p: tuple(look(p, 'photo').get('size', ())) for p in _photos(pairs)}
    counts = Counter(size for size in sizes.values() if size)
    if not counts:
        return []
    usual = counts.most_common(1)[0][0]
    found = []
    if usual != tuple(row.size):
        text = f'{_x(usual)} in {counts[usual]} photos, published {_x(row.size)}'
        found.append(Finding('resized', root, text))
    splits = {pair.photo: pair.splits for pair in pairs if pair.photo}
    return found + [
        Finding('odd-size', path, f'{_x(size)}, the others {_x(usual)}', splits[path], None, path)
        for path, size in sizes.items()
        if size and size != usual
    ]


def _photos(pairs: Iterable[Pair]) -> list[Path]:
    return list(dict.fromkeys(pair.photo for pair in pairs if pair.photo))


def _copies(pairs: list[Pair], look: Look) -> list[Finding]:
    """Photos of equal pixels, in splits that share no file or in one; labels of equal ids."""
    splits: dict[Path, set[str]] = defaultdict(set)
    photo_of = {}
    for pair in pairs:
        for path in (pair.photo, pair.label):
            splits[path].update(pair.splits)
        photo_of.setdefault(pair.label, pair.photo)
    photos = _photos(pairs)
    overlap = {both for path in photos for both in product(splits[path], repeat=2)}
    found = []
    for stays, out in _twice(photos, 'photo', look):
        # 'val/fog' and 'val/night' are parts of one: between them it is but a duplicate.
        apart = next(
            (
                (a, b)
                for a, b in sorted(product(splits[stays], splits[out]))
                if (a, b) not in overlap and a.partition('/')[0] != b.partition('/')[0]
            ),
            None,
        )
        if apart:
            if any('train' in split for split in splits[stays]):  # training can spare it
                stays, out, apart = out, stays, apart[::-1]
            text = f'the same pixels; split {apart[1]!r} should share no photo with {apart[0]!r}'
            found.append(Finding('leak', out, text, tuple(sorted(splits[out])), stays, out))
        else:
            both = tuple(sorted(splits[out]))
            found.append(Finding('duplicate', out, 'the same pixels', both, stays))
    told = {frozenset((finding.file, finding.other)) for finding in found}
    return found + [
        Finding('same-label', one, 'the same ids', tuple(sorted(splits[one])), other)
        for other, one in _twice(photo_of, 'label', look)
        if frozenset((photo_of[one], photo_of[other])) not in told
    ]


def _twice(paths: Iterable[Path | None], role: str, look: Look) -> Iterable[tuple[Path, Path]]:
    """(first, later) of each file whose content an earlier one has, where it says something."""
    first: dict[str, Path] = {}
    for path in filter(None, paths):
        facts = look(path, role)
        if role == 'photo':
            content = None if facts.get('flat') else facts.get('pixels')
        else:
            content = facts.get('drawn') if len(facts.get('ids', ())) > 1 else None
        if content and first.setdefault(content, path) != path:
            yield first[content], path
