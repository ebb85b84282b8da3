"""The layouts: one scene of a set written as it would lie on disk after the download."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .. import labels, splits
from ..labels import CITYSCAPES_IDS, CLASSES, IGNORE, PALETTE
from .photo import drivable, render
from .scene import IDS


class Frame(NamedTuple):
    """One pair of a set: the n-th of its split, before it is drawn."""

    split: str
    n: int
    seed: int
    size: tuple[int, int]


class Layout(NamedTuple):
    """How a dataset lies on disk.

    Args:
        write: draws a frame and writes all its files below a root.
        folders: those below the root that it writes to.
        limits: split -> the most frames it takes, the real split's size.
        looks: the worlds it shows (`WORLDS`), frame by frame in turn.
        scenes: the layout whose scenes it shows, where they are not its own.
    """

    write: Callable[[Path, Frame], None]
    folders: tuple[str, ...]
    limits: Mapping[str, int]
    looks: tuple[str, ...]
    scenes: str | None = None


def _save(path: Path, image: Image.Image, **settings: Any) -> None:
    """Write a PNG or, for .jpg, a JPEG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.part')
    if path.suffix == '.jpg':
        image.save(partial, format='jpeg', quality=92)
    else:
        image.save(partial, format='png', compress_level=1, **settings)
    os.replace(partial, path)


def _photo(path: Path, photo: np.ndarray) -> None:
    _save(path, Image.fromarray(photo))


def _grey(path: Path, ids: np.ndarray) -> None:
    _save(path, Image.fromarray(ids))


def _palette(path: Path, ids: np.ndarray, colours: np.ndarray) -> None:
    image = Image.fromarray(ids)
    image.putpalette(colours.tobytes())
    _save(path, image)


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


def translate(label: np.ndarray, space: str) -> np.ndarray:
    """Raw ids of a scene (Cityscapes') as another label space names them: uint8 (H, W).

    What has no training class keeps its name where the space knows it (parking, rail track, ego
    vehicle); the rest, and classes that the space can't name, are unlabelled.
    """
    names = [name.lower() for name in labels.space(space).names]
    void = next((names.index(name) for name in _VOID if name in names), IGNORE)
    table = np.full(256, void, np.uint8)
    for name, raw in IDS.items():
        if name in CLASSES:
            found = labels.raw_id(space, name)
        else:
            found = names.index(name) if name in names else None
        table[raw] = void if found is None else found
    return table[label]


_VOID = ('unlabeled', 'unlabelled', 'void')


def _gta5(root: Path, frame: Frame) -> None:
    """images/00001.png in RGB, labels/00001.png as an 8-bit palette PNG whose index is the id."""
    photo, label = render(frame.seed, 'gta5', frame.size)
    name = splits.gta5(frame.split)[frame.n]
    _photo(root / 'images' / name, photo)
    _palette(root / 'labels' / name, label, _colours())


def _synthia(root: Path, frame: Frame) -> None:
    """RGB/ and GT/LABELS/: 16-bit RGB, the class in red, the instance in green."""
    photo, label = render(frame.seed, 'synthia', frame.size)
    name = splits.synthia(frame.split)[frame.n]
    _photo(root / 'RGB' / name, photo)
    path = root / 'GT' / 'LABELS' / name
    ids = translate(label, 'synthia').astype(np.uint16)
    cars = ids == labels.raw_id('synthia', 'car')
    _, instances = cv2.connectedComponents(cars.astype(np.uint8))
    bgr = np.stack((np.zeros_like(ids), instances.astype(np.uint16), ids), -1)
    _, content = cv2.imencode('.png', bgr)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.part')
    partial.write_bytes(content.tobytes())
    os.replace(partial, path)


_CITIES = {
    'train': ('aachen', 'bochum', 'bremen', 'cologne', 'darmstadt', 'dusseldorf', 'erfurt',
              'hamburg', 'hanover', 'jena', 'krefeld', 'monchengladbach', 'strasbourg', 'stuttgart',
              'tubingen', 'ulm', 'weimar', 'zurich'),
    'val': ('frankfurt', 'lindau', 'munster'),
}  # fmt: skip


def _city_stem(frame: Frame) -> Path:
    cities = _CITIES[frame.split]
    city = cities[frame.n % len(cities)]
    return Path(frame.split, city, f'{city}_{frame.n // len(cities):06d}_000019')


def _cityscapes_labels(root: Path, stem: Path, label: np.ndarray) -> None:
    _grey(root / 'gtFine' / f'{stem}_gtFine_labelIds.png', label)
    _photo(root / 'gtFine' / f'{stem}_gtFine_color.png', _colours()[label])


def _cityscapes(root: Path, frame: Frame) -> None:
    """leftImg8bit/<split>/<city>/ in RGB, gtFine/<split>/<city>/ with ids in grey and in colour."""
    photo, label = render(frame.seed, 'cityscapes', frame.size)
    stem = _city_stem(frame)
    _photo(root / 'leftImg8bit' / f'{stem}_leftImg8bit.png', photo)
    _cityscapes_labels(root, stem, label)


