"""People, and the two-wheelers they ride or leave at the kerb."""

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from .scene import Draw, Scene, pose


def people(scene: Scene, rng: Generator, x: float, z: float, yaw: float) -> None:
    """One to three of them."""
    for i in range(rng.integers(1, 4)):
        dx = 0.55 * i * rng.choice((-1, 1))
        _figure(scene, rng, x + dx, z - 0.1 * i, rng.uniform(1.5, 1.9))


def _figure(scene: Scene, rng: Generator, x: float, z: float, height: float) -> None:
    """A person: legs, arms, coat, head."""
    coat, legs, skin = rng.random(3)
    hip, neck = 0.5 * height, 0.84 * height
    swing, broad = rng.uniform(0.03, 0.22), rng.uniform(0.19, 0.25)
    for s in (-1, 1):
        foot = x + s * swing
        scene.stroke([(x + s * 0.07, hip, z), (foot, 0.04, z)], 0.15, 'person', 'trousers', legs)
        scene.stroke([(foot - 0.08, 0.04, z), (foot + 0.08, 0.04, z)], 0.08, 'person', 'black')
    for s in (-1, 1):
        hand = (x + s * (broad + swing * 0.5), hip + 0.02, z)
        arm = [(x + s * broad, neck - 0.08, z), hand]
        scene.stroke(arm, 0.11, 'person', 'coat', coat, 0.85)
    corners = [(-0.8, hip - 0.05), (-1, neck - 0.1), (-0.4, neck), (0.4, neck), (1, neck - 0.1),
               (0.8, hip - 0.05)]  # fmt: skip
    scene.face([(x + broad * w, y, z) for w, y in corners], 'person', 'coat', coat)
    scene.blob(x, neck + 0.13, z, 0.1, 0.13, 'person', 'skin', skin)
    scene.blob(x, neck + 0.19, z, 0.11, 0.09, 'person', 'hair', skin)


def two_wheeler(kind: str, ridden: bool) -> Draw:
    """A 'bicycle' or a 'motorcycle'."""

    def draw(scene: Scene, rng: Generator, x: float, z: float, yaw: float) -> None:
        at, paint = pose(x, z, yaw), rng.random()
        if kind == 'bicycle':
            _bicycle(scene, at, paint)
        else:
            _motorcycle(scene, at, paint, towards=math.cos(yaw) < 0)
        if ridden:
            _rider(scene, rng, at, kind)

    return draw


def _wheels(scene: Scene, at: Callable, kind: str, reach: float, r: float, thick: float) -> None:
    turn = np.linspace(0, 2 * math.pi, 15)
    for axle in (-reach, reach):
        ring = at(axle + r * np.cos(turn), r + r * np.sin(turn), 0)
        if kind == 'bicycle':  # spokes
            scene.face(ring, kind, 'steel', 0.4, 0.7)
        scene.stroke(ring, thick, kind, 'tyre')
        scene.stroke(at(axle, [0.02, 2 * r], 0), thick, kind, 'tyre')


def _bicycle(scene: Scene, at: Callable, paint: float) -> None:
    kind, reach, r = 'bicycle', 0.52, 0.33
    _wheels(scene, at, kind, reach, r, 0.07)
    bars = at([-reach, -0.1, reach - 0.12, -0.15, -0.1, -reach], [r, 0.28, 0.8, 0.75, 0.28, r], 0)
    scene.stroke(bars, 0.06, kind, 'car', paint)
    scene.stroke(at([reach, reach - 0.15], [r, 1.02], 0), 0.06, kind, 'car', paint)
    scene.stroke(at(reach - 0.15, 1.02, [-0.28, 0.28]), 0.05, kind, 'black')
    scene.stroke(at([-0.3, -0.05], 0.92, 0), 0.1, kind, 'black')


def _motorcycle(scene: Scene, at: Callable, paint: float, towards: bool) -> None:
    kind = 'motorcycle'
    _wheels(scene, at, kind, 0.62, 0.3, 0.15)
    hull = at([-0.75, -0.7, 0, 0.4, 0.55, 0.3, -0.3], [0.55, 0.8, 0.85, 1.0, 0.6, 0.3, 0.3], 0)
    scene.stroke(np.concatenate((hull, hull[:1])), 0.3, kind, 'car', paint)
    scene.face(hull, kind, 'car', paint)
    scene.stroke(at([-0.7, 0.1], 0.86, 0), 0.2, kind, 'black')
    scene.stroke(at(0.45, 1.05, [-0.36, 0.36]), 0.07, kind, 'black')
    length, y, lamp = (0.6, 0.85, 'white lamp') if towards else (-0.8, 0.7, 'red lamp')
    scene.blob(*at(length, y, 0), 0.1, 0.1, kind, lamp)


def _rider(scene: Scene, rng: Generator, at: Callable, kind: str) -> None:
    coat, legs, skin = rng.random(3)
    seat = 0.95 if kind == 'bicycle' else 0.9
    for s in (-1, 1):
        knee = at([-0.15, 0.2, 0.02 + 0.1 * s], [seat, seat - 0.3, 0.3 + 0.08 * s], s * 0.14)
        scene.stroke(knee, 0.16, 'rider', 'trousers', legs)
        arm = at([0.05, 0.38], [seat + 0.48, seat + 0.12], s * 0.25)
        scene.stroke(arm, 0.11, 'rider', 'coat', coat, 0.85)
    scene.stroke(at([-0.18, 0.05], [seat + 0.08, seat + 0.48], 0), 0.42, 'rider', 'coat', coat)
    x, y, z = at(0.12, seat + 0.75, 0)
    scene.blob(x, y, z, 0.12, 0.15, 'rider', 'skin', skin)
    helmet = ('car', rng.random()) if kind == 'motorcycle' else ('hair', skin)
    scene.blob(x, y + 0.06, z, 0.14, 0.12, 'rider', *helmet)
