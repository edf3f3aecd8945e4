"""Follow outlines through the years: the job of ``domainsam urban follow``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
from numpy.typing import NDArray
from scipy import ndimage

from domainsam.errors import ConfigError, MissingInputError, OutputError
from domainsam.infer.blend import NODATA
from domainsam.infer.components import EIGHT
from domainsam.infer.workroom import WorkRoom, count_units
from domainsam.io.marks import read_marks
from domainsam.io.rasters import GDAL_OPTIONS
from domainsam.protocols import SceneObject, Window
from domainsam.staging import Staging
from domainsam.versions import content_digest
from domainsam_urban.model.settlement import load_model
from domainsam_urban.trend.ground import HECTARE
from domainsam_urban.trend.read.years import Year, read_years
from domainsam_urban.trend.settings import TrendOptions
from domainsam_urban.trend.stack import YearStack, to_rasterio_window
from domainsam_urban.trend.trend import (
    Compared,
    check_folder,
    clear_half_made,
    compare,
    find_work_room,
    make_ground_grid,
    write_layers,
)
from domainsam_urban.trend.write.products import TrendProducts, list_product_files, write_products

log = logging.getLogger(__name__)

TABLE = "followed.csv"
STABLE = 0.1
"""An area that differs by a smaller share has not changed; as of settlements in ``urban trend``."""


@dataclass(frozen=True)
class Followed:
    """One outline in one year, areas in square metres of ground that all years saw.

    ``found`` is what of the object lies on the outline and reaches from it, ``shared`` the part of it
    inside the outline.
    """

    outline: str
    year: str
    prompted_m2: float
    found_m2: float
    shared_m2: float
    status: str

    def row(self) -> dict[str, Any]:
        """The line of the table."""
        union = self.prompted_m2 + self.found_m2 - self.shared_m2
        return {
            "outline": self.outline,
            "year": self.year,
            "prompted_m2": round(self.prompted_m2, 1),
            "found_m2": round(self.found_m2, 1),
            "shared_m2": round(self.shared_m2, 1),
            "iou": round(self.shared_m2 / union, 4) if union > 0 else None,
            "status": self.status,
        }


@dataclass(frozen=True)
class FollowProducts:
    """The products of ``urban trend``, and every outline in every year."""

    trend: TrendProducts
    followed: tuple[Followed, ...]
    files: tuple[Path, ...]


def run_follow(inputs: Sequence[str], options: TrendOptions) -> Compared[FollowProducts]:
    """Follow outlines through the years and write every product into a folder, or none.

    Parameters
    ----------
    inputs
        Scenes, as :func:`domainsam_urban.trend.read.years.read_years` takes them.
    options
        Its ``follow`` names the outlines.

    Raises
    ------
    ConfigError
        If no outlines are named, or their year is none of the years.
    MissingInputError, InputError
        If scenes or outlines cannot be read, the years share no ground, or an outline lies outside of it.
    OutputError
        If outputs cannot be written.
    """
    follow = options.follow
    if follow is None:
        raise ConfigError("nothing says what to follow: name outlines, such as --from villages.gpkg")
    if not follow.outlines.is_file():
        raise MissingInputError(f"{follow.outlines}: no such file; check the path")
    options = replace(options, follow=replace(follow, version=content_digest([follow.outlines])))
    work = find_work_room(options.out)
    if options.resume and count_units(work):
        # A run that was killed while its products were put in place left some of them there.
        options = replace(options, overwrite=True)
    check_folder(options)
    table = options.out / TABLE
    if table.exists() and not options.overwrite:
        raise OutputError(f"output '{table}' exists: choose another folder, or allow it with --overwrite")
    products = replace(options.products, model="outlines followed", overwrite=options.overwrite)

    def finish(stack: YearStack, _: WorkRoom) -> FollowProducts:
        clear_half_made(options)
        written = write_products(stack, products, options.out)
        layers = write_layers(stack, options) if options.layers else ()
        followed = measure_followed(stack, options)
        with Staging((table,), overwrite=options.overwrite) as staging:
            rows = pd.DataFrame([one.row() for one in followed])
            staging.write_text(table, rows.to_csv(index=False))
        return FollowProducts(written, followed, (table, *written.files, *layers))

    years = read_years(inputs, False, options.asset)
    return compare(years, options, work, finish, load_model)


def find_finished(options: TrendOptions) -> tuple[Path, ...]:
    """Every product, where the run to go on with is finished; none where anything is left to do."""
    files = (options.out / TABLE, *list_product_files(options.out, options.products.zones))
    done = options.resume and not count_units(find_work_room(options.out))
    return files if done and all(path.is_file() for path in files) else ()


def measure_followed(stack: YearStack, options: TrendOptions) -> tuple[Followed, ...]:
    """What was prompted and what was found of every outline in every year."""
    assert options.follow is not None
    outlines = read_marks(options.follow.outlines, make_ground_grid(stack.ground))
    pixel = stack.ground.pixel_ha * HECTARE
    start = options.follow.find_start(stack.labels)
    found = []
    with ExitStack() as opened:
        opened.enter_context(rasterio.Env(**GDAL_OPTIONS))
        valid = opened.enter_context(rasterio.open(stack.common_valid))
        layers = [opened.enter_context(rasterio.open(year.probability)) for year in stack.years]
        for number, one in enumerate(outlines, start=1):
            name = one.label or str(number)
            window = widen(one, valid.shape)
            seen = valid.read(1, window=to_rasterio_window(window)) == 1
            outline = draw(one, window) & seen
            areas = [measure_one(layer, window, seen, outline, stack.threshold) for layer in layers]
            base = areas[start][1]
            for label, counts in zip(stack.labels, areas, strict=True):
                prompted, reached, shared = (count * pixel for count in counts)
                status = tell_status(base, counts[1])
                found.append(Followed(name, label, prompted, reached, shared, status))
    return tuple(found)


def measure_one(
    layer: Any, window: Window, seen: NDArray[np.bool_], outline: NDArray[np.bool_], threshold: int
) -> tuple[int, int, int]:
    """Pixels of the ground that an outline covers, that were found of it, and that are both.

    ``seen`` and ``outline`` ``(h, w)`` are of the window: what is compared, and what of it was drawn.
    """
    stored = layer.read(1, window=to_rasterio_window(window))
    inside = (stored >= threshold) & (stored != NODATA) & seen
    own = ndimage.binary_propagation(outline & inside, EIGHT, mask=inside)
    return int(outline.sum()), int(own.sum()), int((own & outline).sum())


def widen(one: SceneObject, shape: tuple[int, int]) -> Window:
    """The window around an outline that holds all it may have grown to by its own size."""
    bounds = one.bounds
    by = max(bounds.height, bounds.width)
    top, left = max(0, bounds.row - by), max(0, bounds.col - by)
    bottom = min(shape[0], bounds.row + bounds.height + by)
    right = min(shape[1], bounds.col + bounds.width + by)
    return Window(top, left, bottom - top, right - left)


def draw(one: SceneObject, window: Window) -> NDArray[np.bool_]:
    """An outline's pixels ``(h, w)`` of a window that holds it; of one without a mask, its box."""
    drawn = np.zeros((window.height, window.width), bool)
    bounds = one.bounds
    mask = np.ones((bounds.height, bounds.width), bool) if one.mask is None else one.mask
    top, left = bounds.row - window.row, bounds.col - window.col
    drawn[top : top + bounds.height, left : left + bounds.width] = mask
    return drawn


def tell_status(base: float, area: float) -> str:
    """What became of an object since the year that it was drawn in, as ``urban trend`` calls it."""
    if base <= 0:
        return "not found" if area <= 0 else "new"
    if area <= 0:
        return "vanished"
    if abs(area - base) <= STABLE * base:
        return "stable"
    return "grown" if area > base else "shrunk"


def list_years(years: Sequence[Year]) -> list[dict[str, Any]]:
    """Years as values that JSON can hold."""
    return [
        {
            "label": year.label,
            "datetime": None if year.moment is None else year.moment.isoformat(),
            "source": year.path,
        }
        for year in years
    ]
