"""Facts -> findings: what is wrong with a file, a pair, a split and the set."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

from .. import labels
from ..domains import Domain, own, pixels
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
#: Kind, file, detail, second file.
_Wrong = tuple[str, Path, str, Path | None]


def judge(row: Domain, root: Path, pairs: list[Pair], look: Look) -> list[Finding]:
    """Return what is wrong with `pairs`, pair by pair, then between them, then as a set."""
    found = [
        Finding(kind, file, detail, pair.splits, other, pair.photo or pair.label)
        for pair in pairs
        for kind, file, detail, other in _pair(pair, look)
    ]
    return (
        found
        + _sizes(row, root, pairs, look)
        + _classes(row, root, pairs, look)
        + _copies(pairs, look)
    )


def _pair(pair: Pair, look: Look) -> list[_Wrong]:
    photo, label, _ = pair
    of_photo = look(photo, 'photo') if photo else {'wrong': []}
    of_label = look(label, 'label') if label else {'wrong': []}
    sized = 'size' in of_photo and 'size' in of_label
    if sized and of_photo.get('pixels', '') == of_label.get('pixels'):
        return [('same-file', label, 'the pixels of both are the same', photo)]
    if sized and 'drawn' not in of_label and not look(photo, 'label')['wrong']:
        return [('swapped', label, 'the photo reads as a label, the label as a photo', photo)]
    found: list[_Wrong] = []
    if label is None:
        found.append(('photo-alone', photo, 'no label file for it', None))
    if photo is None:
        found.append(('label-alone', label, 'no photo for it', None))
    for file, facts in ((photo, of_photo), (label, of_label)):
        found += [(kind, file, detail, None) for kind, detail in facts['wrong']]
    return found + (list(_sizes_of(pair, of_photo, of_label)) if sized else [])


def _sizes_of(pair: Pair, photo: Facts, label: Facts) -> Iterable[_Wrong]:
    """Compare sizes as they are read: a photo is turned by its EXIF tag, a label is not."""
    size, turn, truth = tuple(photo['size']), photo['orientation'], tuple(label['size'])
    shown = pixels.as_shown(size, turn)
    both = f'label is {_x(truth)}, its photo {_x(shown)}'
    if not pixels.is_clear(size, turn):
        yield 'orientation', pair.photo, pixels.unclear(turn), pair.label
    elif shown != truth == size:
        text = f'EXIF orientation {turn} turns the photo, its label is not turned'
        yield 'orientation', pair.photo, text, pair.label
    elif truth == shown[::-1] != shown:
        yield 'rotated', pair.label, both, pair.photo
    elif truth != shown:
        yield 'size', pair.label, both, pair.photo


def _x(size: Iterable[int]) -> str:
    return 'x'.join(map(str, size))


def _sizes(row: Domain, root: Path, pairs: list[Pair], look: Look) -> list[Finding]:
    """Photos of another size than the published one; of all of them, one finding."""
    if row.size is None:
        return []
    splits = {pair.photo: pair.splits for pair in pairs if pair.photo}
    sizes = {path: tuple(look(path, 'photo').get('size', ())) for path in splits}
    counts = Counter(size for size in sizes.values() if size)
    if not counts:
        return []
    usual = counts.most_common(1)[0][0]
    found = []
    if usual != row.size:
        text = f'{_x(usual)} in {counts[usual]} photos, published {_x(row.size)}'
        found.append(Finding('resized', root, text))
    return found + [
        Finding('odd-size', path, f'{_x(size)}, the others {_x(usual)}', splits[path], None, path)
        for path, size in sizes.items()
        if size and size != usual
    ]


def _classes(row: Domain, root: Path, pairs: list[Pair], look: Look) -> list[Finding]:
    """Classes that a domain file gives ids to, and no label has a pixel of."""
    if row.name not in own.FILES:
        return []
    truth = [facts for pair in pairs if pair.label and (facts := look(pair.label, 'label'))]
    seen = {one for facts in truth for one in facts.get('classes', ())}
    space = labels.space(row.space)
    return [
        Finding('no-pixels', root, f'{name} ({", ".join(of)}) in none of {len(truth):,} labels')
        for name, of in space.groups.items()
        if seen and space.task.classes.index(name) not in seen
    ]


def _copies(pairs: list[Pair], look: Look) -> list[Finding]:
    """Photos of equal pixels, in splits that share no file or in one; labels of equal ids."""
    splits: dict[Path | None, set[str]] = defaultdict(set)
    photo_of: dict[Path | None, Path | None] = {}
    for photo, label, names in pairs:
        splits[photo].update(names)
        splits[label].update(names)
        photo_of.setdefault(label, photo)
    photos = dict.fromkeys(photo for photo, *_ in pairs if photo)
    overlap = {both for photo in photos for both in product(splits[photo], repeat=2)}
    found = []
    for stays, out in _twice(photos, 'photo', 'pixels', look):
        # 'val/fog' and 'val/night' are parts of one: between them it is but a duplicate.
        apart = [
            (a, b)
            for a, b in sorted(product(splits[stays], splits[out]))
            if (a, b) not in overlap and a.partition('/')[0] != b.partition('/')[0]
        ]
        if apart:
            here, there = apart[0]
            if any('train' in split for split in splits[stays]):  # training can spare it
                stays, out, here, there = out, stays, there, here
            text = f'the same pixels; split {there!r} should share no photo with {here!r}'
            found.append(Finding('leak', out, text, tuple(sorted(splits[out])), stays, out))
        else:
            both = tuple(sorted(splits[out]))
            found.append(Finding('duplicate', out, 'the same pixels', both, stays))
    told = {frozenset((finding.file, finding.other)) for finding in found}
    return found + [
        Finding('same-label', one, 'the same ids', tuple(sorted(splits[one])), other)
        for other, one in _twice(photo_of, 'label', 'drawn', look)
        if frozenset((photo_of[one], photo_of[other])) not in told
    ]


def _twice(
    paths: Iterable[Path | None], role: str, digest: str, look: Look
) -> Iterable[tuple[Path, Path]]:
    """(first, later) of each file whose content an earlier one has."""
    first: dict[str, Path] = {}
    for path in filter(None, paths):
        content = look(path, role).get(digest)
        if content and first.setdefault(content, path) != path:
            yield first[content], path
