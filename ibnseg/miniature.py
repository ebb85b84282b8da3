"""Miniature data sets: procedural street scenes in the layouts of the real ones.

A *scene* is content alone: what stands where, seen through a pinhole camera, with Cityscapes ids.
A *world* is appearance alone: light, sky, colour cast, contrast, texture, lens and sensor. All
worlds show the same distribution of scenes, so what a network loses between two of them it loses
to appearance. Scenes make the demo and the tests; no number measured on them says anything about
the real data sets.

Scene coordinates are metres: x to the right, y up from the road, z ahead of the camera.
"""

import functools
import json
import math
import multiprocessing
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from . import splits
from .labels import CITYSCAPES_IDS, CLASSES, PALETTE

FORMAT = 1  # raise when scenes or files change, so that sets written before are rendered anew
RECORD = 'miniature.json'
SMALLEST = (64, 128)
FINE = 2  # photos are drawn this many times larger and averaged down: smooth edges
NEAR, FAR = 0.7, 260.0

#: Raw Cityscapes id of everything drawn; those beside the 19 classes have no training class.
IDS = {name: int(i) for name, i in zip(CLASSES, CITYSCAPES_IDS, strict=True)} | {
    'ego vehicle': 1,
    'static': 4,
    'dynamic': 5,
    'ground': 6,
    'parking': 9,
    'rail track': 10,
}


# ---------------------------------------------------------------------------------- worlds


@dataclass(frozen=True)
class World:
    """How a set looks. A pair is a range from which each picture draws one value.

    Colours are display RGB in 0..1; `skies` holds (zenith, horizon, sunlight) triples.
    """

    sun: tuple[float, float]  # direct light over ambient light
    elevation: tuple[float, float]  # of the sun, degrees
    skies: tuple[tuple[tuple[float, float, float], ...], ...]
    clouds: tuple[float, float]  # 0 clear .. 1 overcast
    haze: tuple[float, float]  # share of the light lost over 100 m
    saturation: tuple[float, float]
    exposure: tuple[float, float]
    contrast: tuple[float, float]  # slope around middle grey
    lift: tuple[float, float]  # added to black
    cast: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]  # gain of R, G, B
    texture: tuple[float, float]  # amplitude of surface texture
    vignette: tuple[float, float]
    blur: tuple[float, float]  # sigma, pixels at 256 x 512
    noise: tuple[float, float]  # sigma of the sensor, 0..1


WORLDS = {
    'gta5': World(
        sun=(1.2, 2.6),
        elevation=(22, 60),
        skies=(
            ((0.20, 0.45, 0.85), (0.70, 0.84, 0.97), (1.00, 0.95, 0.84)),
            ((0.25, 0.52, 0.88), (0.80, 0.88, 0.95), (1.00, 0.97, 0.90)),
            ((0.36, 0.44, 0.72), (0.97, 0.80, 0.60), (1.00, 0.85, 0.66)),
        ),
        clouds=(0.0, 0.45),
        haze=(0.05, 0.3),
        saturation=(1.1, 1.35),
        exposure=(0.9, 1.15),
        contrast=(1.1, 1.35),
        lift=(0.0, 0.01),
        cast=((1.0, 1.08), (0.97, 1.02), (0.88, 0.98)),
        texture=(0.25, 0.45),
        vignette=(0.0, 0.05),
        blur=(0.0, 0.2),
        noise=(0.0, 0.006),
    ),
    'cityscapes': World(
        sun=(0.0, 0.35),
        elevation=(30, 70),
        skies=(
            ((0.86, 0.89, 0.89), (0.97, 0.98, 0.97), (1.00, 0.99, 0.96)),
            ((0.76, 0.80, 0.82), (0.90, 0.92, 0.91), (1.00, 1.00, 1.00)),
        ),
        clouds=(0.6, 1.0),
        haze=(0.12, 0.4),
        saturation=(0.5, 0.75),
        exposure=(0.65, 1.0),
        contrast=(0.7, 0.88),
        lift=(0.03, 0.08),
        cast=((0.87, 0.95), (0.98, 1.04), (0.88, 0.97)),
        texture=(0.9, 1.4),
        vignette=(0.2, 0.4),
        blur=(0.4, 0.7),
        noise=(0.008, 0.02),
    ),
}


class Material(NamedTuple):
    """Colours an object may be painted in (display RGB, 0..255) and how rough the surface is."""

    colours: tuple[tuple[int, int, int], ...]
    rough: float = 0.0


