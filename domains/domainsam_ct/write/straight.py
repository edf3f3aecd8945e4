"""Masks and scans of a tilted gantry on perpendicular axes, for programs that refuse any other.

A tilted gantry shifts every slice against the one before it, so that the
axes of the stack are not perpendicular. ITK, and with it SimpleITK, 3D Slicer
and ITK-SNAP, refuses such NIfTI files. Here every slice keeps its plane and is
moved onto a common lattice: labels by whole pixels, the scan between pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domainsam_ct.read.geometry import SHEAR_NOTICE_DEGREES, NativeGeometry, Orientation, measure_shear
from domainsam_ct.read.staged import StagedVolume
from domainsam_ct.read.volume import Volume
from domainsam_ct.write.masks import MaskWriter

AIR_HU = -1024
"""What lies where a moved slice leaves the lattice empty."""


@dataclass(frozen=True, eq=False)
class Straight:
    """A grid with perpendicular axes that holds all slices of a sheared one.

    Parameters
    ----------
    shape, affine
        Of the new canonical grid, RAS millimetres.
    shifts
        Where each slice's first voxel lies on the new grid, ``(Z, 2)`` in pixels along x and y.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    shifts: NDArray[np.float64]

    @property
    def native(self) -> NativeGeometry:
        """The new grid as that of a file."""
        return NativeGeometry(self.shape, self.affine, Orientation.of(self.affine), "nifti")


def straighten(volume: Volume) -> Straight | None:
    """The grid on which a volume's slices lie straight; None where its axes are perpendicular already.

    None too where the shear is within the slices, which moving them cannot mend.
    """
    affine = volume.grid.affine
    if measure_shear(affine) < SHEAR_NOTICE_DEGREES:
        return None
    across, down, step = affine[:3, 0], affine[:3, 1], affine[:3, 2]
    cosine = across @ down / np.linalg.norm(across) / np.linalg.norm(down)
    if abs(cosine) > np.sin(np.radians(SHEAR_NOTICE_DEGREES)):
        return None
    moved = np.array([step @ across / (across @ across), step @ down / (down @ down)])
    shifts = np.arange(volume.shape[2])[:, None] * moved
    first = np.minimum(shifts.min(axis=0), 0)
    made = affine.copy()
    made[:3, 2] = step - moved[0] * across - moved[1] * down
    made[:3, 3] = affine[:3, 3] + first[0] * across + first[1] * down
    shifts = shifts - first
    x, y = (int(size) for size in np.array(volume.shape[:2]) + np.ceil(shifts.max(axis=0)).astype(int))
    return Straight((x, y, volume.shape[2]), made, shifts)


def write_straight_mask(
    path: Path, straight: Straight, mask: StagedVolume, names: dict[int, str], scratch: Path
) -> None:
    """Write labels on the straight grid: every slice moved by the nearest whole number of pixels.

    Raises
    ------
    OutputError
        If the disk refuses.
    """
    with MaskWriter(path, straight.native, names, overwrite=True, scratch=scratch) as writer:
        for start, chunk in mask.chunks():
            for number, labels in enumerate(chunk, start):
                image = np.zeros(straight.shape[:2], np.uint8)
                x, y = np.rint(straight.shifts[number]).astype(int)
                image[x : x + labels.shape[0], y : y + labels.shape[1]] = labels
                writer.write_slices(number, image[..., None])


def write_straight_scan(path: Path, straight: Straight, volume: Volume) -> None:
    """Write the scan on the straight grid as int16, linear between pixels; air where no slice is.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    import nibabel

    made = np.full(straight.shape, AIR_HU, np.int16)
    for number in range(straight.shape[2]):
        hu = volume.slices(number, number + 1)[..., 0]
        made[..., number] = np.rint(_move(hu, straight.shifts[number], straight.shape[:2]))
    image = nibabel.Nifti1Image(made, straight.affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(straight.affine, code=1)
    image.set_sform(straight.affine, code=1)
    nibabel.save(image, path)


def _move(hu: NDArray[np.float32], shift: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float32]:
    """A slice ``(x, y)`` on a larger lattice, moved by parts of pixels."""
    whole = np.floor(shift).astype(int)
    rest = shift - whole
    made = np.zeros(shape, np.float32)
    weight = np.zeros(shape, np.float32)
    for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = float((rest[0] if a else 1 - rest[0]) * (rest[1] if b else 1 - rest[1]))
        if share < 1e-6:
            continue
        x, y = whole[0] + a, whole[1] + b
        box = np.s_[x : x + hu.shape[0], y : y + hu.shape[1]]
        made[box] += share * hu
        weight[box] += share
    return made + (1 - weight) * np.float32(AIR_HU)
