"""Open a CT or a mask of any supported format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError, MissingInputError
from domainsam.grid import Grid
from domainsam.infer.blend import clip_window, slice_within
from domainsam.infer.tiling import TileGrid
from domainsam.protocols import Block, Window
from domainsam.reading import reads
from domainsam_ct.read.dicom.contours import is_rtstruct, read_rtstruct
from domainsam_ct.read.dicom.derived import read_dicom_seg
from domainsam_ct.read.dicom.files import is_dicom_file
from domainsam_ct.read.geometry import axial_grid, to_axial
from domainsam_ct.read.volume import (
    ABDOMEN_WINDOW,
    ITK_NAMES,
    NIFTI_NAMES,
    ReadMask,
    ScanGrid,
    Volume,
    check_histogram,
)

VOLUMES = (*NIFTI_NAMES, *ITK_NAMES)


SAMPLED_SLICES, SAMPLED_STEP = 24, 4
"""Slices over the whole volume, and every so many voxels in them, tell what values there are."""


@reads("a CT")
def open_volume(path: str | Path, series_uid: str | None = None, scratch: Path | None = None) -> Volume:
    """Open a CT and check it from end to end.

    Parameters
    ----------
    path
        A NIfTI file (``.nii``, ``.nii.gz``), an ITK one (``.nrrd``, ``.nhdr``, ``.mha``, ``.mhd``),
        a folder of DICOM files, a ``.zip`` of one, or any DICOM file of a series.
    series_uid
        Series to read, where a folder holds several: its UID, or the name by which a note lists it.
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
    volume = _open(Path(path), series_uid, scratch)
    notes = check_histogram(sample_values(volume))
    return replace(volume, warnings=(*volume.warnings, *notes)) if notes else volume


def sample_values(volume: Volume) -> NDArray[np.float32]:
    """Hounsfield units ``(N,)`` of voxels spread over the whole volume."""
    numbers = map(int, choose_sampled(volume.shape[2]))
    parts = [volume.slices(n, n + 1)[::SAMPLED_STEP, ::SAMPLED_STEP].ravel() for n in numbers]
    return np.concatenate(parts)


def choose_sampled(depth: int) -> NDArray[np.intp]:
    """Slices, of so many, that tell what values there are."""
    return np.unique(np.linspace(0, depth - 1, min(depth, SAMPLED_SLICES)).round().astype(np.intp))


def _open(path: Path, series_uid: str | None, scratch: Path | None) -> Volume:
    """Open a CT of any format."""
    if not path.exists():
        raise MissingInputError(f"{path}: no such file or folder; check the path")
    lower = path.name.lower()
    if path.is_dir() or lower.endswith(".zip") or (not lower.endswith(VOLUMES) and is_dicom_file(path)):
        from domainsam_ct.read.dicom.volume import open_dicom

        return open_dicom(path, series_uid, scratch)
    if series_uid is not None:
        raise InputError(f"{path}: a series can be chosen only of a DICOM folder or .zip")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty (0 bytes); copy or download it again")
    if lower.endswith(NIFTI_NAMES):
        from domainsam_ct.read.nifti import open_nifti

        return open_nifti(path, scratch)
    if lower.endswith(ITK_NAMES):
        from domainsam_ct.read.itk import open_itk

        return open_itk(path, scratch)
    raise InputError(
        f"{path}: not a volume that can be read; expected .nii, .nii.gz, .nrrd, .mha, "
        ".mhd, .nhdr, or a folder or .zip of DICOM files"
    )


class VolumeSource:
    """A CT as pictures for networks: a :class:`domainsam.protocols.Source` whose frames are axial slices.

    Frame 0 is the slice nearest to the feet. Rows run from front to back,
    columns from the patient's right to the left.

    Parameters
    ----------
    volume
        An opened CT.
    window
        Hounsfield units that become 0 and 1.
    path
        Where it was read from, if that is known.
    """

    def __init__(
        self, volume: Volume, window: tuple[float, float] = ABDOMEN_WINDOW, path: Path | None = None
    ) -> None:
        self.volume = volume
        self.window = window
        self.path = path

    @classmethod
    def open(
        cls, path: str | Path, window: tuple[float, float] = ABDOMEN_WINDOW, series_uid: str | None = None
    ) -> Self:
        """Open a CT as :func:`open_volume` does."""
        return cls(open_volume(path, series_uid), window, Path(path))

    @property
    def grid(self) -> Grid:
        """The volume as ``(slices, rows, columns)``, in RAS millimetres."""
        return axial_grid(self.volume.grid)

    @property
    def voxels(self) -> Grid:
        """The grid of the file's own axes."""
        return self.volume.native.native_grid()

    def read(self, window: Window) -> Block:
        """One block of one slice, ``(3, h, w)``; what lies outside the slice is invalid."""
        height, width = self.grid.frame_shape
        image = np.zeros((3, window.height, window.width), np.float32)
        valid = np.zeros((window.height, window.width), bool)
        part = clip_window(window, (0, height), (0, width))
        if part.height and part.width and 0 <= window.frame < self.grid.frames:
            place = slice_within(part, (window.row, window.col))
            seen = to_axial(self.volume.slices(window.frame, window.frame + 1))[0][part.slices]
            low, high = self.window
            image[:, *place] = np.clip((seen - low) / (high - low), 0.0, 1.0)
            valid[place] = True
        return Block(window, image, valid)

    def blocks(self, size: int, overlap: int) -> Iterator[Block]:
        """Blocks of side ``size`` that cover each slice in turn, neighbours sharing ``overlap`` pixels."""
        for frame in range(self.grid.frames):
            for window in TileGrid.cover(self.grid.frame_shape, size, overlap).windows():
                yield self.read(replace(window, frame=frame))

    def close(self) -> None:
        """Let go of the volume."""
        self.volume.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@reads("a mask")
def read_mask(path: str | Path, scan: ScanGrid | None = None) -> ReadMask:
    """Read an existing mask: NIfTI, ITK, a DICOM SEG, or an RTSTRUCT.

    Parameters
    ----------
    scan
        The voxels that contours are to fill; other masks have their own.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is damaged or is no mask: values must be whole, from 0 to 65535;
        or if it holds contours and no scan is given.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file; check the path")
    lower = path.name.lower()
    if lower.endswith(NIFTI_NAMES):
        from domainsam_ct.read.nifti import read_nifti_mask

        return read_nifti_mask(path)
    if lower.endswith(ITK_NAMES):
        from domainsam_ct.read.itk import read_itk_mask

        return read_itk_mask(path)
    if is_rtstruct(path):
        if scan is None:
            raise InputError(
                f"{path}: is an RTSTRUCT, whose contours have no voxels: give the scan that they were drawn "
                "on as well (--image, in evaluate --images)"
            )
        return read_rtstruct(path, scan)
    return read_dicom_seg(path)
