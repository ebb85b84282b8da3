"""Sets of scenes on disk, each world as its data set is downloaded."""

import json
import multiprocessing
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from .. import splits
from ..labels import CITYSCAPES_IDS, PALETTE
from .photo import check, render
from .scene import FORMAT, IDS
from .worlds import WORLDS

RECORD = 'miniature.json'

#: The worlds of `make demo`.
DEFAULT = ('gta5', 'cityscapes')


class Frame(NamedTuple):
    """One pair of a set: the n-th of its split, before it is drawn."""

    split: str
    n: int
    seed: int


def _save(path: Path, image: Image.Image) -> None:
    """Write a PNG whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.part')
    image.save(partial, format='png', compress_level=1)
    os.replace(partial, path)


#: Of ids that have no training class, so are not in PALETTE.
_COLOURS = {
    'static': (20, 20, 20),
    'dynamic': (111, 74, 0),
    'ground': (81, 0, 81),
    'parking': (250, 170, 160),
    'rail track': (230, 150, 140),
}


def _colours() -> np.ndarray:
    """Cityscapes' colour of each raw id, uint8 (256, 3)."""
    table = np.zeros((256, 3), np.uint8)
    table[CITYSCAPES_IDS] = PALETTE
    for name, colour in _COLOURS.items():
        table[IDS[name]] = colour
    return table


def _write_gta5(root: Path, frame: Frame, photo: np.ndarray, label: np.ndarray) -> None:
    """images/00001.png in RGB, labels/00001.png as an 8-bit palette PNG whose index is the id."""
    name = splits.gta5(frame.split)[frame.n]
    _save(root / 'images' / name, Image.fromarray(photo))
    image = Image.fromarray(label)
    image.putpalette(_colours().tobytes())
    _save(root / 'labels' / name, image)


_CITIES = {
    'train': ('aachen', 'bochum', 'bremen', 'cologne', 'darmstadt', 'dusseldorf', 'erfurt',
              'hamburg', 'hanover', 'jena', 'krefeld', 'monchengladbach', 'strasbourg', 'stuttgart',
              'tubingen', 'ulm', 'weimar', 'zurich'),
    'val': ('frankfurt', 'lindau', 'munster'),
}  # fmt: skip


def _write_cityscapes(root: Path, frame: Frame, photo: np.ndarray, label: np.ndarray) -> None:
    """leftImg8bit/<split>/<city>/ in RGB, gtFine/<split>/<city>/ with ids in grey and in colour."""
    cities = _CITIES[frame.split]
    city = cities[frame.n % len(cities)]
    stem = Path(frame.split, city, f'{city}_{frame.n // len(cities):06d}_000019')
    _save(root / 'leftImg8bit' / f'{stem}_leftImg8bit.png', Image.fromarray(photo))
    _save(root / 'gtFine' / f'{stem}_gtFine_labelIds.png', Image.fromarray(label))
    _save(root / 'gtFine' / f'{stem}_gtFine_color.png', Image.fromarray(_colours()[label]))


class Layout(NamedTuple):
    """How to write one pair as a data set is downloaded, into which folders, how many at most."""

    write: Callable[[Path, Frame, np.ndarray, np.ndarray], None]
    folders: tuple[str, ...]
    train: int
    val: int


#: World -> its layout. The most pairs it takes are the real splits' sizes.
LAYOUTS = {
    'gta5': Layout(_write_gta5, ('images', 'labels'), 12403, 6382),
    'cityscapes': Layout(_write_cityscapes, ('leftImg8bit', 'gtFine'), 2975, 500),
}


def _work(world: str, root: Path, size: tuple[int, int], frame: Frame) -> None:
    LAYOUTS[world].write(root, frame, *render(frame.seed, world, size))


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
    """Write each world to `out/<world>` as its data set is downloaded; return the folders.

    No scene is shown twice: not in two worlds, not in train and val. A folder that already holds
    the same set is left alone, one that holds another miniature set is written anew.
    `progress(done, total)` is called as pairs are finished. Raises ValueError for an unknown
    world, counts or sizes out of range, and FileExistsError for a folder of someone else's.
    """
    check(worlds, size)
    for world in worlds:
        for split, count in (('train', train), ('val', val)):
            limit = getattr(LAYOUTS[world], split)
            if not 0 <= count <= limit:
                raise ValueError(
                    f'{split}={count} for {world}: expected 0 to {limit}, the size of its split'
                )
    if seed < 0:
        raise ValueError(f'seed {seed} is negative; expected 0 or more')
    settings = {world: _settings(world, train, val, size, seed) for world in worlds}
    roots = {world: Path(out) / world for world in worlds}
    stale = [world for world in roots if not _is_written(roots[world], settings[world])]
    jobs = [
        (world, roots[world], tuple(size), frame)
        for world in stale
        for frame in _frames(world, train, val, seed)
    ]
    for world in stale:
        _clear(roots[world], LAYOUTS[world].folders)
    for done, _ in enumerate(_run(jobs, workers or os.cpu_count() or 1), 1):
        if progress:
            progress(done, len(jobs))
    for world in stale:
        _record(roots[world], settings[world] | {'complete': True})
    return roots


def _settings(world: str, train: int, val: int, size: tuple[int, int], seed: int) -> dict:
    look = json.loads(json.dumps(asdict(WORLDS[world])))
    return {'format': FORMAT, 'world': world, 'train': train, 'val': val, 'size': list(size),
            'seed': seed, 'look': look}  # fmt: skip


def _frames(world: str, train: int, val: int, seed: int) -> list[Frame]:
    """The pairs of a set; each (seed, world, split) has a range of scene seeds of its own."""
    return [
        Frame(split, n, zlib.crc32(f'{seed} {world} {split}'.encode()) * 100_000 + n)
        for split, count in (('train', train), ('val', val))
        for n in range(count)
    ]


def _is_written(root: Path, settings: dict) -> bool:
    """Whether a folder holds this very set; raises FileExistsError if it holds someone else's."""
    if not root.exists() or not any(root.iterdir()):
        return False
    if not (root / RECORD).is_file():
        found = sorted(path.name for path in root.iterdir())[:3]
        raise FileExistsError(
            f'{root} holds {found} and no {RECORD}, so it is not a miniature set and is left '
            'alone; choose another folder, or remove it if you do not need it'
        )
    try:
        return json.loads((root / RECORD).read_text()) == settings | {'complete': True}
    except json.JSONDecodeError:
        return False


def _clear(root: Path, folders: Iterable[str]) -> None:
    """Empty a folder of ours and mark it as ours, so that a run cut short can be repeated."""
    for folder in folders:
        shutil.rmtree(root / folder, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    _record(root, {'complete': False})


def _record(root: Path, content: dict) -> None:
    partial = root / (RECORD + '.part')
    partial.write_text(json.dumps(content, indent=1) + '\n')
    os.replace(partial, root / RECORD)


def _run(jobs: list[tuple], workers: int) -> Iterable[None]:
    if workers <= 1 or len(jobs) < 8:
        for job in jobs:
            yield _work(*job)
        return
    method = 'fork' if 'fork' in multiprocessing.get_all_start_methods() else None
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(
        workers, context, initializer=cv2.setNumThreads, initargs=(0,)
    ) as pool:
        yield from pool.map(_work, *zip(*jobs, strict=True), chunksize=4)
