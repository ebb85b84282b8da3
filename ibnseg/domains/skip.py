"""Skip lists: pairs to train and to measure without, such as those an audit found damaged.

A text file for people to read and to change, one pair a line:

    cityscapes/leftImg8bit/val/lindau/lindau_000003_000019_leftImg8bit.png  # ids

`cityscapes` is the domain's name; the rest is the photo, or the label file that stands alone,
below the dataset's folder. One list may name several domains. A line counts for every domain that
reads the same photo: one of `mapillary` for `mapillary_rich`, too.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from .. import disk, machine
from ..errors import DataError
from .listing import Files

_HEAD = '# ibnseg skip list: <domain>/<photo, or label file that stands alone>  # why'


def read(paths: Iterable[str | Path], domains: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Return {folder of a dataset: files below it} of skip lists together.

    Args:
        domains: name -> `Domain`.

    Raises DataError: no such list, or a line that names no file of one of `domains`.
    """
    named: dict[str, set[str]] = {}
    for path in paths:
        try:
            lines = disk.read(path).decode().splitlines()
        except OSError as error:
            raise DataError(
                machine.said(error) or f'{path}: no skip list ({error.strerror})'
            ) from None
        except UnicodeDecodeError as error:
            raise DataError(f'{path}: not a skip list, it is not text ({error})') from None
        for number, line in enumerate(lines, 1):
            entry = line.partition('  #')[0].strip()
            if '\0' not in line and (not entry or entry.startswith('#')):
                continue
            domain, _, file = entry.partition('/')
            outside = PurePosixPath(file).is_absolute() or '..' in PurePosixPath(file).parts
            if domain not in domains or not file or outside or '\0' in line:
                raise DataError(
                    f'{path}, line {number}: {entry!r:.200} names no file below the folder of a '
                    "domain; expected a line as 'gta5/images/00001.png  # why', as ibnseg audit "
                    'writes them'
                )
            named.setdefault(domains[domain].folder, set()).add(file)
    return {folder: frozenset(files) for folder, files in named.items()}


def write(path: str | Path, domain: str, files: Mapping[str, str]) -> None:
    """Write a skip list: `files` is {file below the dataset's folder: why}."""
    lines = [f'{domain}/{file}  # {why}' for file, why in files.items()]
    disk.write_atomically(path, '\n'.join([_HEAD, *lines, '']))


def leave_out(
    photos: Files, truth: Files, root: Path, named: frozenset[str]
) -> tuple[Files, Files, int]:
    """Return the files of a split without those named, and how many pairs were left out.

    Raises DataError for a name that is no file at all: a list of another copy skips nothing.
    """
    absent = sorted(file for file in named if not os.path.lexists(root / file))
    if absent:
        raise DataError(
            f'{root / absent[0]}: the skip list names it, but there is no such file '
            f'({len(absent)} such). Audit this copy of the dataset again, or remove the line'
        )
    out = {
        key
        for key, path in (truth | photos).items()  # a label by its name where it stands alone
        if named and Path(os.path.relpath(path, root)).as_posix() in named
    }
    pairs = len(out & photos.keys() & truth.keys())
    photos, truth = ({k: p for k, p in files.items() if k not in out} for files in (photos, truth))
    return photos, truth, pairs
