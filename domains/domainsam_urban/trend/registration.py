"""Where each year lies against the reference year: measured, put in words, and made into shifts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from domainsam.protocols import Window
from domainsam_urban.handles import Handles
from domainsam_urban.trend.align import Picture, register
from domainsam_urban.trend.common import CommonGround
from domainsam_urban.trend.stack import LEAST_PLACES, Registration, read_bounds
from domainsam_urban.trend.survey import YearInput
from domainsam_urban.trend.warp import on_ground


@contextmanager
def picture(item: YearInput, ground: CommonGround) -> Iterator[Picture]:
    """A scene as grey values on the ground, its bands together."""
    nodata = item.nodata
    bands = sorted(set(item.bands))
    handles = Handles(item.year.path)
    try:
        with handles.reading("its pixels") as dataset, on_ground(dataset, ground, nodata) as warped:

            def read(window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
                bounds = read_bounds(window)
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
    with picture(reference, ground) as first, picture(year, ground) as second:
        return register(first, second, ground)


def corrected(found: Registration, align: bool) -> Registration:
    """The same, marked as corrected where years are to be aligned and this one is certainly off."""
    return replace(found, corrected=align and found.is_off)


def shift_of(found: Registration | None) -> tuple[float, float]:
    """Metres east and north that a year is moved back by."""
    return (found.east_m, found.north_m) if found is not None and found.corrected else (0.0, 0.0)


def in_words(
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
