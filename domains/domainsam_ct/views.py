"""Three planes through the organs, as radiologists look at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam_ct.segmenting import Segmented
from domainsam_ct.staged import StagedVolume
from domainsam_ct.statistics import Tally
from domainsam_ct.volume import Volume

CHUNK = 16


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane of a scan with its mask.

    Parameters
    ----------
    name
        ``axial``, ``coronal`` or ``sagittal``.
    hu, mask
        ``(rows, columns)``: axial from front to back, the others from head to
        feet; the patient's right, or front, on the left.
    pixel_mm
        Height and width of a pixel.
    edges
        Letters of the left, right, upper and lower edge: R L A P S I.
    position
        Number of the plane and how many there are along its axis, from 1.
    """

    name: str
    hu: NDArray[np.float32]
    mask: NDArray[np.uint8]
    pixel_mm: tuple[float, float]
    edges: str
    position: tuple[int, int]


def key_planes(segmented: Segmented) -> tuple[Plane, Plane, Plane]:
    """The axial, coronal and sagittal plane that show most of the organs."""
    shape, tally = segmented.volume.shape, segmented.tally
    x, y, z = (best_plane(tally, axis, shape[axis]) for axis in range(3))
    return planes_at(segmented.volume, segmented.mask, (x, y, z))


def best_plane(tally: Tally, axis: int, count: int) -> int:
    """The plane across an axis where organs are, all in all, nearest to their largest extent."""
    score = np.zeros(count)
    for value in tally.labels:
        along = tally.along(value, axis)
        if along.any():
            score += along / along.max()
    return int(score.argmax()) if score.any() else count // 2


def planes_at(volume: Volume, mask: StagedVolume, at: tuple[int, int, int]) -> tuple[Plane, Plane, Plane]:
    """The three planes through a canonical voxel, read in one pass."""
    (width, height, depth), (dx, dy, dz) = volume.shape, volume.spacing
    x, y, z = at
    axial = _cut(volume.slices(z, z + 1)[:, :, 0]), _cut(mask.read(z, z + 1)[0])
    coronal = np.empty((width, depth), np.float32), np.empty((width, depth), np.uint8)
    sagittal = np.empty((height, depth), np.float32), np.empty((height, depth), np.uint8)
    for start, labels in mask.chunks(CHUNK):
        stop = start + len(labels)
        hu = volume.slices(start, stop)
        coronal[0][:, start:stop], coronal[1][:, start:stop] = hu[:, y], labels[:, :, y].T
        sagittal[0][:, start:stop], sagittal[1][:, start:stop] = hu[x], labels[:, x].T
    return (
        Plane("axial", *axial, (dy, dx), "RLAP", (z + 1, depth)),
        Plane("coronal", _cut(coronal[0]), _cut(coronal[1]), (dz, dx), "RLSI", (y + 1, height)),
        Plane("sagittal", _cut(sagittal[0]), _cut(sagittal[1]), (dz, dy), "APSI", (x + 1, width)),
    )


def _cut(plane: NDArray[Any]) -> NDArray[Any]:
    """A plane ``(a, b)`` of canonical axes as an image: both axes run backwards, ``b`` downwards."""
    return np.ascontiguousarray(plane[::-1, ::-1].T)
