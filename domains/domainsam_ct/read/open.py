"""A CT or a mask from whatever file holds it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from domainsam.errors import InputError, MissingInputError
from domainsam.grid import Grid
from domainsam.infer.tiling import TileGrid
from domainsam.protocols import Block, Window
from domainsam_ct.read.dicom.derived import read_dicom_seg
from domainsam_ct.read.geometry import axial
from domainsam_ct.read.volume import ABDOMEN_WINDOW, ITK_NAMES, NIFTI_NAMES, ReadMask, Volume


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
        "or a folder or .zip of DICOM files"
    )


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


def read_mask(path: str | Path) -> ReadMask:
    """Read an existing mask: NIfTI, ITK, or a DICOM SEG.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is damaged or is no mask: values must be whole, from 0 to 65535.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file; check the path")
    lower = path.name.lower()
    if lower.endswith((".nii", ".nii.gz")):
        from domainsam_ct.read.nifti import read_nifti_mask

        return read_nifti_mask(path)
    if lower.endswith((".nrrd", ".mha")):
        from domainsam_ct.read.itk import read_itk_mask

        return read_itk_mask(path)

    return read_dicom_seg(path)
