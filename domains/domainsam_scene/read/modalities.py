"""Scale sensors' values to 0 to 1 in three channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import ConfigError, InputError
from domainsam.protocols import Block
from domainsam_scene.read.images import RawImage
from domainsam_scene.settings import Range

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

FAR_M = 80.0
"""Metres that stored depth 1 stands for unless a range is given: as far as stereo and lidar see a street."""
SPARSE = frozenset({"event", "lidar", "radar"})
"""Sensors whose empty pixels say something: they are resized by the nearest pixel, never mixed."""
CHANNELS = 3
DOUBTED = 0.01
"""Share of a depth image beyond its range from which on the unit is doubted."""
DARK = 8
"""A 16-bit image whose brightest value lies below the range by this factor is doubted: 12 bits and fewer."""


@dataclass(frozen=True, eq=False)
class Plane:
    """One sensor's image: ``image`` ``(3, H, W)`` float32 in 0 to 1, ``valid`` ``(H, W)`` bool.

    ``note`` says what a person ought to know of its scale.
    """

    image: Float32
    valid: Bool
    note: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.valid.shape[0], self.valid.shape[1]


@dataclass(frozen=True, eq=False)
class SensorBlock(Block):
    """One piece of a stack: what every sensor saw of it; ``image`` is the first sensor's."""

    sensors: dict[str, Plane]


@dataclass(frozen=True, eq=False)
class Sample:
    """One scene as all its sensors see it, on one grid.

    Parameters
    ----------
    name
        What outputs are called after.
    images, valid
        By sensor, ``(3, H, W)`` float32 in 0 to 1 and ``(H, W)`` bool; 0 where not valid.
    missing
        Sensors that were asked for and are not there, with the reason.
    notes
        Liberties taken in reading: resized, moved.
    """

    name: str
    images: Mapping[str, Float32]
    valid: Mapping[str, Bool]
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, cols = next(iter(self.valid.values())).shape
        return rows, cols


def get_natural_range(name: str, dtype: np.dtype[Any]) -> Range:
    """Values that 0 and 1 stand for where nobody says otherwise.

    Bytes and 16-bit numbers fill their type. Depth in 16 bits is millimetres,
    as depth cameras write it, and depth in floats is metres, both up to
    :data:`FAR_M`. Other floats are taken to lie between 0 and 1 already.
    """
    if name == "depth" and dtype == np.uint16:
        return 0.0, 1000.0 * FAR_M
    if dtype.kind == "f":
        return (0.0, FAR_M) if name == "depth" else (0.0, 1.0)
    if dtype.kind == "b":
        return 0.0, 1.0
    return 0.0, float(np.iinfo(dtype).max)


def scale_plane(name: str, raw: RawImage, origin: str, limits: Range | None = None) -> Plane:
    """Scale a sensor's values to 0 to 1 and give them three channels.

    One channel is repeated, a second is followed by zeros, a fourth is dropped.
    Depth 0 means no measurement and stays 0.

    Parameters
    ----------
    limits
        Values that become 0 and 1; beyond them is clipped. By default :func:`get_natural_range`.

    Raises
    ------
    InputError
        If floats lie outside of 0 to 1 and no range was given.
    """
    values = raw.values[:CHANNELS].astype(np.float32)
    values = np.where(raw.valid, values, np.float32(0))
    low, high = limits or get_natural_range(name, raw.values.dtype)
    if limits is None and raw.values.dtype.kind in "fi" and name != "depth" and raw.valid.any():
        _check_inside(name, values, (low, high), origin)
    note = "" if limits is not None else _doubt_scale(name, raw, values, (low, high))
    image = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1).astype(np.float32)
    image = np.where(raw.valid, image, np.float32(0))
    if len(image) == 1:
        image = np.repeat(image, CHANNELS, axis=0)
    elif len(image) == 2:
        image = np.concatenate([image, np.zeros_like(image[:1])])
    return Plane(np.ascontiguousarray(image), raw.valid, note)


def is_blank(plane: Plane) -> bool:
    """Whether a sensor delivered nothing: no valid pixel, or one value everywhere."""
    if not plane.valid.any():
        return True
    inside = plane.image[:, plane.valid]
    return bool((inside.max(axis=1) == inside.min(axis=1)).all())


def parse_range(text: str) -> tuple[str, Range]:
    """``depth=0,40`` as a sensor's name and the values that become 0 and 1.

    Raises
    ------
    ConfigError
        If it does not look like that.
    """
    name, _, numbers = text.partition("=")
    parts = numbers.split(",")
    try:
        low, high = (float(part) for part in parts)
    except ValueError as error:
        raise ConfigError(f"--range {text!r} is not of the form depth=0,40") from error
    if not name or not np.isfinite([low, high]).all() or low == high:
        raise ConfigError(f"--range {text!r} needs a sensor and two different numbers, such as depth=0,40")
    return name.strip(), (low, high)


def _doubt_scale(name: str, raw: RawImage, values: Float32, limits: Range) -> str:
    """What is odd about values on the scale that nobody stated; empty where nothing is."""
    inside = values[:, raw.valid]
    if not inside.size:
        return ""
    high = limits[1]
    if name == "depth":
        beyond = float((inside > high).mean())
        if beyond <= DOUBTED:
            return ""
        unit = " mm" if raw.values.dtype == np.uint16 else " m" if raw.values.dtype.kind == "f" else ""
        return (
            f"{beyond:.0%} of depth lies beyond {high:g}{unit} and became 1; "
            "if it is stored in another unit say so with --range depth=LOW,HIGH"
        )
    top = float(inside.max())
    if raw.values.dtype == np.uint16 and 0 < top < high / DARK:
        return (
            f"values of {name} reach {top:g} of the {high:g} that 16 bits hold, so that it is nearly black; "
            f"if it is stored in fewer bits say so with --range {name}=LOW,HIGH"
        )
    return ""


def _check_inside(name: str, values: Float32, limits: Range, origin: str) -> None:
    lowest, highest = float(values.min()), float(values.max())
    if lowest < limits[0] - 1e-6 or highest > limits[1] + 1e-6:
        raise InputError(
            f"{origin}: values of {name} reach from {lowest:g} to {highest:g}, expected "
            f"{limits[0]:g} to {limits[1]:g}; say what they mean with --range {name}=LOW,HIGH"
        )
