"""Measure the shift between years by phase correlation on many small windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from domainsam.infer.blend import hann_window
from domainsam.io.rasters import Handles
from domainsam.metrics.registration import Displacement, correlate_phase
from domainsam.protocols import Window
from domainsam_urban.trend.align.warp import open_on_ground
from domainsam_urban.trend.ground import CommonGround
from domainsam_urban.trend.read.survey import YearInput
from domainsam_urban.trend.stack import LEAST_PLACES, Registration, to_rasterio_window

SIDES = (64, 256)
"""Least and usual side of a window in pixels of the ground; displacements up to a quarter of it are found."""
FEWEST = 4
"""Windows along the shorter side of a ground that the usual side is made smaller for."""
PLACES = 6
"""Windows along either side of the ground, at most."""
LEAST_SEEN = 0.7
"""Share of a window that both years must have data for."""
LEAST_PEAK = 8.0
"""Height of a peak over the spread of the whole correlation, below which it may be chance: the highest of
65,000 normal values stands between 4 and 5.5."""
NMAD = 1.4826
"""Median absolute deviation to standard deviation, for normal errors."""

Picture = Callable[[Window], tuple[NDArray[np.float32], NDArray[np.bool_]]]
"""Grey values ``(h, w)`` of a window of the ground, and where there are any."""


def find_displacement(first: NDArray[np.float32], second: NDArray[np.float32]) -> Displacement:
    """Where the content of ``second`` lies against ``first``, both ``(h, w)`` float32.

    What stands at row ``r`` of the first stands at ``r + rows`` of the second; columns likewise.
    """
    taper = hann_window(*first.shape)
    return correlate_phase((first - first.mean()) * taper, (second - second.mean()) * taper)


def register(reference: Picture, year: Picture, ground: CommonGround) -> Registration:
    """How far a year lies from the reference year, measured all over the ground.

    Windows where either year lacks data or structure, or whose peak may be
    chance, are left out. ``windows`` is 0 if none remain.
    """
    found = []
    for window in place_measuring_windows(ground.shape):
        first, seen = reference(window)
        second, also = year(window)
        both = seen & also
        if both.mean() < LEAST_SEEN or not first[both].std() > 0 or not second[both].std() > 0:
            continue
        measured = find_displacement(_filled(first, both), _filled(second, both))
        limit = min(window.height, window.width) / 4
        if measured.peak >= LEAST_PEAK and max(abs(measured.rows), abs(measured.cols)) <= limit:
            found.append((measured.cols, -measured.rows))
    if not found:
        return Registration()
    metres = np.array(found) * ground.pixel_m
    middle = np.median(metres, axis=0)
    spread = NMAD * np.median(np.abs(metres - middle), axis=0)
    return Registration(
        float(middle[0]), float(middle[1]), float(np.hypot(*spread)), len(found), corrected=False
    )


def place_measuring_windows(shape: tuple[int, int]) -> list[Window]:
    """Windows spread evenly over a ground: at most :data:`PLACES` a side, smaller where the ground is."""
    side = max(SIDES[0], min(SIDES[1], min(shape) // FEWEST))
    height, width = (min(side, length) for length in shape)
    starts = [
        np.unique(np.linspace(0, length - side, min(PLACES, -(-length // side))).astype(int))
        for length, side in zip(shape, (height, width), strict=True)
    ]
    return [Window(int(row), int(col), height, width) for row in starts[0] for col in starts[1]]


def _filled(picture: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The picture with its own mean where one of the two lacks data, so that the gap has no edge."""
    return np.where(seen, picture, picture[seen].mean()).astype(np.float32)


@contextmanager
def open_grey(item: YearInput, ground: CommonGround) -> Iterator[Picture]:
    """A scene as grey values on the ground, its bands together."""
    nodata = item.nodata
    bands = sorted(set(item.bands))
    handles = Handles(item.year.path)
    try:
        with handles.reading("its pixels") as dataset, open_on_ground(dataset, ground, nodata) as warped:

            def read(window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
                bounds = to_rasterio_window(window)
                values = warped.read(bands, window=bounds).astype(np.float32)
                if nodata is None:
                    seen = warped.read(warped.count, window=bounds) > 0
                else:
                    seen = (values != nodata).any(axis=0)
                seen &= np.isfinite(values).all(axis=0)
                return np.where(seen, values, 0).mean(axis=0, dtype=np.float32), seen

            yield read
    finally:
        handles.close()


def measure(reference: YearInput, year: YearInput, ground: CommonGround) -> Registration:
    """How far a scene lies from the reference year's."""
    with open_grey(reference, ground) as first, open_grey(year, ground) as second:
        return register(first, second, ground)


def mark_corrected(found: Registration, align: bool) -> Registration:
    """Mark a shift as corrected where years are aligned and this one is certainly off."""
    return replace(found, corrected=align and found.is_off)


def get_shift(found: Registration | None) -> tuple[float, float]:
    """Metres east and north that a year is moved back by."""
    return (found.east_m, found.north_m) if found is not None and found.corrected else (0.0, 0.0)


def describe_shifts(
    labels: Sequence[str], found: Sequence[Registration | None], reference: int, ground: CommonGround
) -> tuple[str, ...]:
    """What a reader ought to know about the places of the years."""
    said = []
    for label, one in zip(labels, found, strict=True):
        if one is None:
            continue
        where = (
            f"{label} lies {one.in_words} of {labels[reference]} "
            f"(median of {one.windows} places, standard error {one.error_m:.1f} m)"
        )
        if one.windows < LEAST_PLACES:
            said.append(
                f"the place of {label} against {labels[reference]} could not be measured: "
                f"{one.windows} of the windows show the same structure"
            )
        elif one.corrected:
            said.append(f"{where} and was moved back by as much")
        elif one.is_off and one.distance_m > ground.pixel_m / 2:
            said.append(f"{where}: changes along outlines are partly that; --align corrects it")
    return tuple(said)
