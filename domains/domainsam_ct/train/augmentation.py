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
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.train.losses import IGNORE
from domainsam_ct.train.case import AIR, Case

BODY_MM = 250.0
"""Width of a body, roughly, for which a volume of few slices must have room when it is tilted."""
BODY_HU = -100
"""Fat and all that is denser; the table and clothes weigh little against it."""
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


@dataclass(frozen=True)
class Drawn:
    """One training slice: ``slices`` ``(1 or 3, side, side)`` HU, ``labels`` ``(side, side)`` uint8."""

    slices: Tensor
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """What is cut: ``side`` pixels of ``pixel_mm`` (0: the whole slice stretched), with neighbours or not.

    With ``rows`` the cut is lower than wide, as a body is, and lies about the
    body instead of the slice's middle.
    """

    side: int
    pixel_mm: float
    neighbours: int = 0
    rows: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rows or self.side, self.side

    def coarsen(self) -> Frame:
        """About the same ground in pixels 4/3 as wide, sides still multiples of 32."""
        side, rows = (-(-length * 3 // 4 // 32) * 32 for length in (self.side, self.rows))
        return replace(self, side=side, rows=rows, pixel_mm=self.pixel_mm * 4 / 3)

    def pixels_mm(self, case: Case) -> tuple[float, float]:
        """Height and width of a pixel of the cut slice."""
        if self.pixel_mm:
            return self.pixel_mm, self.pixel_mm
        rows, columns = case.slices.shape[1:]
        return rows * case.spacing_mm[1] / self.side, columns * case.spacing_mm[2] / self.side


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
        plain = cut_surface(case, index, _plane(case, frame), frame)
        return _published(plain, rng, twins if options.kind == "published" else {})
    points = _plane(case, frame)
    points = _bent(points, rng, options.bend_mm)
    points = points @ _random_map(rng, options, _room(case)).T + torch.from_numpy(_shift(rng, options))
    if frame.rows:
        points = points + torch.from_numpy(find_body(case, index))
    drawn = cut_surface(case, index, points, frame, rng, options)
    return Drawn(_degraded(drawn.slices, rng, frame.pixels_mm(case)[0], options), drawn.labels)


def _plane(case: Case, frame: Frame) -> Tensor:
    """Positions ``(rows, side, 3)`` in millimetres about the slice's centre: z, y, x."""
    down, across = (
        (torch.arange(count, dtype=torch.float32) + 0.5 - count / 2) * size
        for count, size in zip(frame.size, frame.pixels_mm(case), strict=True)
    )
    ys, xs = torch.meshgrid(down, across, indexing="ij")
    return torch.stack([torch.zeros_like(ys), ys, xs], dim=-1)


def find_body(case: Case, index: int) -> NDArray[np.float32]:
    """Where the middle of a slice's body lies, in millimetres about the slice's centre: 0, y, x."""
    body = np.asarray(case.slices[index]) > BODY_HU
    if not body.any():
        return np.zeros(3, np.float32)
    middles = [np.average(np.arange(len(part)), weights=part) for part in (body.sum(1), body.sum(0))]
    centre = (np.array(body.shape) - 1) / 2
    return np.array([0, *((middles - centre) * case.spacing_mm[1:])], np.float32)


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


def cut_surface(
    case: Case,
    index: int,
    points: Tensor,
    frame: Frame,
    rng: np.random.Generator | None = None,
    options: AugmentOptions | None = None,
) -> Drawn:
    """The volume along a surface.

    Parameters
    ----------
    points
        ``(h, w, 3)`` millimetres about the centre of slice ``index``: z, y, x.
    rng, options
        Where given, structures change their brightness.
    """
    depth, rows, columns = case.slices.shape
    middle = torch.tensor([float(index), rows / 2 - 0.5, columns / 2 - 0.5])
    voxels = points / torch.tensor(case.spacing_mm) + middle
    low = max(0, int(voxels[..., 0].min()) - 1 - frame.neighbours)
    high = min(depth, int(voxels[..., 0].max()) + 3 + frame.neighbours)
    low, high = min(low, depth - 1), max(high, 1)
    slab = torch.from_numpy(np.asarray(case.slices[low:high], np.float32) - AIR)
    offsets = torch.arange(-frame.neighbours, frame.neighbours + 1, dtype=torch.float32)
    lattice = voxels[None].repeat(len(offsets), 1, 1, 1)
    if rng is not None and options is not None and options.thin < 1:
        offsets = offsets * rng.uniform(options.thin, 1)
    lattice[..., 0] += offsets[:, None, None] - low
    brightness = _read(slab, lattice) + AIR
    nearest = lattice[frame.neighbours][None]
    labels = _labels(case.labels[low:high], nearest, 0)
    if rng is not None and options is not None and rng.random() < options.enhance_share:
        regions = case.labels if case.regions is None else case.regions
        brightness = brightness + _enhanced(regions[low:high], lattice, rng, options.enhance_hu)
    beyond = (voxels[..., 0] < -0.5) | (voxels[..., 0] > depth - 0.5)
    labels[beyond.numpy()] = IGNORE
    return Drawn(brightness, labels)


def _read(volume: Tensor, lattice: Tensor) -> Tensor:
    """Values ``(n, h, w)`` at voxel positions z, y, x; 0 beside a slice, the last slice beyond the last."""
    depth, rows, columns = volume.shape
    sizes = torch.tensor([depth, rows, columns], dtype=torch.float32)
    place = torch.cat([lattice[..., :1].clamp(0, depth - 1), lattice[..., 1:]], dim=-1)
    unit = (2 * place + 1) / sizes - 1
    return F.grid_sample(volume[None, None], unit.flip(-1)[None], padding_mode="zeros", align_corners=False)[
        0, 0
    ]


def _labels(values: NDArray[np.uint8], lattice: Tensor, outside: int) -> NDArray[np.uint8]:
    """Labels ``(h, w)`` of the nearest voxels; ``outside`` beside the slices."""
    place = torch.round(lattice[0]).to(torch.int64).numpy()
    depth, rows, columns = values.shape
    z = place[..., 0].clip(0, depth - 1)
    y, x = place[..., 1], place[..., 2]
    inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    found = np.asarray(values)[z, y.clip(0, rows - 1), x.clip(0, columns - 1)]
    return np.where(inside, found, np.uint8(outside)).astype(np.uint8)


def _enhanced(regions: NDArray[np.uint8], lattice: Tensor, rng: np.random.Generator, spread: float) -> Tensor:
    """Change in Hounsfield units ``(n, h, w)``: one for every structure, none for the background."""
    changes = rng.normal(0, spread, 256).astype(np.float32)
    changes[0] = changes[IGNORE] = 0
    volume = torch.from_numpy(changes[np.asarray(regions)])
    return _read(volume, lattice)


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
    reach = max(1, math.ceil(2.5 * spread))
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (steps / spread) ** 2)
    weights = weights / weights.sum()
    padded = F.pad(slices[:, None], (reach,) * 4, mode="replicate")
    across = F.conv2d(padded, weights.view(1, 1, 1, -1))
    return F.conv2d(across, weights.view(1, 1, -1, 1))[:, 0]


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
