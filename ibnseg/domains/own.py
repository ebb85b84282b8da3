"""A dataset of one's own, described by one YAML file outside of the package.

    name: mycity
    photos: images/{split}/*.jpg
    labels: masks/{split}/*.png
    splits: [train, val]
    ids: {road: 7, sidewalk: 8, car: [26, 29]}
    ignore: [0, 255]

`docs/datasets.md` says what each key means. A file that is read adds a row to `DOMAINS` and a label
space, for this process.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import disk
from ..errors import DataError
from ..labels import IGNORE, spaces
from ..text import clean, meant
from .table import DOMAINS, Domain

#: Name of a domain -> the file that describes it.
FILES: dict[str, Path] = {}
#: Processes that a command starts read these files, too.
VARIABLE = 'IBNSEG_DOMAIN_FILES'
_KEYS = {'name', 'photos', 'labels', 'splits'}, {
    'root', 'default', 'classes', 'ids', 'colours', 'ignore', 'terms', 'drives'
}  # fmt: skip
_MOST_BYTES = 2**20


def read(path: str | Path) -> Domain:
    """Read a file and add its domain; one that was read before is read again.

    Raises DataError: no such file, not as expected, or a name that is taken.
    """
    path = Path(path).absolute()
    said = _load(path)
    name = said['name']
    if name in DOMAINS and FILES.get(name) != path:
        raise DataError(f'{path}: the name {name!r} is taken, by {FILES[name]}. Choose another')
    space = _space(path, said)
    root = (path.parent / said.get('root', '.')).resolve()
    digest = hashlib.sha256(repr(space).encode()).hexdigest()[:8]
    spaces.SPACES[f'{name}-{digest}'] = space  # another mapping is another space
    row = Domain(
        name,
        dict.fromkeys(said['splits']),
        tree=f'{name}/{said["photos"]}\n{name}/{said["labels"]}',
        source=str(path),
        space=f'{name}-{digest}',
        folder=str(root),  # absolute: no data root comes before it
        terms=clean(said.get('terms', ''), 500),
        drives=said.get('drives', ''),
        default=said.get('default', 'val' if 'val' in said['splits'] else said['splits'][-1]),
    )
    if row.default not in row.splits:
        raise DataError(f'{path}: default is {row.default!r}; expected one of {said["splits"]}')
    DOMAINS[name], FILES[name] = row, path
    return row


def read_all(paths: Iterable[str | Path]) -> None:
    """Read several files, and those that the process was started with."""
    started = filter(None, os.environ.get(VARIABLE, '').split(os.pathsep))
    for path in dict.fromkeys(map(str, (*started, *paths))):
        read(path)


def read_beside(config: str | Path) -> None:
    """Read the domain files that lie in the folder of a config file. Raises DataError as `read`."""
    for path in sorted(Path(config).absolute().parent.glob('*.yaml')):
        if path.is_file() and path.stat().st_size <= _MOST_BYTES:
            text = disk.read(path).decode('utf-8', 'replace')
            if all(re.search(rf'^{key}:', text, re.MULTILINE) for key in ('photos', 'labels')):
                read(path)


def files_of(names: Iterable[str]) -> list[str]:
    """Return the files that describe some of these domains, each 'name' or 'name:split'."""
    known = dict.fromkeys(FILES.get(name.partition(':')[0]) for name in names)
    return [str(path) for path in known if path]


def _load(path: Path) -> dict[str, Any]:
    import yaml

    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f'{path}: more than 1 MiB; no description of a dataset is so long')
        said = yaml.safe_load(disk.read(path).decode())
    except FileNotFoundError:
        raise DataError(f'{path}: no such domain file') from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f'{path}: not readable as YAML ({" ".join(str(error).split())})') from None
    needed, others = _KEYS
    if not isinstance(said, dict) or (lacks := needed - said.keys()):
        lacks = lacks if isinstance(said, dict) else needed
        raise DataError(f'{path}: no {", ".join(sorted(lacks))}; docs/datasets.md has an example')
    for key in said.keys() - needed - others:
        raise DataError(f'{path}: unknown key {key!r}{meant(key, needed | others)}')
    check_name(said['name'], f'{path}: name')
    for key in ('photos', 'labels'):
        _check_pattern(path, key, said[key])
    if not isinstance(said.get('terms', ''), str):
        raise DataError(f'{path}: terms is {said["terms"]!r:.60}; expected a text')
    if said.get('drives', 'name') not in ('folder', 'name'):
        raise DataError(f'{path}: drives is {said["drives"]!r:.60}; expected folder or name')
    parts = said['splits']
    if not (isinstance(parts, list) and parts and all(map(_is_split, parts))):
        raise DataError(f'{path}: splits is {parts!r:.60}; expected names, as [train, val]')
    if '{split}' not in said['photos'] and len(parts) > 1:
        raise DataError(f'{path}: photos has no {{split}}, so {parts} would all be the same files')
    return said


def check_name(name: Any, what: str) -> None:
    """Raise DataError for a name that no dataset can have, or that one of ibnseg has."""
    if not re.fullmatch(r'[a-z][a-z0-9_]*', str(name)):
        raise DataError(f'{what} is {name!r:.60}; expected a-z, 0-9 and _')
    if name in DOMAINS and name not in FILES:
        raise DataError(f'{what}: {name!r} is taken, by a dataset of ibnseg. Choose another')


def _is_split(name: Any) -> bool:
    return isinstance(name, str) and bool(re.fullmatch(r'[\w.-]+', name)) and '..' not in name


def is_pattern(pattern: Any) -> bool:
    """Whether this is a path below a folder whose file name has one star."""
    return (
        isinstance(pattern, str)
        and bool(
            re.fullmatch(
                r'(?:[^*{}<>]|\{split\}|\*/)*\*[^*{}/<>]*\.(?:\w+|\{\w+(?:,\w+)*\})', pattern
            )
        )
        and not Path(pattern).is_absolute()
        and '..' not in Path(pattern).parts
    )


def _check_pattern(path: Path, key: str, pattern: Any) -> None:
    if not is_pattern(pattern):
        raise DataError(
            f'{path}: {key} is {pattern!r:.80}; expected a path below root whose file name has one '
            'star, what photo and label share, as images/{split}/*.jpg or {split}/*/*_rgb.{png,jpg}'
        )


def _space(path: Path, said: Mapping[str, Any]) -> spaces.Space:
    """Return the label space that `ids` or `colours` describe."""
    task = _task(path, said)
    if ('ids' in said) == ('colours' in said):
        raise DataError(f'{path}: expected either ids or colours, class -> one or several')
    key = 'ids' if 'ids' in said else 'colours'
    if not isinstance(said[key], dict) or not said[key]:
        raise DataError(f'{path}: {key} is {said[key]!r:.60}; expected class -> one or several')
    for name in said[key]:
        if name not in task.classes:
            near = meant(name, task.classes)
            raise DataError(f'{path}: {key}: no class {name!r}{near}; there are {task.classes}')
    listed = said[key] | {None: said.get('ignore', [])}
    one = _number if key == 'ids' else _colour
    of = {name: [one(path, key, v) for v in _several(v, key)] for name, v in listed.items()}
    every = [value for values in of.values() for value in values]
    if twice := {value for value in every if every.count(value) > 1}:
        raise DataError(f'{path}: {key}: {min(twice)} is given twice')
    if key == 'colours':
        words = {value: str(value) for value in every}
        return spaces.Space(
            tuple(words.values()),
            {name: tuple(map(words.get, values)) for name, values in of.items() if name and values},
            encoding='colour',
            colours=tuple(words),
            task=task,
        )
    top = 1 + max(value for name, values in of.items() if name for value in values)
    return spaces.Space(
        tuple(map(str, range(top))),
        {name: tuple(map(str, values)) for name, values in of.items() if name and values},
        extra=tuple(sorted({IGNORE, *(value for value in of[None] if value >= top)})),
        holes=tuple(sorted({*range(top)} - {*every})),
        task=task,
    )


def _task(path: Path, said: Mapping[str, Any]) -> spaces.Task:
    given = said.get('classes')
    if given is None:
        return spaces.STREETS
    if not isinstance(given, dict) or not 2 <= len(given) <= 250:
        raise DataError(f'{path}: classes is {given!r:.60}; expected name: [red, green, blue] each')
    colours = [_colour(path, 'classes', value) for value in given.values()]
    names = tuple(map(str, given))
    marked = hashlib.sha256(repr(names).encode()).hexdigest()[:8]
    return spaces.Task(f'{said["name"]}-{marked}', names, np.array(colours, np.uint8))


def _several(value: Any, key: str) -> list[Any]:
    """Return one or several ids or colours as a list of them."""
    if key == 'ids':
        return value if isinstance(value, list) else [value]
    is_one = isinstance(value, list) and value and not isinstance(value[0], list)
    return [value] if is_one or not isinstance(value, list) else value


def _number(path: Path, key: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 255:
        raise DataError(f'{path}: {key}: {value!r:.60}; expected whole numbers of 0 to 255')
    return value


def _colour(path: Path, key: str, value: Any) -> tuple[int, int, int]:
    if not (isinstance(value, list) and len(value) == 3):
        raise DataError(f'{path}: {key}: {value!r:.60}; expected [red, green, blue]')
    red, green, blue = (_number(path, key, part) for part in value)
    return red, green, blue
