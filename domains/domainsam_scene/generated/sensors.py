"""Simulate four sensors on the same surfaces, in good and bad conditions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

FAR_M = 80.0
"""Metres that stored depth and range 1 stand for; farther is unseen."""
HIGH_M = 8.0
"""Metres above ground that stored height 1 stands for."""
LASERS = 0.42
"""Share of image rows that a scan line of the laser meets, as of a 64-line scanner on a small picture."""


@dataclass(frozen=True)
class Surfaces:
    """What is to be seen, pixel by pixel.

    ``rgb`` is ``(H, W, 3)`` float32 reflectance, ``depth`` metres (infinite:
    sky), ``intensity`` what a laser gets back, ``height_m`` above ground,
    ``motion`` ``(H, W, 2)`` pixels between two moments (down, right), and
    ``absorbs`` is where no laser light comes back.
    """

    rgb: Float32
    depth: Float32
    intensity: Float32
    height_m: Float32
    motion: Float32
    absorbs: Bool


def sense(
    surfaces: Surfaces, condition: str, failure: str, rng: np.random.Generator
) -> tuple[dict[str, Float32], dict[str, Bool]]:
    """Images ``(3, H, W)`` float32 in 0 to 1 and validity ``(H, W)`` of rgb, depth, event and lidar.

    ``condition`` and ``failure`` are those of :mod:`domainsam_scene.generated.scenes`.
    """
    images = {
        "rgb": _camera(surfaces, condition, failure, rng),
        "depth": _depth(surfaces, condition, rng),
        "event": _events(surfaces, failure, rng),
        "lidar": _lidar(surfaces, condition, failure, rng),
    }
    shape = surfaces.depth.shape
    valid = {name: np.ones(shape, bool) for name in images}
    if failure == "drop":
        lost = list(images)[int(rng.integers(len(images)))]
        images[lost] = np.zeros_like(images[lost])
        valid[lost] = np.zeros(shape, bool)
    return {name: np.ascontiguousarray(image.transpose(2, 0, 1)) for name, image in images.items()}, valid


def _camera(surfaces: Surfaces, condition: str, failure: str, rng: np.random.Generator) -> Float32:
    light, haze = surfaces.rgb.copy(), np.zeros_like(surfaces.depth)
    depth = np.minimum(surfaces.depth, 200.0)
    if condition == "night":
        light *= rng.uniform(0.06, 0.18) + 0.3 * np.exp(-depth / 12.0)[..., None]
    if condition in ("fog", "rain"):
        reach = rng.uniform(12, 30) if condition == "fog" else rng.uniform(50, 90)
        haze = (1 - np.exp(-depth / reach)).astype(np.float32)
    light += haze[..., None] * (np.float32(0.7) - light)
    if condition == "rain":
        light += _streaks(depth.shape, rng)[..., None]
    gain = {"underexposed": 0.12, "overexposed": 2.6}.get(failure, rng.uniform(0.85, 1.15))
    light *= gain
    light = ndimage.gaussian_filter(light, (0.5, 0.5, 0))
    if failure == "motion blur":
        light = ndimage.uniform_filter1d(light, int(rng.integers(7, 17)), axis=1)
    noise = 0.03 if condition == "night" else 0.012
    return np.asarray(np.clip(light + noise * rng.standard_normal(light.shape), 0, 1), np.float32)


def _streaks(shape: tuple[int, ...], rng: np.random.Generator) -> Float32:
    """Rain in front of the lens: short bright strokes."""
    drops = (rng.random(shape) > 0.997).astype(np.float32)
    return np.asarray(0.25 * ndimage.uniform_filter1d(drops, 9, axis=0) * 9, np.float32)


def _depth(surfaces: Surfaces, condition: str, rng: np.random.Generator) -> Float32:
    """Stereo depth: error grows with the square of distance, holes at edges and where it is too far."""
    depth = surfaces.depth
    known = np.minimum(depth, FAR_M)
    error = 0.0006 * known**2 * rng.standard_normal(depth.shape)
    holes = rng.random(depth.shape) < (0.04 if condition == "day" else 0.1)
    holes |= depth >= FAR_M
    holes |= (ndimage.grey_dilation(known, 3) - known > 4) & (rng.random(depth.shape) < 0.5)
    metres = np.where(holes, 0.0, known + error)
    return _three(np.clip(metres / FAR_M, 0, 1))


def _events(surfaces: Surfaces, failure: str, rng: np.random.Generator) -> Float32:
    """Changes of the logarithm of light between two moments, brighter and darker, seen in any light."""
    light = np.log(surfaces.rgb.mean(axis=2) + 0.05)
    down, right = np.gradient(ndimage.gaussian_filter(light, 0.7))
    motion = surfaces.motion + 0.06 * rng.standard_normal(2)
    change = -(down * motion[..., 0] + right * motion[..., 1]) / 0.25
    change += 0.05 * rng.standard_normal(change.shape)
    sparks = rng.random(change.shape) < 0.003
    change[sparks] += rng.choice([-1.0, 1.0], int(sparks.sum()))
    if failure == "event low resolution":
        rows, cols = (np.arange(side) // 4 * 4 for side in change.shape)
        change = change[np.ix_(rows, cols)]
    more, less = np.clip(change - 0.1, 0, 1), np.clip(-change - 0.1, 0, 1)
    return np.asarray(np.stack([more, less, np.zeros_like(more)], axis=2), np.float32)


def _lidar(surfaces: Surfaces, condition: str, failure: str, rng: np.random.Generator) -> Float32:
    """Scan lines of range, intensity and height; no return from sky, from black walls, or by chance."""
    depth = surfaces.depth
    rows = depth.shape[0]
    lines = (np.arange(rows) * LASERS + rng.random()) % 1 < LASERS
    seen = lines[:, None] & (depth < FAR_M) & ~surfaces.absorbs
    lost = {"day": 0.08, "night": 0.08, "fog": 0.35, "rain": 0.25}[condition]
    far = 1 - np.exp(-np.minimum(depth, FAR_M) / (25.0 if condition == "fog" else 150.0))
    seen &= rng.random(depth.shape) > lost + (1 - lost) * 0.6 * far
    reading = np.stack([np.minimum(depth, FAR_M) / FAR_M, surfaces.intensity, surfaces.height_m / HIGH_M], 2)
    reading = reading + rng.standard_normal(reading.shape) * (0.002, 0.03, 0.004)
    reading = np.clip(reading, 0, 1) * seen[..., None]
    if failure == "lidar jitter":
        for row in range(rows):
            reading[row] = np.roll(reading[row], int(rng.integers(-6, 7)), axis=0)
    return np.asarray(reading, np.float32)


def _three(plane: NDArray[np.floating]) -> Float32:
    return np.asarray(np.repeat(plane[..., None], 3, axis=2), np.float32)
