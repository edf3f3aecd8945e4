"""Coordinates as people write them, in the pixels and frames of a scene."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from domainsam.errors import InputError
from domainsam.grid import Float64, Grid
from domainsam.protocols import Box, Click

DECIMALS = 6
"""A millionth of a pixel: what is left of a position after rounding's noise is taken away."""
AXES: dict[str, Float64] = {"RAS": np.ones(3), "LPS": np.array([-1.0, -1.0, 1.0])}
"""Signs that turn a frame's millimetres into RAS ones."""


@dataclass(frozen=True)
class PlacedBox:
    """A box in scene pixels, corner frame, and the frames that it is in."""

    frames: tuple[int, ...]
    box: Box


@dataclass(frozen=True)
class Place:
    """Where the pictures of a scene or volume lie, and what coordinates may be given in.

    Of a raster (``grid`` with the axes row, column):

    - ``"pixel"``: x to the right, y down, the first pixel's corner at (0, 0);
    - ``"world"``: x and y of the scene's CRS.

    Of a volume (``grid`` with the axes frame, row, column, in ``"RAS"``):

    - ``"voxel"``: indices of the file's own axes, a voxel's *centre* at whole
      numbers, counted from 0; ``voxels`` is the grid of these axes;
    - ``"RAS"``, ``"LPS"``: millimetres to the patient's right, anterior,
      superior, or left, posterior, superior;
    - ``"pixel"``: x and y in a slice's picture, corner frame, and the slice's
      number, counted from 0.

    Parameters
    ----------
    grid
        Of the pictures.
    voxels
        Of a volume's file.
    frames
        Number of frames of a raster, all on one grid.
    """

    grid: Grid
    voxels: Grid | None = None
    frames: int = 1

    @property
    def volume(self) -> bool:
        """Whether the grid places the frames in space as well."""
        return len(self.grid.shape) == 3

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        return self.grid.shape[-2], self.grid.shape[-1]

    @property
    def count(self) -> int:
        """Number of frames."""
        return self.grid.shape[0] if self.volume else self.frames

    @property
    def known(self) -> tuple[str, ...]:
        """Names of the frames that coordinates may be given in."""
        if not self.volume:
            return ("pixel",) if self.grid.frame == "pixel" else ("pixel", "world")
        return ("RAS", "LPS", "pixel") if self.voxels is None else ("voxel", "RAS", "LPS", "pixel")

    def check_frame(self, name: str, frame: object) -> str:
        """``frame`` where coordinates may be given in it.

        Raises
        ------
        InputError
            If they may not.
        """
        if not isinstance(frame, str) or frame not in self.known:
            reason = "" if self.volume or frame != "world" else ": the scene has no CRS"
            raise InputError(
                f"{name}: coordinates in frame {frame!r} cannot be used here{reason}; "
                f"expected {' or '.join(self.known)}"
            )
        return frame

    def clicks(
        self, name: str, frame: str, points: Float64, inside: Sequence[bool], number: int | None
    ) -> tuple[tuple[int, Click], ...]:
        """Clicks and the frames they lie in.

        Parameters
        ----------
        name
            First words of errors.
        frame
            One of :attr:`known`.
        points
            ``(N, 2)`` or ``(N, 3)`` coordinates.
        inside
            ``N`` times whether a point is on the object.
        number
            The frame or slice that two-dimensional points lie in.
        """
        placed = self._placed(frame, self._complete(name, frame, points, number))
        return tuple(
            (math.floor(at + 0.5), Click(float(x), float(y), bool(on)))
            for (at, y, x), on in zip(placed, inside, strict=True)
        )

    def box(self, name: str, frame: str, numbers: Sequence[float], number: int | None) -> PlacedBox:
        """A box of two opposite corners, cut at the scene's edge.

        ``numbers`` are ``left, top, right, bottom``, or of a volume
        ``x1, y1, z1, x2, y2, z2``. Edges are positions like those of points: a
        box round the whole of voxels 3 to 5 runs from 2.5 to 5.5. On oblique
        grids it is the upright box around the given one.

        Raises
        ------
        InputError
            If the count of numbers is another, or the box has no width in the
            pictures, or lies outside them, or ends before it begins in the frame ``"pixel"``.
        """
        if len(numbers) not in ((4, 6) if self.volume else (4,)):
            expected = "4 or 6" if self.volume else "4"
            raise InputError(f"{name}: a box has {len(numbers)} numbers; expected {expected}")
        half = len(numbers) // 2
        if frame == "pixel" and half == 2 and (numbers[2] < numbers[0] or numbers[3] < numbers[1]):
            given = ", ".join(f"{value:g}" for value in numbers)
            raise InputError(
                f"{name}: the box is {given}, expected left, top, right, "
                "bottom; if these are x, y, width, height, as COCO has them, add width to x and height to y"
            )
        sides = zip(numbers[:half], numbers[half:], strict=True)
        corners = np.array(list(itertools.product(*sides)), dtype=np.float64)
        placed = self._placed(frame, self._complete(name, frame, corners, number))
        (first, top, left), (last, bottom, right) = placed.min(axis=0), placed.max(axis=0)
        frames = _crossed(first, last)
        if half == 2 and len(frames) > 1:
            raise InputError(
                f"{name}: a box of 4 numbers crosses slices {frames[0]} to {frames[-1]} of the pictures; "
                "give 6 numbers: x1, y1, z1, x2, y2, z2"
            )
        return PlacedBox(self._existing(name, frames), self.cut(name, (left, top, right, bottom)))

    def cut(self, name: str, box: Sequence[float]) -> Box:
        """A box ``left, top, right, bottom`` in scene pixels, as far as it lies in the scene.

        Raises
        ------
        InputError
            If no part of it does, or it has no width or height.
        """
        rows, columns = self.shape
        left, top, right, bottom = (round(float(edge), DECIMALS) for edge in box)
        if left >= right or top >= bottom:
            raise InputError(f"{name}: the box has no width or no height in the scene's pictures")
        if left >= columns or top >= rows or right <= 0 or bottom <= 0:
            raise InputError(
                f"{name}: lies outside the scene, at x {left:g} to {right:g} and y {top:g} to {bottom:g} in "
                f"its pixels; it has {columns} columns and {rows} rows: check the coordinates and their frame"
            )
        return max(left, 0.0), max(top, 0.0), min(right, float(columns)), min(bottom, float(rows))

    def _existing(self, name: str, frames: Sequence[int]) -> tuple[int, ...]:
        kept = tuple(frame for frame in frames if 0 <= frame < self.count)
        if not kept:
            raise InputError(
                f"{name}: lies in frames {frames[0]} to {frames[-1]}; the scene has 0 to {self.count - 1}"
            )
        return kept

    def _complete(self, name: str, frame: str, points: Float64, number: int | None) -> Float64:
        """Points ``(N, 3)`` with the frame or third axis last."""
        if not np.isfinite(points).all():
            raise InputError(f"{name}: a coordinate is not finite; expected numbers")
        flat = points.shape[1] == 2
        if not self.volume and not flat:
            raise InputError(f"{name}: a point has {points.shape[1]} coordinates; expected x and y")
        if self.volume and flat and (number is None or frame in ("RAS", "LPS")):
            raise InputError(f"{name}: a point of a volume has only x and y; give {_third(frame)}")
        if points.shape[1] not in (2, 3):
            raise InputError(f"{name}: a point has {points.shape[1]} coordinates; expected x, y and z")
        if not flat:
            return points
        return np.column_stack([points, np.full(len(points), float(number or 0))])

    def _placed(self, frame: str, points: Float64) -> Float64:
        """Frame number, y and x in the corner frame, ``(N, 3)``, of complete points in a frame."""
        if frame == "pixel":
            placed = points[:, ::-1]
        elif not self.volume:
            centres = self.grid.to_index(points[:, :2])
            placed = np.column_stack([points[:, 2], centres + 0.5])
        else:
            centres = self.grid.to_index(self._millimetres(frame, points))
            placed = centres + np.array([0.0, 0.5, 0.5])
        return np.asarray(np.round(placed, DECIMALS), dtype=np.float64)

    def _millimetres(self, frame: str, points: Float64) -> Float64:
        """RAS millimetres of points of a volume."""
        if frame == "voxel" and self.voxels is not None:
            return self.voxels.to_world(points)
        return np.asarray(points * AXES[frame], dtype=np.float64)


def _third(frame: str) -> str:
    if frame in ("RAS", "LPS"):
        return f"z, {frame} millimetres are three"
    return "z, or the slice's number as 'slice'"


def _crossed(first: float, last: float) -> tuple[int, ...]:
    """Frames whose centres lie between two positions; the nearest frame where none does."""
    crossed = tuple(range(math.ceil(first), math.floor(last) + 1))
    return crossed or (math.floor((first + last) / 2 + 0.5),)
