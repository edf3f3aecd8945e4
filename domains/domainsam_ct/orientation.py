"""Axes of a volume: the file's own, the canonical ones, and slices as radiologists see them.

Three arrangements occur, and this file holds every step between them:

native
    Array axes in the order of the file, ``(i, j, k)``.
canonical
    ``(x, y, z)`` growing towards the patient's right, front and head: "RAS+".
    Reached by permuting and reversing native axes, never by resampling, so an
    oblique volume stays as oblique as it was.
axial
    A stack of images ``(slice, row, column)``: slices from foot to head, rows
    from front to back, columns from the patient's right to the left, as in
    the reading room.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Orientation:
    """How native axes become canonical ones.

    Parameters
    ----------
    axes
        For each canonical axis x, y, z the native axis it is made of.
    flips
        For each canonical axis whether it runs against its native axis.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @classmethod
    def of(cls, affine: NDArray[np.float64]) -> Orientation:
        """The orientation of a grid with ``affine`` ``(4, 4)``, native index to RAS millimetres.

        Of an oblique grid each axis counts for the world axis it is closest
        to (:func:`nibabel.orientations.io_orientation`).
        """
        pairs = io_orientation(affine)
        source = [0, 0, 0]
        flips = [False, False, False]
        for native, (world, sign) in enumerate(pairs):
            source[int(world)] = native
            flips[int(world)] = bool(sign < 0)
        return cls((source[0], source[1], source[2]), (flips[0], flips[1], flips[2]))

    @property
    def slice_axis(self) -> int:
        """The native axis along which axial slices lie."""
        return self.axes[2]

    @property
    def code(self) -> str:
        """Directions the native axes grow to, in nibabel's letters, for example ``"LPS"``."""
        letters = ["", "", ""]
        for world, (native, flipped) in enumerate(zip(self.axes, self.flips, strict=True)):
            letters[native] = ("RAS", "LPI")[flipped][world]
        return "".join(letters)

    def canonical_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Canonical shape of an array of native ``shape``."""
        x, y, z = self.axes
        return shape[x], shape[y], shape[z]

    def canonical_affine(
        self, affine: NDArray[np.float64], shape: tuple[int, int, int]
    ) -> NDArray[np.float64]:
        """Affine of the canonical array, from the ``affine`` of the native array of ``shape``."""
        step = np.zeros((4, 4))
        step[3, 3] = 1.0
        for world, (native, flipped) in enumerate(zip(self.axes, self.flips, strict=True)):
            step[native, world] = -1.0 if flipped else 1.0
            step[native, 3] = shape[native] - 1 if flipped else 0
        return np.asarray(affine @ step)

    def to_canonical(self, native: NDArray[Scalar]) -> NDArray[Scalar]:
        """A canonical view of a native array."""
        return np.transpose(native, self.axes)[self._steps]

    def to_native(self, canonical: NDArray[Scalar]) -> NDArray[Scalar]:
        """A native view of a canonical array: the inverse of :meth:`to_canonical`."""
        return np.transpose(canonical[self._steps], np.argsort(self.axes))

    def native_slices(self, start: int, stop: int, count: int) -> tuple[int, int]:
        """Positions on the native slice axis of canonical axial slices ``start`` to ``stop`` of ``count``."""
        return (count - stop, count - start) if self.flips[2] else (start, stop)

    @property
    def _steps(self) -> tuple[Any, ...]:
        return tuple(slice(None, None, -1 if flipped else 1) for flipped in self.flips)


def axial(canonical: NDArray[Scalar]) -> NDArray[Scalar]:
    """Canonical slices ``(x, y, z)`` as images ``(slice, row, column)``; a view.

    Rows run from front to back, columns from the patient's right to the left.
    """
    return canonical[::-1, ::-1].transpose(2, 1, 0)


def from_axial(images: NDArray[Scalar]) -> NDArray[Scalar]:
    """Images ``(slice, row, column)`` as canonical ``(x, y, z)``; a view, the inverse of :func:`axial`."""
    return images.transpose(2, 1, 0)[::-1, ::-1]
