"""Augment training samples: symmetries, scale, colour, CutMix.

A change of place moves image, labels and boxes by the same map, in one call,
and nothing is ever moved back: losses compare in the changed frame. (The
published code moves coarse logits back after a flip but leaves image and truth
flipped, so half of its prompts are mirrored.) A change of colour touches the
image alone. All chance comes from a ``numpy.random.Generator``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional as F

from domainsam.train.losses import IGNORE

DIHEDRAL = 8
"""Quarter turns, and their mirror images."""
LEAST_COVER = 1e-3
"""Share of valid ground below which a mean of pixels knows nothing."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One training image and all that is tied to its pixels.

    ``image`` is ``(3, H, W)`` float32 in 0 to 1 and 0 where nothing may be
    seen; ``labels`` is ``(H, W)`` uint8, :data:`IGNORE` where the truth is
    unknown; ``valid`` is ``(H, W)`` bool, where the image has data; ``boxes``
    is ``(N, 4)`` float32 ``x1, y1, x2, y2`` in pixel corners, exclusive edges.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    boxes: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))


@dataclass(frozen=True)
class ColourOptions:
    """Ranges of colour changes; the shares say how often the rarer ones happen.

    Parameters
    ----------
    strength
        Scales every range below; 0 leaves colours alone.
    saturation
        Factor of the distance from grey.
    gain, offset
        Factor and summand of each channel on its own, as distances from 1 and 0.
    contrast, brightness, gamma
        Factor about the mean, factor of the mean, exponent.
    grey_share, permute_share, haze_share, noise_share, blur_share
        How often colours are removed, channels exchanged, haze, noise or blur added.
    haze, noise, blur
        Greatest density of haze, greatest standard deviation of noise and, in pixels, of a Gaussian blur.
    """

    strength: float = 1.0
    saturation: tuple[float, float] = (0.0, 1.8)
    gain: float = 0.2
    offset: float = 0.08
    contrast: tuple[float, float] = (0.6, 1.5)
    brightness: tuple[float, float] = (0.7, 1.3)
    gamma: tuple[float, float] = (0.7, 1.4)
    grey_share: float = 0.2
    permute_share: float = 0.2
    haze_share: float = 0.3
    noise_share: float = 0.3
    blur_share: float = 0.0
    haze: float = 0.7
    noise: float = 0.05
    blur: float = 1.0


def turn_dihedral(sample: Sample, element: int) -> Sample:
    """One of the eight symmetries of the square: ``element % 4`` quarter turns, mirrored from 4 on.

    A quarter turn is counter-clockwise and comes before the mirroring, left to right.
    """
    if not 0 <= element < DIHEDRAL:
        raise ValueError(f"element is {element}, expected 0 to {DIHEDRAL - 1}")
    turns, mirrored = element % 4, element >= 4
    boxes = sample.boxes
    width = sample.labels.shape[1]
    for turn in range(turns):
        # Turning (x, y) counter-clockwise in a picture of width w gives (y, w - x).
        side = sample.labels.shape[1] if turn % 2 == 0 else sample.labels.shape[0]
        x1, y1, x2, y2 = boxes.T
        boxes = np.stack([y1, side - x2, y2, side - x1], axis=1)
    if turns % 2:
        width = sample.labels.shape[0]
    if mirrored:
        x1, y1, x2, y2 = boxes.T
        boxes = np.stack([width - x2, y1, width - x1, y2], axis=1)

    def moved(array: NDArray[np.generic]) -> NDArray[np.generic]:
        turned = np.rot90(array, turns, axes=(-2, -1))
        return np.ascontiguousarray(turned[..., ::-1] if mirrored else turned)

    image, labels, valid = moved(sample.image), moved(sample.labels), moved(sample.valid)
    return Sample(
        np.asarray(image, np.float32),
        np.asarray(labels, np.uint8),
        np.asarray(valid, bool),
        np.asarray(boxes, np.float32).reshape(-1, 4),
    )


def turn_freely(sample: Sample, degrees: float, side: int) -> Sample:
    """The central square of a sample, turned counter-clockwise by any angle about its centre, same scale.

    Ground beyond the sample is invalid and unknown. Bilinear for the image,
    over valid pixels alone; nearest for labels. Boxes are dropped, for a
    turned box has no upright edges.

    Parameters
    ----------
    degrees
        Of the turn.
    side
        Of the square, in pixels.
    """
    rows, cols = sample.labels.shape
    angle = np.deg2rad(degrees)
    down, across = np.mgrid[:side, :side].astype(np.float32) + np.float32(0.5 - side / 2)
    # Rows run downwards, so a counter-clockwise turn is looked up by this one.
    x = np.cos(angle) * across - np.sin(angle) * down
    y = np.sin(angle) * across + np.cos(angle) * down
    places = torch.from_numpy(np.stack([2 * x / cols, 2 * y / rows], axis=-1).astype(np.float32))[None]
    cover = sample.valid.astype(np.float32)
    planes = torch.from_numpy(np.concatenate([sample.image * cover, cover[None]]))[None]
    smooth = F.grid_sample(planes, places, mode="bilinear", align_corners=False)[0].numpy()
    flat = np.stack([sample.labels.astype(np.float32) + 1, cover])
    near = F.grid_sample(torch.from_numpy(flat)[None], places, mode="nearest", align_corners=False)[0].numpy()
    valid = (near[1] > 0) & (smooth[3] > LEAST_COVER)
    image = np.divide(smooth[:3], smooth[3:], out=np.zeros_like(smooth[:3]), where=valid)
    labels = np.where(valid, near[0] - 1, IGNORE).astype(np.uint8)
    return Sample(np.clip(image, 0, 1).astype(np.float32), labels, valid)


