"""Augment training slices: shift, tilt, bend, blur, contrast.

A slice is cut anew out of the volume, along a plane that is turned, tilted,
stretched and bent at random, so that even one subject gives slices without
end. Organs are made lighter or darker each by its own amount, as contrast
agent does in its different phases. All chance comes from the generator that is
passed in. Left and right are never exchanged without their labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.gaussian import blur_images, weigh_gaussian
from domainsam_ct.train.case import AIR, Case
from domainsam_ct.train.cuts import Drawn, Frame, cut_surface, find_body, make_plane

BODY_MM = 250.0
"""Width of a body, roughly, for which a volume of few slices must have room when it is tilted."""
BENDS = 5
"""Points along each side of the grid whose random displacements bend a slice."""


@dataclass(frozen=True)
class AugmentOptions:
    """Ranges of changes; a range of nothing switches a change off.

    Parameters
    ----------
    kind
        ``"strong"``: all of the below. ``"published"``: half of the slices
        are turned by quarter turns and mirrored, half of the rest turned by
        up to 20 degrees, as SAM-LST does, paired organs changing their label
        in the mirror. ``"paper"``: the same with the labels left as they are,
        which is what was published.
    rotate, tilt
        Degrees in the plane, and of the plane about its two axes.
    scale
        Least and greatest magnification, drawn evenly in its logarithm.
    stretch
        Greatest logarithm of the ratio of height to width, and of depth to both.
    shift_mm, bend_mm
        Greatest move of the whole, standard deviation of the moves of single points.
    thin
        Least distance of neighbouring slices, as a share of the case's own: what thinner slices look like.
    enhance_hu, enhance_share
        Standard deviation of a structure's own change, and how often there is any.
    gain, offset_hu, noise_hu, blur_mm
        Changes of the whole picture: factor about 1, summand, greatest noise, greatest blur.
    """

    kind: Literal["strong", "published", "paper"] = "strong"
    rotate: float = 15.0
    tilt: float = 10.0
    scale: tuple[float, float] = (0.8, 1.25)
    stretch: float = 0.12
    shift_mm: float = 30.0
    bend_mm: float = 5.0
    thin: float = 1.0
    enhance_hu: float = 45.0
    enhance_share: float = 0.7
    gain: float = 0.15
    offset_hu: float = 15.0
    noise_hu: float = 30.0
    blur_mm: float = 1.5


def draw_slice(
    case: Case,
    index: int,
    rng: np.random.Generator,
    frame: Frame,
    options: AugmentOptions,
    twins: Mapping[int, int],
) -> Drawn:
    """A changed version of one slice.

    Parameters
    ----------
    case, index
        The volume, and the slice that the cut is about.
    twins
        Classes that change places in a mirror.
    """
    if options.kind != "strong":
        plain = cut_surface(case, index, make_plane(case, frame), frame)
        return _published(plain, rng, twins if options.kind == "published" else {})
    points = make_plane(case, frame)
    points = _bent(points, rng, options.bend_mm)
    points = points @ _random_map(rng, options, _room(case)).T + torch.from_numpy(_shift(rng, options))
    if frame.rows:
        points = points + torch.from_numpy(find_body(case, index))
    drawn = cut_surface(case, index, points, frame, rng, options)
    return Drawn(_degraded(drawn.slices, rng, frame.pixels_mm(case)[0], options), drawn.labels)


def _bent(points: Tensor, rng: np.random.Generator, spread: float) -> Tensor:
    """Positions with a smooth random displacement."""
    if not spread:
        return points
    moves = torch.from_numpy(rng.normal(0, spread, (1, 3, BENDS, BENDS)).astype(np.float32))
    field = F.interpolate(moves, points.shape[:2], mode="bicubic", align_corners=True)
    return points + field[0].permute(1, 2, 0)


def _room(case: Case) -> float:
    """Greatest tilt in degrees that leaves most of a cut inside the volume."""
    height = len(case.slices) * case.spacing_mm[0]
    return math.degrees(math.atan2(height / 4, BODY_MM / 2))


def _random_map(rng: np.random.Generator, options: AugmentOptions, room: float) -> Tensor:
    """The 3 x 3 matrix from the cut's millimetres to the volume's, in z, y, x."""
    turn = math.radians(rng.uniform(-options.rotate, options.rotate))
    tilt = min(options.tilt, room)
    over, sideways = np.radians(rng.uniform(-tilt, tilt, 2))
    size = math.exp(rng.uniform(math.log(options.scale[0]), math.log(options.scale[1])))
    high, deep = np.exp(rng.uniform(-options.stretch, options.stretch, 2))
    in_plane = _rotation(1, 2, turn)
    tilted = _rotation(0, 1, over) @ _rotation(0, 2, sideways)
    # Dividing, because a larger picture reads the volume in smaller steps.
    sizes = np.diag([1 / deep, math.sqrt(high) / size, 1 / (math.sqrt(high) * size)])
    return torch.from_numpy((tilted @ in_plane @ sizes).astype(np.float32))


def _rotation(one: int, other: int, angle: float) -> NDArray[np.float64]:
    matrix = np.eye(3)
    matrix[one, one] = matrix[other, other] = math.cos(angle)
    matrix[one, other], matrix[other, one] = -math.sin(angle), math.sin(angle)
    return matrix


def _shift(rng: np.random.Generator, options: AugmentOptions) -> NDArray[np.float32]:
    moves = rng.uniform(-1, 1, 3) * [0, options.shift_mm, options.shift_mm]
    return moves.astype(np.float32)


def _degraded(slices: Tensor, rng: np.random.Generator, pixel_mm: float, options: AugmentOptions) -> Tensor:
    """Blur, noise of random grain, and another scale of brightness."""
    blur = rng.uniform(0, options.blur_mm) / pixel_mm
    if blur > 0.3:
        slices = _blurred(slices, blur)
    noise = rng.uniform(0, options.noise_hu)
    grains = torch.from_numpy(rng.standard_normal(tuple(slices.shape), np.float32)) * noise
    grain = rng.uniform(0, 1.0)
    if grain > 0.4:
        # Blurring weakens noise; it is brought back to its strength.
        grains = _blurred(grains, grain)
        grains = grains * (noise / max(float(grains.std()), 1e-3))
    gain = 1 + rng.uniform(-options.gain, options.gain)
    offset = rng.uniform(-options.offset_hu, options.offset_hu)
    return slices * gain + grains + offset


def _blurred(slices: Tensor, spread: float) -> Tensor:
    """Gaussian blur ``(n, h, w)`` by so many pixels."""
    return blur_images(slices[:, None], weigh_gaussian(spread, max(1, math.ceil(2.5 * spread))))[:, 0]


def _published(drawn: Drawn, rng: np.random.Generator, twins: Mapping[int, int]) -> Drawn:
    """SAM-LST's changes: quarter turns with a mirror, or a small turn, or nothing."""
    slices, labels = drawn.slices, drawn.labels
    if rng.random() > 0.5:
        turns, axis = int(rng.integers(4)), int(rng.integers(2))
        slices = torch.rot90(slices, turns, (-2, -1)).flip(axis - 2)
        labels = np.flip(np.rot90(labels, turns), axis)
        return Drawn(slices.contiguous(), swap_sides(labels, twins))
    if rng.random() > 0.5:
        angle = math.radians(int(rng.integers(-20, 20)))
        turn = torch.tensor([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]])
        grid = F.affine_grid(turn[None], [1, 1, *labels.shape], align_corners=False)

        def turned(values: Tensor) -> Tensor:
            count = len(values)
            moved = F.grid_sample(
                values[:, None], grid.expand(count, -1, -1, -1), mode="nearest", align_corners=False
            )
            return moved[:, 0]

        marks = turned(torch.from_numpy(labels.astype(np.float32))[None])[0]
        return Drawn(turned(slices - AIR) + AIR, marks.numpy().astype(np.uint8))
    return drawn


def swap_sides(labels: NDArray[np.uint8], twins: Mapping[int, int]) -> NDArray[np.uint8]:
    """Swap left and right organs in the labels of a mirrored slice."""
    table = np.arange(256, dtype=np.uint8)
    for one, other in twins.items():
        table[one] = other
    return table[labels]