def _foggy_cityscapes(root: Path, frame: Frame) -> None:
    """leftImg8bit_foggy/ with three densities of fog over the photos of Cityscapes, and gtFine/."""
    stem = _city_stem(frame)
    for beta in ('0.005', '0.01', '0.02'):
        photo, label = render(frame.seed, 'cityscapes', frame.size, fog=float(beta))
        _photo(root / 'leftImg8bit_foggy' / f'{stem}_leftImg8bit_foggy_beta_{beta}.png', photo)
    _cityscapes_labels(root, stem, label)


def _bdd100k(root: Path, frame: Frame) -> None:
    """images/10k with labels/sem_seg, images/100k with labels/drivable; JPEG and train ids."""
    photo, label = render(frame.seed, 'bdd100k', frame.size)
    name = f'{frame.seed & 0xFFFFFFFF:08x}-{frame.n:08x}'
    for folder in ('10k', '100k'):
        _photo(root / 'images' / folder / frame.split / f'{name}.jpg', photo)
    masks = root / 'labels'
    _grey(masks / 'sem_seg' / 'masks' / frame.split / f'{name}.png', translate(label, 'bdd100k'))
    areas = drivable(frame.seed, frame.size)
    _grey(masks / 'drivable' / 'masks' / frame.split / f'{name}.png', areas)
    _grey(root / 'drivable_maps' / 'labels' / frame.split / f'{name}_drivable_id.png',
          np.array((1, 2, 0), np.uint8)[areas])  # fmt: skip


def _mapillary(root: Path, frame: Frame) -> None:
    """training/ and validation/: images/*.jpg and labels/*.png, 8-bit palette."""
    photo, label = render(frame.seed, 'mapillary', frame.size)
    part = root / {'train': 'training', 'val': 'validation'}[frame.split]
    name = f'{frame.seed:022d}'
    _photo(part / 'images' / f'{name}.jpg', photo)
    colours = np.zeros((256, 3), np.uint8)
    table = labels.lut('mapillary-rich')
    colours[table != IGNORE] = PALETTE[table[table != IGNORE]]
    _palette(part / 'labels' / f'{name}.png', translate(label, 'mapillary-coarse'), colours)


def _idd(root: Path, frame: Frame) -> None:
    """leftImg8bit/<split>/<drive>/ and gtFine/ with polygons as JSON, and AutoNUE's level-3 ids."""
    photo, label = render(frame.seed, 'idd', frame.size)
    stem = Path(frame.split, str(frame.n % 7), f'{frame.n:06d}')
    _photo(root / 'leftImg8bit' / f'{stem}_leftImg8bit.png', photo)
    ids = translate(label, 'idd')
    path = root / 'gtFine' / f'{stem}_gtFine_polygons.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.part')
    partial.write_text(json.dumps(_polygons(ids, labels.space('idd').names)))
    os.replace(partial, path)
    level3 = translate(label, 'idd-level3')
    _grey(root / 'gtFine' / f'{stem}_gtFine_labellevel3Ids.png', level3)


def _polygons(ids: np.ndarray, names: tuple[str, ...]) -> dict:
    """The regions of a label as Cityscapes' JSON, in the order in which they are to be painted."""
    regions = []
    for raw in np.unique(ids).tolist():
        contours, tree = cv2.findContours(
            (ids == raw).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
        )
        regions += [
            (cv2.contourArea(contour), raw, contour[:, 0].tolist())
            for contour, (*_, parent) in zip(contours, tree[0], strict=True)
            if parent < 0  # the outline of a region, not of a hole in it
        ]
    # What lies in a region's hole is smaller: painted later, it shows.
    shapes = [(raw, corners) for _, raw, corners in sorted(regions, key=lambda r: -r[0])]
    painted = Image.new('L', ids.shape[::-1])
    pen = ImageDraw.Draw(painted)
    shapes = [(raw, corners if len(corners) > 1 else corners * 2) for raw, corners in shapes]
    for raw, corners in shapes:
        pen.polygon([tuple(corner) for corner in corners], fill=raw)
    for y, x in np.argwhere(np.array(painted) != ids).tolist():  # a corner that Pillow rounds off
        shapes.append((int(ids[y, x]), [[x, y], [x, y]]))
    return dict(
        imgHeight=ids.shape[0],
        imgWidth=ids.shape[1],
        objects=[dict(label=names[raw], polygon=corners, deleted=0) for raw, corners in shapes],
    )


_CONDITIONS = ('fog', 'night', 'rain', 'snow')


def _acdc(root: Path, frame: Frame) -> None:
    """rgb_anon/<condition>/<split>/<drive>/ and gt/ with train ids; conditions take turns."""
    condition = _CONDITIONS[frame.n % len(_CONDITIONS)]
    photo, label = render(frame.seed, f'acdc_{condition}', frame.size)
    drive = f'GOPR{frame.n % 3:04d}'
    stem = Path(condition, frame.split, drive, f'{drive}_frame_{frame.n:06d}')
    _photo(root / 'rgb_anon' / f'{stem}_rgb_anon.png', photo)
    _grey(root / 'gt' / f'{stem}_gt_labelTrainIds.png', translate(label, 'acdc'))


