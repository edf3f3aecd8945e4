"""Change objects: every settlement with its outlines, areas and status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from domainsam.grid import Float64
from domainsam.infer.components import Components
from domainsam_urban.trend.ground import CommonGround
from domainsam_urban.trend.measure.areas import Counts
from domainsam_urban.trend.measure.bounds import Estimate
from domainsam_urban.trend.measure.lineage import (
    Settlement,
    Sizes,
    find_overall_status,
    find_strong_links,
    follow,
)
from domainsam_urban.trend.measure.outlines import YearObjects, count_overlaps, find_objects, outline_objects
from domainsam_urban.trend.measure.sweep import Thresholds
from domainsam_urban.trend.read.zones import Zoning
from domainsam_urban.trend.settings import ObjectOptions
from domainsam_urban.trend.stack import YearStack

STAIRCASE = np.pi / 4
"""Length of a line over that of the pixel edges along it, on average over its directions."""


@dataclass(frozen=True, eq=False)
class ChangeObjects:
    """All settlements of all years.

    Parameters
    ----------
    years
        Settlements of each year, by row.
    settlements
        Settlements through the years; ``settlements[i].id`` is ``i + 1``.
    statuses
        What became of each from the first year to the last.
    counts
        Number of settlements by kind of place, place and year.
    """

    years: tuple[YearObjects, ...]
    settlements: tuple[Settlement, ...]
    statuses: tuple[str, ...]
    counts: Counts

    def owners(self, year: int) -> NDArray[np.int64]:
        """Index into ``settlements`` of every row of a year."""
        owners = np.zeros(len(self.years[year]), dtype=np.int64)
        for index, settlement in enumerate(self.settlements):
            if year in settlement.rows:
                owners[settlement.rows[year]] = index
        return owners


def find_change_objects(
    stack: YearStack,
    zonings: Sequence[Zoning],
    thresholds: Thresholds,
    options: ObjectOptions,
    folder: Path,
) -> ChangeObjects:
    """Find the settlements of every year and follow them.

    The stack is streamed, one or two years at a time; memory follows the
    outlines. ``folder`` takes temporary rasters.
    """
    years: list[YearObjects] = []
    counts: dict[tuple[str, str, str], Estimate] = {}
    for index, year in enumerate(stack.years):
        found = [
            find_objects(stack, index, level, options.min_area)
            for level in (thresholds.central, thresholds.strict, thresholds.lax)
        ]
        numbers = [_numbers(stack.ground, zonings, components) for components in found]
        for key, central in numbers[0].items():
            counts[*key, year.label] = Estimate.spanning(central, *(other[key] for other in numbers[1:]))
        years.append(outline_objects(stack, index, found[0], folder))
    sizes = [_sizes(objects, stack.ground, options) for objects in years]
    links = [_links(stack, years, (year - 1, year), options) for year in range(1, len(years))]
    bridges = [_links(stack, years, (year - 2, year), options) for year in range(2, len(years))]
    settlements = follow(sizes, links, bridges)
    statuses = tuple(find_overall_status(settlement, len(years), sizes) for settlement in settlements)
    return ChangeObjects(tuple(years), tuple(settlements), statuses, counts)


def _links(
    stack: YearStack, years: Sequence[YearObjects], pair: tuple[int, int], options: ObjectOptions
) -> NDArray[np.int64]:
    early, late = years[pair[0]], years[pair[1]]
    shared = count_overlaps(stack, pair, (early, late))
    return find_strong_links(shared, early.area_px, late.area_px, options.overlap)


def _sizes(objects: YearObjects, ground: CommonGround, options: ObjectOptions) -> Sizes:
    """Areas, and the larger of a share of them and a strip along the outline, in pixels."""
    outline = shapely.length(objects.polygons) / ground.pixel_m * STAIRCASE
    tolerance = np.maximum(options.stable * objects.area_px, options.outline_px * outline)
    return Sizes(objects.area_px, tolerance)


def _numbers(
    ground: CommonGround, zonings: Sequence[Zoning], found: Components
) -> dict[tuple[str, str], int]:
    """Settlements by kind of place and place; each counts where the middle of its bounds lies."""
    middles = shapely.points(locate_objects(ground, found))
    numbers: dict[tuple[str, str], int] = {}
    for zoning in zonings:
        inside = find_place(zoning, middles, every=True)
        total = np.bincount(inside, minlength=len(zoning.names))
        numbers |= {(zoning.kind, name): int(n) for name, n in zip(zoning.names, total, strict=True)}
    return numbers


def locate_objects(ground: CommonGround, found: Components) -> Float64:
    """Middles ``(N, 2)`` of the objects' bounding boxes in the ground's CRS."""
    boxes = [item.bounds for item in found.items]
    middles = np.array([(b.col + b.width / 2, b.row + b.height / 2) for b in boxes]).reshape(-1, 2)
    left, top = ground.affine.c, ground.affine.f
    return np.column_stack([left + middles[:, 0] * ground.pixel_m, top - middles[:, 1] * ground.pixel_m])


def find_place(zoning: Zoning, points: NDArray[np.object_], every: bool = False) -> NDArray[np.int64]:
    """Which place points lie in.

    Parameters
    ----------
    every
        Give every hit, also several of one point where places overlap. By
        default one for each point, the first place that holds it, or -1.
    """
    tree = shapely.STRtree(zoning.polygons)
    point, place = tree.query(points, predicate="intersects")
    if every:
        return np.asarray(place, dtype=np.int64)
    first = np.full(len(points), -1, dtype=np.int64)
    order = np.lexsort((place, point))
    hit, at = np.unique(point[order], return_index=True)
    first[hit] = place[order][at]
    return first