MATERIALS = {
    'sky': Material(((140, 180, 230),)),
    'asphalt': Material(((98, 97, 98), (108, 106, 104), (88, 88, 92)), 0.22),
    'marking': Material(((225, 225, 220),), 0.12),
    'paving': Material(((160, 150, 142), (150, 146, 140), (168, 152, 140)), 0.25),
    'curb': Material(((178, 174, 168),), 0.1),
    'cobble': Material(((122, 116, 110), (112, 106, 102)), 0.4),
    'rail': Material(((80, 76, 74),), 0.1),
    'grass': Material(((104, 140, 58), (118, 142, 66), (132, 136, 74)), 0.4),
    'leaf': Material(((66, 104, 40), (78, 112, 44), (58, 98, 48), (92, 116, 50)), 0.65),
    'bark': Material(((88, 74, 58), (98, 86, 72)), 0.4),
    'facade': Material(
        (
            (196, 178, 146),
            (206, 200, 188),
            (164, 104, 82),
            (180, 156, 122),
            (150, 146, 142),
            (190, 146, 112),
            (176, 176, 164),
            (138, 112, 96),
        ),
        0.16,
    ),
    'roof': Material(((128, 72, 56), (92, 84, 82), (112, 88, 76)), 0.3),
    'window': Material(((58, 68, 80), (72, 82, 92), (46, 54, 62)), 0.15),
    'frame': Material(((222, 218, 210), (120, 108, 98)), 0.05),
    'shop': Material(((150, 50, 44), (52, 84, 120), (60, 104, 78), (196, 160, 70)), 0.1),
    'wall': Material(((150, 144, 134), (140, 118, 104), (126, 124, 122)), 0.45),
    'fence': Material(((104, 86, 66), (84, 92, 84), (120, 116, 110)), 0.3),
    'steel': Material(((118, 120, 122), (94, 98, 100), (132, 130, 124)), 0.08),
    'black': Material(((30, 30, 32),)),
    'tyre': Material(((34, 34, 36),), 0.05),
    'chrome': Material(((150, 152, 156),)),
    'red lamp': Material(((214, 34, 28),)),
    'amber lamp': Material(((240, 160, 40),)),
    'green lamp': Material(((50, 210, 120),)),
    'white lamp': Material(((244, 242, 228),)),
    'dark lamp': Material(((58, 52, 50),)),
    'plate': Material(((226, 226, 218),)),
    'sign red': Material(((204, 36, 38),)),
    'sign blue': Material(((32, 84, 176),)),
    'sign yellow': Material(((240, 196, 36),)),
    'sign white': Material(((236, 236, 232),)),
    'car': Material(
        (
            (34, 35, 38),
            (216, 217, 218),
            (152, 155, 160),
            (92, 96, 102),
            (152, 30, 32),
            (38, 62, 116),
            (54, 76, 66),
            (178, 150, 96),
        ),
        0.03,
    ),
    'lorry': Material(((232, 230, 224), (210, 176, 60), (70, 96, 140), (172, 66, 52)), 0.06),
    'bus': Material(((214, 160, 34), (196, 44, 40), (224, 222, 214), (40, 110, 120)), 0.03),
    'tram': Material(((176, 32, 40), (232, 204, 70), (62, 128, 92), (206, 208, 206)), 0.03),
    'glass': Material(((44, 52, 60), (58, 66, 74)), 0.05),
    'skin': Material(((206, 160, 132), (150, 106, 80), (98, 68, 52))),
    'hair': Material(((46, 36, 30), (92, 66, 42), (150, 130, 100))),
    'coat': Material(
        (
            (44, 46, 54),
            (70, 76, 96),
            (150, 48, 48),
            (188, 182, 172),
            (88, 94, 74),
            (176, 130, 76),
            (60, 98, 140),
        ),
        0.12,
    ),
    'trousers': Material(((42, 44, 56), (62, 72, 98), (92, 82, 70), (40, 40, 40)), 0.12),
    'bin': Material(((70, 78, 72), (90, 84, 80), (60, 72, 96)), 0.1),
    'bonnet': Material(((40, 42, 46), (120, 122, 126), (70, 74, 82)), 0.02),
}
_MATERIAL_ROW = {name: i for i, name in enumerate(MATERIALS)}


# ---------------------------------------------------------------------------------- scenes


@dataclass
class Scene:
    """A canvas of patch numbers and, for each patch, what it is and how it lies in space.

    `index` is uint16 (FINE * H, FINE * W). A row of `patches` is (label, material, paint, shade,
    normal x, y, z, and a, b, c of the plane's inverse depth a * u + b * v + c, where u, v are
    canvas pixels from the vanishing point). Patch 0 is the sky.
    """

    size: tuple[int, int]
    rng: np.random.Generator
    patches: list[tuple] = field(default_factory=list)
    footprints: list[tuple[np.ndarray, float]] = field(default_factory=list)
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        height, width = (FINE * n for n in self.size)
        u = self.rng.uniform
        self.index = np.zeros((height, width), np.uint16)
        self.focal = width * u(0.72, 0.9)
        self.cx, self.cy = width * (0.5 + u(-0.07, 0.07)), height * u(0.4, 0.47)
        self.eye = u(1.35, 1.75)
        self._eye, self._gain = np.array((0, self.eye)), np.array((self.focal, -self.focal))
        self._centre = np.array((self.cx, self.cy))
        self.patches.append((IDS['sky'], _MATERIAL_ROW['sky'], 0, 1, 0, 0, -1, 0, 0, 1 / FAR))

    def project(self, points: np.ndarray) -> np.ndarray:
        """Scene points (n, 3) to canvas pixels, int32 (n, 2)."""
        points = np.asarray(points, np.float64)
        out = points[:, :2] - self._eye
        out *= self._gain / np.maximum(points[:, 2:], NEAR)
        out += self._centre
        return np.minimum(np.maximum(out, -30000), 30000).astype(np.int32)

    def patch(self, label: str, material: str, paint: float, plane: Sequence, shade: float) -> int:
        """Add a patch; `plane` is three scene points, or a depth for what faces the camera."""
        f = self.focal
        if isinstance(plane, int | float):
            normal, inverse = (0, 0, -1), (0, 0, 1 / max(plane, NEAR))
        else:
            (ax, ay, az), (bx, by, bz), (cx, cy, cz) = plane
            p, q, r = bx - ax, by - ay, bz - az
            s, t, w = cx - ax, cy - ay, cz - az
            x, y, z = q * w - r * t, r * s - p * w, p * t - q * s
            d = x * ax + y * (ay - self.eye) + z * az
            length = math.copysign(math.hypot(x, y, z) or 1, d)
            d = d or 1e-6
            normal = (-x / length, -y / length, -z / length)
            inverse = (x / f / d, -y / f / d, z / d)
        self.patches.append((IDS[label], _MATERIAL_ROW[material], paint, shade, *normal, *inverse))
        return len(self.patches) - 1

    def fill(self, polygons: np.ndarray, patch: int) -> None:
        """Fill scene polygons (n, corners, 3) with one patch."""
        pixels = self.project(polygons.reshape(-1, 3)).reshape(*polygons.shape[:2], 2)
        for polygon in pixels:
            cv2.fillPoly(self.index, [polygon], patch)

    def face(
        self, points: Sequence, label: str, material: str, paint: float = 0.0, shade: float = 1.0
    ) -> None:
        """Fill one flat polygon of scene points."""
        points = np.asarray(points, np.float64)
        plane = points[:3].tolist()
        cv2.fillPoly(
            self.index, [self.project(points)], self.patch(label, material, paint, plane, shade)
        )

    def ground(self, x0, x1, z0, z1, label, material, paint=0.0, y=0.0) -> None:
        z0 = max(z0, NEAR)
        self.face([(x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)], label, material, paint)

    def upright(self, x, y0, y1, z, width, label, material, paint=0.0, shade=1.0) -> None:
        """A post, or any upright rectangle that faces the camera; never thinner than a pixel."""
        half = max(width / 2, 0.5 * FINE * z / self.focal)
        self.face(
            [(x - half, y0, z), (x + half, y0, z), (x + half, y1, z), (x - half, y1, z)],
            label, material, paint, shade,
        )  # fmt: skip

    def blob(self, x, y, z, rx, ry, label, material, paint=0.0, shade=1.0, tilt=0.0) -> None:
        """An ellipse that faces the camera."""
        z = max(float(z), NEAR)
        scale = self.focal / z
        centre = (round(self.cx + x * scale), round(self.cy + (self.eye - y) * scale))
        axes = (max(1, round(scale * rx)), max(1, round(scale * ry)))
        if abs(centre[0] - self.cx) < 2 * self.index.shape[1]:
            number = self.patch(label, material, paint, z, shade)
            cv2.ellipse(self.index, centre, axes, tilt, 0, 360, number, -1)

    def stroke(self, points, width, label, material, paint=0.0, shade=1.0) -> None:
        """A line through scene points, `width` metres thick."""
        points = np.asarray(points, np.float64)
        z = float(points[:, 2].mean())
        number = self.patch(label, material, paint, z, shade)
        thick = max(FINE, round(self.focal * width / max(z, NEAR)))
        cv2.polylines(self.index, [self.project(points)], False, number, thick)

    def shadow(self, corners: Sequence, height: float) -> None:
        """Remember that something `height` metres tall stands on these (x, z) corners."""
        self.footprints.append((np.asarray(corners, np.float64), height))

    def place(self, x: float, z: float, half: float, length: float) -> bool:
        """Take the ground from z to z + length, x +- half; False where something stands."""
        for ox, oz, ohalf, olength in self.taken:
            if abs(x - ox) < half + ohalf and z < oz + olength and oz < z + length:
                return False
        self.taken.append((x, z, half, length))
        return True


