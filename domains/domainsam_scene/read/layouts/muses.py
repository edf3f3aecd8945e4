"""MUSES (Brödermann et al., ECCV 2024): driving with camera, event camera, lidar and radar.

``meta.json`` names every scene's files (``path_to_frame_camera`` and so on),
its split, weather and time of day. Where the development kit has projected a
sensor onto the camera (``projected_to_rgb/``, as npz, npy or png) that file is
read; otherwise the raw file is projected here, with ``calib.json``, as the
kit does without motion compensation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from domainsam.documents import expect, read_json
from domainsam.errors import InputError, MissingInputError
from domainsam.reading import reads_by
from domainsam_scene.read.images import RawImage, read_image
from domainsam_scene.read.layouts.base import (
    IGNORE,
    Labels,
    SampleRef,
    check_folder,
    check_labels,
    check_split,
)
from domainsam_scene.read.layouts.projection import (
    Calibration,
    dilate_events,
    fill_plane,
    project_events,
    project_lidar,
    project_radar,
)
from domainsam_scene.read.modalities import Plane, scale_plane
from domainsam_scene.settings import Range

SENSORS = {"rgb": "frame_camera", "event": "event_camera", "lidar": "lidar", "radar": "radar"}
"""By sensor: the word in ``path_to_WORD``."""
PROJECTED = "projected_to_rgb"
PROJECTED_SUFFIXES = (".npz", ".npy", ".png")
PNG_SHIFT, PNG_SCALE = 100.0, 150.0
"""The kit writes a projection as uint16 (value + 100) x 150, because heights may be negative."""
CLASSES = (
    ("road", (128, 64, 128)),
    ("sidewalk", (244, 35, 232)),
    ("building", (70, 70, 70)),
    ("wall", (102, 102, 156)),
    ("fence", (190, 153, 153)),
    ("pole", (153, 153, 153)),
    ("traffic light", (250, 170, 30)),
    ("traffic sign", (220, 220, 0)),
    ("vegetation", (107, 142, 35)),
    ("terrain", (152, 251, 152)),
    ("sky", (70, 130, 180)),
    ("person", (220, 20, 60)),
    ("rider", (255, 0, 0)),
    ("car", (0, 0, 142)),
    ("truck", (0, 0, 70)),
    ("bus", (0, 60, 100)),
    ("train", (0, 80, 100)),
    ("motorcycle", (0, 0, 230)),
    ("bicycle", (119, 11, 32)),
)
"""The 19 classes of Cityscapes in the order of their training numbers, with its colours."""
FULL_NUMBERS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The same classes' numbers in Cityscapes' full list, as files ``*_labelIds.png`` hold them."""