def hide_border(sample: Sample, rng: np.random.Generator, share: tuple[float, float]) -> Sample:
    """The sample with all beyond a random straight line unseen, as at the edge of a delivered scene.

    The line's distance from the far corner is a part, within ``share``, of the picture's extent across it.
    """
    rows, cols = sample.labels.shape
    angle = rng.uniform(0, 2 * np.pi)
    down, across = np.mgrid[:rows, :cols]
    along = across * np.cos(angle) + down * np.sin(angle)
    seen = along <= along.max() - rng.uniform(*share) * np.ptp(along)
    valid = sample.valid & seen
    return replace(
        sample,
        image=sample.image * valid,
        labels=np.where(valid, sample.labels, np.uint8(IGNORE)),
        valid=valid,
    )


def fill_unseen(sample: Sample, rng: np.random.Generator) -> Sample:
    """The sample with something in its unseen pixels: black, the nearest colours, or smooth ones.

    Which of them is chance, so that no way of filling means anything to the
    network. ``valid`` and labels stay as they are.
    """
    if sample.valid.all() or not sample.valid.any():
        return sample
    way = int(rng.integers(3))
    if way == 0:
        return sample
    image = _nearest(sample) if way == 1 else _smooth(sample)
    return replace(sample, image=np.where(sample.valid, sample.image, image).astype(np.float32))


def _nearest(sample: Sample) -> NDArray[np.float32]:
    """At every pixel the colour of the nearest valid one."""
    where = ndimage.distance_transform_edt(~sample.valid, return_distances=False, return_indices=True)
    return np.asarray(sample.image[:, where[0], where[1]], np.float32)


def _smooth(sample: Sample) -> NDArray[np.float32]:
    """Means over valid pixels at ever coarser grains, taken from the finest grain that knows any."""
    rows, cols = sample.labels.shape
    cover = torch.from_numpy(sample.valid.astype(np.float32))[None, None]
    level = torch.cat([torch.from_numpy(sample.image)[None] * cover, cover], 1)
    filled = level
    while min(level.shape[2:]) > 1:
        level = F.avg_pool2d(level, 2, ceil_mode=True, count_include_pad=False)
        coarse = F.interpolate(level, (rows, cols), mode="bilinear", align_corners=False)
        filled = torch.where(filled[:, 3:] > LEAST_COVER, filled, coarse)
    return np.asarray((filled[0, :3] / filled[0, 3:].clamp(min=LEAST_COVER)).numpy(), np.float32)


def resize(sample: Sample, height: int, width: int) -> Sample:
    """Another size: means over valid pixels for the image, nearest for labels, boxes scaled."""
    rows, cols = sample.labels.shape
    if (rows, cols) == (height, width):
        return sample
    cover = torch.from_numpy(sample.valid.astype(np.float32))[None, None]
    image = torch.from_numpy(sample.image)[None] * cover
    planes = F.interpolate(
        torch.cat([image, cover], 1), (height, width), mode="bilinear", align_corners=False, antialias=True
    )[0].numpy()
    down = np.minimum((np.arange(height) + 0.5) * rows / height, rows - 1).astype(np.intp)
    across = np.minimum((np.arange(width) + 0.5) * cols / width, cols - 1).astype(np.intp)
    valid = sample.valid[np.ix_(down, across)]
    mean = np.divide(
        planes[:3], planes[3:], out=np.zeros_like(planes[:3]), where=valid & (planes[3:] > LEAST_COVER)
    )
    scale = np.array([width / cols, height / rows] * 2, np.float32)
    return Sample(
        np.clip(mean, 0, 1).astype(np.float32),
        np.where(valid, sample.labels[np.ix_(down, across)], np.uint8(IGNORE)),
        valid,
        sample.boxes * scale,
    )


def crop_size(
    rng: np.random.Generator, side: int, scale: tuple[float, float], aspect: float
) -> tuple[int, int]:
    """Height and width of a window that, resized to ``side``, is magnified by a random scale.

    Parameters
    ----------
    side
        Side of the square crop that the window will be resized to.
    scale
        Least and greatest magnification, drawn evenly in its logarithm.
    aspect
        Width over height is ``exp(2 a)``, ``a`` evenly within plus or minus this.
    """
    magnified = float(np.exp(rng.uniform(np.log(scale[0]), np.log(scale[1]))))
    stretch = float(np.exp(rng.uniform(-aspect, aspect)))
    return max(8, round(side / magnified / stretch)), max(8, round(side / magnified * stretch))


