"""Register sensors onto one grid: resize, find shifts and undo them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from domainsam.metrics.registration import correlate_phase
from domainsam_scene.read.modalities import SPARSE, Plane

Float32 = NDArray[np.float32]

CAMERAS = ("rgb", "image", "optical")
"""Names of a camera, whose grid all other sensors are laid on."""
ASPECT_TOLERANCE = 0.02
"""Sides may differ by this share from one common scale: a pixel or two of cropping, no other lens."""
REACH = 0.05
"""Shifts are looked for up to this share of the sides."""
CERTAIN = 7.0
"""How many standard deviations a peak of the correlation must stand above the rest to be believed."""


@dataclass(frozen=True)
class Shift:
    """How far a sensor's image lies ``down`` and ``right`` of where it should, in pixels.

    ``strength`` is the height of the correlation's peak in standard deviations.
    """

    down: float
    right: float
    strength: float

    @property
    def believed(self) -> bool:
        """Whether it is a shift of half a pixel or more, beyond doubt."""
        return self.strength >= CERTAIN and max(abs(self.down), abs(self.right)) >= 0.5

    def __str__(self) -> str:
        return f"{self.down:+.1f} px down, {self.right:+.1f} px right"


def choose_reference(names: Mapping[str, object]) -> str:
    """The sensor whose grid all others are laid on: the camera, else the first."""
    return next((name for name in CAMERAS if name in names), next(iter(names)))


def resize_to_reference(
    planes: Mapping[str, Plane], origin: str, any_aspect: bool = False
) -> tuple[dict[str, Plane], tuple[str, ...], dict[str, str]]:
    """All sensors at the size of the reference sensor, notes on which were resized, and who does not fit.

    ``any_aspect`` lets pictures be stretched more one way than the other;
    otherwise one of another aspect, which no one scale fits, is left out, and
    the reason given by its name.
    """
    reference = choose_reference(planes)
    rows, cols = planes[reference].shape
    done, notes, misfits = {}, [], {}
    for name, plane in planes.items():
        if plane.shape != (rows, cols):
            if not any_aspect and not _has_aspect((rows, cols), plane.shape):
                misfits[name] = (
                    f"{origin}: {reference} is {cols} x {rows} pixels and {name} {plane.shape[1]} x "
                    f"{plane.shape[0]}: no one scale fits; crop both to the same view first"
                )
                continue
            done[name] = resize_plane(plane, (rows, cols), nearest=name in SPARSE)
            notes.append(f"{name} resized from {plane.shape[1]} x {plane.shape[0]} to {cols} x {rows}")
        else:
            done[name] = plane
    return done, tuple(notes), misfits


def _has_aspect(wanted: tuple[int, int], given: tuple[int, int]) -> bool:
    """Whether one scale brings a picture to the wanted size, but for a pixel or two."""
    scales = given[0] / wanted[0], given[1] / wanted[1]
    slack = ASPECT_TOLERANCE + max(1 / side for side in (*given, *wanted))
    return abs(scales[0] / scales[1] - 1) <= slack


def resize_plane(plane: Plane, size: tuple[int, int], nearest: bool) -> Plane:
    """A plane at another size; pixels keep their place in the picture, edge to edge.

    Reducing takes means of areas, enlarging is linear, both of valid pixels
    only; ``nearest`` takes single pixels instead.
    """
    if nearest:
        rows, cols = (
            np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.int64), old - 1)
            for new, old in zip(size, plane.shape, strict=True)
        )
        return Plane(plane.image[:, rows[:, None], cols], plane.valid[rows[:, None], cols])
    down, across = (_weights(new, old) for new, old in zip(size, plane.shape, strict=True))
    weight = down @ plane.valid.astype(np.float32) @ across.T
    total = down @ (plane.image * plane.valid) @ across.T
    valid = weight > 0.5
    image = np.where(valid, total / np.maximum(weight, 1e-6), 0).astype(np.float32)
    return Plane(np.clip(image, 0, 1), valid)


def _weights(new: int, old: int) -> Float32:
    """Matrix ``(new, old)``: each new pixel's share of old ones, a tent as wide as the coarser pixel."""
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    width = max(1.0, old / new)
    tent = np.maximum(0, 1 - np.abs(np.arange(old)[None] - np.clip(centre, 0, old - 1)[:, None]) / width)
    return np.asarray(tent / tent.sum(axis=1, keepdims=True), np.float32)


def find_shift(reference: Plane, moved: Plane) -> Shift:
    """How far ``moved`` lies from ``reference``, both of one size.

    Phase correlation of gradient magnitudes: edges are where sensors of
    different kinds agree.
    """
    rows, cols = reference.shape
    reach = max(2, int(REACH * rows)), max(2, int(REACH * cols))
    found = correlate_phase(_edges(reference), _edges(moved), blur=1.0, reach=reach)
    return Shift(found.rows, found.cols, found.peak)


def undo_shift(plane: Plane, shift: Shift, nearest: bool) -> Plane:
    """A plane moved back by a shift; what was outside of the picture is not valid."""
    by = (-round(shift.down), -round(shift.right)) if nearest else (-shift.down, -shift.right)
    order = 0 if nearest else 1
    valid = ndimage.shift(plane.valid.astype(np.float32), by, order=order, cval=0.0) > 0.999
    moved = [ndimage.shift(channel, by, order=order, mode="nearest") for channel in plane.image]
    image = np.where(valid, np.stack(moved), 0).astype(np.float32)
    return Plane(np.clip(image, 0, 1), valid)


def _edges(plane: Plane) -> Float32:
    """Gradient magnitude, faded to the borders so that they do not count as edges."""
    grey = ndimage.gaussian_filter(plane.image.mean(axis=0), 1.0)
    steep = np.hypot(*np.gradient(grey))
    steep = np.minimum(steep, np.quantile(steep, 0.98))
    fade = np.outer(*(np.hanning(side + 2)[1:-1] for side in grey.shape))
    return np.asarray((steep - steep.mean()) * fade, np.float32)
