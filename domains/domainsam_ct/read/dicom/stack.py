"""Compute the grid of a stack of DICOM slices from their positions.

Only Image Position and Image Orientation (Patient) count: slice thickness is
no distance, and instance numbers are no order. Equation C.7.6.2.1-1 of PS3.3
gives the place of a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam_ct.read.dicom.headers import SliceHeader

SAME_PLACE_MM = 0.01
"""Slices closer than this are two images of one place."""
UNEVEN_PART = 0.1
"""Part of the usual distance by which a slice may miss its even place."""
UNEVEN_NOTICE = 0.01
"""Rounding of positions in headers stays below this part."""
UNIT_TOLERANCE = 1e-3
"""Headers give direction cosines to some five digits."""

TURN_LIMIT_DEGREES = 0.2
"""Slices may be turned so far against each other: a pixel at the edge of a large field of view."""
TURN_NOTICE_DEGREES = 0.02

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def compute_normal(orientation: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vector across a slice, LPS."""
    across, down = np.asarray(orientation[:3], float), np.asarray(orientation[3:], float)
    product = np.cross(across, down)
    return np.asarray(product / np.linalg.norm(product))


def check_orientation(name: str, orientation: Sequence[float]) -> None:
    """Refuse direction cosines that are none.

    Raises
    ------
    InputError
        If they have other lengths than 1 or are not perpendicular.
    """
    across, down = np.asarray(orientation[:3], float), np.asarray(orientation[3:], float)
    lengths = np.array([np.linalg.norm(across), np.linalg.norm(down)])
    if np.abs(lengths - 1).max() > UNIT_TOLERANCE or abs(across @ down) > UNIT_TOLERANCE:
        raise InputError(
            f"{name}: Image Orientation (Patient) is no pair of perpendicular unit vectors; export it again"
        )


def measure_turn(one: Sequence[float], other: Sequence[float]) -> float:
    """Degrees by which two slices are turned against each other, in or out of their plane."""
    pairs = np.array([one, other], float).reshape(2, 2, 3)
    pairs /= np.linalg.norm(pairs, axis=2, keepdims=True)
    return float(np.degrees(2 * np.arcsin(np.linalg.norm(pairs[0] - pairs[1], axis=1).max() / 2)))


def is_even(headers: Sequence[SliceHeader]) -> bool:
    """Whether slices, in any order, lie on one line at even distances, no two of them at one place."""
    ordered = sort_slices(headers)
    if np.diff(project_on_normal(ordered)).min(initial=np.inf) <= SAME_PLACE_MM:
        return False
    try:
        compute_stack_affine("", ordered)
    except InputError:
        return False
    return True


def project_on_normal(headers: Sequence[SliceHeader]) -> NDArray[np.float64]:
    """Millimetres of each slice along the common normal."""
    assert headers[0].orientation is not None
    direction = compute_normal(headers[0].orientation)
    return np.array([header.position for header in headers], dtype=np.float64) @ direction


def sort_slices(headers: Sequence[SliceHeader]) -> list[SliceHeader]:
    """Slices by their place along the normal."""
    order = np.argsort(project_on_normal(headers), kind="stable")
    return [headers[index] for index in order]


def compute_stack_affine(
    name: str, headers: Sequence[SliceHeader]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Affine ``(4, 4)`` of slices in order, and what a person should know about it.

    The array's axes are ``(column, row, slice)``, the world is RAS millimetres.

    Raises
    ------
    InputError
        If slices are missing or unevenly spaced, or do not lie on one line.
    """
    first = headers[0]
    assert first.orientation is not None
    assert first.spacing is not None
    positions = np.array([header.position for header in headers], dtype=np.float64)
    orientation, turned = _mean_orientation(headers)
    step, notes = _even_step(name, positions, compute_normal(orientation))
    affine = np.eye(4)
    affine[:3, 0] = orientation[:3] * first.spacing[1]
    affine[:3, 1] = orientation[3:] * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    return LPS_TO_RAS @ affine, (*turned, *notes)


def _mean_orientation(headers: Sequence[SliceHeader]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The first slice's orientation; where others are turned against it, the mean of all and a note."""
    first = headers[0].orientation
    assert first is not None
    turns = [measure_turn(first, header.orientation or first) for header in headers]
    if max(turns) < TURN_NOTICE_DEGREES:
        return np.array(first, np.float64), ()
    mean = np.array([header.orientation for header in headers], np.float64).mean(axis=0)
    across = mean[:3] / np.linalg.norm(mean[:3])
    down = mean[3:] - (mean[3:] @ across) * across
    note = f"slices are turned against each other by up to {max(turns):.2g} degrees: the mean is used"
    return np.concatenate([across, down / np.linalg.norm(down)]), (note,)


def _even_step(
    name: str, positions: NDArray[np.float64], direction: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    heights = positions @ direction
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    _check_gaps(name, gaps, usual)
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    even = positions[0] + np.arange(len(positions))[:, None] * step
    apart = float(np.abs(positions - even).max())
    if apart > UNEVEN_PART * usual:
        raise InputError(
            f"{name}: slices miss an even spacing of {usual:.4g} mm by up to {apart:.3g} mm; "
            "resample the series, or reconstruct it with even spacing"
        )
    notes: tuple[str, ...] = ()
    if apart > max(UNEVEN_NOTICE * usual, SAME_PLACE_MM):
        notes = (f"slices miss even spacing by up to {apart:.2g} mm: the mean distance is used",)
    return step, notes


def _check_gaps(name: str, gaps: NDArray[np.float64], usual: float) -> None:
    """Tell missing slices, whose gaps are whole multiples, from uneven ones."""
    wide = np.flatnonzero(gaps > (2 - 2 * UNEVEN_PART) * usual)
    if not len(wide):
        return
    ratio = gaps[wide] / usual
    if np.abs(ratio - np.round(ratio)).max() <= 2 * UNEVEN_PART:
        missing = int(np.sum(np.round(ratio) - 1))
        raise InputError(
            f"{name}: {missing} slice{'s are' if missing > 1 else ' is'} missing: after slice {wide[0] + 1} "
            f"of {len(gaps) + 1} comes a gap of {gaps[wide[0]]:.4g} mm where {usual:.4g} mm is usual; "
            "copy the whole series"
        )
    raise InputError(
        f"{name}: slices are unevenly spaced, from {gaps.min():.4g} to {gaps.max():.4g} mm; "
        "resample the series, or reconstruct it with even spacing"
    )