def recolour(sample: Sample, rng: np.random.Generator, options: ColourOptions) -> Sample:
    """The sample in other light, season and sensor; labels and place stay."""
    if options.strength == 0:
        return sample
    pixels = _tinted(sample.image, rng, options)
    pixels = _exposed(pixels, sample.valid, rng, options)
    if rng.random() < options.haze_share:
        pixels = _hazed(pixels, rng, options)
    if options.blur_share and rng.random() < options.blur_share:
        pixels = _blurred(pixels, sample.valid, options.strength * rng.uniform(0, options.blur))
    if rng.random() < options.noise_share:
        spread = options.strength * rng.uniform(0, options.noise)
        pixels = pixels + rng.normal(0, spread, pixels.shape).astype(np.float32)
    pixels = np.clip(pixels, 0, 1) * sample.valid
    return replace(sample, image=pixels.astype(np.float32))


def _about_one(rng: np.random.Generator, limits: tuple[float, float], strength: float) -> float:
    """A factor from limits that are drawn towards 1 as the strength falls."""
    return 1 + strength * (float(rng.uniform(*limits)) - 1)


def _tinted(
    image: NDArray[np.float32], rng: np.random.Generator, options: ColourOptions
) -> NDArray[np.float32]:
    """Saturation, channel gains and offsets, and exchanged channels."""
    strength = options.strength
    grey = image.mean(axis=0, keepdims=True)
    saturation = _about_one(rng, options.saturation, strength)
    if rng.random() < strength * options.grey_share:
        saturation = 0.0
    gains = 1 + strength * rng.uniform(-options.gain, options.gain, (3, 1, 1))
    offsets = strength * rng.uniform(-options.offset, options.offset, (3, 1, 1))
    pixels = ((grey + (image - grey) * saturation) * gains + offsets).astype(np.float32)
    if rng.random() < strength * options.permute_share:
        pixels = pixels[rng.permutation(3)]
    return np.asarray(pixels, np.float32)


def _exposed(
    pixels: NDArray[np.float32],
    valid: NDArray[np.bool_],
    rng: np.random.Generator,
    options: ColourOptions,
) -> NDArray[np.float32]:
    """Contrast about the mean of valid pixels, brightness, gamma."""
    contrast = _about_one(rng, options.contrast, options.strength)
    brightness = _about_one(rng, options.brightness, options.strength)
    gamma = _about_one(rng, options.gamma, options.strength)
    mean = float(pixels[:, valid].mean()) if valid.any() else 0.0
    exposed = np.clip((pixels - mean) * contrast + mean * brightness, 0, 1) ** gamma
    return np.asarray(exposed, np.float32)


def _hazed(
    pixels: NDArray[np.float32], rng: np.random.Generator, options: ColourOptions
) -> NDArray[np.float32]:
    """A bright veil whose density changes slowly over the picture."""
    grid = torch.from_numpy(rng.uniform(0, 1, (1, 1, 4, 4)).astype(np.float32))
    veil = F.interpolate(grid, pixels.shape[1:], mode="bicubic", align_corners=False)[0, 0].clamp(0, 1)
    density = veil.numpy() * np.float32(options.strength * rng.uniform(0, options.haze))
    return np.asarray(pixels * (1 - density) + 0.9 * density, np.float32)


def _blurred(pixels: NDArray[np.float32], valid: NDArray[np.bool_], sigma: float) -> NDArray[np.float32]:
    """A Gaussian mean over valid pixels, as an interpolated or hazy scene is blurred."""
    cover = valid.astype(np.float32)
    planes = np.concatenate([pixels * cover, cover[None]])
    smooth = ndimage.gaussian_filter(planes, (0, sigma, sigma), mode="nearest")
    mean = np.divide(smooth[:-1], smooth[-1:], out=pixels.copy(), where=valid)
    return np.asarray(mean, np.float32)


def cutmix(samples: Sequence[Sample], rng: np.random.Generator, share: tuple[float, float]) -> list[Sample]:
    """Every sample with the same rectangle taken from another sample of the batch.

    Yun et al. 2019. The rectangle's sides are a random part, within ``share``,
    of the picture's. Boxes are dropped, for a cut object has another box.
    """
    height, width = samples[0].labels.shape
    part = rng.uniform(*share)
    rows, cols = max(1, int(height * part)), max(1, int(width * part))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - cols + 1))
    where = np.zeros((height, width), bool)
    where[top : top + rows, left : left + cols] = True
    # A turn of the batch, so that with two samples and more nobody gets his own back.
    givers = (np.arange(len(samples)) + rng.integers(1, max(2, len(samples)))) % len(samples)
    return [
        Sample(
            np.where(where, samples[giver].image, own.image),
            np.where(where, samples[giver].labels, own.labels),
            np.where(where, samples[giver].valid, own.valid),
        )
        for own, giver in zip(samples, givers, strict=True)
    ]
