"""Generate an abdomen of ellipsoids as a CT with its truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from domainsam_ct.labels import load_label_map


@dataclass(frozen=True)
class Ellipsoid:
    """A solid in millimetres from the body's centre, RAS: ``centre``, semi-axes ``radii``, density ``hu``."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    hu: float


BODY = Ellipsoid((0, 0, 0), (165, 115, 1000), -95)
"""Fat under the skin; as tall as any volume."""
CAVITY = Ellipsoid((0, 5, 0), (140, 92, 1000), 45)
SPINE = Ellipsoid((0, -62, 0), (24, 24, 1000), 320)
ORGANS = {
    "liver": Ellipsoid((72, 22, 30), (62, 62, 62), 105),
    "spleen": Ellipsoid((-98, -28, 38), (26, 36, 44), 118),
    "kidney_right": Ellipsoid((64, -48, -42), (25, 23, 48), 155),
    "kidney_left": Ellipsoid((-64, -48, -30), (25, 23, 48), 155),
    "gallbladder": Ellipsoid((52, 60, -42), (14, 16, 22), 8),
    "stomach": Ellipsoid((-52, 42, 28), (38, 30, 46), 25),
    "pancreas": Ellipsoid((-8, 18, -18), (48, 12, 13), 85),
    "aorta": Ellipsoid((-10, -26, 0), (11, 11, 1000), 210),
}
"""Later ones lie over earlier ones; x grows to the patient's right, so the liver's is positive."""
AIR_HU = -1000.0
NOISE_HU = 12.0
BLUR_VOXELS = 0.7


def draw_abdomen(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], seed: int = 0
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """A CT and its truth on a canonical grid ``(x, y, z)``, the body's centre in the middle.

    Parameters
    ----------
    shape, spacing
        Voxels, and millimetres between them.
    seed
        Of the noise.

    Returns
    -------
    ndarray of int16
        Hounsfield units.
    ndarray of uint8
        Labels in the numbering of the label map ``synapse``.
    """
    axes = [(np.arange(size) - (size - 1) / 2) * step for size, step in zip(shape, spacing, strict=True)]
    values = {organ.name: value for value, organ in load_label_map("synapse").items()}
    hu = np.full(shape, AIR_HU, np.float32)
    labels = np.zeros(shape, np.uint8)
    for solid in (BODY, CAVITY, SPINE):
        hu[_inside(solid, axes)] = solid.hu
    for name, solid in ORGANS.items():
        inside = _inside(solid, axes)
        hu[inside], labels[inside] = solid.hu, values[name]
    hu = gaussian_filter(hu, BLUR_VOXELS)
    hu += np.random.default_rng(seed).normal(0, NOISE_HU, shape).astype(np.float32)
    return np.clip(np.round(hu), -1024, 3071).astype(np.int16), labels


def make_centred_affine(
    shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Affine of a canonical grid whose middle is the origin."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * spacing
    return affine


def write_sample(
    path: Path, values: NDArray[np.int16] | NDArray[np.uint8], spacing: tuple[float, float, float]
) -> None:
    """Write canonical values as a NIfTI file in the orientation of most scanners' files, LPS.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    affine = make_centred_affine((values.shape[0], values.shape[1], values.shape[2]), spacing)
    affine[:2, 3] = -affine[:2, 3]
    affine[0, 0], affine[1, 1] = -affine[0, 0], -affine[1, 1]
    image = nib.Nifti1Image(values[::-1, ::-1], affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    nib.save(image, path)


def _inside(solid: Ellipsoid, axes: list[NDArray[Any]]) -> NDArray[np.bool_]:
    x, y, z = (
        ((axis - centre) / radius) ** 2
        for axis, centre, radius in zip(axes, solid.centre, solid.radii, strict=True)
    )
    return np.asarray(x[:, None, None] + y[None, :, None] + z[None, None, :] <= 1.0)
