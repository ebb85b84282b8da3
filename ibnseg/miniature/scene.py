"""The canvas a street is drawn on: a pinhole camera, flat patches, and what stands where.

Scene coordinates are metres: x to the right, y up from the road, z ahead of the camera.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.random import Generator

from ..labels import CITYSCAPES_IDS, CLASSES
from .materials import MATERIALS

FORMAT = 1  # raise when scenes or files change, so that sets written before are rendered anew
FINE = 2  # photos are drawn this many times larger and averaged down: smooth edges
NEAR, FAR = 0.7, 260.0

#: Raw Cityscapes id of everything drawn; those beside the 19 classes have no training class.
IDS = dict(zip(CLASSES, map(int, CITYSCAPES_IDS), strict=True))
IDS |= {'ego vehicle': 1, 'static': 4, 'dynamic': 5, 'ground': 6, 'parking': 9, 'rail track': 10}
_MATERIAL_ROW = {name: i for i, name in enumerate(MATERIALS)}

Span = float | np.ndarray | tuple[float | np.ndarray, float | np.ndarray]


def rect(x: Span, y: Span, z: Span) -> np.ndarray:
    """Corners (4, 3) of an upright rectangle; with arrays, of many (n, 4, 3).

    A pair is (from, to); x and z run together along the foot.
    """
    (x0, x1), (y0, y1), (z0, z1) = (v if isinstance(v, tuple) else (v, v) for v in (x, y, z))
    out = np.empty((*np.broadcast(x0, x1, y0, y1, z0, z1).shape, 4, 3))
    for i, corner in enumerate(((x0, y0, z0), (x1, y0, z1), (x1, y1, z1), (x0, y1, z0))):
        out[..., i, 0], out[..., i, 1], out[..., i, 2] = corner
    return out


def pose(x: float, z: float, yaw: float) -> Callable[..., np.ndarray]:
    """Return at(l, y, w): scene points of a body at (x, z); l ahead of it, w to its right."""
    sin, cos = math.sin(yaw), math.cos(yaw)

    def at(length, y, w) -> np.ndarray:
        length, w = np.asarray(length), np.asarray(w)
        points = x + length * sin + w * cos, y, z + length * cos - w * sin
        return np.stack(np.broadcast_arrays(*points), -1)

    return at


@dataclass
class Scene:
    """A canvas of patch numbers and, for each patch, what it is and how it lies in space.

    `index` is uint16 (FINE * H, FINE * W). A row of `patches` is (label, material, paint, shade,
    normal x, y, z, and a, b, c of the plane's inverse depth a * u + b * v + c, where u, v are
    canvas pixels from the vanishing point). Patch 0 is the sky. What is drawn later hides what
    was drawn before. `paint` in 0..1 chooses among a material's colours, `shade` scales it.
    """

    size: tuple[int, int]
    rng: Generator
    patches: list[tuple] = field(default_factory=list)
    footprints: list[tuple[np.ndarray, float]] = field(default_factory=list)
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)
    lane: float = 0.0  # metres wide; ours is the first, from -lane / 2 on
    ours: int = 0  # lanes of our way
    theirs: int = 0  # lanes of the other way

    def __post_init__(self) -> None:
        height, width = (FINE * n for n in self.size)
        u = self.rng.uniform
        self.index = np.zeros((height, width), np.uint16)
        self.focal = width * u(0.72, 0.9)
        self.cx, self.cy = width * (0.5 + u(-0.07, 0.07)), height * u(0.4, 0.47)
        self.eye = u(1.35, 1.75)
        self.patches.append((IDS['sky'], _MATERIAL_ROW['sky'], 0, 1, 0, 0, -1, 0, 0, 1 / FAR))

    def label(self) -> np.ndarray:
        """Raw Cityscapes ids, uint8 (H, W)."""
        ids = np.array([patch[0] for patch in self.patches], np.uint8)
        return ids[self.index[::FINE, ::FINE]]

    def project(self, points: np.ndarray) -> np.ndarray:
        """Scene points (n, 3) to canvas pixels, int32 (n, 2)."""
        points = np.asarray(points, np.float64)
        out = points[:, :2] - (0, self.eye)
        out *= np.array((self.focal, -self.focal)) / np.maximum(points[:, 2:], NEAR)
        out += self.cx, self.cy
        return np.minimum(np.maximum(out, -30000), 30000).astype(np.int32)

    def patch(
        self, label: str, material: str, paint: float, plane: Sequence | float, shade: float = 1.0
    ) -> int:
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
        self.fill(points[None], self.patch(label, material, paint, points[:3].tolist(), shade))

    def ground(
        self, x0: float, x1: float, label: str, material: str, paint: float = 0.0, y: float = 0.0,
        z0: float = NEAR, z1: float = FAR,
    ) -> None:  # fmt: skip
        """A level rectangle, by default as long as the street."""
        z0 = max(z0, NEAR)
        self.face([(x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)], label, material, paint)

    def upright(
        self, x: float, y0: float, y1: float, z: float, width: float, label: str, material: str,
        paint: float = 0.0, shade: float = 1.0,
    ) -> None:  # fmt: skip
        """A post, or any upright rectangle that faces the camera; never thinner than a pixel."""
        half = max(width / 2, 0.5 * FINE * z / self.focal)
        self.face(rect((x - half, x + half), (y0, y1), z), label, material, paint, shade)

    def box(
        self, x0: float, x1: float, y0: float, y1: float, z0: float, z1: float, label: str,
        material: str, paint: float,
    ) -> None:  # fmt: skip
        """An axis-aligned box: the side that faces the camera's axis, the top, the front."""
        z0 = max(z0, NEAR)
        if x0 > 0 or x1 < 0:
            side = x0 if x0 > 0 else x1
            self.face(rect(side, (y0, y1), (z0, z1)), label, material, paint)
        if y1 < self.eye:
            self.ground(x0, x1, label, material, paint, y1, z0, z1)
        self.face(rect((x0, x1), (y0, y1), z0), label, material, paint)

    def blob(
        self, x: float, y: float, z: float, rx: float, ry: float, label: str, material: str,
        paint: float = 0.0, shade: float = 1.0,
    ) -> None:  # fmt: skip
        """An ellipse that faces the camera."""
        z = max(float(z), NEAR)
        scale = self.focal / z
        centre = (round(self.cx + x * scale), round(self.cy + (self.eye - y) * scale))
        axes = (max(1, round(scale * rx)), max(1, round(scale * ry)))
        if abs(centre[0] - self.cx) < 2 * self.index.shape[1]:
            number = self.patch(label, material, paint, z, shade)
            cv2.ellipse(self.index, centre, axes, 0, 0, 360, number, -1)

    def stroke(
        self, points: Sequence, width: float, label: str, material: str, paint: float = 0.0,
        shade: float = 1.0,
    ) -> None:  # fmt: skip
        """A line through scene points, `width` metres thick."""
        points = np.asarray(points, np.float64)
        z = float(points[:, 2].mean())
        number = self.patch(label, material, paint, z, shade)
        thick = max(FINE, round(self.focal * width / max(z, NEAR)))
        cv2.polylines(self.index, [self.project(points)], False, number, thick)

    def shadow(self, x0: float, x1: float, z0: float, z1: float, height: float) -> None:
        """Remember that something `height` metres tall stands on this rectangle."""
        corners = np.array(((x0, z0), (x1, z0), (x1, z1), (x0, z1)), np.float64)
        self.footprints.append((corners, height))

    def place(self, x: float, z: float, half: float, length: float) -> bool:
        """Take the ground from z to z + length, x +- half; False where something stands."""
        for ox, oz, ohalf, olength in self.taken:
            if abs(x - ox) < half + ohalf and z < oz + olength and oz < z + length:
                return False
        self.taken.append((x, z, half, length))
        return True


#: How a thing is drawn: (scene, rng, x, z, yaw), yaw 0 looking away from the camera.
Draw = Callable[[Scene, Generator, float, float, float], None]
