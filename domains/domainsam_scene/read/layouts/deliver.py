"""DELIVER (Zhang et al., CVPR 2023): synthetic streets in five weathers, with failing sensors.

::

    {img,hha,event,lidar,semantic}/{weather}/{split}/{place}/{frame}_{rgb,depth,event,lidar,semantic}_front.png

What its own reader does, and so do we: depth comes from ``hha`` (three
channels made of depth), not from ``depth``; the event camera's pictures are
stretched to the camera's size by nearest pixels, whatever their aspect; a
fourth channel is dropped. A label's first channel counts from 1, and both 0
and 255 are unlabelled.
"""

from __future__ import annotations

from pathlib import Path, PurePath

import numpy as np

from domainsam.errors import InputError, MissingInputError
from domainsam.reading import reads_by
from domainsam_scene.read.images import read_image
from domainsam_scene.read.layouts.base import (
    IGNORE,
    Labels,
    SampleRef,
    check_folder,
    check_labels,
    check_split,
)
from domainsam_scene.read.modalities import Plane, scale_plane
from domainsam_scene.settings import Range

FOLDERS = {
    "rgb": ("img", "rgb"),
    "depth": ("hha", "depth"),
    "event": ("event", "event"),
    "lidar": ("lidar", "lidar"),
}
"""By sensor: its folder, and its word in file names."""
TRUTH = ("semantic", "semantic")
CASES = ("motionblur", "overexposure", "underexposure", "lidarjitter", "eventlowres")
"""Failing sensors, found as parts of a path below the root."""
CLASSES = (
    ("Building", (70, 70, 70)),
    ("Fence", (100, 40, 40)),
    ("Other", (55, 90, 80)),
    ("Pedestrian", (220, 20, 60)),
    ("Pole", (153, 153, 153)),
    ("RoadLine", (157, 234, 50)),
    ("Road", (128, 64, 128)),
    ("SideWalk", (244, 35, 232)),
    ("Vegetation", (107, 142, 35)),
    ("Cars", (0, 0, 142)),
    ("Wall", (102, 102, 156)),
    ("TrafficSign", (220, 220, 0)),
    ("Sky", (70, 130, 180)),
    ("Ground", (81, 0, 81)),
    ("Bridge", (150, 100, 100)),
    ("RailTrack", (230, 150, 140)),
    ("GroundRail", (180, 165, 180)),
    ("TrafficLight", (250, 170, 30)),
    ("Static", (110, 190, 160)),
    ("Dynamic", (170, 120, 50)),
    ("Water", (45, 60, 150)),
    ("Terrain", (145, 170, 100)),
    ("TwoWheeler", (0, 0, 230)),
    ("Bus", (0, 60, 100)),
    ("Truck", (0, 0, 70)),
)
"""Names in the order of their numbers, with the colours of the data set's own reader."""


class DeliverLayout:
    """The published folders; an absent class counts 0 in the published mean IoU."""

    name = "deliver"
    labels = tuple(label for label, _ in CLASSES)
    colours = tuple(colour for _, colour in CLASSES)
    modalities: tuple[str, ...] = tuple(FOLDERS)
    splits: tuple[str, ...] = ("train", "val", "test")
    absent_iou: float | None = 0.0
    any_aspect = True
    dilate: int | None = None

    @reads_by("samples of this layout")
    def samples(self, root: Path, split: str | None) -> tuple[SampleRef, ...]:
        """Every camera picture of the split; see :class:`~domainsam_scene.read.layouts.base.Layout`."""
        check_folder(root, ("img",), self.name)
        chosen = check_split(split, self.splits, "val")
        pictures = sorted((root / "img").glob(f"*/{chosen}/*/*.png"))
        if not pictures:
            raise InputError(
                f"{root}: split {chosen} holds no pictures img/WEATHER/{chosen}/PLACE/*_rgb_front.png"
            )
        return tuple(_reference(root, path.relative_to(root / "img")) for path in pictures)

    def read_plane(self, ref: SampleRef, modality: str, limits: Range | None) -> Plane:
        """One picture; see :class:`~domainsam_scene.read.layouts.base.Layout`."""
        (path,) = ref.files[modality]
        return scale_plane(modality, read_image(path), str(path), limits)

    def read_labels(self, ref: SampleRef) -> Labels:
        """Class numbers from 0; see :class:`~domainsam_scene.read.layouts.base.Layout`."""
        if ref.truth is None or not ref.truth.exists():
            raise MissingInputError(f"{ref.name}: has no labels; expected {ref.truth}")
        stored = read_image(ref.truth, indices=True).values[0].astype(np.int64)
        numbers = np.where((stored == 0) | (stored == IGNORE), IGNORE, stored - 1)
        return check_labels(numbers, len(self.labels), ref.truth)


def _reference(root: Path, picture: PurePath) -> SampleRef:
    """Files that belong to a camera picture, given by its path below ``img``."""
    weather, place = picture.parts[0], picture.parts[2]
    frame = picture.name.removesuffix(".png").removesuffix("_front").removesuffix("_rgb")
    inside = "/".join(picture.parts)
    case = next((case for case in CASES if case in inside), "none")

    def file(folder: str, word: str) -> Path:
        return root / folder / picture.parent / picture.name.replace("_rgb", f"_{word}")

    return SampleRef(
        name=f"{weather}/{place}/{frame}",
        files={sensor: (file(*where),) for sensor, where in FOLDERS.items()},
        truth=file(*TRUTH),
        conditions={"weather": weather, "sensor case": case},
    )
