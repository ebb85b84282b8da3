"""What an error about a dataset's files advises: where they are, or under which name."""

import difflib
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from .listing import Layout, Listing, Stray, original

_Layouts = Callable[[Path], list[Layout]]

#: Other names of folders than those that begin or end as the folder does.
_SPELLINGS = {'mapillary': 'vistas', 'synthia': 'randcityscapes', 'kitti': 'datasemantics'}
_MANY = 3000  # names; to compare one with each of more takes seconds


def elsewhere(folder: str, layouts: _Layouts, data_root: str | Path) -> str:
    """Say where a dataset is that is not in `data_root`, '' where it is not found.

    It is looked for one folder lower, two folders higher, and under other usual names.

    Args:
        folder: its name below a data root.
        layouts: folder of the dataset -> its layouts.
    """
    given = Path(data_root)
    base = given.absolute()
    wanted = base / folder
    near = [base, *base.parents[:2], *_folders(base)]
    found = [path for root in near for path in _folders(root) if _is_like(path.name, folder)]
    for path in sorted(dict.fromkeys(found), key=lambda path: path.name != folder):  # stable
        if path == wanted or not any(layout.is_there for layout in layouts(path)):
            continue
        root = path.parent
        if not given.is_absolute():
            path, root = (Path(os.path.relpath(one)) for one in (path, root))
        if path.name == folder:
            return f'It is in {path}: give --data-root {shlex.quote(str(root))}. '
        if root.name == folder:  # data/synthia/RAND_CITYSCAPES
            return f'It seems to be in {path}: move what is in there to {root}. '
        return (
            f'It seems to be in {path}: rename that folder to {folder}, and give --data-root '
            f'{shlex.quote(str(root))}. '
        )
    return ''


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
    """

    def __init__(self, listing: Listing, what: str):
        sides = [(listing.photos, listing.layout.photos), (listing.truth, listing.layout.truth)]
        (files, self._places), (others, self._beside) = sides[:: 1 if what == 'photo' else -1]
        self._what = what
        self._key_of = {path: key for key, path in others.items()}
        self._alone = {files[key]: key for key in files.keys() - others.keys()}
        self._alone |= self._of(listing.others)  # path -> key
        self._all = self._alone | self._of(listing.unwanted)
        self._by_bare = {_bare(key): path for path, key in self._all.items()}

    def _of(self, strays: list[Stray]) -> dict[Path, str]:
        return {s.path: s.key for s in strays if s.place in self._places and s.key}

    def say(self, file: Path, search: bool = True) -> str:
        """Say which file should be there for one that stands alone, and which one may be it.

        Args:
            search: whether to look for names that are but alike, which takes long.
        """
        key = self._key_of[file]
        number = next((n for n, p in enumerate(self._beside) if p.folder in file.parents), 0)
        expected = f'expected {self._places[number].expected(key)}'
        path = self._by_bare.get(_bare(key))
        end = self._places[number].end[0]
        stem = path.stem if path else ''
        if self._what == 'label' and original(stem) and not (end and stem.endswith(end)):
            return f'only a converted label file is there, {path}; {expected}'
        path = path or (self._closest(key) if search else None)
        return f'{expected}; is it {path}, under another name?' if path else expected

    def _closest(self, key: str) -> Path | None:
        name = re.escape(key.rpartition('/')[2])
        for path, other in self._all.items():
            if re.search(rf'(?<![^\W_]){name}(?![^\W_])', other):
                return path
        of_key = {other: path for path, other in self._alone.items()}
        found = difflib.get_close_matches(key, list(of_key)[:_MANY], 1, 0.8)
        return of_key[found[0]] if found else None
