"""Grid: the map between array indices and world coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular grid of elements placed in a world frame.

    Parameters
    ----------
    shape
        Number of elements along each array axis: ``(rows, columns)`` of a
        raster, ``(i, j, k)`` of a volume, ``(frames, rows, columns)`` of a
        volume seen as pictures. All positive.
    affine
        ``(D + 1, D + 1)`` homogeneous matrix, ``D = len(shape)``. It maps an
        element's array index, axes in array order, to the world position of
        that element's *centre*. World axes are ``(x, y)`` of the CRS for a
        raster and millimetres for a volume.
    frame
        The world frame: a coordinate reference system as WKT or authority
        code, ``"RAS"`` for patient space, or ``"pixel"`` where the file has
        no georeference.

    Raises
    ------
    ValueError
        If the affine has another size than the shape asks for, is singular,
        or holds a value that is not finite.
    """

    shape: tuple[int, ...]
    affine: Float64
    frame: str

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        size = len(self.shape) + 1
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"grid shape {self.shape} must have positive sizes")
        if affine.shape != (size, size):
            raise ValueError(f"affine is {affine.shape}, a grid of shape {self.shape} needs {(size, size)}")
        if not np.isfinite(affine).all():
            raise ValueError("affine holds values that are not finite")
        if abs(np.linalg.det(affine[:-1, :-1])) == 0.0:
            raise ValueError("affine is singular: the grid has no extent along some axis")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def of_pixels(cls, shape: tuple[int, int]) -> Grid:
        """The grid of a picture that lies nowhere: x and y in pixels, corner frame, y down."""
        return cls(shape, np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 0.5], [0.0, 0.0, 1.0]]), "pixel")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return (
            self.shape == other.shape
            and self.frame == other.frame
            and bool(np.array_equal(self.affine, other.affine))
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.frame, self.affine.tobytes()))

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Rows and columns of a raster, or of each picture of a stack ``(frames, rows, columns)``."""
        return self.shape[-2], self.shape[-1]

    @property
    def frames(self) -> int:
        """Pictures of a stack ``(frames, rows, columns)``; 1 for a raster."""
        return self.shape[0] if len(self.shape) > 2 else 1

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring centres along each array axis, in world units."""
        return tuple(float(step) for step in np.linalg.norm(self.affine[:-1, :-1], axis=0))

    def to_world(self, index: ArrayLike) -> Float64:
        """World positions ``(..., D)`` of array indices ``(..., D)``; fractions allowed."""
        points = np.asarray(index, dtype=np.float64)
        return np.asarray(points @ self.affine[:-1, :-1].T + self.affine[:-1, -1])

    def to_index(self, world: ArrayLike) -> Float64:
        """Array indices ``(..., D)``, with fractions, of world positions ``(..., D)``."""
        points = np.asarray(world, dtype=np.float64) - self.affine[:-1, -1]
        return np.asarray(np.linalg.solve(self.affine[:-1, :-1], points[..., None])[..., 0])