def _dark_zurich(root: Path, frame: Frame) -> None:
    """rgb_anon/val/night/GOPR0356/ and gt/ with train ids."""
    photo, label = render(frame.seed, 'dark_zurich', frame.size)
    stem = Path(frame.split, 'night', 'GOPR0356', f'GOPR0356_frame_{frame.n:06d}')
    _photo(root / 'rgb_anon' / f'{stem}_rgb_anon.png', photo)
    _grey(root / 'gt' / f'{stem}_gt_labelTrainIds.png', translate(label, 'dark_zurich'))


def _kitti(root: Path, frame: Frame) -> None:
    """training/image_2 and training/semantic with Cityscapes' ids."""
    photo, label = render(frame.seed, 'kitti', frame.size)
    name = f'{frame.n:06d}_10.png'
    _photo(root / 'training' / 'image_2' / name, photo)
    _grey(root / 'training' / 'semantic' / name, label)


def _camvid_stem(frame: Frame) -> str:
    """A frame's name; SegNet's splits are pieces of drives."""
    if frame.split == 'val':
        return f'0016E5_{7959 + 2 * frame.n:05d}'
    drive, n = frame.n % 3, frame.n // 3
    if frame.split == 'test':
        return f'0001TP_{8550 + 30 * n:06d}' if drive == 0 else f'Seq05VD_f{30 * frame.n:05d}'
    return (f'0001TP_{30 * n:06d}', f'0006R0_f{30 * n:05d}', f'0016E5_{30 * n:05d}')[drive]


def _camvid(root: Path, frame: Frame) -> None:
    """{train,val,test}/ and {train,val,test}annot/ with 11 classes."""
    photo, label = render(frame.seed, 'camvid', frame.size)
    name = f'{_camvid_stem(frame)}.png'
    _photo(root / frame.split / name, photo)
    _grey(root / f'{frame.split}annot' / name, translate(label, 'camvid-11'))


def _camvid32(root: Path, frame: Frame) -> None:
    """701_StillsRaw_full/ and LabeledApproved_full/ in 32 colours."""
    photo, label = render(frame.seed, 'camvid', frame.size)
    stem = _camvid_stem(frame)
    _photo(root / '701_StillsRaw_full' / f'{stem}.png', photo)
    colours = np.array(labels.space('camvid-32').colours, np.uint8)
    _photo(root / 'LabeledApproved_full' / f'{stem}_L.png', colours[translate(label, 'camvid-32')])


_CAMVID_LIMITS = {'train': 367, 'val': 101, 'test': 233}

#: Folder of a dataset below the data root -> its layout.
LAYOUTS: dict[str, Layout] = {
    'gta5': Layout(_gta5, ('images', 'labels'), {'train': 12403, 'val': 6382}, ('gta5',)),
    'cityscapes': Layout(
        _cityscapes, ('leftImg8bit', 'gtFine'), {'train': 2975, 'val': 500}, ('cityscapes',)
    ),
    'synthia': Layout(_synthia, ('RGB', 'GT'), {'train': 6580, 'val': 2820}, ('synthia',)),
    'foggy_cityscapes': Layout(
        _foggy_cityscapes,
        ('leftImg8bit_foggy', 'gtFine'),
        {'train': 2975, 'val': 500},
        ('cityscapes',),
        scenes='cityscapes',
    ),
    'bdd100k': Layout(
        _bdd100k,
        ('images', 'labels', 'drivable_maps'),
        {'train': 7000, 'val': 1000},
        ('bdd100k',),
    ),
    'mapillary': Layout(
        _mapillary, ('training', 'validation'), {'train': 18000, 'val': 2000}, ('mapillary',)
    ),
    'idd': Layout(_idd, ('leftImg8bit', 'gtFine'), {'train': 6993, 'val': 981}, ('idd',)),
    'acdc': Layout(
        _acdc,
        ('rgb_anon', 'gt'),
        {'train': 1600, 'val': 400},
        tuple(f'acdc_{condition}' for condition in _CONDITIONS),
    ),
    'dark_zurich': Layout(_dark_zurich, ('rgb_anon', 'gt'), {'val': 50}, ('dark_zurich',)),
    'kitti': Layout(_kitti, ('training',), {'train': 200}, ('kitti',)),
    'camvid': Layout(
        _camvid,
        tuple(f'{split}{kind}' for split in _CAMVID_LIMITS for kind in ('', 'annot')),
        _CAMVID_LIMITS,
        ('camvid',),
    ),
    'camvid32': Layout(
        _camvid32, ('701_StillsRaw_full', 'LabeledApproved_full'), _CAMVID_LIMITS, ('camvid',)
    ),
}
