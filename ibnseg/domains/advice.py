"""What an error about a dataset's files advises: where they are, or under which name."""

import difflib
import os
import re
import shlex
from collections.abc import Callable, Container, Iterator
from pathlib import Path

from .listing import Layout, Listing

_Layouts = Callable[[Path], list[Layout]]

#: Other names of folders than those that begin or end as the folder does.
_SPELLINGS = {'mapillary': 'vistas', 'synthia': 'randcityscapes', 'kitti': 'datasemantics'}
_MANY = 3000  # names; to compare one with each of more takes seconds


def elsewhere(folder: str, layouts: _Layouts, data_root: str | Path) -> str:
    """Say where a dataset is that is not in `data_root`, '' where it is not found.

    It is looked for one folder lower, three folders higher, and under other usual names.

    Args:
        folder: its name below a data root.
        layouts: folder of the dataset -> its layouts.
    """
    given = Path(data_root)
    base = given.absolute()
    wanted = base / folder
    near = [base, *base.parents[:3], *_folders(base)]
    found = [path for root in near for path in _folders(root) if _is_like(path.name, folder)]
    for path in sorted(dict.fromkeys(found), key=lambda path: path.name != folder):  # stable
        if path == wanted or not any(layout.is_there for layout in layouts(path)):
            continue
        root = path.parent
        shown, shown_root = (_shown(one, given) for one in (path, root))
        if path.name == folder:
            return f'It is in {shown}: give --data-root {shlex.quote(shown_root)}. '
        if root.name == folder:  # data/synthia/RAND_CITYSCAPES
            return f'It seems to be in {shown}: move what is in there to {shown_root}. '
        return (
            f'It seems to be in {shown}: rename that folder to {folder}, and give --data-root '
            f'{shlex.quote(shown_root)}. '
        )
    return ''


def _shown(path: Path, given: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if given.is_absolute() or relative.startswith('.') else relative


def alike(folder: str | Path) -> str:
    """Name the folder or file that is there in place of one that is not, ' (...)' or ''."""
    path = Path(folder)
    while not path.parent.exists():
        path = path.parent
    names = {_bare(other.name): other for other in path.parent.iterdir() if other != path}
    found = difflib.get_close_matches(_bare(path.name), list(names)[:_MANY], 1, 0.8)
    return f' (there is {names[found[0]]})' if found else ''


def _folders(root: Path) -> Iterator[Path]:
    try:
        with os.scandir(root) as entries:
            yield from sorted(Path(entry.path) for entry in entries if entry.is_dir())
    except OSError:
        return


def _is_like(name: str, folder: str) -> bool:
    name, folder = _bare(name), _bare(folder)
    other = _SPELLINGS.get(folder, folder)
    if len(name) < 3:
        return name == folder
    return name in folder or folder in name or other in name


def _bare(text: str) -> str:
    return re.sub(r'[\W_]', '', text.casefold())


class Partners:
    """The files that those without a partner may belong to.

    Args:
        listing: of the split.
        what: what is missing, 'photo' or 'label'.
        taken: files that some split has.
    """

    def __init__(self, listing: Listing, what: str, taken: Container[Path]):
        sides = [(listing.photos, listing.layout.photos), (listing.truth, listing.layout.truth)]
        (files, self._places), (others, self._beside) = sides[:: 1 if what == 'photo' else -1]
        self._what = what
        self._key_of = {path: key for key, path in others.items()}
        self._keys = {files[key]: key for key in files.keys() - others.keys()}
        self._made: dict[str, list[Path]] = {}  # by key
        for stray in listing.others + listing.unwanted:
            if stray.place not in self._places or stray.path in taken or not stray.key:
                continue
            if what == 'label' and stray.is_made:
                self._made.setdefault(stray.key, []).append(stray.path)
            else:
                self._keys[stray.path] = stray.key
        self._by_bare = {_bare(key): path for path, key in self._keys.items()}

    def say(self, file: Path, search: bool = True) -> str:
        """Say which file should be there for one that stands alone, and which one may be it.

        Args:
            search: whether to look for names that are but alike, which takes long.
        """
        key = self._key_of[file]
        number = next((n for n, p in enumerate(self._beside) if p.folder in file.parents), 0)
        expected = self._places[number].expected(key)
        path = self._by_bare.get(_bare(key))
        path = path or (self._closest(key, expected) if search else None)
        if path:
            return f'expected {expected}; is it {path}, under another name?'
        if key in self._made:
            made = sorted(self._made[key], key=lambda path: ('id' not in path.stem.lower(), path))
            names = ', '.join([str(made[0]), *(path.name for path in made[1:])])
            return f'only converted label files are there ({names}); expected {expected}'
        return f'expected {expected}'

    def _closest(self, key: str, expected: Path) -> Path | None:
        name = key.rpartition('/')[2]
        for path, other in self._keys.items():
            if _has(path.name, expected.stem) or _has(other, name) or _has(name, Path(other).name):
                return path
        of_key = {other: path for path, other in self._keys.items()}
        found = difflib.get_close_matches(key, list(of_key)[:_MANY], 1, 0.8)
        return of_key[found[0]] if found else None


def _has(text: str, name: str) -> bool:
    """Whether a name is part of a text, whole words of it."""
    return name in text and bool(re.search(rf'(?<![^\W_]){re.escape(name)}(?![^\W_])', text))
