"""How the files of a split are found, and what lies beside them.

A key is what a photo and its label file share: what stands for the stars of a pattern. Suffixes are
found in any case, and .jpeg for .jpg.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError

Files = dict[str, Path]

#: What systems, viewers and archivers write beside anybody's files, beside hidden files.
_OF_SYSTEMS = {'thumbs.db', 'ehthumbs.db', 'desktop.ini', '__macosx', '@eadir', 'icon\r',
               '$recycle.bin', 'system volume information'}  # fmt: skip
#: Ends of the names that tools give to what they make of a label file, and other files of a label.
_CONVERTED = re.compile(
    r'(_gt(fine|coarse)?)?_('
    r'(label|inst|panoptic|inv)\w*(ids?|colou?r|gray)|drivable_(id|color)|train_?ids?|colou?r|'
    r'masks?|polygons)$',
    re.IGNORECASE,
)
_PICTURE = re.compile(
    r'\.(avif|bmp|gif|heic|jfif|jp2|jpe?g|jpe|jxl|json|npy|npz|p[bgnp]m|png|tiff?|webp)(\W.*)?$',
    re.IGNORECASE | re.DOTALL,
)


def is_of_system(name: str) -> bool:
    """Whether a file or folder is hidden, or one that systems, viewers and archivers write."""
    return name[0] == '.' or name.lower() in _OF_SYSTEMS


def original(key: str) -> str:
    """Return the key of the label file that a converted one was made of, '' for no such name."""
    found = _CONVERTED.search(key)
    return key[: found.start()] if found else ''


class Place(NamedTuple):
    """Where files of one sort lie.

    Args:
        root: the folder that `pattern` begins in.
        pattern: e.g. `val/*/*_leftImg8bit.{png,jpg}`: a star is a folder, the last one what the
            names of the files of a pair share.
        prefix: what the keys of these files begin with.
    """

    root: Path
    pattern: str
    prefix: str = ''

    @property
    def folder(self) -> Path:
        return self.root / self.pattern.partition('*')[0].rpartition('/')[0]

    @property
    def below(self) -> list[str]:
        """The pattern's parts below `folder`, the last one without its suffix."""
        start = self.pattern.partition('*')[0].rpartition('/')[0]
        return self.pattern.rpartition('.')[0][len(start) :].lstrip('/').split('/')

    @property
    def depth(self) -> int:
        """How many folders the files lie below `folder`."""
        return len(self.below) - 1

    @property
    def around(self) -> tuple[str, str]:
        """What comes before and after the key in a file's name: ('', '_leftImg8bit')."""
        before, _, after = self.below[-1].partition('*')
        return before, after

    @property
    def suffixes(self) -> list[str]:
        return self.pattern.rpartition('.')[2].strip('{}').split(',')

    def key(self, stem: str) -> str | None:
        """Return the key of a file: its path below `folder` without suffix; None for a stray."""
        found = _expression('/'.join(self.below)).fullmatch(stem)
        return found and self.prefix + '/'.join(found.groups())

    def expected(self, key: str) -> Path:
        """Return the file that a key stands for."""
        below = '/'.join(self.below)
        for part in key.removeprefix(self.prefix).split('/', below.count('*') - 1):
            below = below.replace('*', part, 1)
        return self.folder / f'{below}.{self.suffixes[0]}'


@cache
def _expression(below: str) -> re.Pattern[str]:
    return re.compile('([^/]*)'.join(map(re.escape, below.split('*'))), re.DOTALL)


class Stray(NamedTuple):
    """A file, or a folder, that lies where files of a split lie and is none of them.

    Args:
        path: of it.
        name: its path below the place's folder.
        place: where it lies.
    """

    path: Path
    name: str
    place: Place

    @property
    def stem(self) -> str:
        return _PICTURE.sub('', self.name)

    @property
    def is_made(self) -> bool:
        """Whether its name is one that a tool gives to what it makes of a label file."""
        end = self.place.around[1]
        return bool(original(self.stem)) and not (end and self.stem.endswith(end))

    @property
    def key(self) -> str:
        """The key that it was probably meant to have, '' for what is neither picture nor folder.

        `lindau/x_leftImg8bit.bmp` gives 'lindau/x', as `lindau/x_gtFine_labelTrainIds.png` does.
        """
        stem = self.stem
        if stem == self.name:
            return f'{self.place.prefix}{stem}/' if self.path.is_dir() else ''
        *folders, name = (original(stem) if self.is_made else stem).split('/')
        below = self.place.below
        if len(folders) == len(below) - 1:
            folders = [one for one, part in zip(folders, below, strict=False) if '*' in part]
        before, after = self.place.around
        name = name.removeprefix(before).removesuffix(after)
        return self.place.prefix + '/'.join((*folders, name))


class Layout(NamedTuple):
    """One way in which a dataset's files lie.

    Args:
        photos, truth: where they are, folder by folder in the same order.
        wanted: whether a key belongs to the split.
    """

    photos: Sequence[Place]
    truth: Sequence[Place]
    wanted: Callable[[str], bool] | None = None

    @property
    def is_there(self) -> bool:
        return all(place.folder.is_dir() for place in (*self.photos, *self.truth))


