"""Reading a package: every byte is covered by a hash, and its config is data with known types."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .. import disk

SCHEMA = 'ibnseg-package-1'
MANIFEST, WEIGHTS, CONFIG, CARD = 'package.json', 'model.safetensors', 'config.json', 'README.md'
_OWN = re.compile(rb'"sha256": "([0-9a-f]{64})"\n}\n\Z')
#: Keys that have MMEngine read or import something else.
_REFUSED = ('_base_', '_scope_', 'custom_imports', 'init_cfg', 'pretrained', 'load_from')
#: Keys whose text is a file that MMSegmentation would open.
_FILES = ('class_weight', 'checkpoint', 'checkpoint_path', 'class_embed_path')
_EMPTY = '0' * 64
#: What every manifest has.
_KINDS = dict(files=dict, records=list, meta=dict, classes=list, model=str)


class PackageError(ValueError):
    """A package that cannot be trusted. Says which file, what was found and what was expected."""


@dataclass(frozen=True)
class Package:
    """An opened package.

    Args:
        manifest: the content of package.json.
        config: of config.json, whose types are those of registries.
    """

    folder: Path
    manifest: Mapping[str, Any]
    config: Mapping[str, Any]

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS


def is_package(path: str | Path) -> bool:
    return Path(path, MANIFEST).is_file()


def sealed(manifest: Mapping[str, Any]) -> bytes:
    """Return a manifest's file, whose last value is the SHA-256 of all of it with zeros there."""
    text = json.dumps(dict(manifest, sha256=_EMPTY), indent=1) + '\n'
    digest = hashlib.sha256(text.encode()).hexdigest()
    return text.replace(f'"{_EMPTY}"\n}}\n', f'"{digest}"\n}}\n').encode()


def manifest_of(folder: Path) -> dict[str, Any]:
    """Return a package's manifest. Raises PackageError where it is not as it was written."""
    path = folder / MANIFEST
    try:
        data = disk.read(path)
    except OSError as error:
        raise PackageError(f'{path}: {error.strerror}; no package of ibnseg') from None
    found = _OWN.search(data)
    empty = data[: found.start(1)] + _EMPTY.encode() + data[found.end(1) :] if found else b''
    if not found or hashlib.sha256(empty).hexdigest() != found[1].decode():
        raise PackageError(f'{path}: changed since it was written; get the package again')
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PackageError(f'{path}: not JSON ({error})') from None
    if not isinstance(content, dict) or content.get('schema') != SCHEMA:
        found = content.get('schema') if isinstance(content, dict) else content
        raise PackageError(f'{path}: schema {found!r:.40}; expected {SCHEMA!r}')
    for key, kind in _KINDS.items():
        if not isinstance(content.get(key), kind):
            raise PackageError(
                f'{path}: {key} is {content.get(key)!r:.80}; expected a {kind.__name__}'
            )
    texts = [*content['files'].values(), *content['records'], *content['classes']]
    if not all(isinstance(one, str) for one in texts):
        raise PackageError(f'{path}: files, records or classes hold other things than texts')
    if absent := {WEIGHTS, CONFIG, *content['records']} - content['files'].keys():
        raise PackageError(f'{path}: its files lack {sorted(absent)[0]!r:.80}')
    for name in content['files']:
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).is_absolute() or '..' in parts or '\\' in name:
            raise PackageError(f'{path}: names {name!r:.80}, which is not below the package')
    return content


def digest_of(folder: Path) -> str:
    """Return the digest of a manifest that `manifest_of` has read."""
    return _OWN.search((folder / MANIFEST).read_bytes())[1].decode()


def verify(folder: str | Path, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """Check every file of a package by its hash; returns the manifest.

    Args:
        only: names; default: all, and that there are no others.

    Raises PackageError for the first file that is absent, changed or not named.
    """
    folder = Path(folder)
    manifest = manifest_of(folder)
    for name, sha256 in manifest['files'].items():
        if only and name not in only:
            continue
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise PackageError(f'{path}: not there, but {MANIFEST} names it; get the package again')
        if (found := disk.sha256(path)) != sha256:
            raise PackageError(
                f'{path}: changed since the package was written (SHA-256 {found[:12]}..., expected '
                f'{sha256[:12]}...); get it again'
            )
    if not only:
        there = {path.relative_to(folder).as_posix() for path in folder.rglob('*')}
        folders = {str(parent) for name in manifest['files'] for parent in Path(name).parents}
        if more := sorted(there - {MANIFEST, *manifest['files'], *folders}):
            raise PackageError(f'{folder / more[0]}: {MANIFEST} does not name it; take it out')
    return manifest


def read(folder: str | Path) -> Package:
    """Open a package for its weights and config; nothing of it is run.

    Raises PackageError: one of these is not as it was written, or a config that names what is in
    no registry.
    """
    folder = Path(folder)
    manifest = verify(folder, (WEIGHTS, CONFIG))
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text('utf-8'))
    except (ValueError, RecursionError) as error:
        raise PackageError(f'{path}: not JSON ({error})') from None
    if not isinstance(config, dict) or not isinstance(config.get('model'), dict):
        raise PackageError(f'{path}: no model; expected the config of a network')
    check_types(path, config)
    return Package(folder, manifest, config)


def check_types(path: Path, config: Any) -> None:
    """Raise PackageError for a `type` that is not the plain name of a registry's.

    A dotted name would be imported, whatever it is.
    """
    from .._stack import require

    require()
    from mmengine.registry import Registry
    from mmseg import registry

    from .. import registered  # noqa: F401

    if config.get('default_scope', 'mmseg') != 'mmseg':  # MMEngine would import it
        raise PackageError(
            f"{path}: default_scope is {config['default_scope']!r:.80}; expected 'mmseg'"
        )
    known = set()
    for level in vars(registry).values():
        while isinstance(level, Registry):
            level.import_from_location()
            known |= level.module_dict.keys()
            level = level.parent
    for key, found in _items(config):
        if key in _REFUSED or '{{' in key or (isinstance(found, str) and '{{' in found):
            raise PackageError(
                f'{path}: {key!r:.80} would read or run other files; no package does'
            )
        if key in _FILES and isinstance(found, str):
            raise PackageError(f'{path}: {key} names a file; no package reads others')
        if key == 'type' and (not isinstance(found, str) or found not in known):
            raise PackageError(
                f'{path}: type {found!r:.80} is none that ibnseg or MMSegmentation registers; a '
                'package names no others'
            )


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield str(key), one
            yield from _items(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield '', one
            yield from _items(one)
