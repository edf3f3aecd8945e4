"""An opened CT: where it lies, and its slices in Hounsfield units as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError, MissingInputError
from domainsam.grid import Grid
from domainsam.infer.tiling import TileGrid
from domainsam.protocols import Block, Window
from domainsam_ct.geometry import NativeGeometry
from domainsam_ct.orientation import axial
from domainsam_ct.planes import PlaneStore

ABDOMEN_WINDOW = (-125.0, 275.0)
"""Hounsfield units shown as black and white; the published Synapse preparation's choice."""
NIFTI_NAMES = (".nii", ".nii.gz")
ITK_NAMES = (".nrrd", ".mha")
LOWEST_TISSUE_HU = -150.0
"""Every CT of a body holds fat or air, which lie below."""
HIGHEST_HU = 32767.0
"""Metal saturates scanners well below."""


@dataclass(frozen=True, eq=False)
class Voxels:
    """Stored voxels and how they become Hounsfield units: ``slope * stored + intercept``."""

    store: PlaneStore
    slope: float = 1.0
    intercept: float = 0.0

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Slices ``start`` to ``stop`` of the native slice axis, a native array in Hounsfield units."""
        stored = self.store.read_slices(start, stop)
        if self.slope == 1.0 and self.intercept == 0.0:
            return stored.astype(np.float32)
        return np.asarray(stored * self.slope + self.intercept, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT that has been found fit to read; its voxels stay on disk.

    Parameters
    ----------
    grid
        Canonical grid: shape ``(x, y, z)``, affine to RAS millimetres, frame ``"RAS"``.
    native
        The file's own grid and header, for writing masks back.
    voxels
        Where the values are.
    source_name
        Name of the file or folder the user gave, without its path.
    warnings
        What a person should know before relying on results, one sentence each.
    hu_range
        Lowest and highest value.
    """

    grid: Grid
    native: NativeGeometry
    voxels: Voxels
    source_name: str
    warnings: tuple[str, ...]
    hu_range: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Canonical shape ``(x, y, z)``."""
        x, y, z = self.grid.shape
        return x, y, z

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between centres along canonical ``x``, ``y``, ``z``."""
        x, y, z = self.grid.spacing
        return x, y, z

    def slices(self, start: int, stop: int) -> NDArray[np.float32]:
        """Hounsfield units ``(x, y, stop - start)`` of canonical axial slices; any thread may call this."""
        if not 0 <= start < stop <= self.shape[2]:
            raise IndexError(f"slices {start} to {stop} of a volume of {self.shape[2]}")
        span = self.native.orientation.native_slices(start, stop, self.shape[2])
        return self.native.orientation.to_canonical(self.voxels.read(*span))

    def close(self) -> None:
        """Let go of the file and of staged voxels."""
        self.voxels.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_volume(path: str | Path, series_uid: str | None = None, scratch: Path | None = None) -> Volume:
    """Open a CT and check it from end to end.

    Parameters
    ----------
    path
        A NIfTI file (``.nii``, ``.nii.gz``), an ITK one (``.nrrd``, ``.mha``),
        a folder of DICOM files or a ``.zip`` of one.
    series_uid
        Series Instance UID to read, where a folder holds several.
    scratch
        Folder for staged voxels: as many bytes as the volume uncompressed.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is not a CT volume, or damaged, or its place cannot be trusted.
    DependencyError
        If reading it takes a package that is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise MissingInputError(f"{path}: no such file or folder; check the path")
    lower = path.name.lower()
    if path.is_dir() or lower.endswith(".zip"):
        from domainsam_ct.dicom_volume import open_dicom

        return open_dicom(path, series_uid, scratch)
    if series_uid is not None:
        raise InputError(f"{path}: a series can be chosen only of a DICOM folder or .zip")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty (0 bytes); copy or download it again")
    if lower.endswith(NIFTI_NAMES):
        from domainsam_ct.nifti import open_nifti

        return open_nifti(path, scratch)
    if lower.endswith(ITK_NAMES):
        from domainsam_ct.itk import open_itk

        return open_itk(path, scratch)
    raise InputError(
        f"{path}: not a volume that can be read; expected .nii, .nii.gz, .nrrd, .mha, "
        "or a folder or .zip of DICOM files"
    )


def check_values(name: str, low: float, high: float) -> tuple[str, ...]:
    """What a person should know about a volume whose values run from ``low`` to ``high``.

    Raises
    ------
    InputError
        If all values are equal: there is nothing to see.
    """
    if low == high:
        raise InputError(f"{name}: every voxel is {low:g}; there is nothing to segment")
    if low > LOWEST_TISSUE_HU or high > HIGHEST_HU or high < 0.0:
        return (
            f"values run from {low:g} to {high:g}, which is not how CT in Hounsfield units looks "
            "(air is -1000, water 0, bone some 1000): results mean nothing if this is no CT",
        )
    return ()


class VolumeSource:
    """A CT as blocks for networks: a :class:`domainsam.protocols.Source`.

    Its axial images, ``height`` rows each, are thought to lie one below the
    other from foot to head. A :class:`~domainsam.protocols.Window` counts rows
    through that pile. It belongs to the slice that holds its first row; what
    overhangs that slice is invalid, though another slice lies there.

    Parameters
    ----------
    path
        As for :func:`open_volume`.
    window
        Hounsfield units that become 0 and 1.
    """

    def __init__(
        self, path: str | Path, window: tuple[float, float] = ABDOMEN_WINDOW, **options: Any
    ) -> None:
        self.volume = open_volume(path, **options)
        self.window = window

    @property
    def grid(self) -> Grid:
        """Canonical grid of the volume."""
        return self.volume.grid

    @property
    def plane(self) -> tuple[int, int]:
        """Height and width of an axial image."""
        x, y, _ = self.volume.shape
        return y, x

    def read(self, window: Window) -> Block:
        """One block of one slice; parts outside it are invalid."""
        height, width = self.plane
        number = min(max(0, window.row // height), self.volume.shape[2] - 1)
        row = window.row - number * height
        inside = slice(max(0, row), min(height, row + window.height))
        across = slice(max(0, window.col), min(width, window.col + window.width))
        image = np.zeros((3, window.height, window.width), np.float32)
        valid = np.zeros((window.height, window.width), bool)
        if inside.start < inside.stop and across.start < across.stop:
            place = (
                slice(inside.start - row, inside.stop - row),
                slice(across.start - window.col, across.stop - window.col),
            )
            seen = axial(self.volume.slices(number, number + 1))[0][inside, across]
            low, high = self.window
            image[:, *place] = np.clip((seen - low) / (high - low), 0.0, 1.0)
            valid[place] = True
        return Block(window, image, valid)

    def blocks(self, size: int, overlap: int) -> Iterator[Block]:
        """Blocks of side ``size`` that cover each slice in turn, neighbours sharing ``overlap`` pixels."""
        for number in range(self.volume.shape[2]):
            for window in TileGrid.cover(self.plane, size, overlap).windows():
                yield self._shifted(window, number)

    def _shifted(self, window: Window, number: int) -> Block:
        return self.read(Window(window.row + number * self.plane[0], window.col, window.height, window.width))

    def close(self) -> None:
        """Let go of the volume."""
        self.volume.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
