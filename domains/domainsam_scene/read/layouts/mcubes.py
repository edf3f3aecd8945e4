"""MCubeS (Liang et al., CVPR 2022): materials seen by colour, polarisation and near infrared.

::

    polL_color/NAME.png  polL_aolp_sin/NAME.npy  polL_aolp_cos/NAME.npy  polL_dolp/NAME.npy
    NIR_warped/NAME.png  NIR_warped_mask/NAME.png  GT/NAME.png  list_folder/{train,val,test}.txt

The left 192 columns are cut off, as everybody does, because the near infrared
camera did not see them. What papers call their "val" results are of
``test.txt``; here ``--split val`` is ``val.txt`` and ``--split test`` is
``test.txt``.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domainsam.documents import read_lines
from domainsam.errors import InputError, MissingInputError
from domainsam.reading import reads_by
from domainsam_scene.read.images import RawImage, read_array, read_image
from domainsam_scene.read.layouts.base import Labels, SampleRef, check_folder, check_labels, check_split
from domainsam_scene.read.modalities import Plane, scale_plane
from domainsam_scene.settings import Range

log = logging.getLogger(__name__)

LEFT = 192
"""Columns cut off on the left."""
LIST_FOLDER = "list_folder"
NIR_MASK = "NIR_warped_mask"
CLASSES = (
    ("asphalt", (44, 160, 44)),
    ("concrete", (31, 119, 180)),
    ("metal", (255, 127, 14)),
    ("road_marking", (214, 39, 40)),
    ("fabric", (140, 86, 75)),
    ("glass", (127, 127, 127)),
    ("plaster", (188, 189, 34)),
    ("plastic", (255, 152, 150)),
    ("rubber", (23, 190, 207)),
    ("sand", (174, 199, 232)),
    ("gravel", (196, 156, 148)),
    ("ceramic", (197, 176, 213)),
    ("cobblestone", (247, 182, 210)),
    ("brick", (199, 199, 199)),
    ("grass", (219, 219, 141)),
    ("wood", (158, 218, 229)),
    ("leaf", (57, 59, 121)),
    ("water", (107, 110, 207)),
    ("human", (156, 158, 222)),
    ("sky", (99, 121, 57)),
)
"""Names in the order of their numbers, with the colours of the usual reader."""


class McubesLayout:
    """The published folders; all figures are of one confusion matrix, an absent class counting 0."""

    name = "mcubes"
    labels = tuple(label for label, _ in CLASSES)
    colours = tuple(colour for _, colour in CLASSES)
    modalities: tuple[str, ...] = ("rgb", "aolp", "dolp", "nir")
    splits: tuple[str, ...] = ("train", "val", "test")
    absent_iou: float | None = 0.0
    any_aspect = False
    dilate: int | None = None

    @reads_by("samples of this layout")
    def samples(self, root: Path, split: str | None) -> tuple[SampleRef, ...]:
        """The names of a list, in its order; see :class:`~domainsam_scene.read.layouts.base.Layout`."""
        check_folder(root, ("polL_color", LIST_FOLDER), self.name)
        chosen = check_split(split, self.splits, "test")
        path = root / LIST_FOLDER / f"{chosen}.txt"
        if not path.is_file():
            raise MissingInputError(f"{path}: no such file; the list of split {chosen} is needed")
        names = [line.split()[0] for line in read_lines(path, "names of samples, a line each")]
        if not names:
            raise InputError(f"{path}: names no sample")
        if chosen == "val":
            log.warning("papers call test.txt their val: use --split test to compare with their figures")
        return tuple(_reference(root, name) for name in names)

    def read_plane(self, ref: SampleRef, modality: str, limits: Range | None) -> Plane:
        """One sensor without its left columns; see :class:`~domainsam_scene.read.layouts.base.Layout`."""
        paths = ref.files[modality]
        if modality == "aolp":
            return _polarisation_angle(paths, limits)
        raw = read_image(paths[0])
        if modality == "nir":
            raw = RawImage(raw.values[:1], raw.valid & _seen(paths[1], raw.valid.shape))
        return scale_plane(modality, _cut(raw), str(paths[0]), limits)

    def read_labels(self, ref: SampleRef) -> Labels:
        """Class numbers; see :class:`~domainsam_scene.read.layouts.base.Layout`."""
        if ref.truth is None or not ref.truth.exists():
            raise MissingInputError(f"{ref.name}: has no labels; expected {ref.truth}")
        stored = read_image(ref.truth, indices=True).values[0, :, LEFT:]
        return check_labels(stored, len(self.labels), ref.truth)


def _reference(root: Path, name: str) -> SampleRef:
    return SampleRef(
        name=name,
        files={
            "rgb": (root / "polL_color" / f"{name}.png",),
            "aolp": (root / "polL_aolp_sin" / f"{name}.npy", root / "polL_aolp_cos" / f"{name}.npy"),
            "dolp": (root / "polL_dolp" / f"{name}.npy",),
            "nir": (root / "NIR_warped" / f"{name}.png", root / NIR_MASK / f"{name}.png"),
        },
        truth=root / "GT" / f"{name}.png",
    )


def _polarisation_angle(paths: tuple[Path, ...], limits: Range | None) -> Plane:
    """Sine, cosine and sine again, as published; -1 to 1 becomes 0 to 1."""
    sine, cosine = (read_array(path) for path in paths)
    if sine.ndim != 2 or sine.shape != cosine.shape:
        raise InputError(
            f"{paths[0]}: has shape {sine.shape} and its cosine {cosine.shape}, expected one (H, W)"
        )
    stacked = np.stack([sine, cosine, sine])
    raw = RawImage(stacked, np.isfinite(stacked).all(axis=0))
    return scale_plane("aolp", _cut(raw), str(paths[0]), limits or (-1.0, 1.0))


def _seen(mask: Path, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where the warped near infrared picture has data; everywhere if no mask says otherwise."""
    if not mask.exists():
        return np.ones(shape, bool)
    values = read_image(mask, indices=True).values[0]
    if values.shape != shape:
        raise InputError(f"{mask}: is {values.shape}, the picture {shape}: expected the same size")
    return np.asarray(values > 0)


def _cut(raw: RawImage) -> RawImage:
    if raw.values.shape[2] <= LEFT:
        raise InputError(f"the picture is {raw.values.shape[2]} pixels wide; MCubeS cuts {LEFT} of 1224 off")
    return RawImage(raw.values[:, :, LEFT:], raw.valid[:, LEFT:])
