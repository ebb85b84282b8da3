"""Photos: a scene in a world's light, through its lens, on its sensor."""

import functools
import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.random import Generator

from ..text import meant
from .materials import MATERIALS
from .scene import FAR, FINE, FORMAT, IDS, NEAR, Scene
from .street import compose
from .worlds import WORLDS, World

SMALLEST = (64, 128)


def check(seed: int, size: tuple[int, int]) -> None:
    """Raise ValueError for a negative seed or a size too small to draw in."""
    if len(size) != 2 or size[0] < SMALLEST[0] or size[1] < SMALLEST[1]:
        raise ValueError(
            f'size {tuple(size)} is too small; expected (height, width) of at least {SMALLEST}'
        )
    if seed < 0:
        raise ValueError(f'seed {seed} is negative; expected 0 or more')


def render(
    seed: int, world: str, size: tuple[int, int] = (256, 512), fog: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return a photo, uint8 (H, W, 3) RGB, and its label, uint8 (H, W) of raw Cityscapes ids.

    The label depends on the seed and the size alone, the photo on the world too. `fog`, the share
    of light lost over a metre (beta of Foggy Cityscapes, 1/m), takes the place of the world's haze.

    Raises ValueError for an unknown world, a negative seed or a size below 64 x 128.
    """
    if world not in WORLDS:
        near = meant(world, WORLDS)
        raise ValueError(f'unknown world {world!r}; choose from {tuple(WORLDS)}{near}')
    check(seed, size)
    look = WORLDS[world]
    if fog is not None:
        haze = 1 - math.exp(-100 * fog)
        look = replace(look, haze=(haze, haze))
    scene = compose(seed, tuple(size))
    rng = np.random.default_rng((FORMAT, seed, *world.encode()))
    return _photo(scene, look, rng), scene.label()


def drivable(seed: int, size: tuple[int, int] = (256, 512)) -> np.ndarray:
    """Return a scene's drivable areas, uint8 (H, W): 0 our lane, 1 others of our way, 2 the rest.

    As in BDD100K, of the road that is seen. Raises ValueError as `render`.
    """
    check(seed, size)
    scene = compose(seed, tuple(size))
    road = scene.label() == IDS['road']
    across = np.arange(size[1])[None] * FINE - scene.cx
    down = np.maximum(np.arange(size[0])[:, None] * FINE - scene.cy, 1e-3)
    x = across * scene.eye / down  # where the ray through a pixel meets the ground, metres
    areas = np.full(size, 2, np.uint8)
    areas[road & (x > -scene.lane / 2) & (x < scene.lane * (scene.ours - 0.5))] = 1
    areas[road & (abs(x) < scene.lane / 2)] = 0
    return areas


def _photo(scene: Scene, world: World, rng: Generator) -> np.ndarray:
    """Light a scene as a world does: uint8 (H, W, 3), RGB."""
    take = {k: rng.uniform(*v) for k, v in vars(world).items() if k not in ('skies', 'cast')}
    sky_row = world.skies[rng.integers(len(world.skies))]
    zenith, horizon, sunlight = np.array(sky_row, np.float32) ** 2
    azimuth, elevation = rng.uniform(-math.pi, math.pi), math.radians(take['elevation'])
    flat = math.cos(elevation)
    sun = np.array(
        (math.sin(azimuth) * flat, math.sin(elevation), math.cos(azimuth) * flat), np.float32
    )
    index = np.ascontiguousarray(scene.index[::FINE, ::FINE])
    rows = np.array(scene.patches, np.float32)
    material, paint, shade = rows[:, 1].astype(int), rows[:, 2], rows[:, 3:4]
    normal, plane = rows[:, 4:7], rows[:, 7:10]

    tint = (horizon + zenith) / (horizon + zenith).mean()
    ambient = 0.55 * (0.6 + 0.4 * tint) * (0.8 + 0.2 * normal[:, 1:2])
    direct = 0.55 * np.maximum(normal @ sun, 0)[:, None] * sunlight * take['sun']
    albedo = _albedo(material, paint, rng) * shade
    image = _smooth(scene, index, albedo * (ambient + direct))

    u, v, depth = _rays(scene, index, plane)
    rough = np.array([row.rough for row in MATERIALS.values()], np.float32)
    rough = np.take(rough[material] * (take['texture'] / 2), index)
    light = _texture(scene, rough, u, v, depth, rng)
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


def _rays(scene: Scene, index: np.ndarray, plane: np.ndarray) -> tuple[np.ndarray, ...]:
    """Canvas pixels from the vanishing point, (1, W) and (H, 1), and depth in metres, (H, W)."""
    u = (np.arange(index.shape[1], dtype=np.float32) * FINE - scene.cx)[None]
    v = (np.arange(index.shape[0], dtype=np.float32) * FINE - scene.cy)[:, None]
    a, b, c = (np.take(column, index) for column in plane.T.copy())
    return u, v, 1 / np.clip(a * u + b * v + c, 1 / FAR, 1 / NEAR)


def _texture(
    scene: Scene, rough: np.ndarray, u: np.ndarray, v: np.ndarray, depth: np.ndarray, rng: Generator
) -> np.ndarray:
    """Brightness of rough surfaces, float32 (H, W) about 1; the grain lies on the surfaces."""
    reach = depth * (18 / scene.focal)  # grain per pixel
    along = 18 * depth
    across = u * reach
    grain = _tiled(_grain(), along + across, across - along - v * reach, rng)
    fade = 0.35 + 0.65 * np.minimum(scene.focal / FINE / 24 / depth, 1)
    return np.maximum(1 + grain * rough * fade, 0.2)


def _albedo(material: np.ndarray, paint: np.ndarray, rng: Generator) -> np.ndarray:
    """Linear RGB of each patch: its material's colour that its paint chooses, a little varied."""
    counts = np.array([len(row.colours) for row in MATERIALS.values()])
    colours = np.zeros((len(MATERIALS), counts.max(), 3), np.float32)
    for i, row in enumerate(MATERIALS.values()):
        colours[i, : counts[i]] = np.array(row.colours) / 255
    colours *= 1 + rng.normal(0, 0.05, colours.shape[:2])[..., None]
    colours *= 1 + rng.normal(0, 0.015, colours.shape)
    choice = np.minimum((paint * counts[material]).astype(int), counts[material] - 1)
    return colours[material, choice] ** 2


def _ground_shadow(
    scene: Scene, towards: np.ndarray, sun: float, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Where the ground lies in cast shadow and in contact shadow: two float32 (H, W) in 0..1."""
    cast, contact = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    shift = -towards[[0, 2]] / max(towards[1], 0.2)
    for corners, tall in scene.footprints:
        for canvas, reach in ((contact, 0.0), (cast, tall)) if sun >= 0.05 else ((contact, 0.0),):
            ends = np.concatenate((corners, corners + shift * reach))
            x, z = cv2.convexHull(ends.astype(np.float32))[:, 0].T
            points = scene.project(np.stack((x, np.zeros_like(x), np.maximum(z, NEAR)), -1))
            cv2.fillPoly(canvas, [points // FINE], 255)
    contact = cv2.blur(contact, (9, 5))
    return cast.astype(np.float32) / 255, contact.astype(np.float32) / 255


def _sky(
    scene: Scene, clouds: float, zenith: np.ndarray, horizon: np.ndarray, shape: tuple[int, int],
    rng: Generator,
) -> np.ndarray:  # fmt: skip
    """A gradient with clouds above the horizon, linear RGB float32 (rows, W, 3)."""
    line, width = min(int(scene.cy / FINE) + 2, shape[0]), shape[1]
    rise = np.clip(1 - np.arange(line, dtype=np.float32) / line, 0, 1)[:, None]
    blue = horizon + (zenith - horizon) * np.sqrt(rise)[..., None]
    x = (np.arange(width, dtype=np.float32) / width - 0.5)[None]
    far = 1 / (0.25 + rise)
    grain = _tiled(_clouds(), x * far * 130, far * 60 + 0 * x, rng)[..., None]
    cover = np.clip(grain * 1.1 - 0.9 + 2.2 * clouds, 0, 1) * 0.85
    white = horizon.mean() * 0.3 + horizon * 0.7 + 0.1
    return blue + (white + 0.03 * grain - blue) * cover


def _develop(image: np.ndarray, world: World, take: dict[str, float], rng: Generator) -> np.ndarray:
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


def _tiled(tile: np.ndarray, s: np.ndarray, t: np.ndarray, rng: Generator) -> np.ndarray:
    """Sample a tile of 256 x 256 at columns s and rows t, from a random origin."""
    s, t = s + rng.uniform(0, 256), t + rng.uniform(0, 256)
    return cv2.remap(tile, s, t, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


@functools.cache
def _grain() -> np.ndarray:
    """Tileable noise of several octaves, float32 (256, 256), mean 0, deviation 1."""
    rng = np.random.default_rng(0)
    total = np.zeros((256, 256), np.float32)
    for sigma in (0.7, 2, 6, 18):
        wide = _blurred(rng.standard_normal((256, 256)).astype(np.float32), sigma)
        total += wide / wide.std()
    return total / total.std()


@functools.cache
def _clouds() -> np.ndarray:
    """The grain without its finest octaves."""
    return np.ascontiguousarray(_blurred(_grain(), 3))


def _blurred(tile: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a tile as if it were repeated."""
    return cv2.GaussianBlur(np.tile(tile, (3, 3)), (0, 0), sigma)[256:512, 256:512]


@functools.cache
def _noise() -> np.ndarray:
    """Sensor noise, float32 (1009, 1013)."""
    return np.random.default_rng(1).standard_normal((1009, 1013)).astype(np.float32)
