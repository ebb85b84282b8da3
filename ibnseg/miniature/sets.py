"""Sets of scenes on disk, each as its dataset is downloaded."""

import json
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from .. import disk
from .. import workers as spread
from ..text import meant
from .layouts import LAYOUTS, Frame, Layout
from .photo import check
from .scene import FORMAT
from .worlds import WORLDS

RECORD = 'miniature.json'

#: The sets of `make demo`.
DEFAULT = ('gta5', 'cityscapes')


def write(
    out: str | os.PathLike,
    worlds: Sequence[str] = DEFAULT,
    train: int = 200,
    val: int = 40,
    size: tuple[int, int] = (256, 512),
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Path]:
    """Write each world to `out/<world>` as its dataset is downloaded; return the folders.

    A world is a name in `LAYOUTS`. `train` and `val` count frames; a split that is neither, as
    CamVid's test, gets `val` frames, and one that a dataset doesn't have gets none. No scene is
    shown twice, not in two worlds, not in train and val; but foggy_cityscapes shows those of
    cityscapes. A folder that already holds the same set is left alone, one that holds another
    miniature set is written anew. `progress(done, total)` is called as frames are finished.

    Raises ValueError for an unknown world, counts or sizes out of range, and FileExistsError for a
    folder of someone else's.
    """
    check(seed, size)
    for world in worlds:
        if world not in LAYOUTS:
            near = meant(world, LAYOUTS)
            raise ValueError(f'unknown world {world!r}; choose from {tuple(LAYOUTS)}{near}')
        for split, count in counts(world, train, val).items():
            limit = LAYOUTS[world].limits[split]
            if not 0 <= count <= limit:
                raise ValueError(
                    f'{split}={count} for {world}: expected 0 to {limit}, the size of its split'
                )
    records = {world: _record(world, train, val, size, seed) for world in worlds}
    roots = {world: Path(out) / world for world in worlds}
    stale = [world for world in roots if not _is_written(roots[world], records[world])]
    jobs = [
        (LAYOUTS[world], roots[world], frame)
        for world in stale
        for frame in _frames(world, train, val, tuple(size), seed)
    ]
    for world in stale:
        for folder in LAYOUTS[world].folders:
            shutil.rmtree(roots[world] / folder, ignore_errors=True)
        # Marks the folder as ours, so that a run cut short can be repeated.
        disk.write_atomically(roots[world] / RECORD, '{"complete": false}\n')
    for done, _ in enumerate(spread.run(Layout.write, jobs, workers), 1):
        if progress:
            progress(done, len(jobs))
    for world in stale:
        disk.write_atomically(roots[world] / RECORD, records[world])
    return roots


def counts(world: str, train: int, val: int) -> dict[str, int]:
    """Frames of each split that a world has."""
    return {split: train if split == 'train' else val for split in LAYOUTS[world].limits}


def _record(world: str, train: int, val: int, size: tuple[int, int], seed: int) -> str:
    """What `RECORD` says of a set that is complete."""
    looks = {name: asdict(WORLDS[name]) for name in LAYOUTS[world].looks}
    content = {'format': FORMAT, 'world': world, 'train': train, 'val': val, 'size': size,
               'seed': seed, 'looks': looks, 'complete': True}  # fmt: skip
    return json.dumps(content, indent=1) + '\n'


def _frames(world: str, train: int, val: int, size: tuple[int, int], seed: int) -> list[Frame]:
    """The frames of a set; each (seed, world, split) has a range of scene seeds of its own."""
    scenes = LAYOUTS[world].scenes or world
    return [
        Frame(split, n, zlib.crc32(f'{seed} {scenes} {split}'.encode()) * 100_000 + n, size)
        for split, count in counts(world, train, val).items()
        for n in range(count)
    ]


def _is_written(root: Path, record: str) -> bool:
    """Whether a folder holds this very set; raises FileExistsError if it holds someone else's."""
    if not root.exists() or not any(root.iterdir()):
        return False
    if not (root / RECORD).is_file():
        found = sorted(path.name for path in root.iterdir())[:3]
        raise FileExistsError(
            f'{root} holds {found} and no {RECORD}, so it is not a miniature set and is left '
            'alone; choose another folder, or remove it if you do not need it'
        )
    return (root / RECORD).read_text() == record
