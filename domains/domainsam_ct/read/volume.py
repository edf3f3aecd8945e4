"""An opened CT: its grid, and slices in Hounsfield units on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.grid import Grid
from domainsam.limits import require_memory
from domainsam_ct.read.geometry import NativeGeometry
from domainsam_ct.read.planes import PlaneStore

ABDOMEN_WINDOW = (-125.0, 275.0)
"""Hounsfield units shown as black and white; the published Synapse preparation's choice."""
NIFTI_NAMES = (".nii", ".nii.gz")
ITK_NAMES = (".nrrd", ".nhdr", ".mha", ".mhd")
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


def check_values(name: str, low: float, high: float) -> tuple[str, ...]:
    """What a person should know about a volume whose values run from ``low`` to ``high``.

    Raises
    ------
    InputError
        If all values are equal: there is nothing to see.
    """
    if low == high:
        raise InputError(f"{name}: every voxel is {low:g}; there is nothing to segment")
    return check_range(low, high)


def check_range(low: float, high: float) -> tuple[str, ...]:
    """What a person should know of values that run from ``low`` to ``high``, where no scan's do."""
    if low > LOWEST_TISSUE_HU or high > HIGHEST_HU or high < 0.0:
        return (
            f"values run from {low:g} to {high:g}, which is not how CT in Hounsfield units looks "
            "(air is -1000, water 0, bone some 1000): results mean nothing if this is no CT",
        )
    return ()


SOFT_HU, DENSE_HU = (-200.0, 300.0), 700.0
"""Fat, water and organs lie in the first range; above the second there is little but bone and metal."""
LEAST_SOFT, MOST_DENSE = 0.03, 0.2
"""Shares of a scan's voxels that any scan of a body has, or has not."""
LEAST_SAMPLE = 5000
"""Voxels from which shares say something."""


def check_histogram(values: NDArray[np.float32]) -> tuple[str, ...]:
    """What a person should know of values that lie where those of no body lie, whatever their extremes."""
    if values.size < LEAST_SAMPLE:
        return ()
    soft = float(np.mean((values >= SOFT_HU[0]) & (values <= SOFT_HU[1])))
    dense = float(np.mean(values > DENSE_HU))
    if dense > MOST_DENSE:
        return (
            f"{dense:.0%} of the voxels lie above {DENSE_HU:g} HU, where only bone and metal are: stored "
            "values in place of Hounsfield units (often 1024 too high)? Results mean nothing then",
        )
    if soft < LEAST_SOFT:
        return (
            f"{soft:.1%} of the voxels lie between {SOFT_HU[0]:g} and {SOFT_HU[1]:g} HU, where fat and "
            "organs lie: rescaled twice (often 1024 too low), or no body? Results mean nothing then",
        )
    return ()


@dataclass(frozen=True, eq=False)
class MaskGeometry:
    """Where a mask that was read lies, and what its file calls its values.

    ``grid`` is the canonical grid, ``native`` the file's own, ``names`` maps
    values to names as far as the file gives them. ``whole`` are organs that
    share voxels with others, by value: canonical ``(x, y, z)``, all that
    belongs to them. Along ``open_axes`` (canonical) the file may leave out
    what is empty, so that its edge is not the scan's. With ``own_numbers``
    values are the file's own count of its organs and no label map's.
    ``frame_uid`` is the Frame of Reference UID where the file has one.
    """

    grid: Grid
    native: NativeGeometry
    names: Mapping[int, str]
    source_name: str
    warnings: tuple[str, ...]
    whole: Mapping[int, NDArray[np.bool_]] = field(default_factory=dict)
    open_axes: tuple[bool, bool, bool] = (False, False, False)
    own_numbers: bool = False
    frame_uid: str = ""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between centres along canonical ``x``, ``y``, ``z``."""
        x, y, z = self.grid.spacing
        return x, y, z


@dataclass(frozen=True, eq=False)
class ScanGrid:
    """The voxels of a scan, for masks that have none of their own.

    ``grid`` is canonical, ``native`` that of the file's own axes; ``frame_uid``
    is the Frame of Reference UID, empty where it is not known.
    """

    grid: Grid
    native: Grid
    name: str
    frame_uid: str = ""


def get_scan_grid(volume: Volume) -> ScanGrid:
    """The voxels of an opened CT."""
    series = volume.native.series
    frame = "" if series is None else series.headers[0].text("FrameOfReferenceUID")
    return ScanGrid(volume.grid, volume.native.native_grid(), volume.source_name, frame)


class ReadMask(NamedTuple):
    """A mask in memory: canonical labels ``(x, y, z)``, uint8 or uint16, and where they lie."""

    labels: NDArray[Any]
    geometry: MaskGeometry


MASK_BYTES = 4
"""Bytes a voxel of a mask in memory: 16 bits, and a copy in the canonical order."""


def collect_labels(
    path: Path, native: NativeGeometry, slabs: Iterator[NDArray[np.generic]]
) -> NDArray[np.generic]:
    """Slabs of native planes as one canonical array of the smallest unsigned type.

    Raises
    ------
    InputError
        If a value is no label.
    """
    voxels = native.shape[0] * native.shape[1] * native.shape[2]
    told = f"{' x '.join(map(str, native.shape))} voxels"
    require_memory(path, MASK_BYTES * voxels, told)
    whole = np.empty(native.shape, np.uint16)
    start = 0
    for slab in slabs:
        stop = start + slab.shape[2]
        if slab.min() < 0 or slab.max() > 65535 or np.any(slab != np.floor(slab)):
            raise InputError(f"{path}: is no mask: labels are whole numbers from 0 to 65535")
        whole[..., start:stop] = slab
        start = stop
    kept = whole.astype(np.uint8) if whole.max(initial=0) < 256 else whole
    return native.orientation.to_canonical(kept)
