"""A street: the road and its kerbs, the fronts along it, the things that stand in it."""

import math

import cv2
import numpy as np
from numpy.random import Generator

from .fronts import FRONTS, hedge
from .scene import FAR, FORMAT, NEAR, Scene
from .things import THINGS

#: Name -> the places of a zone things may stand in: (x from, x to, yaw of a vehicle there).
Zones = dict[str, list[tuple[float, float, float]]]


def compose(seed: int, size: tuple[int, int]) -> Scene:
    """Draw the scene of a seed, (height, width) pixels."""
    rng = np.random.default_rng((FORMAT, seed))
    scene = Scene(size, rng)
    zones = _layout(scene, rng)
    _populate(scene, rng, zones)
    _bonnet(scene, rng)
    return scene


def _layout(scene: Scene, rng: Generator) -> Zones:
    """Draw the ground and the house fronts; return the zones."""
    u = rng.uniform
    zones = {name: [] for name in ('lane', 'edge', 'parking', 'walk', 'verge', 'furniture', 'tram')}
    lane, paint = u(3.0, 3.6), rng.random()
    ours, theirs = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    _skyline(scene, rng)
    scene.ground(-90, 90, 'terrain' if u() < 0.5 else 'ground', 'grass', rng.random())
    crossing = u(16, 45) if u() < 0.45 else None  # where a side street begins
    scene.lane, scene.ours, scene.theirs = lane, ours, theirs
    left, right = -lane * (theirs + 0.5), lane * (ours - 0.5)
    scene.ground(left, right, 'road', 'asphalt', paint)
    for i in range(-theirs, ours):
        zones['lane'].append((lane * i - 0.25, lane * i + 0.25, 0.0 if i >= 0 else math.pi))
    rails = rng.choice((-1, 1)) if u() < 0.55 else 0
    fronts = [
        (side, _kerb(scene, rng, zones, side, x, side == rails, paint))
        for side, x in ((-1, left), (1, right))
    ]
    _markings(scene, rng, left, right, crossing)
    _fronts(scene, rng, fronts, crossing)
    return zones


def _kerb(
    scene: Scene, rng: Generator, zones: Zones, side: int, x: float, rails: bool, paint: float
) -> float:
    """Draw what lies between the road's edge at x and the fronts; return the x of the fronts."""
    u = rng.uniform
    yaw = 0.0 if side > 0 else math.pi
    zones['edge'].append((x - side * 0.9, x - side * 0.5, yaw))

    def strip(wide, label, material, y=0.0, tone=None) -> tuple[float, float]:
        nonlocal x
        x0, x1 = sorted((x, x + side * wide))
        scene.ground(x0, x1, label, material, rng.random() if tone is None else tone, y)
        x += side * wide
        return x0, x1

    if rails:
        middle = sum(strip(3.4, 'rail track', 'cobble')) / 2
        for rail in (-0.72, 0.72):
            scene.ground(middle + rail - 0.06, middle + rail + 0.06, 'rail track', 'rail')
        zones['tram'].append((middle, middle, yaw))
    elif u() < 0.6:
        label, material = ('parking', 'cobble') if u() < 0.3 else ('road', 'asphalt')
        middle = sum(strip(2.2, label, material, tone=paint)) / 2
        zones['parking'].append((middle - 0.1, middle + 0.1, yaw))
    strip(0.22, 'sidewalk', 'curb', 0.1)
    if u() < 0.5:
        x0, x1 = strip(u(1.2, 3.0), 'terrain', 'grass')
        zones['verge'].append((x0 + 0.3, x1 - 0.3, yaw))
    x0, x1 = strip(u(2.5, 6.0), 'sidewalk', 'paving')
    inner = (x0 + 0.4) if side > 0 else (x1 - 0.4)
    zones['furniture'].append((inner - 0.15, inner + 0.15, yaw))
    zones['walk'].append((x0 + 0.8, x1 - 0.6, yaw))
    if u() < 0.3:
        strip(u(1, 4), 'terrain', 'grass')
    return x


