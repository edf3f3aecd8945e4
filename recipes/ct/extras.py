"""Pictures of further subjects: single slices with some organs, and limbs, which have none.

All values are brought to Hounsfield units. The single slices are pictures of
8 bits whose scale is not told: it is taken from two tissues that each shows,
and their pixel from the width of the body, so both are rough.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from domainsam.train.losses import IGNORE
from domainsam_ct.train.case import Case

ORGANS = {"spleen": 1, "liver": 5, "aorta": 7}
LIMB_SLICES = 3
CHEST_SLICES = 12
SOFT_HU = (-30.0, 300.0)


@dataclass(frozen=True)
class Picture:
    """One slice of ``sammed2d_demo``.

    ``levels`` are two grey levels and ``units`` what they stand for in HU;
    ``turned`` pictures lie on their backs and are turned by half a circle,
    others only mirrored top to bottom; ``complete`` tells whether every organ is outlined.
    """

    name: str
    pixel_mm: float
    levels: tuple[float, float]
    units: tuple[float, float]
    turned: bool = False
    complete: bool = True


PICTURES = (
    # The scanner's padding is -2048, air is -1000.
    Picture("amos_0004_75", 0.9, (0, 81), (-2048, -1000)),
    Picture("amos_0006_90", 0.8, (0, 79), (-2048, -1000), complete=False),
    # Air and the muscle of the back.
    Picture("s0114_111", 1.5, (14, 139), (-1000, 55), turned=True),
    Picture("s0619_32", 1.5, (2.5, 69), (-1000, 55), turned=True),
)


def read_pictures(folder: Path) -> list[Case]:
    """The slices of :data:`PICTURES` from the folder of ``sammed2d_demo``."""
    return [_picture(picture, folder) for picture in PICTURES]


def _picture(picture: Picture, folder: Path) -> Case:
    def read(path: Path) -> NDArray[np.float32]:
        grey = np.asarray(Image.open(path).convert("L"), np.float32)[::-1]
        return grey[:, ::-1] if picture.turned else grey

    grey = read(folder / "images" / f"{picture.name}.png")
    slope = (picture.units[1] - picture.units[0]) / (picture.levels[1] - picture.levels[0])
    units = np.clip((grey - picture.levels[0]) * slope + picture.units[0], -1024, 3071)
    low, high = SOFT_HU
    unknown = (units > low) & (units < high) & (not picture.complete)
    labels = np.where(unknown, IGNORE, 0).astype(np.uint8)
    for organ, value in ORGANS.items():
        for path in sorted((folder / "masks").glob(f"{picture.name}_{organ}_*.png")):
            labels[read(path) > 0] = value
    size = picture.pixel_mm
    return Case(picture.name, units[None].astype(np.int16), labels[None], (5.0, size, size))


def read_chest(folder: Path) -> Case:
    """Part of a chest and upper abdomen, a further subject of whom only the aorta is outlined."""
    names = ("ct_cropped.nii.gz", "organ_aorta_T264.nii.gz")
    images = [nibabel.as_closest_canonical(nibabel.load(folder / name)) for name in names]
    volume, aorta = (np.asanyarray(image.dataobj)[::-1, ::-1].transpose(2, 1, 0) for image in images)
    places = np.linspace(0, len(volume) - 1, CHEST_SLICES + 2)[1:-1].astype(int)
    right, front, up = (float(size) for size in images[0].header.get_zooms()[:3])
    slices = np.clip(volume[places], -1024, 3071).astype(np.int16)
    soft = (slices > SOFT_HU[0]) & (slices < SOFT_HU[1])
    labels = np.where(soft, IGNORE, 0).astype(np.uint8)
    labels[aorta[places] > 0] = ORGANS["aorta"]
    spacing = (up * float(places[1] - places[0]), front, right)
    return Case("chest", slices, labels, spacing)


def read_limbs(folder: Path) -> list[Case]:
    """A few slices of each thigh, calf or arm of ``ibsi_sts``: all background."""
    cases = []
    for path in sorted(folder.glob("*/CT_image.nii.gz")):
        image = nibabel.as_closest_canonical(nibabel.load(path))
        volume = np.asanyarray(image.dataobj)[::-1, ::-1].transpose(2, 1, 0)
        places = np.linspace(0, len(volume) - 1, LIMB_SLICES + 2)[1:-1].astype(int)
        right, front, up = (float(size) for size in image.header.get_zooms()[:3])
        slices = np.clip(volume[places], -1024, 3071).astype(np.int16)
        spacing = (up * float(places[1] - places[0]), front, right)
        cases.append(Case(path.parent.name, slices, np.zeros(slices.shape, np.uint8), spacing))
    return cases
