"""What lines the street on both sides: houses, walls, fences, hedges."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from .furniture import bush, tree
from .scene import NEAR, Scene, rect


def _building(scene: Scene, rng: Generator, side: int, x: float, z0: float, z1: float) -> None:
    """A house front along the street at x and its gable towards the camera."""
    storeys, storey = int(rng.integers(2, 7)), rng.uniform(2.8, 3.6)
    tall, paint, deep = storeys * storey + 0.8, rng.random(), side * rng.uniform(9, 14)
    far = x + deep
    z0 = max(z0, NEAR)
    pitched = rng.random() < 0.6
    scene.shadow(x, far, z0, z1, tall)
    scene.face(rect((x, far), (0, tall), z0), 'building', 'facade', paint, 0.92)
    scene.face(rect(x, (0, tall), (z0, z1)), 'building', 'facade', paint)
    if pitched:
        ridge, inward = tall + rng.uniform(1.5, 3), x + deep / 2
        gable = [(x, tall, z0), (far, tall, z0), (inward, ridge, z0)]
        scene.face(gable, 'building', 'facade', paint)
        roof = [(x, tall, z0), (x, tall, z1), (inward, ridge, z1), (inward, ridge, z0)]
        scene.face(roof, 'building', 'roof', paint)
    else:
        scene.face(rect(x, (tall - 0.4, tall), (z0, z1)), 'building', 'frame', paint)
    _windows(scene, rng, x, z0, z1, storeys, storey, paint)
    if z0 > 4:  # windows in the gable
        across = x + side * (1.2 + 3 * np.arange(int(abs(deep) // 3)))
        w, h = np.meshgrid(across, storey * np.arange(1, storeys) + 1.0)
        w, h = w.ravel(), h.ravel()
        panes = rect((w, w + side * 1.2), (h, h + 1.5), z0)
        scene.fill(panes, scene.patch('building', 'window', paint, z0))


def _windows(
    scene: Scene, rng: Generator, x: float, z0: float, z1: float, storeys: int, storey: float,
    paint: float,
) -> None:  # fmt: skip
    """Rows of windows on the street front; at times shops on the ground floor."""
    pitch, wide, tall = rng.uniform(2.2, 3.4), rng.uniform(0.9, 1.4), rng.uniform(1.3, 1.9)
    shop = rng.random() < 0.45
    z, y = np.meshgrid(
        np.arange(z0 + 0.8, z1 - wide - 0.3, pitch), storey * np.arange(int(shop), storeys) + 0.9
    )
    z, y = z.ravel(), y.ravel()
    plane = rect(x, (0, 1), (z0, z1))[:3].tolist()
    lit = rng.random(z.size) >= 0.6
    frames = rect(x, (y - 0.14, y + tall + 0.14), (z - 0.14, z + wide + 0.14))
    panes = rect(x, (y, y + tall), (z, z + wide))
    scene.fill(frames, scene.patch('building', 'frame', paint, plane))
    scene.fill(panes[~lit], scene.patch('building', 'window', 0.15, plane))
    scene.fill(panes[lit], scene.patch('building', 'window', 0.9, plane))
    for start in np.arange(z0 + 0.5, z1 - 4, 5.0) if shop else ():
        along = (start, start + 4)
        scene.face(rect(x, (0.3, 2.4), along), 'building', 'window', rng.random())
        scene.face(rect(x, (2.5, 3.1), along), 'building', 'shop', rng.random())


def _wall(scene: Scene, rng: Generator, side: int, x: float, z0: float, z1: float) -> None:
    tall, paint = rng.uniform(1.6, 3.2), rng.random()
    scene.shadow(x, x + side * 0.3, z0, z1, tall)
    x0, x1 = sorted((x, x + side * 0.4))
    scene.box(x0, x1, 0, tall, z0, z1, 'wall', 'wall', paint)
    scene.face(rect(x, (tall - 0.18, tall), (z0, z1)), 'wall', 'wall', 0.1, 1.3)


def _fence(scene: Scene, rng: Generator, side: int, x: float, z0: float, z1: float) -> None:
    """Boards or bars; labelled as a whole, as annotators do, gaps included."""
    tall, paint, pitch = rng.uniform(1.1, 2.0), rng.random(), rng.uniform(0.5, 0.9)
    face = rect(x, (0, tall), (z0, z1))
    scene.face(face, 'fence', 'fence', paint, 0.72)
    z = np.arange(z0, z1 - 0.2, pitch)
    bars = rect(x, (0, tall), (z, z + 0.55 * pitch))
    scene.fill(bars, scene.patch('fence', 'fence', paint, face[:3].tolist(), 1.25))
    for y in (0.25 * tall, 0.85 * tall):
        scene.face(rect(x, (y, y + 0.1), (z0, z1)), 'fence', 'fence', paint)


def hedge(scene: Scene, rng: Generator, side: int, x: float, z0: float, z1: float) -> None:
    """Trees and bushes in a row, far ones first."""
    for z in np.arange(z1, z0, -2.2 if z0 < 60 else -5):
        tree(scene, rng, x + side * rng.uniform(3, 7), z, 0.0)
        bush(scene, rng, x + side * 1.2, z, 0.0)


#: Name -> draw(scene, rng, side, x, z0, z1); side is -1 left of the road, 1 right of it.
FRONTS: dict[str, Callable[[Scene, Generator, int, float, float, float], None]] = {
    'building': _building,
    'wall': _wall,
    'fence': _fence,
    'hedge': hedge,
}