def _markings(
    scene: Scene, rng: Generator, left: float, right: float, crossing: float | None
) -> None:
    """Lane lines, and a side street with its zebra crossing."""
    for i in range(-scene.theirs, scene.ours - 1):
        x, solid = scene.lane * (i + 0.5), i == -1 and rng.random() < 0.4
        start = rng.uniform(0, 6)
        for z in [NEAR] if solid else np.arange(start, 120, 7):
            end = FAR if solid else z + 3.2
            scene.ground(x - 0.07, x + 0.07, 'road', 'marking', z0=z, z1=end)
    for x in (left + 0.25, right - 0.25):
        scene.ground(x - 0.06, x + 0.06, 'road', 'marking')
    if crossing is not None:
        scene.ground(-90, 90, 'road', 'asphalt', 0.2, z0=crossing, z1=crossing + 9)
        for x in np.arange(left + 0.4, right - 0.4, 1.0):
            scene.ground(x, x + 0.5, 'road', 'marking', z0=crossing - 4, z1=crossing - 1)


def _skyline(scene: Scene, rng: Generator) -> None:
    """What closes the street far ahead: house blocks and tree tops on the horizon."""
    for x in np.arange(-150, 150, 14):
        tall, wide = rng.uniform(3, 22), rng.uniform(10, 22)
        if rng.random() < 0.45:
            scene.upright(x, 0, tall, 200.0, wide, 'building', 'facade', rng.random(), 0.9)
        else:
            scene.blob(x, 1, 190.0, wide * 0.7, tall * 0.7, 'vegetation', 'leaf', rng.random())


def _fronts(
    scene: Scene, rng: Generator, fronts: list[tuple[int, float]], crossing: float | None
) -> None:
    """House fronts, walls, fences and hedges along both sides, far ones first."""
    runs = []
    for side, x in fronts:
        z = rng.uniform(-6, 3)
        built = rng.uniform(0.35, 0.75)
        other = (1 - built) / 3
        while z < 170:
            long = rng.uniform(8, 22)
            kind = rng.choice(list(FRONTS), p=(built, other, other, other))
            end = z + long
            if crossing is not None and z < crossing + 10 and end > crossing - 1:
                end = max(z, crossing - 1)
                after = crossing + 10 + rng.uniform(0, 2)
            else:
                after = end + (rng.uniform(1, 6) if rng.random() < 0.25 else 0)
            if end - z > 3 and end > 2:
                back = rng.uniform(0, 1.2)
                runs.append((max(z, NEAR), end, side, x + side * back, kind))
            z = after
    for z0, z1, side, x, kind in sorted(runs, reverse=True):
        if kind in ('wall', 'fence') and rng.random() < 0.8:
            hedge(scene, rng, side, x + side * 2, z0, z1)
        FRONTS[kind](scene, rng, side, x, z0, z1)


def _populate(scene: Scene, rng: Generator, zones: Zones) -> None:
    """Stand things in their zones, then draw them, far ones first."""
    standing = []
    for name, thing in THINGS.items():
        places = zones[thing.zone]
        count = int(rng.integers(1, thing.most + 1)) if rng.random() < thing.chance else 0
        for _ in range(count if places else 0):
            for _ in range(4):
                x0, x1, yaw = places[rng.integers(len(places))]
                x = x0 + (x1 - x0) * rng.random()
                z = thing.near + (thing.far - thing.near) * rng.random() ** 1.4
                if scene.place(x, z, thing.half, thing.length):
                    standing.append((z + thing.length / 2, x, name, yaw))
                    break
    for z, x, name, _ in standing:
        thing = THINGS[name]
        half, deep = thing.half, max(thing.length / 2 - 0.5, 0.1)
        scene.shadow(x - half, x + half, z - deep, z + deep, thing.tall)
    for z, x, name, yaw in sorted(standing, reverse=True):
        wobble = rng.uniform(-0.06, 0.06)
        if THINGS[name].zone == 'furniture':
            wobble = rng.uniform(0.5, 2.6)
        THINGS[name].draw(scene, rng, x, z, yaw + wobble)


def _bonnet(scene: Scene, rng: Generator) -> None:
    """The own car's bonnet at the lower edge, in most pictures."""
    height, width = scene.index.shape
    if rng.random() < 0.7:
        axes = (round(width * rng.uniform(0.5, 0.62)), round(height * rng.uniform(0.05, 0.12)))
        number = scene.patch('ego vehicle', 'bonnet', rng.random(), 1.0)
        cv2.ellipse(scene.index, (round(scene.cx), height), axes, 0, 0, 360, number, -1)
