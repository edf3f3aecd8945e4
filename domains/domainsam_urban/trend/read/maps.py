"""Read existing masks or polygons of any tool as stored probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.infer.blend import LEVELS, NODATA, quantise
from domainsam.io.rasters import Handles
from domainsam.protocols import Window
from domainsam_urban.read.layers import PolygonLayer, read_polygons
from domainsam_urban.read.place import Place
from domainsam_urban.trend.ground import CommonGround
from domainsam_urban.trend.stack import STEP, open_for_writing, tile_ground, to_rasterio_window, write_ground

MOST_NAMED = 8
"""Values that a message names before it says 'and more'."""


@dataclass(frozen=True)
class MaskRule:
    """How values of a mask raster become stored probabilities.

    ``classes`` are the values that are settlement; None where the raster holds
    probability, as bytes or as floats. ``nodata`` is the value without data.
    """

    classes: tuple[int, ...] | None
    nodata: float | None

    def stored(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Stored probabilities ``(h, w)``: ``round(254 p)``, 255 without data."""
        known = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
        if self.nodata is not None and not np.isnan(self.nodata):
            known &= values != self.nodata
        if self.classes is not None:
            chosen = np.where(np.isin(values, self.classes), LEVELS, 0)
        elif values.dtype.kind == "f":
            chosen = quantise(np.clip(np.where(known, values, 0), 0, 1).astype(np.float32))
        else:
            chosen = values
        return np.where(known, chosen, NODATA).astype(np.uint8)


def choose_mask_rule(path: str, classes: Sequence[int] | None = None) -> MaskRule:
    """How a raster is to be read, from what it declares and from all of its values.

    Floats are probabilities. Bytes are if the file says so in its band's
    description, as those of ``domainsam urban map`` do. Otherwise the values
    in ``classes`` are settlement, by default 1; a mask of 0 and 255 alone,
    without 255 as nodata, is taken for what it is too.

    Raises
    ------
    InputError
        If the raster holds other values and no class was named.
    """
    handles = Handles(path)
    try:
        with handles.reading("its values") as dataset:
            nodata = dataset.nodata
            kind = np.dtype(dataset.dtypes[0]).kind
            described = "probability" in (dataset.descriptions[0] or "").lower()
            if classes is None and (kind == "f" or described):
                least, most = _range(dataset)
                if kind == "f" and (least < 0 or most > 1):
                    raise InputError(
                        f"{path}: holds values {least:g} to {most:g}, expected probabilities from 0 to 1 or "
                        "a mask of whole numbers; name the settlement's values with --mask-class"
                    )
                return MaskRule(None, nodata)
            found = _distinct(dataset)
    finally:
        handles.close()
    # A mask that declares 0 as nodata means "no settlement": left out, it would leave no ground to compare.
    nodata = None if nodata == 0 else nodata
    found.discard(np.nan if nodata is None else nodata)
    if classes is not None:
        return MaskRule(tuple(classes), nodata)
    if found <= {0, 1}:
        return MaskRule((1,), nodata)
    if found <= {0, 255}:
        return MaskRule((255,), nodata)
    named = ", ".join(f"{value:g}" for value in sorted(found)[:MOST_NAMED])
    more = " and more" if len(found) > MOST_NAMED else ""
    raise InputError(
        f"{path}: holds the values {named}{more}, expected 0 and 1; name those that are settlement with "
        "--mask-class"
    )


def stage_mask(path: str, rule: MaskRule, target: Path) -> None:
    """Write a mask raster as stored probabilities on its own grid.

    Raises
    ------
    InputError
        If it is damaged.
    OutputError
        If ``target`` cannot be written.
    """
    handles = Handles(path)
    try:
        with handles.reading("its header") as dataset:
            place = Place.of(dataset)
        with open_for_writing(target, place) as layer:
            for window in tile_ground(place.shape, STEP):
                bounds = to_rasterio_window(window)
                with handles.reading(f"rows from {window.row}") as dataset:
                    values = dataset.read(1, window=bounds)
                layer.write(rule.stored(values), 1, window=bounds)
    finally:
        handles.close()


def stage_polygons(path: str, target: Path, ground: CommonGround) -> tuple[str, ...]:
    """Burn polygons into the ground; returns notes on what was mended in reading them.

    A pixel is settlement where its centre lies inside a polygon.
    """
    shapes, notes = read_polygons(Path(path))
    name = Path(path).name
    if not len(shapes):
        write_ground(target, ground, lambda window: np.zeros((window.height, window.width), np.uint8))
        return notes
    layer = PolygonLayer(shapes, Place(ground.shape, ground.affine, ground.crs), name, must_touch=False)

    def burnt(window: Window) -> NDArray[np.uint8]:
        return layer.labels(window) * np.uint8(LEVELS)

    write_ground(target, ground, burnt)
    return notes


def find_polygon_place(path: str) -> Place | None:
    """The extent of a polygon file as a grid of one pixel, None where it holds no polygon."""
    shapes, _ = read_polygons(Path(path))
    if not len(shapes):
        return None
    left, bottom, right, top = shapes.total_bounds
    affine = Affine(right - left, 0, left, 0, bottom - top, top)
    return Place((1, 1), affine, shapes.crs)


def _distinct(dataset: Any) -> set[float]:
    """All values of the first band; stops once there are too many for a mask."""
    found: set[float] = set()
    for window in tile_ground((dataset.height, dataset.width), STEP):
        found.update(float(value) for value in np.unique(dataset.read(1, window=to_rasterio_window(window))))
        if len(found) > 256:
            break
    return found


def _range(dataset: Any) -> tuple[float, float]:
    """Least and largest value with data."""
    least, most = np.inf, -np.inf
    for window in tile_ground((dataset.height, dataset.width), STEP):
        values = dataset.read(1, window=to_rasterio_window(window))
        known = values[np.isfinite(values) & (values != dataset.nodata)]
        if known.size:
            least, most = min(least, float(known.min())), max(most, float(known.max()))
    return least, most
