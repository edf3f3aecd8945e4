"""Axial series as DICOM files, and checks of how they are read or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from domainsam.errors import InputError
from domainsam_ct.read.open import open_volume
from tests.ct.made import PATIENT_ID, canonical_volume, oblique, stored, write_dicom

Change = Callable[[int, pydicom.Dataset], None]
"""Changes a slice, given its number."""
SHAPE = (9, 8, 5)
HEAD_FIRST = ((0, 1, 2), (True, True, False))
"""As most scanners store it: columns to the left, rows to the back, slices to the head."""


def axial_series(
    folder: Path,
    change: Change | None = None,
    shape: tuple[int, int, int] = SHAPE,
    affine: np.ndarray | None = None,
    **options: Any,
) -> np.ndarray:
    """Write an axial series and return it in canonical order."""
    canonical = canonical_volume(shape)
    array, placed = stored(canonical, oblique(degrees=0) if affine is None else affine, *HEAD_FIRST)
    write_dicom(folder, array, placed, change, **options)
    return canonical


def same(folder: Path, canonical: np.ndarray, affine: np.ndarray | None = None) -> tuple[str, ...]:
    """Check that a folder is read as this volume; return the warnings."""
    with open_volume(folder) as volume:
        assert np.array_equal(volume.slices(0, volume.shape[2]), canonical)
        expected = oblique(degrees=0) if affine is None else affine
        assert np.allclose(volume.grid.affine, expected, atol=1e-4)
        return volume.warnings


def refusal(folder: Path, **options: Any) -> str:
    """The one line with which a folder is refused; it names no patient and no file."""
    with pytest.raises(InputError) as caught:
        open_volume(folder, **options)
    line = str(caught.value)
    assert "\n" not in line
    for secret in ("Doe", "Jane", PATIENT_ID, "slice_0"):
        assert secret not in line
    return line


def moved(*millimetres: float, axis: int = 2) -> Change:
    """A change that moves each slice along an axis of the patient."""

    def change(k: int, dataset: pydicom.Dataset) -> None:
        position = list(dataset.ImagePositionPatient)
        position[axis] = float(position[axis]) + millimetres[k]
        dataset.ImagePositionPatient = position

    return change