def _frame(x: float, z: float, yaw: float) -> Callable:
    """Return at(l, y, w): scene points of a body at (x, z); l ahead of it, w to its right."""
    sin, cos = math.sin(yaw), math.cos(yaw)

    def at(length, y, w) -> np.ndarray:
        length, y, w = (np.asarray(v, np.float64) for v in (length, y, w))
        out = np.empty((*np.broadcast(length, y, w).shape, 3))
        out[..., 0] = x + length * sin + w * cos
        out[..., 1] = y
        out[..., 2] = z + length * cos - w * sin
        return out

    return at


# -- vehicles


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
    at = _frame(x, z, yaw)
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
    _ends(scene, body, at, yaw, eye)
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


def _ends(scene: Scene, body: Body, at: Callable, yaw: float, eye: np.ndarray) -> None:
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


def _vehicle(*names: str) -> Callable:
    def draw(scene: Scene, rng: np.random.Generator, x: float, z: float, yaw: float) -> None:
        paint = rng.random()
        kinds = names
        if not names:
            kinds = [rng.choice(('hatchback', 'saloon', 'van'), p=(0.45, 0.35, 0.2))]
        bodies = [BODIES[kind] for kind in kinds]
        if math.cos(yaw) < 0:
            bodies = bodies[::-1]  # the load is farther than the cab
        for i, body in enumerate(bodies):
            _body(scene, body, x, z, yaw, (paint + 0.37 * i) % 1)

    return draw


# -- people and two-wheelers


def _figure(scene, rng, x, z, height, label) -> None:
    """A person: legs, arms, coat, head."""
    coat, legs, skin = rng.random(3)
    hip, neck = 0.5 * height, 0.84 * height
    swing, broad = rng.uniform(0.03, 0.22), rng.uniform(0.19, 0.25)
    for s in (-1, 1):
        foot = x + s * swing
        scene.stroke([(x + s * 0.07, hip, z), (foot, 0.04, z)], 0.15, label, 'trousers', legs)
        scene.stroke([(foot - 0.08, 0.04, z), (foot + 0.08, 0.04, z)], 0.08, label, 'black')
    for s in (-1, 1):
        hand = (x + s * (broad + swing * 0.5), hip + 0.02, z)
        scene.stroke([(x + s * broad, neck - 0.08, z), hand], 0.11, label, 'coat', coat, 0.85)
    corners = [(-0.8, hip - 0.05), (-1, neck - 0.1), (-0.4, neck), (0.4, neck), (1, neck - 0.1),
               (0.8, hip - 0.05)]  # fmt: skip
    scene.face([(x + broad * w, y, z) for w, y in corners], label, 'coat', coat)
    scene.blob(x, neck + 0.13, z, 0.1, 0.13, label, 'skin', skin)
    scene.blob(x, neck + 0.19, z, 0.11, 0.09, label, 'hair', skin)


def _person(scene, rng, x, z, yaw) -> None:
    for i in range(rng.integers(1, 4)):
        dx = 0.55 * i * rng.choice((-1, 1))
        _figure(scene, rng, x + dx, z - 0.1 * i, rng.uniform(1.5, 1.9), 'person')


def _two_wheeler(kind: str, ridden: bool) -> Callable:
    def draw(scene, rng, x, z, yaw) -> None:
        at, paint = _frame(x, z, yaw), rng.random()
        r, thick = (0.33, 0.07) if kind == 'bicycle' else (0.3, 0.15)
        reach = 0.52 if kind == 'bicycle' else 0.62
        turn = np.linspace(0, 2 * math.pi, 15)
        for axle in (-reach, reach):
            ring = at(axle + r * np.cos(turn), r + r * np.sin(turn), 0)
            if kind == 'bicycle':
                scene.face(ring, kind, 'steel', 0.4, 0.7)
            scene.stroke(ring, thick, kind, 'tyre')
            scene.stroke(at(axle, [0.02, 2 * r], 0), thick, kind, 'tyre')
        if kind == 'bicycle':
            bars = at([-reach, -0.1, reach - 0.12, -0.15, -0.1, -reach],
                      [r, 0.28, 0.8, 0.75, 0.28, r], 0)  # fmt: skip
            scene.stroke(bars, 0.06, kind, 'car', paint)
            scene.stroke(at([reach, reach - 0.15], [r, 1.02], 0), 0.06, kind, 'car', paint)
            scene.stroke(at(reach - 0.15, 1.02, [-0.28, 0.28]), 0.05, kind, 'black')
            scene.stroke(at([-0.3, -0.05], 0.92, 0), 0.1, kind, 'black')
        else:
            hull = at([-0.75, -0.7, 0, 0.4, 0.55, 0.3, -0.3], [0.55, 0.8, 0.85, 1.0, 0.6, 0.3, 0.3],
                      0)  # fmt: skip
            scene.stroke(np.concatenate((hull, hull[:1])), 0.3, kind, 'car', paint)
            scene.face(hull, kind, 'car', paint)
            scene.stroke(at([-0.7, 0.1], 0.86, 0), 0.2, kind, 'black')
            scene.stroke(at(0.45, 1.05, [-0.36, 0.36]), 0.07, kind, 'black')
            front = math.cos(yaw) < 0
            lamp = at(0.6 if front else -0.8, 0.85 if front else 0.7, 0)
            lamp_material = 'white lamp' if front else 'red lamp'
            scene.blob(*lamp, 0.1, 0.1, kind, lamp_material)
        if ridden:
            _rider(scene, rng, at, kind)

    return draw


