"""Fetched files: kept under the torch hub directory, whole and verified or not at all."""

import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import torch

from .. import _stack, disk


def folder() -> Path:
    """Return where files lie; lay one there by hand to work offline."""
    return Path(torch.hub.get_dir()) / 'checkpoints'


def place(url: str) -> Path:
    """Return where the file of an address lies, or would. Raises ValueError if it names no file."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    if not name or name == '..' or '\\' in name:
        raise ValueError(f'{url}: names no file')
    return folder() / name


def fetch(url: str) -> Path:
    """Return the path of an address's file in the cache, fetched if it isn't there.

    A download gets its name when it is whole and its hash is right. Processes that ask for one file
    at the same time fetch it once. Where the file's name holds the first digits of its SHA-256
    (`-2f571257.pth`), the file is verified on every call, whoever laid it there.

    Raises:
        FileNotFoundError: not in the cache, and can't be fetched.
        ValueError: the file has another hash.
    """
    path = place(url)
    sha256 = _hash_in(path.name)
    if not path.is_file():
        try:
            with disk.alone(path.parent):
                if not path.is_file():  # else another process has fetched it meanwhile
                    _download(url, path, sha256)
        except (OSError, ImportError) as error:
            why = 'pip install pooch first' if isinstance(error, ImportError) else error
            raise FileNotFoundError(
                f'{url}: could not be fetched ({why}). Without a network, lay the file at '
                f'{path}, or train from scratch with --cfg-options model.backbone.init_cfg=None'
            ) from error
    why = f'the file is damaged or another one. Delete it; it comes from {url}'
    _verify(path, sha256, path, why)
    return path


def _verify(file: str | Path, sha256: str | None, name: object, why: str) -> None:
    found = disk.sha256(file)
    if sha256 and not found.startswith(sha256):
        raise ValueError(
            f'{name}: the SHA-256 begins with {found[: len(sha256)]}, expected {sha256}: {why}'
        )


def _hash_in(name: str) -> str | None:
    # 8 digits that read as a date (`-20200604.pth`) are one.
    match = re.search(r'-(?!(?:19|20)\d{6}\.)([0-9a-f]{8,64})\.', name)
    return match and match[1]


def _download(url: str, path: Path, sha256: str | None) -> None:
    import pooch  # only a download needs it

    def download(url: str, file: str, _: object) -> None:
        """Fetch to a temporary file, which pooch then moves to its place."""
        pooch.HTTPDownloader(chunk_size=1 << 20, timeout=30)(url, file, None)
        # pooch itself compares whole hashes only.
        why = 'what came was thrown away. Is there a proxy or a login page in between?'
        _verify(file, sha256, url, why)
        Path(file).chmod(0o644)  # a temporary file's own is 0o600

    _stack.log(f'fetching {url} to {path}')
    pooch.get_logger().setLevel('WARNING')
    pooch.retrieve(url, None, path.name, path.parent, downloader=download)
