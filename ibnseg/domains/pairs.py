"""The pairs of a split that are trained on or measured: those whose files fit each other.

Sizes are read from the first bytes of the files, and whether a file is whole from its last ones.
"""

import contextlib
import hashlib
import re
import shlex
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from .. import disk, progress
from ..errors import DataError
from . import pixels
from .table import Pairs, by_key, parse

#: What a config's `odd_pairs` may say: pairs whose files do not fit are named and left out, or end
#: the command.
ODD_PAIRS = ('leave_out', 'refuse')
_FEW = 2000  # files; fewer are read faster than looked up
_VERSION = 1  # raise it when what is read changes


@dataclass(frozen=True)
class Used:
    """The pairs of one 'name:split' that are used.

    Args:
        domain: 'name:split'.
        root: the data root.
        pairs: (photo, label) files, sorted.
        keys: of each pair, what its photo and label share, whatever layout they lie in.
        published: the published number of pairs, or None.
        skipped: how many pairs the skip lists left out.
        odd: pairs that were left out since their files do not fit -> what is wrong, of kind 'size'
            or 'unreadable'.
    """

    domain: str
    root: Path
    pairs: Pairs = field(repr=False)
    keys: tuple[str, ...] = field(repr=False)
    published: int | None
    skipped: int
    odd: dict[tuple[Path, Path], DataError]

    @property
    def photos(self) -> tuple[str, ...]:
        """Each photo's path relative to the data root."""
        row, _ = parse(self.domain)
        return tuple(row.key(photo, self.root) for photo, _ in self.pairs)

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits over which pairs these are."""
        return hashlib.sha256('\n'.join(self.keys).encode()).hexdigest()[:8]

    @property
    def part(self) -> str | None:
        """`digest`, or None of all pairs that are published (`Protocol.pairs`)."""
        whole = len(self.pairs) == self.published and not self.skipped and not self.odd
        return None if whole else self.digest

    def summary(self) -> dict[str, Any]:
        """Return what a checkpoint and a record say of them."""
        found = dict(pairs=len(self.pairs), published=self.published, digest=self.digest)
        return found | (dict(odd=len(self.odd)) if self.odd else {})

    def note(self) -> str:
        """Return the lines that name pairs that do not fit; '' without any."""
        if not self.odd:
            return ''
        shown = '\n  '.join(map(str, [*self.odd.values()][:3]))
        more = f'\n  and {len(self.odd) - 3:,} more' if len(self.odd) > 3 else ''
        return (
            f'{self.domain}: {len(self.odd):,} of {len(self.pairs) + len(self.odd):,} pairs left '
            f'out, whose files do not fit:\n  {shown}{more}\n'
            f'Look closer with ibnseg audit {self.domain} {shlex.quote(str(self.root))}; state '
            'with --skip-list which pairs to leave out'
        )

    def report(self) -> str:
        """Return `note`, and a line where these are not as many as published."""
        if self.published in (None, len(self.pairs)):
            return self.note()
        count = f'{self.domain}: {len(self.pairs):,} pairs, published are {self.published:,}'
        return f'{self.note()}\n{count}'.lstrip()


def use(
    domain: str,
    data_root: str | Path,
    skip_lists: Iterable[str | Path] = (),
    odd_pairs: str = 'leave_out',
) -> Used:
    """Return the pairs of `name:split` to train on or to measure.

    Those that `skip_lists` name are left out, then those whose photo and label are of unequal
    sizes or of which a file can't be read. A file that is damaged within is found when it is
    decoded, not here.

    Args:
        odd_pairs: of `ODD_PAIRS`; by 'refuse' such pairs are an error.

    Raises DataError: as `find`; no pair is left; pairs that do not fit, where they are refused.
    """
    if odd_pairs not in ODD_PAIRS:
        raise DataError(f'odd_pairs is {odd_pairs!r}; choose from {ODD_PAIRS}')
    row, split = parse(domain)
    pairs, skipped = by_key(domain, data_root, skip_lists)
    sizes = _sizes([file for pair in pairs.values() for file in pair], Path(row.folder).name)
    wrong = {pair: _wrong(*pair, sizes) for pair in pairs.values()}
    odd = {pair: error for pair, error in wrong.items() if error}
    fit = {key: pair for key, pair in pairs.items() if pair not in odd}
    name, root, published = f'{row.name}:{split}', Path(data_root), row.splits.get(split)
    if odd and (odd_pairs == 'refuse' or not fit):
        raise DataError(
            f'{next(iter(odd.values()))} ({len(odd):,} of the {len(pairs):,} pairs of {name} do '
            f'not fit). Unpack these files again, or leave the pairs out: ibnseg audit {row.name} '
            f'{shlex.quote(str(root))} --write-skip-list skip.txt, then --skip-list skip.txt'
        )
    return Used(name, root, [*fit.values()], tuple(fit), published, skipped, odd)


def _sizes(files: list[Path], name: str) -> dict[Path, list[int] | None]:
    """Return [width, height] of each file, None of one that can't be read."""
    if len(files) < _FEW:
        return {file: _size(file) for file in files}
    with contextlib.ExitStack() as held, progress.bar('reading sizes') as bar:
        with contextlib.suppress(OSError):  # then nothing is remembered
            # The ranks of a run, and other runs, wait for the one that reads.
            held.enter_context(disk.alone(disk.cache_folder('sizes')))
        store = disk.Store('sizes', name, _VERSION, by_content=False)
        found = store.values(_size, [(file,) for file in files], None, bar)[0]
    return {file: size for (file,), size in found.items()}


