"""Cut training slices out of a volume along a surface: brightness, labels, and where the body lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.train.losses import IGNORE
from domainsam_ct.train.case import AIR, Case

if TYPE_CHECKING:
    from domainsam_ct.train.augmentation import AugmentOptions

BODY_HU = -100
"""Fat and all that is denser; the table and clothes weigh little against it."""


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


def make_plane(case: Case, frame: Frame) -> Tensor:
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