@dataclass
class Listing:
    """The files of a split.

    Args:
        photos, truth: by key.
        layout: where they lie.
        unwanted: files of the right form whose key is not of the split.
        others: further files and folders there, but those of systems. Among them are what tools
            made of the label files.
        absent: folders that should be there.
        note: what else was found, where several layouts are there and none is complete.
    """

    layout: Layout
    photos: Files = field(default_factory=dict)
    truth: Files = field(default_factory=dict)
    unwanted: list[Stray] = field(default_factory=list)
    others: list[Stray] = field(default_factory=list)
    absent: list[Path] = field(default_factory=list)
    note: str = ''

    @property
    def is_complete(self) -> bool:
        return bool(self.photos) and self.photos.keys() == self.truth.keys()

    def __str__(self) -> str:
        """Where photos and labels should be, e.g. 'gta5/images/*.png and gta5/labels/*.png'."""
        return ' and '.join(
            str(places[0].root / places[0].pattern)
            for places in (self.layout.photos, self.layout.truth)
        )

    def found(self) -> str:
        """Name a file that is there in place of those that should be; '' without any."""
        strays = sorted(self.others)
        return f', only files such as {strays[0].path}; expected {self}' if strays else ''

    def misnamed(self) -> dict[str, tuple[Path, Path]]:
        """Pairs that are there under names or suffixes that the layout does not have, by key."""
        photos = self._by_key(self.layout.photos)
        truth = self._by_key(self.layout.truth) if photos else {}
        known = self.photos.keys() | self.truth.keys() | {''}
        return {
            key: (photos[key], truth[key])
            for key in sorted((photos.keys() & truth.keys()) - known)
            if self.layout.wanted is None or self.layout.wanted(key)
        }

    def _by_key(self, places: Sequence[Place]) -> Files:
        found = [stray for stray in self.others if stray.place in places]
        found.sort(key=lambda stray: not stray.is_made)  # one of a better name stands for a key
        return {stray.key: stray.path for stray in found}


def choose(layouts: Iterable[Layout]) -> Listing:
    """List the first layout that is complete; where none is, the one with the most pairs.

    Raises FileNotFoundError for a folder that should be there, DataError for two files of one name.
    """
    found: list[Listing] = []
    for layout in sorted(layouts, key=lambda layout: not layout.is_there):
        found.append(_listing(layout))
        if found[-1].is_complete:
            return found[-1]
    best = max(found, key=lambda one: (not one.absent, len(one.photos.keys() & one.truth.keys()),
                                       len(one.photos) + len(one.truth)))  # fmt: skip
    # A folder of photos that two layouts share makes not both of them.
    own = [one for one in found if one.truth or (one.photos and one.photos != best.photos)]
    if len(own) > 1:
        counts = (f'{one} ({len(one.photos):,} photos, {len(one.truth):,} labels)' for one in own)
        best.note = f'None of the layouts that are there is complete: {"; ".join(counts)}. '
    if best.absent:
        reason = f'no such folder. {best.note}'.rstrip('. ')
        raise FileNotFoundError(2, reason, str(best.absent[0]))
    return best


def _listing(layout: Layout) -> Listing:
    found = Listing(layout)
    found.photos = _files(found, layout.photos)
    found.truth = _files(found, layout.truth)
    for files, partners, places in (
        (found.photos, found.truth, layout.photos),
        (found.truth, found.photos, layout.truth),
    ):
        for key in files.keys() - partners.keys():
            base = original(key)
            if base and (base in files or base in partners):
                found.others.append(_stray(files.pop(key), places))
    return found


def _files(found: Listing, places: Sequence[Place]) -> Files:
    """Find the files of some places; what is none of them goes into `found`."""
    by_suffix: dict[str, Files] = {suffix: {} for suffix in places[0].suffixes}
    wanted = found.layout.wanted
    for place in places:
        if not place.folder.is_dir():
            found.absent.append(place.folder)
            continue
        for name, path, is_deep in _walk(place.folder, place.depth):
            stem, _, suffix = name.rpartition('.')
            suffix = suffix.lower().replace('jpeg', 'jpg')
            key = place.key(stem) if is_deep and suffix in by_suffix else None
            if key is None:
                found.others.append(Stray(path, name, place))
                continue
            if wanted is not None and not wanted(key):
                found.unwanted.append(Stray(path, name, place))
                continue
            other = by_suffix[suffix].setdefault(key, path)
            if other is not path:
                raise _twice(path, other)
    for one in by_suffix.values():
        _refuse_case(one)
    files: Files = {}
    for more in by_suffix.values():
        twice = sorted(files.keys() & more.keys())
        if twice and files.keys() == more.keys():  # a whole second copy: the documented one stays
            found.others += [_stray(path, places) for path in more.values()]
        elif twice:
            raise _twice(more[twice[0]], files[twice[0]], len(twice))
        else:
            files |= more
    return files


def _stray(path: Path, places: Sequence[Place]) -> Stray:
    place = next(place for place in places if place.folder in path.parents)
    return Stray(path, path.relative_to(place.folder).as_posix(), place)


def _refuse_case(files: Files) -> None:
    """Refuse keys that differ only in case: on some systems they are one."""
    folded: dict[str, str] = {}
    for key, path in files.items():
        other = folded.setdefault(key.casefold(), key)
        if other is not key:
            raise _twice(path, files[other])


def _twice(path: Path, other: Path, count: int = 1) -> DataError:
    more = f' ({count} such)' if count > 1 else ''
    text = f'{path} and {other}: two files of one name{more}. Move one of them elsewhere'
    return DataError(text, 'same-name', path)


def _walk(folder: Path, depth: int, above: str = '') -> Iterator[tuple[str, Path, bool]]:
    """Yield what lies `depth` folders below one: (path from there, path, True).

    With False: files that lie less deep.

    Raises DataError for a folder that can't be listed.
    """
    try:
        found = list(folder.iterdir())
    except OSError as error:
        text = f'{folder}: cannot be listed ({error.strerror}). See its rights'
        raise DataError(text, 'unreadable', folder) from None
    for path in found:
        name = path.name
        if is_of_system(name):
            continue
        if depth and path.is_dir():
            yield from _walk(path, depth - 1, f'{above}{name}/')
        else:
            yield above + name, path, not depth
