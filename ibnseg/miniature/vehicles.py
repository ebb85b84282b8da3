"""Cars, lorries, buses and trams: side views pulled out to a width."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from .scene import Draw, Scene, pose


class Body(NamedTuple):
    """A vehicle as a side view (length, height) pulled out to a width. Metres, nose to the right.

    `profile` runs clockwise from the lower tail; `glass` numbers its edges that are windows;
    `panes` are the side windows; `inset` narrows the body above `belt`.
    """

    label: str
    material: str
    width: float
    profile: tuple[tuple[float, float], ...]
    glass: tuple[int, ...]
    panes: tuple[tuple[float, float, float, float], ...]  # tail, nose, lower, upper
    wheels: tuple[float, ...]
    radius: float = 0.32
    belt: float = 0.95
    inset: float = 0.14


def _row(start: float, stop: float, count: int, low: float, high: float) -> tuple:
    """`count` equal panes from start to stop."""
    step = (stop - start) / count
    return tuple((start + i * step + 0.08, start + (i + 1) * step - 0.08, low, high)
                 for i in range(count))  # fmt: skip


BODIES = {
    'hatchback': Body(
        'car', 'car', 1.75,
        ((-2, .3), (-2.05, .85), (-1.7, 1.4), (.2, 1.46), (1.0, .98), (1.95, .8), (2, .3)),
        (1, 3), ((-1.5, -.4, .95, 1.36), (-.32, .62, .95, 1.36)), (-1.3, 1.3),
    ),
    'saloon': Body(
        'car', 'car', 1.8,
        ((-2.3, .32), (-2.3, .95), (-1.7, .95), (-1.1, 1.4), (.3, 1.42), (1.1, .95), (2.2, .8),
         (2.3, .3)),
        (2, 4), ((-1.2, -.3, .95, 1.33), (-.22, .7, .95, 1.33)), (-1.4, 1.4),
    ),
    'van': Body(
        'car', 'car', 1.95,
        ((-2.4, .35), (-2.45, 1.1), (-2.3, 1.95), (1.0, 2.0), (1.7, 1.2), (2.4, 1.0), (2.45, .35)),
        (1, 3), ((-2.1, -.9, 1.15, 1.75), (-.8, .2, 1.15, 1.75), (.3, 1.2, 1.15, 1.7)),
        (-1.6, 1.6), .35, 1.15,
    ),
    'cab': Body(
        'truck', 'lorry', 2.4,
        ((2.1, .5), (2.1, 2.9), (3.4, 2.9), (3.9, 1.7), (4.0, .45)),
        (2,), ((2.7, 3.5, 1.6, 2.4),), (3.1,), .5, 2.0, 0.03,
    ),
    'load': Body(
        'truck', 'lorry', 2.5, ((-4, .8), (-4, 3.6), (2, 3.6), (2, .8)), (), (), (-2.9, -1.8), .5,
        4.0, 0.0,
    ),
    'bus': Body(
        'bus', 'bus', 2.55,
        ((-5.5, .4), (-5.5, 1.5), (-5.45, 2.6), (-5.4, 3.05), (5.4, 3.05), (5.45, 2.8), (5.5, 1.2),
         (5.5, .4)),
        (1, 5), _row(-5.2, 5.2, 7, 1.4, 2.5), (-3.4, 3.2), .5, 4.0, 0.0,
    ),
    'tram': Body(
        'train', 'tram', 2.5,
        ((-11, .35), (-11.2, 1.4), (-11, 2.9), (-10.6, 3.4), (10.6, 3.4), (11, 2.9), (11.2, 1.4),
         (11, .35)),
        (1, 5), _row(-10.4, 10.4, 12, 1.5, 2.7), (-7, -5, 5, 7), .4, 4.0, 0.0,
    ),
}  # fmt: skip


def _body(scene: Scene, body: Body, x: float, z: float, yaw: float, paint: float) -> None:
    """Draw the faces of a body turned to the camera, far edge first."""
    at = pose(x, z, yaw)
    eye = np.array((0, scene.eye, 0))
    along, y = np.array(body.profile).T
    half = body.width / 2 - np.where(y > body.belt, body.inset, 0)
    left, right = at(along, y, -half), at(along, y, half)
    edges = []
    for i in range(len(along) - 1):
        quad = np.stack((left[i], left[i + 1], right[i + 1], right[i]))
        dl, dy = along[i + 1] - along[i], y[i + 1] - y[i]
        outward = at(-dy, dl, 0) - at(0, 0, 0)
        if outward @ (quad.mean(0) - eye) < 0:
            edges.append((quad[:, 2].mean(), i, quad))
    for _, i, quad in sorted(edges, key=lambda e: -e[0]):
        scene.face(quad, body.label, body.material, paint)
        if i in body.glass:
            inner = quad.mean(0) + (quad - quad.mean(0)) * 0.86
            scene.face(inner, body.label, 'glass', paint)
    _ends(scene, body, at, yaw)
    side = 1.0 if (at(0, 0, 1) - at(0, 0, 0)) @ (at(0, 0, 0) - eye) < 0 else -1.0
    scene.face(right if side > 0 else left, body.label, body.material, paint, 0.95)
    w = side * body.width / 2
    for tail, nose, low, high in body.panes:
        pane_w = w - side * (body.inset if high > body.belt else 0)
        corners = at([tail, nose, nose - 0.05, tail + 0.05], [low, low, high, high], pane_w)
        scene.face(corners, body.label, 'glass', paint)
    turn = np.linspace(0, 2 * math.pi, 13)[:-1]
    for axle in body.wheels:
        for scale, material in ((1.0, 'tyre'), (0.6, 'chrome')):
            r = body.radius * scale
            ring = at(axle + r * np.cos(turn), body.radius + r * np.sin(turn), w)
            scene.face(ring, body.label, material, 0.0)


def _ends(scene: Scene, body: Body, at: Callable, yaw: float) -> None:
    """Lamps, plate, bumper and tyres of the end that looks at the camera."""
    back = math.cos(yaw) > 0
    joined = body.label == 'truck' and back == (body.profile[0][0] > 0)
    if abs(math.cos(yaw)) < 0.4 or joined:
        return
    end = body.profile[0][0] - 0.06 if back else body.profile[-1][0] + 0.04
    half, base = body.width / 2, body.profile[0][1]
    tall = 0.2 if body.label == 'car' else 0.28

    def panel(w0: float, w1: float, y0: float, y1: float, material: str) -> None:
        corners = at(end, [y0, y0, y1, y1], [w0, w1, w1, w0])
        scene.face(corners, body.label, material, 0.0)

    for s in (-1, 1):
        panel(s * (half - 0.28), s * (half - 0.05), 0.02, base + 0.02, 'tyre')
        lamp = 'red lamp' if back else 'white lamp'
        panel(s * (half - 0.34), s * (half - 0.04), base + 0.3, base + 0.3 + tall, lamp)
    panel(-half + 0.1, half - 0.1, 0.6 * base, base + 0.08, 'black')
    panel(-0.27, 0.27, base + 0.18, base + 0.32, 'plate')


def vehicle(*kinds: str) -> Draw:
    """Bodies one behind the other, the foremost last; without any named, some car."""

    def draw(scene: Scene, rng: Generator, x: float, z: float, yaw: float) -> None:
        paint = rng.random()
        names = kinds or [rng.choice(('hatchback', 'saloon', 'van'), p=(0.45, 0.35, 0.2))]
        if math.cos(yaw) < 0:
            names = names[::-1]  # the load is farther than the cab
        for i, name in enumerate(names):
            _body(scene, BODIES[name], x, z, yaw, (paint + 0.37 * i) % 1)

    return draw
