"""Two real sets of paired sensors, as folds: CT, MR, PET of tumours; NDVI, elevation, reflectance of land.

Both are small. Folds hold out subjects, or a third of the ground with a gap,
so that nothing is judged that was near anything learnt.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from numpy.typing import NDArray
from PIL import Image

from domainsam.metrics.overlap import Confusion

IGNORE = 255
SIDE = 96
"""Longest side in pixels of what the networks see."""
FOLDS = 3
Kind = TypeVar("Kind", bound=np.generic)


@dataclass(frozen=True)
class Scene:
    """``images`` by sensor ``(3, H, W)`` in 0 to 1, ``labels`` ``(H, W)``; a ``group`` is judged as one."""

    group: str
    images: dict[str, NDArray[np.float32]]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Fold:
    """Scenes to learn from, scenes to judge on; ``turn`` where up is a matter of taste."""

    labels: tuple[str, ...]
    sensors: tuple[str, ...]
    train: tuple[Scene, ...]
    test: tuple[Scene, ...]
    score: Callable[[dict[str, Confusion]], float]
    turn: bool


def tumours(root: Path) -> list[Fold]:
    """Soft tissue sarcoma: slices with tumour and four beyond; a third of the eight subjects is held out."""
    folder = root / "medical/ibsi_sts/ibsi_validation/nifti"
    scenes = [scene for subject in sorted(folder.iterdir()) for scene in subject_slices(subject)]
    names = sorted({scene.group for scene in scenes})
    return [
        Fold(
            ("background", "tumour"),
            ("ct", "mr", "pet"),
            tuple(scene for scene in scenes if names.index(scene.group) % FOLDS != fold),
            tuple(scene for scene in scenes if names.index(scene.group) % FOLDS == fold),
            lambda parts: float(np.mean([part.scores().dice[1] for part in parts.values()])),
            turn=True,
        )
        for fold in range(FOLDS)
    ]


def subject_slices(folder: Path) -> list[Scene]:
    """Every second slice of one subject; each sensor resampled from its own grid onto the MR's."""
    grid = nib.load(folder / "MR_T1_image.nii.gz")
    truth = np.asanyarray(nib.load(folder / "MR_T1_mask.nii.gz").dataobj) > 0
    volumes = {
        "ct": (on_grid(folder / "CT_image.nii.gz", grid, -1000) + 160) / 400,
        "mr": np.asanyarray(grid.dataobj).astype(np.float32),
        "pet": on_grid(folder / "PET_image.nii.gz", grid, 0) / 8,
    }
    volumes["mr"] = volumes["mr"] / np.percentile(volumes["mr"], 99)
    seen = np.flatnonzero(truth.any((0, 1)))
    first, last = max(0, seen[0] - 4), min(truth.shape[2], seen[-1] + 5)
    return [
        Scene(
            folder.name,
            {name: grey(volume[:, :, index]) for name, volume in volumes.items()},
            shrunk(truth[:, :, index].astype(np.uint8), Image.Resampling.NEAREST),
        )
        for index in range(first, last, 2)
    ]


def on_grid(path: Path, grid: nib.Nifti1Image, outside: float) -> NDArray[np.float32]:
    """A volume at another one's voxels, linearly, by their places in the scanner's space."""
    moved = resample_from_to(nib.load(path), (grid.shape, grid.affine), order=1, cval=outside)
    return np.asanyarray(moved.dataobj).astype(np.float32)


def grey(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """One channel in 0 to 1 as three, at the networks' size."""
    small = shrunk(np.clip(values, 0, 1).astype(np.float32), Image.Resampling.BILINEAR)
    return np.repeat(small[None], 3, axis=0)


def shrunk(values: NDArray[Kind], how: Image.Resampling) -> NDArray[Kind]:
    """Longest side brought to :data:`SIDE`."""
    scale = SIDE / max(values.shape)
    size = (max(1, round(values.shape[1] * scale)), max(1, round(values.shape[0] * scale)))
    return np.asarray(Image.fromarray(values).resize(size, how))


LAND_CLASSES = {2: "forest", 3: "grassland", 4: "shrub", 8: "built up"}
"""Of the patch's codes, those with a hundred pixels at least; the others are not judged."""
LAND_ZOOM = 3
"""A pixel of 10 m becomes so many, so that one is not lost in a stride of four."""
LAND_GAP = 2
LAND_CONTEXT = 6


def land(root: Path) -> list[Fold]:
    """One Sentinel-2 patch of a square kilometre: a third of its columns is held out, with a gap of 20 m."""
    folder = root / "satellite/eolearn_s2/TestEOPatch"
    codes = np.load(folder / "mask_timeless/LULC.npy")[..., 0]
    labels = np.full(codes.shape, IGNORE, np.uint8)
    for number, code in enumerate(LAND_CLASSES):
        labels[codes == code] = number
    images = land_images(root)
    edges = np.linspace(0, labels.shape[1], FOLDS + 1).round().astype(int)
    folds = []
    for left, right in itertools.pairwise(edges):
        learnt, judged = labels.copy(), np.full_like(labels, IGNORE)
        learnt[:, max(0, left - LAND_GAP) : right + LAND_GAP] = IGNORE
        judged[:, left:right] = labels[:, left:right]
        near = slice(max(0, left - LAND_CONTEXT), right + LAND_CONTEXT)
        test = zoomed(
            Scene("strip", {name: image[:, :, near] for name, image in images.items()}, judged[:, near])
        )
        train = zoomed(Scene("patch", images, learnt))
        folds.append(
            Fold(
                tuple(LAND_CLASSES.values()),
                tuple(images),
                (train,),
                (test,),
                lambda parts: float(np.nanmean(next(iter(parts.values())).scores().iou)),
                turn=True,
            )
        )
    return folds


def land_images(root: Path) -> dict[str, NDArray[np.float32]]:
    """NDVI's three quantiles of cloudless dates; height with its slopes; reflectance in infrared and red."""
    folder = root / "satellite/eolearn_s2/TestEOPatch"
    ndvi = np.load(folder / "data/NDVI.npy")[..., 0]
    ndvi = np.where(np.load(folder / "mask/IS_VALID.npy")[..., 0], ndvi, np.nan)
    height = np.load(folder / "data_timeless/DEM.npy")[..., 0].astype(np.float32)
    rise = [np.clip(0.5 + slope / 20, 0, 1) for slope in np.gradient(height)]
    bands = np.median(np.load(root / "satellite/eolearn_s2/REFERENCE_SCENES.npy"), axis=0)[..., [11, 7, 3]]
    return {
        "ndvi": scaled(np.nanquantile(ndvi, (0.1, 0.5, 0.9), axis=0), -0.1, 0.9),
        "elevation": np.stack([scaled(height, height.min(), height.max()), *rise]).astype(np.float32),
        "reflectance": np.stack(
            [scaled(band, *np.percentile(band, (1, 99))) for band in bands.transpose(2, 0, 1)]
        ),
    }


def scaled(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.float32]:
    """``low`` to ``high`` as 0 to 1."""
    return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)


def zoomed(scene: Scene) -> Scene:
    """Every pixel repeated :data:`LAND_ZOOM` times each way."""
    repeat = lambda values: np.repeat(np.repeat(values, LAND_ZOOM, -1), LAND_ZOOM, -2)  # noqa: E731
    return Scene(
        scene.group, {name: repeat(image) for name, image in scene.images.items()}, repeat(scene.labels)
    )


SETS: dict[str, Callable[[Path], list[Fold]]] = {"tumours": tumours, "land": land}
