"""One ground, and scenes that were cut from it: their polygons and items as a run writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from scipy import ndimage

from domainsam_urban.job import ScenePlan
from domainsam_urban.write.polygons import PolygonOptions, polygonise
from domainsam_urban.write.provenance import Provenance
from domainsam_urban.write.stac import make_item
from domainsam_urban.write.vectors import write_vectors

UTM = "EPSG:32650"
PIXEL = 0.9
CORNER = (443_200.0, 4_412_300.0)
Part = tuple[slice, slice]
MIDDLE, SIDE = 110, 220


def draw_ground(seed: int = 3, side: int = SIDE) -> np.ndarray:
    """Objects of all sizes with holes among them, as a mask of ``side`` rows and columns."""
    noise = np.random.default_rng(seed).normal(size=(side, side))
    smooth = ndimage.gaussian_filter(noise, 4)
    return (smooth > 1.1 * smooth.std()).astype(np.uint8)


def cut_in_four(overlap: int) -> list[Part]:
    """Four parts that share ``overlap`` rows and columns."""
    low, high = slice(0, MIDDLE + overlap // 2), slice(MIDDLE - overlap // 2, SIDE)
    return [(rows, cols) for rows in (low, high) for cols in (low, high)]


def write_part(
    folder: Path,
    name: str,
    ground: np.ndarray,
    part: Part,
    *,
    crs: str = UTM,
    spoil: Callable[[np.ndarray], np.ndarray] | None = None,
    seen: Any = None,
) -> ScenePlan:
    """A scene of a part of the ground; ``spoil`` changes what was found, ``seen`` outlines its data."""
    rows, cols = part
    mask = ground[part] if spoil is None else spoil(ground[part].copy())
    place = Affine.translation(CORNER[0] + PIXEL * cols.start, CORNER[1] - PIXEL * rows.start)
    path = folder / f"{name}_mask.tif"
    profile = {"dtype": "uint8", "count": 1, "nodata": 255, "crs": UTM}
    profile |= {
        "height": mask.shape[0],
        "width": mask.shape[1],
        "transform": place @ Affine.scale(PIXEL, -PIXEL),
    }
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(mask, 1)
    table = polygonise(path, PolygonOptions(), provenance=Provenance(f"{name}.tif"))
    table["confidence"] = 0.5
    plan = ScenePlan(f"{name}.tif", (folder / f"{name}.gpkg",), stac=folder / f"{name}.stac.json")
    assert plan.stac is not None
    write_vectors(plan.vectors, table.to_crs(crs))
    item = make_item(plan.stac, path, (), scene=plan.source, provenance=Provenance(plan.source))
    document = item.to_dict(include_self_link=False, transform_hrefs=False)
    document["properties"]["proj:code"] = crs
    if seen is not None:
        degrees = gpd.GeoSeries([seen], crs=UTM).to_crs("EPSG:4326").iloc[0]
        document["geometry"] = json.loads(shapely.to_geojson(degrees))
    plan.stac.write_text(json.dumps(document))
    return plan


def compare(one: Sequence[Any], other: Sequence[Any]) -> float:
    """IoU of two sets of polygons."""
    a, b = shapely.union_all(list(one)), shapely.union_all(list(other))
    return float(shapely.intersection(a, b).area / shapely.union(a, b).area)