def _rider(scene, rng, at, kind) -> None:
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


# -- plants and street furniture


def _tree(scene, rng, x, z, yaw) -> None:
    tall, spread, paint = rng.uniform(4.5, 10), rng.uniform(1.3, 2.8), rng.random()
    scene.upright(x, 0, 0.7 * tall, z, rng.uniform(0.2, 0.4), 'vegetation', 'bark', paint)
    crown = max(tall * 0.32, spread)
    _leaves(scene, rng, (x, tall - crown * 0.6, z), spread, crown, paint, 26)


def _bush(scene, rng, x, z, yaw) -> None:
    size, paint = rng.uniform(0.5, 1.1), rng.random()
    _leaves(scene, rng, (x, size * 0.7, z), size * 1.3, size * 0.8, paint, 12)


def _leaves(scene, rng, centre, rx, ry, paint, count) -> None:
    """Clusters of leaves, darker below and inside, lighter above."""
    x, y, z = centre
    count = max(6, min(count, int(count * 30 / z)))  # far ones need fewer
    angle, reach = rng.uniform(0, 2 * math.pi, count), np.sqrt(rng.uniform(0.02, 1, count))
    dx, dy = reach * np.cos(angle), reach * np.sin(angle)
    sizes = rng.uniform(0.22, 0.45, count)
    order = np.argsort(dy - reach)
    scene.blob(x, y, z, rx * 0.8, ry * 0.8, 'vegetation', 'leaf', paint, 0.6)
    dx, dy, sizes, angle = (a[order].tolist() for a in (dx, dy, sizes, angle))
    for i in range(count):
        shade = 0.85 + 0.3 * dy[i] + 0.1 * math.sin(9 * angle[i])
        scene.blob(x + rx * 0.8 * dx[i], max(y + ry * 0.8 * dy[i], 0.3), z, rx * sizes[i],
                   ry * sizes[i], 'vegetation', 'leaf', paint, shade)  # fmt: skip


def _lamp_post(scene, rng, x, z, yaw) -> None:
    tall, arm = rng.uniform(5.5, 9), -math.copysign(rng.uniform(0.8, 2), x)
    scene.upright(x, 0, tall, z, rng.uniform(0.14, 0.24), 'pole', 'steel', rng.random())
    scene.upright(x, 0, 1.0, z, 0.3, 'pole', 'steel', 0.2)
    scene.stroke([(x, tall, z), (x + arm, tall + 0.3, z)], 0.12, 'pole', 'steel')
    scene.blob(x + arm, tall + 0.25, z, 0.4, 0.12, 'pole', 'steel', 0.9)


def _bollards(scene, rng, x, z, yaw) -> None:
    for i in range(rng.integers(3, 7))[::-1]:
        scene.upright(x, 0, 1.0, z + 1.6 * i, 0.14, 'pole', 'steel', 0.5, 0.8)


def _lights(scene, rng, x, z, yaw) -> None:
    """A signal post, at times with a second head on an arm over the road."""
    tall, lit = rng.uniform(2.6, 3.4), rng.integers(3)
    heads = [(x, tall)]
    if rng.random() < 0.6:
        over, high = x - math.copysign(rng.uniform(2, 4), x), rng.uniform(4.8, 5.6)
        scene.upright(x, 0, high + 0.5, z, 0.2, 'pole', 'steel', 0.3)
        scene.stroke([(x, high + 0.5, z), (over, high + 0.5, z)], 0.14, 'pole', 'steel', 0.3)
        heads.append((over, high))
    scene.upright(x, 0, tall + 0.4, z, 0.16, 'pole', 'steel', 0.3)
    lamps = ('green lamp', 'amber lamp', 'red lamp')
    for hx, hy in heads:
        scene.upright(hx, hy - 0.62, hy + 0.62, z - 0.1, 0.56, 'traffic light', 'black')
        for i, lamp in enumerate(lamps):
            material = lamp if i == lit else 'dark lamp'
            scene.blob(hx, hy + 0.38 * (i - 1), z - 0.15, 0.15, 0.15, 'traffic light', material)


def _sign(scene, rng, x, z, yaw) -> None:
    high, r, kind = rng.uniform(2.1, 3.0), rng.uniform(0.34, 0.5), rng.integers(5)
    scene.upright(x, 0, high + 0.4, z, 0.1, 'pole', 'steel', 0.6)
    label, near = 'traffic sign', z - 0.1
    if kind == 0:
        scene.blob(x, high, near, r, r, label, 'sign red')
        scene.blob(x, high, near, r * 0.7, r * 0.7, label, 'sign white')
    elif kind == 1:
        scene.blob(x, high, near, r, r, label, 'sign blue')
        scene.upright(x, high - r * 0.5, high + r * 0.5, near, r * 0.3, label, 'sign white')
    elif kind == 2:
        for k, material in ((1.2, 'sign red'), (0.75, 'sign white')):
            corners = ((-k, -0.6 * k), (k, -0.6 * k), (0, k))
            scene.face([(x + r * a, high + r * b, near) for a, b in corners], label, material)
    elif kind == 3:
        for k, material in ((1.15, 'sign white'), (0.85, 'sign yellow')):
            corners = ((0, -k), (k, 0), (0, k), (-k, 0))
            scene.face([(x + r * a, high + r * b, near) for a, b in corners], label, material)
    else:
        wide = rng.uniform(1.0, 2.2)
        scene.upright(x, high - 0.4, high + 0.5, near, wide, label, 'sign blue')
        for y in (high - 0.15, high + 0.2):
            scene.upright(x, y - 0.06, y + 0.06, near, wide * 0.7, label, 'sign white')


def _clutter(scene, rng, x, z, yaw) -> None:
    """Bins, boxes and the like: the classes that have no training id."""
    label = rng.choice(('static', 'static', 'dynamic'))
    wide, tall, paint = rng.uniform(0.5, 1.1), rng.uniform(0.7, 1.3), rng.random()
    _box(scene, x - wide / 2, x + wide / 2, 0, tall, z, z + wide, label, 'bin', paint)


