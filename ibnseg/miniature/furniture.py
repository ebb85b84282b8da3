"""Plants and street furniture."""

import math

import numpy as np
from numpy.random import Generator

from .scene import Scene


def tree(scene: Scene, rng: Generator, x: float, z: float, yaw: float) -> None:
    tall, spread, paint = rng.uniform(4.5, 10), rng.uniform(1.3, 2.8), rng.random()
    scene.upright(x, 0, 0.7 * tall, z, rng.uniform(0.2, 0.4), 'vegetation', 'bark', paint)
    crown = max(tall * 0.32, spread)
    _leaves(scene, rng, (x, tall - crown * 0.6, z), spread, crown, paint, 26)


def bush(scene: Scene, rng: Generator, x: float, z: float, yaw: float) -> None:
    size, paint = rng.uniform(0.5, 1.1), rng.random()
    _leaves(scene, rng, (x, size * 0.7, z), size * 1.3, size * 0.8, paint, 12)


def _leaves(
    scene: Scene, rng: Generator, centre: tuple[float, float, float], rx: float, ry: float,
    paint: float, count: int,
) -> None:  # fmt: skip
    """Clusters of leaves, darker below and inside, lighter above."""
    x, y, z = centre
    count = max(6, min(count, int(count * 30 / z)))  # far ones need fewer
    angle, reach = rng.uniform(0, 2 * math.pi, count), np.sqrt(rng.uniform(0.02, 1, count))
    dx, dy = reach * np.cos(angle), reach * np.sin(angle)
    sizes = rng.uniform(0.22, 0.45, count)
    order = np.argsort(dy - reach)
    scene.blob(x, y, z, rx * 0.8, ry * 0.8, 'vegetation', 'leaf', paint, 0.6)
    columns = (a[order].tolist() for a in (dx, dy, sizes, angle))
    for across, up, size, turn in zip(*columns, strict=True):
        shade = 0.85 + 0.3 * up + 0.1 * math.sin(9 * turn)
        scene.blob(x + rx * 0.8 * across, max(y + ry * 0.8 * up, 0.3), z, rx * size, ry * size,
                   'vegetation', 'leaf', paint, shade)  # fmt: skip


def lamp_post(scene: Scene, rng: Generator, x: float, z: float, yaw: float) -> None:
    tall, arm = rng.uniform(5.5, 9), -math.copysign(rng.uniform(0.8, 2), x)
    scene.upright(x, 0, tall, z, rng.uniform(0.14, 0.24), 'pole', 'steel', rng.random())
    scene.upright(x, 0, 1.0, z, 0.3, 'pole', 'steel', 0.2)
    scene.stroke([(x, tall, z), (x + arm, tall + 0.3, z)], 0.12, 'pole', 'steel')
    scene.blob(x + arm, tall + 0.25, z, 0.4, 0.12, 'pole', 'steel', 0.9)


def bollards(scene: Scene, rng: Generator, x: float, z: float, yaw: float) -> None:
    for i in range(rng.integers(3, 7))[::-1]:
        scene.upright(x, 0, 1.0, z + 1.6 * i, 0.14, 'pole', 'steel', 0.5, 0.8)


def lights(scene: Scene, rng: Generator, x: float, z: float, yaw: float) -> None:
    """A signal post, at times with a second head on an arm over the road."""
    tall, lit = rng.uniform(2.6, 3.4), rng.integers(3)
    heads = [(x, tall)]
    if rng.random() < 0.6:
        over, high = x - math.copysign(rng.uniform(2, 4), x), rng.uniform(4.8, 5.6)
        scene.upright(x, 0, high + 0.5, z, 0.2, 'pole', 'steel', 0.3)
        scene.stroke([(x, high + 0.5, z), (over, high + 0.5, z)], 0.14, 'pole', 'steel', 0.3)
        heads.append((over, high))
    scene.upright(x, 0, tall + 0.4, z, 0.16, 'pole', 'steel', 0.3)
    for hx, hy in heads:
        scene.upright(hx, hy - 0.62, hy + 0.62, z - 0.1, 0.56, 'traffic light', 'black')
        for i, lamp in enumerate(('green lamp', 'amber lamp', 'red lamp')):
            material = lamp if i == lit else 'dark lamp'
            scene.blob(hx, hy + 0.38 * (i - 1), z - 0.15, 0.15, 0.15, 'traffic light', material)


def sign(scene: Scene, rng: Generator, x: float, z: float, yaw: float) -> None:
    """Round and red, round and blue, a triangle, a diamond, or a board."""
    high, r, kind = rng.uniform(2.1, 3.0), rng.uniform(0.34, 0.5), rng.integers(5)
    scene.upright(x, 0, high + 0.4, z, 0.1, 'pole', 'steel', 0.6)
    label, near = 'traffic sign', z - 0.1

    def nested(corners: tuple, *layers: tuple[float, str]) -> None:
        for k, material in layers:
            points = [(x + r * (k * a), high + r * (k * b), near) for a, b in corners]
            scene.face(points, label, material)

    if kind == 0:
        scene.blob(x, high, near, r, r, label, 'sign red')
        scene.blob(x, high, near, r * 0.7, r * 0.7, label, 'sign white')
    elif kind == 1:
        scene.blob(x, high, near, r, r, label, 'sign blue')
        scene.upright(x, high - r * 0.5, high + r * 0.5, near, r * 0.3, label, 'sign white')
    elif kind == 2:
        nested(((-1, -0.6), (1, -0.6), (0, 1)), (1.2, 'sign red'), (0.75, 'sign white'))
    elif kind == 3:
        nested(((0, -1), (1, 0), (0, 1), (-1, 0)), (1.15, 'sign white'), (0.85, 'sign yellow'))
    else:
        wide = rng.uniform(1.0, 2.2)
        scene.upright(x, high - 0.4, high + 0.5, near, wide, label, 'sign blue')
        for y in (high - 0.15, high + 0.2):
            scene.upright(x, y - 0.06, y + 0.06, near, wide * 0.7, label, 'sign white')


def clutter(scene: Scene, rng: Generator, x: float, z: float, yaw: float) -> None:
    """Bins, boxes and the like: the classes that have no training id."""
    label = rng.choice(('static', 'static', 'dynamic'))
    wide, tall, paint = rng.uniform(0.5, 1.1), rng.uniform(0.7, 1.3), rng.random()
    scene.box(x - wide / 2, x + wide / 2, 0, tall, z, z + wide, label, 'bin', paint)
