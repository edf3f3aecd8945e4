"""Polygons of objects that are kept apart, ranked, each with its score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from domainsam.infer.blend import NODATA, clip_window, slice_within
from domainsam.io.rasters import GDAL_OPTIONS, open_raster, writing_raster
from domainsam.protocols import SceneObject, Window
from domainsam_urban.write.outlines import list_windows
from domainsam_urban.write.polygons import PolygonOptions, polygonise
from domainsam_urban.write.provenance import Provenance

MOST = 65_535
"""Ranks are stored in 16 bits."""


def polygonise_ranked(
    ranked: Sequence[SceneObject],
    mask_path: Path,
    ranks_path: Path,
    options: PolygonOptions,
    provenance: Provenance,
    dropped: list[float],
) -> Any:
    """Polygons of ranked objects, the best first.

    Where objects share pixels, the better one has them; an object in several parts has a row for each.

    Parameters
    ----------
    mask_path
        Their mask; says where the grid lies and what has no data.
    ranks_path
        Takes a raster of ranks.
    dropped
        As of :func:`domainsam_urban.write.polygons.polygonise`.

    Returns
    -------
    GeoDataFrame
        As of :func:`domainsam_urban.write.polygons.polygonise`; ``confidence`` is the object's score, and
        ``rank``, from 1, follows ``class``, which is the object's label if it has one.
    """
    kept = ranked[:MOST]
    write_ranks(kept, mask_path, ranks_path)
    usual = next(iter(options.labels.values()))
    # Every rank is a class of its own, so that neighbours stay apart.
    own = {rank: str(rank) for rank in range(1, len(kept) + 1)} or {1: "1"}
    table = polygonise(ranks_path, replace(options, labels=own), provenance=provenance, dropped=dropped)
    rank = table["class"].astype(np.int64).to_numpy()
    scores = np.array([one.score for one in kept])
    names = np.array([one.label or usual for one in kept], dtype=object)
    table["class"] = names[rank - 1] if len(rank) else np.zeros(0, dtype=object)
    table["class"] = table["class"].astype("str")
    table["confidence"] = scores[rank - 1] if len(rank) else np.zeros(0)
    table.insert(list(table.columns).index("class") + 1, "rank", rank)
    # Parts of one object by size, as places of a list that is read from the top.
    sizes = -np.nan_to_num(table["area_m2"].to_numpy())
    table = table.iloc[np.lexsort((sizes, rank))].reset_index(drop=True)
    table["id"] = np.arange(1, len(table) + 1, dtype=np.int64)
    return table


def write_ranks(ranked: Sequence[SceneObject], mask_path: Path, ranks_path: Path) -> None:
    """A raster of 16 bits on a mask's grid: the rank of the best object at every pixel, 0 where none is.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with open_raster(mask_path) as mask, _open_ranks(ranks_path, mask) as ranks:
        for place in list_windows(mask.shape):
            col, row, width, height = (int(part) for part in place.flatten())
            window = Window(row, col, height, width)
            inside = mask.read(1, window=place)
            seen = (inside > 0) & (inside != NODATA)
            ranks.write(np.where(seen, paint_ranks(ranked, window), 0).astype(np.uint16), 1, window=place)


@contextmanager
def _open_ranks(path: Path, mask: Any) -> Iterator[Any]:
    layout = {"crs": mask.crs, "transform": mask.transform, "height": mask.height, "width": mask.width}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "zlevel": 1}
    with (
        writing_raster(path),
        rasterio.Env(**GDAL_OPTIONS),
        rasterio.open(path, "w", driver="GTiff", count=1, dtype="uint16", **layout, **tiles) as dataset,
    ):
        yield dataset


def paint_ranks(ranked: Sequence[SceneObject], window: Window) -> NDArray[np.uint16]:
    """Rank ``(h, w)``, from 1, of the best object at every pixel of a window; 0 where there is none."""
    ranks = np.zeros((window.height, window.width), np.uint16)
    for rank, one in reversed(list(enumerate(ranked, start=1))):
        shared = clip_window(
            one.bounds, (window.row, window.row + window.height), (window.col, window.col + window.width)
        )
        if one.mask is None or not shared.height or not shared.width:
            continue
        part = one.mask[slice_within(shared, (one.bounds.row, one.bounds.col))]
        ranks[slice_within(shared, (window.row, window.col))][part] = rank
    return ranks
