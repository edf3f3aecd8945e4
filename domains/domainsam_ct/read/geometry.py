"""Geometry of volumes: checks of affines, and conversion between native and canonical axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.grid import Grid

if TYPE_CHECKING:
    from domainsam_ct.read.dicom.series import Series

SPACING_MM = (0.05, 50.0)
"""Distances between voxels that a CT may have; a header in metres or micrometres falls outside."""
SHEAR_NOTICE_DEGREES = 0.1
"""Rounding in headers bends axes by less."""
SHEAR_LIMIT_DEGREES = 45.0
"""No gantry tilts so far; beyond it the nearest patient axis of an array axis is anybody's guess."""
OBLIQUE_NOTICE_DEGREES = 20.0


@dataclass(frozen=True, eq=False)
class NativeGeometry:
    """The grid of a file as the file has it: what is needed to write a mask back onto it.

    Parameters
    ----------
    shape
        Voxels along the native axes ``(i, j, k)``.
    affine
        ``(4, 4)``, native index of a voxel's centre to RAS millimetres.
    orientation
        From native to canonical axes.
    format
        The family the file belongs to.
    nifti_header
        The 348 or 540 bytes of a NIfTI-1 or NIfTI-2 header, as read.
    series
        The DICOM series, slices in the order of ``k``.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    orientation: Orientation
    format: Literal["nifti", "itk", "dicom"]
    nifti_header: bytes | None = None
    series: Series | None = None

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between neighbouring centres along ``i``, ``j``, ``k``."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    def native_grid(self) -> Grid:
        """The grid of the file's own array ``(i, j, k)``, frame ``"RAS"``."""
        return Grid(self.shape, self.affine, "RAS")

    def canonical_grid(self) -> Grid:
        """The grid of the canonical array, frame ``"RAS"``."""
        affine = self.orientation.canonical_affine(self.affine, self.shape)
        return Grid(self.orientation.canonical_shape(self.shape), affine, "RAS")


def check_affine(name: str, affine: NDArray[np.float64]) -> tuple[str, ...]:
    """Look for trouble in an affine ``(4, 4)``; return what a person should know.

    Raises
    ------
    InputError
        If it is not finite, singular, implausible in millimetres, or so
        sheared that no array axis belongs to a patient axis.
    """
    if not np.isfinite(affine).all():
        raise InputError(
            f"{name}: its affine holds NaN or infinite values, so its place is unknown; export it again"
        )
    columns = affine[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    if min(spacing) == 0.0 or abs(np.linalg.det(columns / spacing)) < 1e-6:
        raise InputError(f"{name}: its affine is singular: two axes coincide or one has no length")
    low, high = SPACING_MM
    if min(spacing) < low or max(spacing) > high:
        told = " x ".join(f"{step:.4g}" for step in spacing)
        raise InputError(
            f"{name}: voxels of {told} are no CT in millimetres ({low:g} to {high:g}): wrong units? "
            "Correct the header, millimetres are expected"
        )
    return (*_shear(name, affine), *_tilt(columns / spacing))


def measure_shear(affine: NDArray[np.float64]) -> float:
    """How far the angle between any two axes is from a right one."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = float(np.abs(directions.T @ directions - np.eye(3)).max())
    return float(np.degrees(np.arcsin(min(1.0, cosine))))


def _shear(name: str, affine: NDArray[np.float64]) -> tuple[str, ...]:
    degrees = measure_shear(affine)
    if degrees < SHEAR_NOTICE_DEGREES:
        return ()
    if degrees > SHEAR_LIMIT_DEGREES:
        raise InputError(
            f"{name}: its axes are {90 - degrees:.0f} degrees apart instead of 90 (sheared affine); "
            "resample it to a grid with perpendicular axes"
        )
    return (
        f"axes are {90 - degrees:.2f} degrees apart instead of 90 (gantry tilt or shear): "
        "the mask keeps this grid, which ITK refuses in NIfTI files, and with it SimpleITK, 3D Slicer and "
        "ITK-SNAP; --deskew writes one on perpendicular axes besides",
    )


def _tilt(directions: NDArray[np.float64]) -> tuple[str, ...]:
    closest = np.abs(directions).max(axis=0).min()
    degrees = float(np.degrees(np.arccos(min(1.0, closest))))
    if degrees < OBLIQUE_NOTICE_DEGREES:
        return ()
    return (
        f"the grid is {degrees:.0f} degrees oblique to the patient's axes: organs look tilted to the model",
    )


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


def to_axial(canonical: NDArray[Scalar]) -> NDArray[Scalar]:
    """Canonical slices ``(x, y, z)`` as images ``(slice, row, column)``; a view.

    Rows run from front to back, columns from the patient's right to the left.
    """
    return canonical[::-1, ::-1].transpose(2, 1, 0)


def from_axial(images: NDArray[Scalar]) -> NDArray[Scalar]:
    """Images ``(slice, row, column)`` as canonical ``(x, y, z)``; a view, the inverse of :func:`to_axial`."""
    return images.transpose(2, 1, 0)[::-1, ::-1]


def axial_grid(grid: Grid) -> Grid:
    """The grid of axial images, axes ``(slice, row, column)``, of a canonical ``grid`` ``(x, y, z)``.

    Indices are those of :func:`to_axial`; positions are the same RAS millimetres.
    """
    x, y, z = grid.shape
    canonical = np.array([[0, 0, -1, x - 1], [0, -1, 0, y - 1], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=np.float64)
    return Grid((z, y, x), grid.affine @ canonical, grid.frame)
