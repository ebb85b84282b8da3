"""The configs that come with ibnseg, by name. Needs neither torch nor the MM packages."""

import ast
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from .text import meant


def folder() -> Path:
    """Return the folder of the configs: within the installed package, or of the checkout."""
    package = Path(__file__).parent
    inside = package / 'configs'
    return inside if inside.is_dir() else package.parent / 'configs'


def names() -> dict[str, Path]:
    """Return {'miniature/ibn_b': its file} of every config that can be run."""
    root = folder()
    return {
        path.relative_to(root).with_suffix('').as_posix(): path
        for path in sorted(root.rglob('*.py'))
        if not any(part.startswith('_') for part in path.relative_to(root).parts)
    }


def find(text: str) -> str:
    """Return the config that a person names: a file that is there, else one of `names`.

    `ibn_b_gta5_to_cityscapes`, `miniature/ibn_b` and `configs/miniature/ibn_b.py` are names; the
    last part alone is one where no two configs share it. What has a suffix and is no name is
    returned as it is, for whoever opens it to say what is wrong.

    Raises ValueError for no name, or one of several configs.
    """
    if Path(text).is_file():
        return text
    known, suffix = names(), Path(text).suffix
    name = text.removeprefix('configs/').removesuffix('.py')
    if suffix in ('', '.py') and name in known:
        return str(known[name])
    if suffix:
        return text
    found = [one for one in known if one.endswith(f'/{text}')]
    if len(found) == 1:
        return str(known[found[0]])
    if found:
        raise ValueError(f'{text} is the name of several configs; choose from {", ".join(found)}')
    near = meant(text, [*known, *(one.rpartition('/')[2] for one in known)])
    raise ValueError(f'{text}: no such config, file or name{near}. ibnseg configs lists the names')


def title(path: Path) -> str:
    """Return the first line of a config's docstring, '' without one."""
    text = ast.get_docstring(ast.parse(path.read_bytes())) or ''
    return text.partition('\n')[0]


def bases(path: Path) -> set[Path]:
    """Return a config and all that it inherits from among files."""
    found = {path}
    for line in ast.parse(path.read_bytes()).body:
        if isinstance(line, ast.Assign) and getattr(line.targets[0], 'id', '') == '_base_':
            given = ast.literal_eval(line.value)
            for base in [given] if isinstance(given, str) else given:
                if '::' not in base:  # of an installed package
                    found |= bases(Path(os.path.normpath(path.parent / base)))
    return found


def copy(paths: Iterable[str | Path], to: str | Path) -> list[Path]:
    """Copy configs and what they inherit from into a folder, laid out as here.

    Returns: the copies. Raises FileExistsError, before any is made, where another file lies.
    """
    root = folder()
    sources = sorted(set().union(*(bases(Path(path)) for path in paths)))
    pairs = [(source, Path(to) / source.relative_to(root)) for source in sources]
    for source, copied in pairs:
        if copied.exists() and copied.read_bytes() != source.read_bytes():
            raise FileExistsError(f'{copied} exists already, and is another file than {source}')
    for source, copied in pairs:
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copied)
    return [copied for _, copied in pairs]
