"""The layouts: one scene of a set written as it would lie on disk after the download."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

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


#: Path below the dataset's folder -> a picture, or the content of a file.
Files = dict[str, np.ndarray | Image.Image | bytes]


class Layout(NamedTuple):
    """How a dataset lies on disk.

    Args:
        files: (frame, photo, label) -> the files of a frame.
        folders: those below the root that they lie in.
        limits: split -> the most frames it takes, the real split's size.
        looks: the worlds it shows (`WORLDS`), frame by frame in turn.
        scenes: the layout whose scenes it shows, where they are not its own.
    """

    files: Callable[[Frame, np.ndarray, np.ndarray], Files]
    folders: tuple[str, ...]
    limits: Mapping[str, int]
    looks: tuple[str, ...]
    scenes: str | None = None

    def write(self, root: Path, frame: Frame) -> None:
        """Draw a frame and write its files below a root: JPEG where .jpg is named, else PNG."""
        look = self.looks[frame.n % len(self.looks)]
        for name, content in self.files(frame, *render(frame.seed, look, frame.size)).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
                continue
            image = content if isinstance(content, Image.Image) else Image.fromarray(content)
            how = {'quality': 92} if path.suffix == '.jpg' else {'compress_level': 1}
            image.save(path, **how)


def _palette(ids: np.ndarray, colours: np.ndarray) -> Image.Image:
    image = Image.fromarray(ids)
    image.putpalette(colours.tobytes())
    return image


#: Cityscapes' colour of each raw id, uint8 (256, 3); PALETTE has those of the training classes.
_COLOURS = np.zeros((256, 3), np.uint8)
_COLOURS[CITYSCAPES_IDS] = PALETTE
_COLOURS[IDS['static']] = 20, 20, 20
_COLOURS[IDS['dynamic']] = 111, 74, 0
_COLOURS[IDS['ground']] = 81, 0, 81
_COLOURS[IDS['parking']] = 250, 170, 160
_COLOURS[IDS['rail track']] = 230, 150, 140


def translate(label: np.ndarray, space: str) -> np.ndarray:
    """Raw ids of a scene (Cityscapes') as another label space names them: uint8 (H, W).

    What has no training class keeps its name where the space knows it (parking, rail track, ego
    vehicle); the rest, and classes that the space can't name, are unlabelled.
    """
    names = [name.lower() for name in labels.space(space).names]
    voids = [n for n, name in enumerate(names) if name in ('unlabeled', 'unlabelled', 'void')]
    void = voids[0] if voids else IGNORE
    table = np.full(256, void, np.uint8)
    for name, raw in IDS.items():
        if name in CLASSES:
            found = labels.raw_id(space, name)
        else:
            found = names.index(name) if name in names else None
        table[raw] = void if found is None else found
    return table[label]


def _gta5(frame: Frame, photo: np.ndarray, label: np.ndarray) -> Files:
    """Labels are 8-bit palette PNGs whose index is the id."""
    name = splits.gta5(frame.split)[frame.n]
    return {f'images/{name}': photo, f'labels/{name}': _palette(label, _COLOURS)}


def _synthia(frame: Frame, photo: np.ndarray, label: np.ndarray) -> Files:
    """Labels are 16-bit RGB, the class in red, the instance in green."""
    name = splits.synthia(frame.split)[frame.n]
    ids = translate(label, 'synthia').astype(np.uint16)
    cars = ids == labels.raw_id('synthia', 'car')
    _, instances = cv2.connectedComponents(cars.astype(np.uint8))
    bgr = np.stack((np.zeros_like(ids), instances.astype(np.uint16), ids), -1)
    return {f'RGB/{name}': photo, f'GT/LABELS/{name}': cv2.imencode('.png', bgr)[1].tobytes()}


_CITIES = {
    'train': ('aachen', 'bochum', 'bremen', 'cologne', 'darmstadt', 'dusseldorf', 'erfurt',
              'hamburg', 'hanover', 'jena', 'krefeld', 'monchengladbach', 'strasbourg', 'stuttgart',
              'tubingen', 'ulm', 'weimar', 'zurich'),
    'val': ('frankfurt', 'lindau', 'munster'),
}  # fmt: skip


def _city_stem(frame: Frame) -> str:
    cities = _CITIES[frame.split]
    city = cities[frame.n % len(cities)]
    return f'{frame.split}/{city}/{city}_{frame.n // len(cities):06d}_000019'


def _city_labels(frame: Frame, label: np.ndarray) -> Files:
    stem = f'gtFine/{_city_stem(frame)}_gtFine'
    return {f'{stem}_labelIds.png': label, f'{stem}_color.png': _COLOURS[label]}


def _cityscapes(frame: Frame, photo: np.ndarray, label: np.ndarray) -> Files:
    photos = {f'leftImg8bit/{_city_stem(frame)}_leftImg8bit.png': photo}
    return photos | _city_labels(frame, label)


def _foggy_cityscapes(frame: Frame, photo: np.ndarray, label: np.ndarray) -> Files:
    """Three densities of fog over the photos of Cityscapes."""
    stem = f'leftImg8bit_foggy/{_city_stem(frame)}_leftImg8bit_foggy_beta'
    photos = {
        f'{stem}_{beta}.png': render(frame.seed, 'cityscapes', frame.size, fog=float(beta))[0]
        for beta in ('0.005', '0.01', '0.02')
    }
    return photos | _city_labels(frame, label)


def _bdd100k(frame: Frame, photo: np.ndarray, label: np.ndarray) -> Files:
    """Both tasks: streets of 10K and drivable areas of 100K; JPEGs and training ids."""
    stem = f'{frame.split}/{frame.seed & 0xFFFFFFFF:08x}-{frame.n:08x}'
    areas = drivable(frame.seed, frame.size)
    return {
        f'images/10k/{stem}.jpg': photo,
        f'images/100k/{stem}.jpg': photo,
        f'labels/sem_seg/masks/{stem}.png': translate(label, 'bdd100k'),
        f'labels/drivable/masks/{stem}.png': areas,
        f'drivable_maps/labels/{stem}_drivable_id.png': np.array((1, 2, 0), np.uint8)[areas],
    }


def _mapillary(frame: Frame, photo: np.ndarray, label: np.ndarray) -> Files:
    """Labels are 8-bit palette PNGs."""
    part = {'train': 'training', 'val': 'validation'}[frame.split]
    colours = np.array(labels.space('mapillary-rich').colours, np.uint8)
    return {
        f'{part}/images/{frame.seed:022d}.jpg': photo,
        f'{part}/labels/{frame.seed:022d}.png': _palette(
            translate(label, 'mapillary-coarse'), colours
        ),
    }


def _idd(frame: Frame, photo: np.ndarray, label: np.ndarray) -> Files:
    """Labels are polygons as JSON, and AutoNUE's level-3 ids."""
    stem = f'{frame.split}/{frame.n % 7}/{frame.n:06d}'
    content = _polygons(translate(label, 'idd'), labels.space('idd').names)
    return {
        f'leftImg8bit/{stem}_leftImg8bit.png': photo,
        f'gtFine/{stem}_gtFine_polygons.json': json.dumps(content).encode(),
        f'gtFine/{stem}_gtFine_labellevel3Ids.png': translate(label, 'idd-level3'),
    }


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
    regions.sort(key=lambda region: -region[0])
    shapes = [(raw, corners if len(corners) > 1 else corners * 2) for _, raw, corners in regions]
    painted = Image.new('L', ids.shape[::-1])
    pen = ImageDraw.Draw(painted)
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


def _acdc(frame: Frame, photo: np.ndarray, label: np.ndarray) -> Files:
    """Conditions take turns."""
    condition, drive = _CONDITIONS[frame.n % len(_CONDITIONS)], f'GOPR{frame.n % 3:04d}'
    stem = f'{condition}/{frame.split}/{drive}/{drive}_frame_{frame.n:06d}'
    return {
        f'rgb_anon/{stem}_rgb_anon.png': photo,
        f'gt/{stem}_gt_labelTrainIds.png': translate(label, 'acdc'),
    }


def _dark_zurich(frame: Frame, photo: np.ndarray, label: np.ndarray) -> Files:
    stem = f'{frame.split}/night/GOPR0356/GOPR0356_frame_{frame.n:06d}'
    return {
        f'rgb_anon/{stem}_rgb_anon.png': photo,
        f'gt/{stem}_gt_labelTrainIds.png': translate(label, 'dark_zurich'),
    }


def _kitti(frame: Frame, photo: np.ndarray, label: np.ndarray) -> Files:
    name = f'{frame.n:06d}_10.png'
    return {f'training/image_2/{name}': photo, f'training/semantic/{name}': label}


def _camvid_stem(frame: Frame) -> str:
    """A frame's name; SegNet's splits are pieces of drives."""
    if frame.split == 'val':
        return f'0016E5_{7959 + 2 * frame.n:05d}'
    drive, n = frame.n % 3, frame.n // 3
    if frame.split == 'test':
        return f'0001TP_{8550 + 30 * n:06d}' if drive == 0 else f'Seq05VD_f{30 * frame.n:05d}'
    return (f'0001TP_{30 * n:06d}', f'0006R0_f{30 * n:05d}', f'0016E5_{30 * n:05d}')[drive]


def _camvid(frame: Frame, photo: np.ndarray, label: np.ndarray) -> Files:
    name = f'{_camvid_stem(frame)}.png'
    ids = translate(label, 'camvid-11')
    return {f'{frame.split}/{name}': photo, f'{frame.split}annot/{name}': ids}


def _camvid32(frame: Frame, photo: np.ndarray, label: np.ndarray) -> Files:
    """Labels are in 32 colours."""
    stem = _camvid_stem(frame)
    colours = np.array(labels.space('camvid-32').colours, np.uint8)
    return {
        f'701_StillsRaw_full/{stem}.png': photo,
        f'LabeledApproved_full/{stem}_L.png': colours[translate(label, 'camvid-32')],
    }


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
        _bdd100k, ('images', 'labels', 'drivable_maps'), {'train': 7000, 'val': 1000}, ('bdd100k',)
    ),
    'mapillary': Layout(
        _mapillary, ('training', 'validation'), {'train': 18000, 'val': 2000}, ('mapillary',)
    ),
    'idd': Layout(_idd, ('leftImg8bit', 'gtFine'), {'train': 6993, 'val': 981}, ('idd',)),
    'acdc': Layout(
        _acdc,
        ('rgb_anon', 'gt'),
        {'train': 1600, 'val': 400},
        tuple(f'acdc_{c}' for c in _CONDITIONS),
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
