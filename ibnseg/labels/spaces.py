"""The label spaces, as published: what raw ids are called and which class each belongs to.

A new one is a row of `SPACES`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

IGNORE = 255


@dataclass(frozen=True)
class Task:
    """What a network tells apart: classes in training order, and a colour each, uint8 (n, 3)."""

    name: str
    classes: tuple[str, ...]
    palette: np.ndarray


def _task(name: str, colours: Mapping[str, tuple[int, int, int]]) -> Task:
    return Task(name, tuple(colours), np.array(list(colours.values()), np.uint8))


#: The 19 classes of the Cityscapes benchmark in training order, with their published colours.
STREETS = _task(
    'streets',
    {
        'road': (128, 64, 128),
        'sidewalk': (244, 35, 232),
        'building': (70, 70, 70),
        'wall': (102, 102, 156),
        'fence': (190, 153, 153),
        'pole': (153, 153, 153),
        'traffic light': (250, 170, 30),
        'traffic sign': (220, 220, 0),
        'vegetation': (107, 142, 35),
        'terrain': (152, 251, 152),
        'sky': (70, 130, 180),
        'person': (220, 20, 60),
        'rider': (255, 0, 0),
        'car': (0, 0, 142),
        'truck': (0, 0, 70),
        'bus': (0, 60, 100),
        'train': (0, 80, 100),
        'motorcycle': (0, 0, 230),
        'bicycle': (119, 11, 32),
    },
)

#: BDD100K's drivable areas (WAD 2018): our lane, lanes we may change to, the rest.
DRIVABLE = _task(
    'drivable',
    {'direct': (219, 94, 86), 'alternative': (86, 211, 219), 'background': (0, 0, 0)},
)


@dataclass(frozen=True)
class Space:
    """What the raw ids of a dataset's label files mean.

    Args:
        names: the published name of each raw id from 0 on.
        groups: class of the task -> the names that belong to it, its best match first.
        extra: raw ids beside those with a name that a correct file may hold.
        holes: raw ids below the last name's that no correct file holds.
        absent: classes that have an id, but no pixel in the whole dataset.
        encoding: how files hold raw ids: 'index' is one 8-bit channel, grey or palette; 'red16'
            the red of 16-bit RGB; 'colour' the RGB of `colours`; 'polygons' Cityscapes' JSON.
        colours: RGB of each raw id, as published: what files hold for 'colour', and what a palette
            must agree with for 'index'; None where none are published for it.
        task: the classes.
    """

    names: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    extra: tuple[int, ...] = (IGNORE,)
    absent: tuple[str, ...] = ()
    encoding: str = 'index'
    colours: tuple[tuple[int, int, int], ...] | None = None
    task: Task = STREETS
    holes: tuple[int, ...] = ()


def _own(task: Task = STREETS) -> dict[str, tuple[str, ...]]:
    """Each class belongs to itself, by its own name."""
    return {name: (name,) for name in task.classes}


_CITYSCAPES = (
    'unlabeled', 'ego vehicle', 'rectification border', 'out of roi', 'static', 'dynamic',
    'ground', 'road', 'sidewalk', 'parking', 'rail track', 'building', 'wall', 'fence',
    'guard rail', 'bridge', 'tunnel', 'pole', 'polegroup', 'traffic light', 'traffic sign',
    'vegetation', 'terrain', 'sky', 'person', 'rider', 'car', 'truck', 'bus', 'caravan',
    'trailer', 'train', 'motorcycle', 'bicycle',
)  # fmt: skip

_CITYSCAPES_COLOURS = dict(zip(STREETS.classes, map(tuple, STREETS.palette.tolist()), strict=True))
_CITYSCAPES_COLOURS |= dict.fromkeys(_CITYSCAPES[:5], (0, 0, 0)) | {
    'dynamic': (111, 74, 0),
    'ground': (81, 0, 81),
    'parking': (250, 170, 160),
    'rail track': (230, 150, 140),
    'guard rail': (180, 165, 180),
    'bridge': (150, 100, 100),
    'tunnel': (150, 120, 90),
    'polegroup': (153, 153, 153),
    'caravan': (0, 0, 90),
    'trailer': (0, 0, 110),
    'license plate': (0, 0, 142),
}

_SYNTHIA = (
    'void', 'sky', 'building', 'road', 'sidewalk', 'fence', 'vegetation', 'pole', 'car',
    'traffic sign', 'person', 'bicycle', 'motorcycle', 'parking slot', 'road work',
    'traffic light', 'terrain', 'rider', 'truck', 'bus', 'train', 'wall', 'lane marking',
)  # fmt: skip

_MAPILLARY = (
    'Bird', 'Ground Animal', 'Curb', 'Fence', 'Guard Rail', 'Barrier', 'Wall', 'Bike Lane',
    'Crosswalk - Plain', 'Curb Cut', 'Parking', 'Pedestrian Area', 'Rail Track', 'Road',
    'Service Lane', 'Sidewalk', 'Bridge', 'Building', 'Tunnel', 'Person', 'Bicyclist',
    'Motorcyclist', 'Other Rider', 'Lane Marking - Crosswalk', 'Lane Marking - General',
    'Mountain', 'Sand', 'Sky', 'Snow', 'Terrain', 'Vegetation', 'Water', 'Banner', 'Bench',
    'Bike Rack', 'Billboard', 'Catch Basin', 'CCTV Camera', 'Fire Hydrant', 'Junction Box',
    'Mailbox', 'Manhole', 'Phone Booth', 'Pothole', 'Street Light', 'Pole', 'Traffic Sign Frame',
    'Utility Pole', 'Traffic Light', 'Traffic Sign (Back)', 'Traffic Sign (Front)', 'Trash Can',
    'Bicycle', 'Boat', 'Bus', 'Car', 'Caravan', 'Motorcycle', 'On Rails', 'Other Vehicle',
    'Trailer', 'Truck', 'Wheeled Slow', 'Car Mount', 'Ego Vehicle', 'Unlabeled',
)  # fmt: skip

# `config_v1.2.json` of Vistas.
_MAPILLARY_COLOURS = (
    (165, 42, 42), (0, 192, 0), (196, 196, 196), (190, 153, 153), (180, 165, 180), (90, 120, 150),
    (102, 102, 156), (128, 64, 255), (140, 140, 200), (170, 170, 170), (250, 170, 160),
    (96, 96, 96), (230, 150, 140), (128, 64, 128), (110, 110, 110), (244, 35, 232),
    (150, 100, 100), (70, 70, 70), (150, 120, 90), (220, 20, 60), (255, 0, 0), (255, 0, 100),
    (255, 0, 200), (200, 128, 128), (255, 255, 255), (64, 170, 64), (230, 160, 50),
    (70, 130, 180), (190, 255, 255), (152, 251, 152), (107, 142, 35), (0, 170, 30),
    (255, 255, 128), (250, 0, 30), (100, 140, 180), (220, 220, 220), (220, 128, 128),
    (222, 40, 40), (100, 170, 30), (40, 40, 40), (33, 33, 33), (100, 128, 160), (142, 0, 0),
    (70, 100, 150), (210, 170, 100), (153, 153, 153), (128, 128, 128), (0, 0, 80),
    (250, 170, 30), (192, 192, 192), (220, 220, 0), (140, 140, 20), (119, 11, 32),
    (150, 0, 255), (0, 60, 100), (0, 0, 142), (0, 0, 90), (0, 0, 230), (0, 80, 100),
    (128, 64, 64), (0, 0, 110), (0, 0, 70), (0, 0, 192), (32, 32, 32), (120, 10, 10), (0, 0, 0),
)  # fmt: skip

_MAPILLARY_COARSE = {name: (name.title(),) for name in STREETS.classes} | {
    'road': ('Road', 'Lane Marking - General', 'Manhole'),
    'sidewalk': ('Sidewalk', 'Curb'),
    'pole': ('Pole', 'Utility Pole'),
    'traffic sign': ('Traffic Sign (Front)',),
    'rider': ('Bicyclist', 'Motorcyclist', 'Other Rider'),
    'train': ('On Rails',),
}
_MAPILLARY_RICH = _MAPILLARY_COARSE | {
    'road': ('Road', 'Lane Marking - General', 'Lane Marking - Crosswalk', 'Crosswalk - Plain',
             'Bike Lane', 'Parking', 'Service Lane'),
    'sidewalk': ('Sidewalk', 'Curb', 'Curb Cut', 'Pedestrian Area'),
    'pole': ('Pole', 'Utility Pole', 'Street Light'),
    'traffic sign': ('Traffic Sign (Front)', 'Traffic Sign (Back)', 'Traffic Sign Frame'),
}  # fmt: skip

_IDD = (
    'road', 'parking', 'drivable fallback', 'sidewalk', 'rail track', 'non-drivable fallback',
    'person', 'animal', 'rider', 'motorcycle', 'bicycle', 'autorickshaw', 'car', 'truck', 'bus',
    'caravan', 'trailer', 'train', 'vehicle fallback', 'curb', 'wall', 'fence', 'guard rail',
    'billboard', 'traffic sign', 'traffic light', 'pole', 'polegroup', 'obs-str-bar-fallback',
    'building', 'bridge', 'tunnel', 'vegetation', 'sky', 'fallback background', 'unlabeled',
    'ego vehicle', 'rectification border', 'out of roi', 'license plate',
)  # fmt: skip

# `level3Id` of AutoNUE/public-code: what its createLabels.py writes to *_labellevel3Ids.png. Where
# several names share an id it has their class, but trains are among more of other vehicles: none.
_IDD_LEVEL3 = (
    'road', 'parking, drivable fallback', 'sidewalk', 'rail track, non-drivable fallback',
    'person, animal', 'rider', 'motorcycle', 'bicycle', 'autorickshaw', 'car', 'truck', 'bus',
    'caravan, trailer, train, vehicle fallback', 'curb', 'wall', 'fence', 'guard rail',
    'billboard', 'traffic sign', 'traffic light', 'pole, polegroup', 'obs-str-bar-fallback',
    'building', 'bridge, tunnel', 'vegetation', 'sky, fallback background',
)  # fmt: skip

_CAMVID_11 = {
    'sky': ('sky',),
    'building': ('building',),
    'pole': ('pole',),
    'road': ('road',),
    'sidewalk': ('pavement',),
    'vegetation': ('tree',),
    'traffic sign': ('sign symbol',),
    'fence': ('fence',),
    'car': ('car',),
    'person': ('pedestrian',),
    'bicycle': ('bicyclist',),
}

_CAMVID_32_COLOURS = {
    'Animal': (64, 128, 64),
    'Archway': (192, 0, 128),
    'Bicyclist': (0, 128, 192),
    'Bridge': (0, 128, 64),
    'Building': (128, 0, 0),
    'Car': (64, 0, 128),
    'CartLuggagePram': (64, 0, 192),
    'Child': (192, 128, 64),
    'Column_Pole': (192, 192, 128),
    'Fence': (64, 64, 128),
    'LaneMkgsDriv': (128, 0, 192),
    'LaneMkgsNonDriv': (192, 0, 64),
    'Misc_Text': (128, 128, 64),
    'MotorcycleScooter': (192, 0, 192),
    'OtherMoving': (128, 64, 64),
    'ParkingBlock': (64, 192, 128),
    'Pedestrian': (64, 64, 0),
    'Road': (128, 64, 128),
    'RoadShoulder': (128, 128, 192),
    'Sidewalk': (0, 0, 192),
    'SignSymbol': (192, 128, 128),
    'Sky': (128, 128, 128),
    'SUVPickupTruck': (64, 128, 192),
    'TrafficCone': (0, 0, 64),
    'TrafficLight': (0, 64, 64),
    'Train': (192, 64, 128),
    'Tree': (128, 128, 0),
    'Truck_Bus': (192, 128, 192),
    'Tunnel': (64, 0, 64),
    'VegetationMisc': (192, 192, 0),
    'Void': (0, 0, 0),
    'Wall': (64, 192, 0),
}
# SegNet's grouping of the 32 into the 11 of `camvid-11`.
_CAMVID_32 = {
    'road': ('Road', 'LaneMkgsDriv', 'LaneMkgsNonDriv'),
    'sidewalk': ('Sidewalk', 'ParkingBlock', 'RoadShoulder'),
    'building': ('Building', 'Bridge', 'Wall', 'Tunnel', 'Archway'),
    'fence': ('Fence',),
    'pole': ('Column_Pole', 'TrafficCone'),
    'traffic sign': ('SignSymbol', 'Misc_Text', 'TrafficLight'),
    'vegetation': ('Tree', 'VegetationMisc'),
    'sky': ('Sky',),
    'person': ('Pedestrian', 'Child', 'CartLuggagePram', 'Animal'),
    'car': ('Car', 'SUVPickupTruck', 'Truck_Bus', 'Train', 'OtherMoving'),
    'bicycle': ('Bicyclist', 'MotorcycleScooter'),
}


def _coloured(names: tuple[str, ...]) -> Space:
    """Return a space whose names have the classes and the colours of Cityscapes."""
    return Space(names, _own(), colours=tuple(_CITYSCAPES_COLOURS[name] for name in names))


_TRAIN_IDS = _coloured(STREETS.classes)

SPACES: dict[str, Space] = {
    # 255 stands for Cityscapes' id -1 (license plate) in an 8-bit file.
    'cityscapes': _coloured(_CITYSCAPES),
    'gta5': _coloured((*_CITYSCAPES, 'license plate')),
    'synthia': Space(
        _SYNTHIA, _own(), extra=(), absent=('terrain', 'truck', 'train'), encoding='red16'
    ),
    'bdd100k': _TRAIN_IDS,
    'acdc': _TRAIN_IDS,
    'dark_zurich': _TRAIN_IDS,
    'kitti': _coloured(_CITYSCAPES),
    'mapillary-coarse': Space(_MAPILLARY, _MAPILLARY_COARSE, extra=(), colours=_MAPILLARY_COLOURS),
    'mapillary-rich': Space(_MAPILLARY, _MAPILLARY_RICH, extra=(), colours=_MAPILLARY_COLOURS),
    'idd': Space(
        _IDD, _own() | {'terrain': ('non-drivable fallback',)}, extra=(), encoding='polygons'
    ),
    'idd-level3': Space(
        _IDD_LEVEL3,
        {name: (name,) for name in STREETS.classes if name in _IDD_LEVEL3}
        | {
            'terrain': ('rail track, non-drivable fallback',),
            'person': ('person, animal',),
            'pole': ('pole, polegroup',),
            'sky': ('sky, fallback background',),
        },
    ),
    'camvid-11': Space((*(names[0] for names in _CAMVID_11.values()), 'unlabelled'), _CAMVID_11),
    'camvid-32': Space(
        tuple(_CAMVID_32_COLOURS),
        _CAMVID_32,
        extra=(),
        encoding='colour',
        colours=tuple(_CAMVID_32_COLOURS.values()),
    ),
    'bdd100k-drivable': Space(DRIVABLE.classes, _own(DRIVABLE), task=DRIVABLE),
    # The maps of 2018 number the same three otherwise.
    'bdd100k-drivable-2018': Space(
        ('background', 'direct', 'alternative'), _own(DRIVABLE), task=DRIVABLE
    ),
}
