"""Where a volume lies, what may be wrong with that, and what its file said about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.grid import Grid
from domainsam_ct.orientation import Orientation

if TYPE_CHECKING:
    from domainsam_ct.dicom_series import Series

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


def shear_degrees(affine: NDArray[np.float64]) -> float:
    """How far the angle between any two axes is from a right one."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = float(np.abs(directions.T @ directions - np.eye(3)).max())
    return float(np.degrees(np.arcsin(min(1.0, cosine))))


def _shear(name: str, affine: NDArray[np.float64]) -> tuple[str, ...]:
    degrees = shear_degrees(affine)
    if degrees < SHEAR_NOTICE_DEGREES:
        return ()
    if degrees > SHEAR_LIMIT_DEGREES:
        raise InputError(
            f"{name}: its axes are {90 - degrees:.0f} degrees apart instead of 90 (sheared affine); "
            "resample it to a grid with perpendicular axes"
        )
    return (
        f"axes are {90 - degrees:.2f} degrees apart instead of 90 (gantry tilt or shear): "
        "the mask keeps this grid, some viewers refuse such grids",
    )


def _tilt(directions: NDArray[np.float64]) -> tuple[str, ...]:
    closest = np.abs(directions).max(axis=0).min()
    degrees = float(np.degrees(np.arccos(min(1.0, closest))))
    if degrees < OBLIQUE_NOTICE_DEGREES:
        return ()
    return (
        f"the grid is {degrees:.0f} degrees oblique to the patient's axes: organs look tilted to the model",
    )
