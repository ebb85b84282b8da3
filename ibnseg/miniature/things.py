"""What stands in a street, how many, where, and how far away."""

from typing import NamedTuple

from .furniture import bollards, bush, clutter, lamp_post, lights, sign, tree
from .people import people, two_wheeler
from .scene import Draw
from .vehicles import vehicle


class Thing(NamedTuple):
    """A kind of object and where it stands. `half`, `length`, `tall` are its box in metres."""

    draw: Draw
    zone: str
    chance: float  # that a scene holds any
    most: int
    near: float
    far: float
    half: float
    length: float
    tall: float


THINGS = {
    'tram': Thing(vehicle('tram'), 'tram', 0.9, 1, 16, 50, 1.3, 23, 3.4),
    'bus': Thing(vehicle('bus'), 'lane', 0.42, 1, 11, 38, 1.3, 12, 3.0),
    'truck': Thing(vehicle('cab', 'load'), 'lane', 0.45, 1, 10, 36, 1.3, 9, 3.5),
    'driving': Thing(vehicle(), 'lane', 0.95, 5, 9, 80, 0.95, 6, 1.4),
    'motorcyclist': Thing(two_wheeler('motorcycle', True), 'lane', 0.4, 2, 6, 24, 0.3, 3, 1.5),
    'cyclist': Thing(two_wheeler('bicycle', True), 'edge', 0.5, 2, 6, 26, 0.25, 3, 1.6),
    'parked car': Thing(vehicle(), 'parking', 0.95, 8, 5, 70, 0.95, 5.4, 1.4),
    'motorcycle': Thing(two_wheeler('motorcycle', False), 'furniture', 0.4, 2, 6, 18, 0.4, 2, 1.0),
    'bicycle': Thing(two_wheeler('bicycle', False), 'furniture', 0.55, 4, 6, 22, 0.4, 1.5, 0.9),
    'people': Thing(people, 'walk', 0.95, 8, 5, 40, 0.7, 1, 1.7),
    'crossing': Thing(people, 'lane', 0.25, 1, 9, 24, 0.7, 1, 1.7),
    'tree': Thing(tree, 'furniture', 0.75, 6, 9, 80, 0.5, 2, 6.0),
    'bush': Thing(bush, 'verge', 0.6, 5, 7, 50, 0.7, 1, 0.8),
    'lamp post': Thing(lamp_post, 'furniture', 0.8, 4, 8, 70, 0.2, 0.5, 7.0),
    'bollards': Thing(bollards, 'furniture', 0.3, 1, 7, 25, 0.2, 8, 1.0),
    'lights': Thing(lights, 'furniture', 0.65, 2, 9, 30, 0.2, 0.5, 3.5),
    'sign': Thing(sign, 'furniture', 0.85, 4, 7, 32, 0.3, 0.5, 2.8),
    'clutter': Thing(clutter, 'walk', 0.6, 3, 6, 25, 0.5, 1, 1.0),
}
