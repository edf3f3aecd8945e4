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


SURROUNDINGS = (
    Ellipsoid((0, 0, 0), (165, 118, 1000), -100),  # fat under the skin
    Ellipsoid((0, 0, 0), (150, 103, 1000), 55),  # muscle
    Ellipsoid((0, 10, 0), (138, 84, 1000), -100),  # fat about the organs
    *(Ellipsoid((side * 34, -76, 0), (28, 20, 1000), 55) for side in (-1, 1)),  # muscle of the back
    *(Ellipsoid((side * 34, -46, -60), (15, 15, 80), 55) for side in (-1, 1)),  # psoas
    Ellipsoid((0, -58, 0), (25, 20, 1000), 260),  # vertebrae
    Ellipsoid((0, -82, 0), (10, 8, 1000), 30),  # canal
    *(
        Ellipsoid((x, y, z), (6, 6, 16), 300)  # ribs
        for z in range(-60, 120, 30)
        for x, y in ((143, 12), (-143, 12), (122, -52), (-122, -52), (108, 66), (-108, 66))
    ),
    *(
        Ellipsoid(place, (size, size, 26), 35)  # bowel
        for place, size in (
            ((104, -2, -66), 21), ((-112, -8, -60), 19), ((20, 52, -66), 20), ((-24, 56, -60), 22),
            ((-62, 40, -62), 19), ((62, 30, -74), 18), ((-28, 18, -66), 17), ((18, 12, -74), 15),
        )
    ),
    Ellipsoid((104, 6, -66), (12, 10, 20), -850),  # gas within it
    Ellipsoid((-24, 64, -60), (13, 9, 18), -850),
    Ellipsoid((19, -32, 0), (13, 10, 1000), 130),  # inferior vena cava
)  # fmt: skip
"""What lies about the organs and has no label; of the height 1000 is what runs through the volume."""
ORGANS = {
    "liver": (
        Ellipsoid((76, 8, 44), (58, 74, 74), 105),
        Ellipsoid((14, 52, 52), (66, 30, 42), 105),
    ),
    "spleen": (Ellipsoid((-106, -28, 46), (24, 44, 42), 118),),
    "kidney_right": (Ellipsoid((64, -46, -34), (27, 24, 50), 165),),
    "kidney_left": (Ellipsoid((-64, -46, -20), (27, 24, 50), 165),),
    "gallbladder": (Ellipsoid((50, 50, -26), (15, 19, 24), 8),),
    "stomach": (
        Ellipsoid((-58, 34, 50), (38, 38, 48), 25),
        Ellipsoid((-34, 42, 10), (30, 24, 30), 25),
        Ellipsoid((-58, 60, 50), (22, 10, 30), -900),
    ),
    "pancreas": (
        Ellipsoid((30, 10, -26), (17, 16, 22), 92),
        Ellipsoid((4, 18, -10), (34, 11, 13), 92),
        Ellipsoid((-42, -2, 4), (36, 12, 13), 92),
    ),
    "aorta": (Ellipsoid((-10, -30, 0), (11, 11, 1000), 210),),
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
    for solid in SURROUNDINGS:
        hu[_inside(solid, axes)] = solid.hu
    for name, solids in ORGANS.items():
        for solid in solids:
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