def _box(scene, x0, x1, y0, y1, z0, z1, label, material, paint) -> None:
    """An axis-aligned box: the side that faces the camera's axis, the top, the front."""
    z0 = max(z0, NEAR)
    if x0 > 0 or x1 < 0:
        x = x0 if x0 > 0 else x1
        scene.face([(x, y0, z0), (x, y0, z1), (x, y1, z1), (x, y1, z0)], label, material, paint)
    if y1 < scene.eye:
        top = [(x0, y1, z0), (x1, y1, z0), (x1, y1, z1), (x0, y1, z1)]
        scene.face(top, label, material, paint)
    scene.face([(x0, y0, z0), (x1, y0, z0), (x1, y1, z0), (x0, y1, z0)], label, material, paint)


# -- what lines the street


def _building(scene, rng, side, x, z0, z1) -> None:
    """A house front along the street at x and its gable towards the camera."""
    storeys, storey = int(rng.integers(2, 7)), rng.uniform(2.8, 3.6)
    tall, paint, deep = storeys * storey + 0.8, rng.random(), side * rng.uniform(9, 14)
    far = x + deep
    z0 = max(z0, NEAR)
    shown = rng.random()
    scene.shadow([(x, z0), (x, z1), (far, z1), (far, z0)], tall)
    gable = [(x, 0, z0), (far, 0, z0), (far, tall, z0), (x, tall, z0)]
    scene.face(gable, 'building', 'facade', paint, 0.92)
    scene.face([(x, 0, z0), (x, 0, z1), (x, tall, z1), (x, tall, z0)], 'building', 'facade', paint)
    if shown < 0.6:  # a pitched roof
        ridge, inward = tall + rng.uniform(1.5, 3), x + deep / 2
        roof = [(x, tall, z0), (x, tall, z1), (inward, ridge, z1), (inward, ridge, z0)]
        scene.face(
            [(x, tall, z0), (far, tall, z0), (inward, ridge, z0)], 'building', 'facade', paint
        )
        scene.face(roof, 'building', 'roof', paint)
    else:
        scene.face([(x, tall - 0.4, z0), (x, tall - 0.4, z1), (x, tall, z1), (x, tall, z0)],
                   'building', 'frame', paint)  # fmt: skip
    _windows(scene, rng, x, z0, z1, storeys, storey, paint)
    wide = int(abs(deep) // 3)
    w = x + side * (1.2 + 3 * np.arange(wide))
    h = storey * np.arange(1, storeys) + 1.0
    w, h = (a.ravel() for a in np.meshgrid(w, h))
    if z0 > 4 and len(w):
        panes = [(w, h), (w + side * 1.2, h), (w + side * 1.2, h + 1.5), (w, h + 1.5)]
        quads = np.stack([np.stack((a, b, np.full_like(a, z0)), -1) for a, b in panes], 1)
        scene.fill(quads, scene.patch('building', 'window', paint, z0, 1.0))


def _windows(scene, rng, x, z0, z1, storeys, storey, paint) -> None:
    """Rows of windows on the street front; at times shops on the ground floor."""
    pitch, wide, tall = rng.uniform(2.2, 3.4), rng.uniform(0.9, 1.4), rng.uniform(1.3, 1.9)
    shop = rng.random() < 0.45
    z, y = np.meshgrid(
        np.arange(z0 + 0.8, z1 - wide - 0.3, pitch), storey * np.arange(1 * shop, storeys) + 0.9
    )
    z, y = z.ravel(), y.ravel()
    plane = [(x, 0.0, z0), (x, 0.0, z1), (x, 1.0, z1)]
    dark = rng.random(z.size)
    for grow, material, tone in ((0.14, 'frame', 0), (0, 'window', 0.15), (0, 'window', 0.9)):
        keep = dark >= 0 if tone == 0 else (dark < 0.6) == (tone < 0.5)
        a, b = z[keep] - grow, z[keep] + wide + grow
        c, d = y[keep] - grow, y[keep] + tall + grow
        e = np.full_like(a, x)
        quads = np.stack([np.stack(p, -1) for p in ((e, c, a), (e, c, b), (e, d, b), (e, d, a))], 1)
        number = scene.patch('building', material, tone or paint, plane, 1.0)
        scene.fill(quads, number)
    if shop:
        for start in np.arange(z0 + 0.5, z1 - 4, 5.0):
            glass = [(x, 0.3, start), (x, 0.3, start + 4), (x, 2.4, start + 4), (x, 2.4, start)]
            scene.face(glass, 'building', 'window', rng.random())
            board = [(x, 2.5, start), (x, 2.5, start + 4), (x, 3.1, start + 4), (x, 3.1, start)]
            scene.face(board, 'building', 'shop', rng.random())


def _wall(scene, rng, side, x, z0, z1) -> None:
    tall, paint = rng.uniform(1.6, 3.2), rng.random()
    scene.shadow([(x, z0), (x, z1), (x + side * 0.3, z1), (x + side * 0.3, z0)], tall)
    x0, x1 = sorted((x, x + side * 0.4))
    _box(scene, x0, x1, 0, tall, z0, z1, 'wall', 'wall', paint)
    low, high = tall - 0.18, tall
    scene.face([(x, low, z0), (x, low, z1), (x, high, z1), (x, high, z0)], 'wall', 'wall', 0.1, 1.3)


def _fence(scene, rng, side, x, z0, z1) -> None:
    """Boards or bars; labelled as a whole, as annotators do, gaps included."""
    tall, paint, pitch = rng.uniform(1.1, 2.0), rng.random(), rng.uniform(0.5, 0.9)
    face = [(x, 0, z0), (x, 0, z1), (x, tall, z1), (x, tall, z0)]
    scene.face(face, 'fence', 'fence', paint, 0.72)
    z = np.arange(z0, z1 - 0.2, pitch)
    e, o = np.full_like(z, x), np.zeros_like(z)
    wide = 0.55 * pitch
    bars = ((e, o, z), (e, o, z + wide), (e, o + tall, z + wide), (e, o + tall, z))
    quads = np.stack([np.stack(p, -1) for p in bars], 1)
    scene.fill(quads, scene.patch('fence', 'fence', paint, face[:3], 1.25))
    for y in (0.25 * tall, 0.85 * tall):
        scene.face([(x, y, z0), (x, y, z1), (x, y + 0.1, z1), (x, y + 0.1, z0)],
                   'fence', 'fence', paint, 1.0)  # fmt: skip


def _hedge(scene, rng, side, x, z0, z1) -> None:
    for z in np.arange(z1, z0, -2.2 if z0 < 60 else -5):
        _tree(scene, rng, x + side * rng.uniform(3, 7), z, 0.0)
        _bush(scene, rng, x + side * 1.2, z, 0.0)


FRONTS = {'building': _building, 'wall': _wall, 'fence': _fence, 'hedge': _hedge}


class Thing(NamedTuple):
    """A kind of object and where it stands. `half`, `length`, `tall` are its box in metres."""

    draw: Callable
    zone: str
    chance: float  # that a scene holds any
    most: int
    near: float
    far: float
    half: float
    length: float
    tall: float


THINGS = {
    'tram': Thing(_vehicle('tram'), 'tram', 0.9, 1, 16, 50, 1.3, 23, 3.4),
    'bus': Thing(_vehicle('bus'), 'lane', 0.42, 1, 11, 38, 1.3, 12, 3.0),
    'truck': Thing(_vehicle('cab', 'load'), 'lane', 0.45, 1, 10, 36, 1.3, 9, 3.5),
    'driving': Thing(_vehicle(), 'lane', 0.95, 5, 9, 80, 0.95, 6, 1.4),
    'motorcyclist': Thing(_two_wheeler('motorcycle', True), 'lane', 0.4, 2, 6, 24, 0.3, 3, 1.5),
    'cyclist': Thing(_two_wheeler('bicycle', True), 'edge', 0.5, 2, 6, 26, 0.25, 3, 1.6),
    'parked car': Thing(_vehicle(), 'parking', 0.95, 8, 5, 70, 0.95, 5.4, 1.4),
    'motorcycle': Thing(_two_wheeler('motorcycle', False), 'furniture', 0.4, 2, 6, 18, 0.4, 2, 1.0),
    'bicycle': Thing(_two_wheeler('bicycle', False), 'furniture', 0.55, 4, 6, 22, 0.4, 1.5, 0.9),
    'people': Thing(_person, 'walk', 0.95, 8, 5, 40, 0.7, 1, 1.7),
    'crossing': Thing(_person, 'lane', 0.25, 1, 9, 24, 0.7, 1, 1.7),
    'tree': Thing(_tree, 'furniture', 0.75, 6, 9, 80, 0.5, 2, 6.0),
    'bush': Thing(_bush, 'verge', 0.6, 5, 7, 50, 0.7, 1, 0.8),
    'lamp post': Thing(_lamp_post, 'furniture', 0.8, 4, 8, 70, 0.2, 0.5, 7.0),
    'bollards': Thing(_bollards, 'furniture', 0.3, 1, 7, 25, 0.2, 8, 1.0),
    'lights': Thing(_lights, 'furniture', 0.65, 2, 9, 30, 0.2, 0.5, 3.5),
    'sign': Thing(_sign, 'furniture', 0.85, 4, 7, 32, 0.3, 0.5, 2.8),
    'clutter': Thing(_clutter, 'walk', 0.6, 3, 6, 25, 0.5, 1, 1.0),
}


def _street(scene: Scene, rng: np.random.Generator) -> dict[str, list]:
    """Draw the ground and the house fronts; return the zones objects may stand in.

    A zone is a list of (x from, x to, yaw of a vehicle there).
    """
    u = rng.uniform
    zones = {name: [] for name in ('lane', 'edge', 'parking', 'walk', 'verge', 'furniture', 'tram')}
    lane, paint = u(3.0, 3.6), rng.random()
    ours, theirs = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    right, left = lane * (ours - 0.5), -lane * (theirs + 0.5)
    _skyline(scene, rng)
    scene.ground(-90, 90, NEAR, FAR, 'terrain' if u() < 0.5 else 'ground', 'grass', rng.random())
    crossing = u(16, 45) if u() < 0.45 else None
    scene.ground(left, right, NEAR, FAR, 'road', 'asphalt', paint)
    for i in range(-theirs, ours):
        zones['lane'].append((lane * i - 0.25, lane * i + 0.25, 0.0 if i >= 0 else math.pi))
    edges = {-1: left, 1: right}
    fronts, rails = [], rng.choice((-1, 1)) if u() < 0.55 else 0
    for side in (-1, 1):
        x = edges[side]
        yaw = 0.0 if side > 0 else math.pi
        zones['edge'].append((x - side * 0.9, x - side * 0.5, yaw))

        def strip(wide, label, material, y=0.0, side=side, tone=None):
            nonlocal x
            x0, x1 = sorted((x, x + side * wide))
            tone = rng.random() if tone is None else tone
            scene.ground(x0, x1, NEAR, FAR, label, material, tone, y)
            x += side * wide
            return x0, x1

        if side == rails:
            x0, x1 = strip(3.4, 'rail track', 'cobble')
            middle = (x0 + x1) / 2
            for rail in (-0.72, 0.72):
                scene.ground(middle + rail - 0.06, middle + rail + 0.06, NEAR, FAR, 'rail track',
                             'rail')  # fmt: skip
            zones['tram'].append((middle, middle, yaw))
        elif u() < 0.6:
            label = 'parking' if u() < 0.3 else 'road'
            x0, x1 = strip(2.2, label, 'cobble' if label == 'parking' else 'asphalt', tone=paint)
            zones['parking'].append(((x0 + x1) / 2 - 0.1, (x0 + x1) / 2 + 0.1, yaw))
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
        fronts.append((side, x))
    _markings(scene, rng, lane, ours, theirs, crossing)
    _lines(scene, rng, fronts, crossing)
    return zones


def _markings(scene, rng, lane, ours, theirs, crossing) -> None:
    """Lane lines, and a side street with its zebra crossing."""
    for i in range(-theirs, ours - 1):
        x, solid = lane * (i + 0.5), i == -1 and rng.random() < 0.4
        start = rng.uniform(0, 6)
        for z in [NEAR] if solid else np.arange(start, 120, 7):
            end = FAR if solid else z + 3.2
            scene.ground(x - 0.07, x + 0.07, z, end, 'road', 'marking')
    for x in (-lane * (theirs + 0.5) + 0.25, lane * (ours - 0.5) - 0.25):
        scene.ground(x - 0.06, x + 0.06, NEAR, FAR, 'road', 'marking')
    if crossing is not None:
        scene.ground(-90, 90, crossing, crossing + 9, 'road', 'asphalt', 0.2)
        for x in np.arange(-lane * (theirs + 0.5) + 0.4, lane * (ours - 0.5) - 0.4, 1.0):
            scene.ground(x, x + 0.5, crossing - 4, crossing - 1, 'road', 'marking')


def _skyline(scene, rng) -> None:
    """What closes the street far ahead: house blocks and tree tops on the horizon."""
    for x in np.arange(-150, 150, 14):
        tall, wide = rng.uniform(3, 22), rng.uniform(10, 22)
        if rng.random() < 0.45:
            scene.upright(x, 0, tall, 200.0, wide, 'building', 'facade', rng.random(), 0.9)
        else:
            scene.blob(x, 1, 190.0, wide * 0.7, tall * 0.7, 'vegetation', 'leaf', rng.random())


def _lines(scene, rng, fronts, crossing) -> None:
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
            _hedge(scene, rng, side, x + side * 2, z0, z1)
        FRONTS[kind](scene, rng, side, x, z0, z1)


def _populate(scene: Scene, rng: np.random.Generator, zones: dict[str, list]) -> None:
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
        half, long = thing.half, thing.length / 2 - 0.5
        ends = (z - max(long, 0.1), z + max(long, 0.1))
        corners = [
            (x - half, ends[0]),
            (x + half, ends[0]),
            (x + half, ends[1]),
            (x - half, ends[1]),
        ]
        scene.shadow(corners, thing.tall)
    for z, x, name, yaw in sorted(standing, reverse=True):
        wobble = rng.uniform(-0.06, 0.06)
        if THINGS[name].zone == 'furniture':
            wobble = rng.uniform(0.5, 2.6)
        THINGS[name].draw(scene, rng, x, z, yaw + wobble)


def _bonnet(scene: Scene, rng: np.random.Generator) -> None:
    """The own car's bonnet at the lower edge, in most pictures."""
    height, width = scene.index.shape
    if rng.random() < 0.7:
        axes = (round(width * rng.uniform(0.5, 0.62)), round(height * rng.uniform(0.05, 0.12)))
        number = scene.patch('ego vehicle', 'bonnet', rng.random(), 1.0, 1.0)
        cv2.ellipse(scene.index, (round(scene.cx), height), axes, 0, 0, 360, number, -1)


def _scene(seed: int, size: tuple[int, int]) -> Scene:
    rng = np.random.default_rng((FORMAT, seed))
    scene = Scene(size, rng)
    zones = _street(scene, rng)
    _populate(scene, rng, zones)
    _bonnet(scene, rng)
    return scene


# ---------------------------------------------------------------------------------- photos


@functools.cache
def _grain() -> np.ndarray:
    """Tileable noise of several octaves, float32 (256, 256), mean 0, deviation 1."""
    rng = np.random.default_rng(0)
    total = np.zeros((256, 256), np.float32)
    for sigma in (0.7, 2, 6, 18):
        white = rng.standard_normal((256, 256)).astype(np.float32)
        wide = cv2.GaussianBlur(np.tile(white, (3, 3)), (0, 0), sigma)[256:512, 256:512]
        total += wide / wide.std()
    return total / total.std()


def _photo(scene: Scene, world: World, rng: np.random.Generator) -> np.ndarray:
    """Light a scene as a world does: uint8 (H, W, 3), RGB."""
    take = {k: rng.uniform(*v) for k, v in vars(world).items() if k not in ('skies', 'cast')}
    sky_row = world.skies[rng.integers(len(world.skies))]
    zenith, horizon, sunlight = np.array(sky_row, np.float32) ** 2
    azimuth, elevation = rng.uniform(-math.pi, math.pi), math.radians(take['elevation'])
    flat = math.cos(elevation)
    sun = np.array(
        (math.sin(azimuth) * flat, math.sin(elevation), math.cos(azimuth) * flat), np.float32
    )
    rows = np.array(scene.patches, np.float32)
    index = np.ascontiguousarray(scene.index[::FINE, ::FINE])

    normal = rows[:, 4:7]
    tint = (horizon + zenith) / (horizon + zenith).mean()
    ambient = 0.55 * (0.6 + 0.4 * tint) * (0.8 + 0.2 * normal[:, 1:2])
    direct = 0.55 * np.maximum(normal @ sun, 0)[:, None] * sunlight * take['sun']
    image = _smooth(scene, index, _albedo(rows, rng) * (ambient + direct))

    u = (np.arange(index.shape[1], dtype=np.float32) * FINE - scene.cx)[None]
    v = (np.arange(index.shape[0], dtype=np.float32) * FINE - scene.cy)[:, None]
    a, b, c = (np.take(column, index) for column in rows[:, 7:10].T.copy())
    near = np.clip(a * u + b * v + c, 1 / FAR, 1 / NEAR)
    depth = 1 / near

    light = _texture(scene, rows, index, u, v, depth, take['texture'], rng)
    cast, contact = _ground_shadow(scene, sun, take['sun'], index.shape)
    lost = np.where(normal[:, 1] > 0.9, (direct / (ambient + direct)).mean(1), 0)
    light *= 1 - np.minimum(np.take(lost, index) * cast + 0.45 * (lost > 0)[index] * contact, 0.85)
    image *= light[..., None]

    image += (horizon * 0.8 - image) * (1 - (1 - take['haze']) ** (depth / 100))[..., None]
    sky = _sky(scene, take['clouds'], zenith, horizon, index.shape, rng)
    top = len(sky)
    is_sky = np.zeros((len(rows), 1), np.float32)
    is_sky[0] = 1
    image[:top] += (sky - image[:top]) * _smooth(scene, index, is_sky)[:top]
    return _develop(image, world, take, rng)


def _smooth(scene: Scene, index: np.ndarray, table: np.ndarray) -> np.ndarray:
    """table[index] with smooth edges: pixels of several patches take the mean of the fine ones."""
    fine = [scene.index[i::FINE, j::FINE] for i in range(FINE) for j in range(FINE)]
    table = table.astype(np.float32)
    image = np.take(table, index, axis=0)
    mixed = np.nonzero(np.logical_or.reduce([part != index for part in fine]))
    image[mixed] = sum(table[part[mixed]] for part in fine) / len(fine)
    return image


def _texture(scene, rows, index, u, v, depth, amplitude, rng) -> np.ndarray:
    """Brightness of rough surfaces, float32 (H, W) about 1; the grain lies on the surfaces."""
    reach = depth * np.float32(18 / scene.focal)  # grain per pixel
    along = 18 * depth
    across = u * reach
    s, t = along + across, across - along - v * reach
    s += float(rng.uniform(0, 256))
    t += float(rng.uniform(0, 256))
    grain = cv2.remap(_grain(), s, t, cv2.INTER_LINEAR,
                      borderMode=cv2.BORDER_WRAP)  # fmt: skip
    rough = np.array([material.rough for material in MATERIALS.values()], np.float32)
    rough = np.take(rough[rows[:, 1].astype(int)] * np.float32(amplitude / 2), index)
    fade = 0.35 + 0.65 * np.minimum(scene.focal / FINE / 24 / depth, 1)
    return np.maximum(1 + grain * rough * fade, 0.2)


def _albedo(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Linear RGB of each patch: its material's colour that its paint chooses, a little varied."""
    colours = np.zeros((len(MATERIALS), 8, 3), np.float32)
    counts = np.zeros(len(MATERIALS), int)
    for i, material in enumerate(MATERIALS.values()):
        counts[i] = len(material.colours)
        colours[i, : counts[i]] = np.array(material.colours) / 255
    colours *= 1 + rng.normal(0, 0.05, colours.shape[:2])[..., None]
    colours *= 1 + rng.normal(0, 0.015, colours.shape)
    kind = rows[:, 1].astype(int)
    choice = np.minimum((rows[:, 2] * counts[kind]).astype(int), counts[kind] - 1)
    return colours[kind, choice] ** 2 * rows[:, 3:4]


def _ground_shadow(scene, towards, sun, shape) -> tuple[np.ndarray, np.ndarray]:
    """Where the ground lies in cast shadow and in contact shadow: two float32 (H, W) in 0..1."""
    cast, contact = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    shift = -towards[[0, 2]] / max(towards[1], 0.2)
    for corners, tall in scene.footprints:
        for canvas, offset in ((cast, shift * tall), (contact, shift * 0)):
            if canvas is cast and sun < 0.05:
                continue
            hull = cv2.convexHull(np.concatenate((corners, corners + offset)).astype(np.float32))
            x, z = hull[:, 0].T
            points = scene.project(np.stack((x, np.zeros_like(x), np.maximum(z, NEAR)), -1))
            cv2.fillPoly(canvas, [points // FINE], 255)
    contact = cv2.blur(contact, (9, 5))
    return cast.astype(np.float32) / 255, contact.astype(np.float32) / 255


def _sky(scene, clouds, zenith, horizon, shape, rng) -> np.ndarray:
    """A gradient with clouds above the horizon, linear RGB float32 (rows, W, 3)."""
    line, width = min(int(scene.cy / FINE) + 2, shape[0]), shape[1]
    rise = np.clip(1 - np.arange(line, dtype=np.float32) / line, 0, 1)[:, None]
    blue = horizon + (zenith - horizon) * np.sqrt(rise)[..., None]
    x = (np.arange(width, dtype=np.float32) / width - 0.5)[None]
    far = 1 / (0.25 + rise)
    s = x * far * 130 + float(rng.uniform(0, 256))
    t = far * 60 + 0 * x + float(rng.uniform(0, 256))
    grain = cv2.remap(_clouds(), s, t, cv2.INTER_LINEAR,
                      borderMode=cv2.BORDER_WRAP)[..., None]  # fmt: skip
    cover = np.clip(grain * 1.1 - 0.9 + 2.2 * clouds, 0, 1) * 0.85
    white = horizon.mean() * np.float32(0.3) + horizon * np.float32(0.7) + np.float32(0.1)
    return blue + (white + 0.03 * grain - blue) * cover


@functools.cache
def _clouds() -> np.ndarray:
    wide = cv2.GaussianBlur(np.tile(_grain(), (3, 3)), (0, 0), 3)
    return np.ascontiguousarray(wide[256:512, 256:512])


def _develop(image, world: World, take: dict, rng: np.random.Generator) -> np.ndarray:
    """Lens, sensor and picture style: linear float (H, W, 3) to uint8."""
    height, width = image.shape[:2]
    if take['vignette'] > 0.01:
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, width, dtype=np.float32)[None]
        image *= (1 - take['vignette'] * 0.5 * (x * x + y * y))[..., None]
    sigma = take['blur'] * width / 512
    if sigma > 0.1:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    image = np.sqrt(np.maximum(image * take['exposure'], 0))
    grey = image @ np.array((0.3, 0.59, 0.11), np.float32)
    image = grey[..., None] + (image - grey[..., None]) * take['saturation']
    cast = np.array([rng.uniform(*c) for c in world.cast], np.float32)
    image = ((image - 0.45) * take['contrast'] + 0.45) * cast * (1 - take['lift']) + take['lift']
    if take['noise'] > 0:
        shift = rng.integers(0, 1 << 20)
        image += take['noise'] * np.resize(np.roll(_noise(), shift), image.shape)
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)


@functools.cache
def _noise() -> np.ndarray:
    """Sensor noise, float32 (1009, 1013)."""
    return np.random.default_rng(1).standard_normal((1009, 1013)).astype(np.float32)


def _check(worlds: Iterable[str], size: tuple[int, int]) -> None:
    for world in worlds:
        if world not in WORLDS:
            raise ValueError(f'unknown world {world!r}; choose from {tuple(WORLDS)}')
    if len(size) != 2 or size[0] < SMALLEST[0] or size[1] < SMALLEST[1]:
        raise ValueError(
            f'size {tuple(size)} is too small; expected (height, width) of at least {SMALLEST}'
        )


def render(
    seed: int, world: str, size: tuple[int, int] = (256, 512)
) -> tuple[np.ndarray, np.ndarray]:
    """Return a photo, uint8 (H, W, 3) RGB, and its label, uint8 (H, W) of raw Cityscapes ids.

    The label depends on the seed and the size alone, the photo on the world too. Raises
    ValueError for an unknown world, a negative seed or a size below 64 x 128.
    """
    _check([world], size)
    if seed < 0:
        raise ValueError(f'seed {seed} is negative; expected 0 or more')
    scene = _scene(seed, tuple(size))
    rng = np.random.default_rng((FORMAT, seed, *world.encode()))
    ids = np.array([patch[0] for patch in scene.patches], np.uint8)
    return _photo(scene, WORLDS[world], rng), ids[scene.index[::FINE, ::FINE]]


# ---------------------------------------------------------------------------------- layouts


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


def _colours() -> np.ndarray:
    """Cityscapes' colour of each raw id, uint8 (256, 3)."""
    table = np.zeros((256, 3), np.uint8)
    table[CITYSCAPES_IDS] = PALETTE
    others = {4: (20, 20, 20), 5: (111, 74, 0), 6: (81, 0, 81), 9: (250, 170, 160)}
    for raw, colour in (others | {10: (230, 150, 140)}).items():
        table[raw] = colour
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
    worlds: Sequence[str] = ('gta5', 'cityscapes'),
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
    _check(worlds, size)
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