class MusesLayout:
    """The published folders; classes that do not occur take no part in the mean IoU."""

    name = "muses"
    labels = tuple(label for label, _ in CLASSES)
    colours = tuple(colour for _, colour in CLASSES)
    modalities: tuple[str, ...] = tuple(SENSORS)
    splits: tuple[str, ...] = ("train", "val", "test")
    absent_iou: float | None = None
    any_aspect = False
    dilate: int | None = None

    def __init__(self) -> None:
        self._root = Path()
        self._calibration: Calibration | None = None

    @reads_by("samples of this layout")
    def samples(self, root: Path, split: str | None) -> tuple[SampleRef, ...]:
        """The scenes of ``meta.json``, by name; see :class:`~domainsam_scene.read.layouts.base.Layout`."""
        check_folder(root, ("meta.json",), self.name)
        chosen = check_split(split, self.splits, "val")
        self._root = root
        path = root / "meta.json"
        scenes = {name: expect(scene, dict, f"{path}: {name}") for name, scene in _read_json(path).items()}
        picked = {name: scene for name, scene in sorted(scenes.items()) if scene.get("split") == chosen}
        if not picked:
            raise InputError(f"{root / 'meta.json'}: holds no scene of split {chosen}")
        return tuple(_reference(root, name, scene) for name, scene in picked.items())

    def read_plane(self, ref: SampleRef, modality: str, limits: Range | None) -> Plane:
        """One sensor in the camera's view; see :class:`~domainsam_scene.read.layouts.base.Layout`."""
        paths = ref.files[modality]
        if modality == "rgb":
            return scale_plane(modality, read_image(paths[0]), str(paths[0]), limits)
        if limits is not None:
            raise InputError(f"--range {modality}: MUSES has its own scale for it; leave it out")
        projected = next((path for path in paths[1:] if path.exists()), None)
        if projected is not None:
            return fill_plane(modality, self._drawn(modality, _decoded(projected, modality)))
        if not paths[0].exists():
            raise MissingInputError(f"{paths[0]}: no such file, nor its projection {paths[1]}")
        size = read_image(ref.files["rgb"][0]).valid.shape if ref.files["rgb"][0].exists() else (1080, 1920)
        project = {"lidar": project_lidar, "radar": project_radar, "event": project_events}[modality]
        image = project(paths[0], self._calibrated(), (size[0], size[1]))
        return fill_plane(modality, self._drawn(modality, image))

    def _drawn(self, modality: str, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Events as squares of ``dilate`` pixels, where that was asked for; other sensors as they are."""
        return dilate_events(image, self.dilate) if modality == "event" and self.dilate else image

    def read_labels(self, ref: SampleRef) -> Labels:
        """Class numbers; see :class:`~domainsam_scene.read.layouts.base.Layout`."""
        if ref.truth is None or not ref.truth.exists():
            raise MissingInputError(f"{ref.name}: has no labels (those of split test are not published)")
        stored = read_image(ref.truth, indices=True).values[0]
        if ref.truth.stem.endswith("labelIds"):
            table = np.full(256, IGNORE, np.uint8)
            table[list(FULL_NUMBERS)] = np.arange(len(FULL_NUMBERS))
            stored = table[stored.astype(np.uint8)]
        return check_labels(stored, len(self.labels), ref.truth)

    def _calibrated(self) -> Calibration:
        if self._calibration is None:
            path = self._root / "calib.json"
            if not path.is_file():
                raise MissingInputError(
                    f"{path}: no such file; it is needed to project raw sensors, or give {PROJECTED}/"
                )
            try:
                self._calibration = Calibration.from_document(_read_json(path))
            except (KeyError, ValueError, TypeError, OverflowError) as error:
                raise InputError(f"{path}: is not a calibration of MUSES ({error})") from error
        return self._calibration


def _reference(root: Path, name: str, scene: Mapping[str, Any]) -> SampleRef:
    files: dict[str, tuple[Path, ...]] = {}
    for sensor, word in SENSORS.items():
        given = scene.get(f"path_to_{word}")
        if given:
            inside = Path(expect(given, str, f"{name}: path_to_{word}"))
            laid = (root / PROJECTED / inside.with_suffix(suffix) for suffix in PROJECTED_SUFFIXES)
            files[sensor] = (root / inside,) if sensor == "rgb" else (root / inside, *laid)
    return SampleRef(
        name=name,
        files=files,
        truth=_truth(root, scene),
        conditions={
            "weather": str(scene.get("weather", "unknown")),
            "time of day": str(scene.get("time_of_day", "unknown")),
        },
    )


def _truth(root: Path, scene: Mapping[str, Any]) -> Path | None:
    """The semantic labels that go with a camera picture: training numbers, else full numbers."""
    given = scene.get("path_to_gt_semantic")
    if given:
        return root / str(given)
    camera = scene.get("path_to_frame_camera")
    if not camera:
        return None
    inside = Path(*Path(camera).parts[1:])
    base = root / "gt_semantic" / inside.with_name(inside.stem.removesuffix("_frame_camera"))
    found = [base.with_name(f"{base.name}_gt_{kind}.png") for kind in ("labelTrainIds", "labelIds")]
    return next((path for path in found if path.exists()), found[0])


def _decoded(path: Path, sensor: str) -> np.ndarray[Any, Any]:
    """A projection ``(3, H, W)`` in metres, intensities and counts."""
    raw: RawImage = read_image(path)
    if len(raw.values) != 3:
        raise InputError(f"{path}: has {len(raw.values)} channels, expected the 3 of a projection")
    values = raw.values.astype(np.float32)
    if path.suffix == ".png":
        # Written by OpenCV, which stores the first channel last.
        values = values[::-1]
        if sensor != "event":
            values = values / PNG_SCALE - PNG_SHIFT
    return values


def _read_json(path: Path) -> dict[str, Any]:
    return read_json(path, "names and their values")
