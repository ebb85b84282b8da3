"""Packages by name: `ibnseg://DIGEST@ADDRESS`, a folder on disk or on the web with its hash.

The digest is what `ibnseg package` prints: the last value of package.json.
"""

import re
from pathlib import Path

from .. import disk
from .files import MANIFEST, PackageError, digest_of, manifest_of, verify

_NAME = re.compile(r'ibnseg://([0-9a-f]{64})@(.+)')


def is_name(word: str | Path) -> bool:
    return str(word).startswith('ibnseg:/')


def locate(name: str) -> Path:
    """Return the folder of a package by its name; one on the web is fetched, whole or not at all.

    Raises:
        PackageError: not a name, another package than its digest says, or a damaged file.
        FileNotFoundError: it cannot be fetched.
    """
    found = _NAME.fullmatch(name)
    if not found:
        raise PackageError(
            f'{name:.200}: no name of a package; expected ibnseg://DIGEST@ADDRESS, with the 64 '
            'digits that ibnseg package prints and a folder or an http(s) address of one'
        )
    digest, address = found.groups()
    if not address.startswith(('http://', 'https://')):
        return _checked(Path(address.removeprefix('file://')), digest)
    folder = disk.cache_folder('packages') / digest
    with disk.alone(folder.parent):
        if not folder.is_dir():
            _fetch(address.rstrip('/'), digest, folder)
    return _checked(folder, digest)


def _checked(folder: Path, digest: str) -> Path:
    manifest_of(folder)
    if (found := digest_of(folder)) != digest:
        raise PackageError(f'{folder}: another package ({found[:12]}..., not {digest[:12]}...)')
    return folder


def _fetch(address: str, digest: str, folder: Path) -> None:
    with disk.new_folder(folder.parent, digest) as place:
        _download(f'{address}/{MANIFEST}', place / MANIFEST)
        _checked(place, digest)
        for name in manifest_of(place)['files']:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            _download(f'{address}/{name}', place / name)
        verify(place)
        place.chmod(0o755)
        place.rename(folder)


def _download(address: str, file: Path) -> None:
    try:
        import pooch

        pooch.HTTPDownloader(chunk_size=1 << 20, timeout=30)(address, str(file), None)
    except (OSError, ImportError) as error:
        why = 'pip install pooch first' if isinstance(error, ImportError) else error
        raise FileNotFoundError(f'{address}: could not be fetched ({why})') from error
