"""Generated scenes as files in the plain layout, for the demo, examples and tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from domainsam.io.rasters import silence_rasterio
from domainsam.staging import Staging
from domainsam_scene.generated.scenes import CLASSES, SENSORS, GeneratedScene, make_scene
from domainsam_scene.read.modalities import FAR_M

HOW: tuple[tuple[str, str], ...] = (
    ("day", "none"),
    ("night", "none"),
    ("fog", "none"),
    ("rain", "motion blur"),
    ("day", "underexposed"),
    ("night", "lidar jitter"),
)
"""Condition and failure of the samples, in turn."""


def write_samples(
    root: Path, count: int, size: int | tuple[int, int] = 256, seed: int = 0, overwrite: bool = False
) -> tuple[str, ...]:
    """Write generated scenes, depth in millimetres, with labels, class names and conditions.

    Parameters
    ----------
    root
        Folder that becomes a plain layout (see :mod:`domainsam_scene.read.layouts.plain`).
    count, size
        How many, and how large in pixels.

    Returns
    -------
    tuple of str
        Names of the samples.

    Raises
    ------
    OutputError
        If a file exists and may not be replaced, or cannot be written.
    """
    names = tuple(f"scene{number:03d}" for number in range(count))
    folders = (*SENSORS, "labels")
    pictures = {name: {folder: root / folder / f"{name}.png" for folder in folders} for name in names}
    texts = {root / "labels.txt": "\n".join(CLASSES) + "\n"}
    lines = ["name,weather,failure"]
    targets = [path for paths in pictures.values() for path in paths.values()]
    with Staging([*targets, root / "labels.txt", root / "conditions.csv"], overwrite=overwrite) as staging:
        for number, name in enumerate(names):
            condition, failure = HOW[number % len(HOW)]
            scene = make_scene(seed * 1000 + number, size, condition, failure)
            for folder, path in pictures[name].items():
                _write(staging[path], _stored(scene, folder))
            lines.append(f"{name},{condition},{failure}")
        texts[root / "conditions.csv"] = "\n".join(lines) + "\n"
        for path, text in texts.items():
            staging.write_text(path, text)
    return names


def _stored(scene: GeneratedScene, folder: str) -> NDArray[np.uint8 | np.uint16]:
    """A sensor's picture, or the labels, as numbers that a file holds."""
    if folder == "labels":
        return scene.labels[None]
    image = scene.images[folder]
    if folder == "depth":
        return np.rint(image[:1] * FAR_M * 1000).astype(np.uint16)
    return np.rint(image * 255).astype(np.uint8)


def _write(path: Path, bands: NDArray[np.uint8 | np.uint16]) -> None:
    shape = {"count": bands.shape[0], "height": bands.shape[1], "width": bands.shape[2]}
    with silence_rasterio(), rasterio.open(path, "w", driver="PNG", dtype=bands.dtype, **shape) as made:
        made.write(bands)
