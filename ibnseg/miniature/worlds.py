"""How a world looks: light, sky, colour cast, contrast, texture, lens and sensor."""

from dataclasses import dataclass


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