_JPEG_END = b'\xff\xd9'
_POLYGONS = re.compile(rb'"img(Width|Height)"\s*:\s*(\d+)')


def _size(path: Path) -> list[int] | None:
    with contextlib.suppress(Exception):  # Pillow raises OSError, ValueError and SyntaxError
        if path.suffix.lower() == '.json':
            return _of_polygons(disk.read(path))
        with disk.opened(path) as file:
            head = file.read(24)
            file.seek(-12, 2)
            end = file.read()
        if head.startswith(pixels.PNG) and end == pixels.PNG_END:
            return list(struct.unpack('>II', head[16:]))
        with disk.opened(path) as file, Image.open(file) as image:
            if image.format != 'JPEG' or _JPEG_END not in end:
                image.load()  # what follows its end, or lacks, may do no harm
            return list(image.size)
    return None


def _of_polygons(content: bytes) -> list[int] | None:
    found = dict(_POLYGONS.findall(content))
    whole = len(found) == 2 and content.rstrip().endswith(b'}')
    return [int(found[b'Width']), int(found[b'Height'])] if whole else None


def _wrong(photo: Path, label: Path, sizes: dict[Path, list[int] | None]) -> DataError | None:
    """Return what is wrong with a pair, None where it fits."""
    for file, what in ((photo, 'photo'), (label, 'label file')):
        if sizes[file] is None:
            return DataError(f'{file}: unreadable {what} ({_reason(file)})', 'unreadable', file)
    size, truth = sizes[photo], sizes[label]
    if size == truth or (size == truth[::-1] and _turned(photo)):
        return None
    both = f'label is {truth[0]}x{truth[1]}, its photo {photo} is {size[0]}x{size[1]}'
    return DataError(f'{label}: {both}', 'size', label)


def _turned(photo: Path) -> bool:
    """Whether a photo's EXIF tag turns it by a quarter."""
    with contextlib.suppress(Exception), Image.open(photo) as image:
        return pixels.orientation(image) > 4
    return False


def _reason(path: Path) -> str:
    try:
        if path.suffix.lower() == '.json':
            return f'{path.stat().st_size:,} bytes, not a whole file of polygons'
        with disk.opened(path) as file, Image.open(file) as image:
            image.load()
    except Exception as error:
        return getattr(error, 'strerror', None) or str(error).replace(f' {str(path)!r}', '')
    return 'its end is missing'
