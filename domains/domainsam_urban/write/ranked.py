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


def polygonise_ranked(
    ranked: Sequence[SceneObject],
    mask_path: Path,
    ranks_path: Path,
    options: PolygonOptions,
    provenance: Provenance,
    dropped: list[float],
    smaller_first: bool = False,
) -> Any:
    """Polygons of ranked objects, the best first.

    Where objects share pixels, one of them has them; an object in several parts has a row for each.

    Parameters
    ----------
    mask_path
        Their mask; says where the grid lies and what has no data.
    ranks_path
        Takes a raster of ranks.
    dropped
        As of :func:`domainsam_urban.write.polygons.polygonise`.
    smaller_first
        As of :class:`Layers`.

    Returns
    -------
    GeoDataFrame
        As of :func:`domainsam_urban.write.polygons.polygonise`; ``confidence`` is the object's score, and
        ``rank``, from 1, follows ``class``, which is the object's label if it has one.
    """
    write_ranks(Layers(ranked, smaller_first), mask_path, ranks_path)
    usual = next(iter(options.labels.values()))
    # Every rank is a class of its own, so that neighbours stay apart.
    own = {rank: str(rank) for rank in range(1, len(ranked) + 1)} or {1: "1"}
    table = polygonise(ranks_path, replace(options, labels=own), provenance=provenance, dropped=dropped)
    rank = table["class"].astype(np.int64).to_numpy()
    scores = np.array([one.score for one in ranked])
    names = np.array([one.label or usual for one in ranked], dtype=object)
    table["class"] = names[rank - 1] if len(rank) else np.zeros(0, dtype=object)
    table["class"] = table["class"].astype("str")
    table["confidence"] = scores[rank - 1] if len(rank) else np.zeros(0)
    table.insert(list(table.columns).index("class") + 1, "rank", rank)
    # Parts of one object by size, as places of a list that is read from the top.
    sizes = -np.nan_to_num(table["area_m2"].to_numpy())
    table = table.iloc[np.lexsort((sizes, rank))].reset_index(drop=True)
    table["id"] = np.arange(1, len(table) + 1, dtype=np.int64)
    return table


def write_ranks(layers: Layers, mask_path: Path, ranks_path: Path) -> None:
    """A raster of 32 bits on a mask's grid: the rank of the object at every pixel, 0 where none is.

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
            ranks.write(np.where(seen, layers.paint(window), np.int32(0)), 1, window=place)


@contextmanager
def _open_ranks(path: Path, mask: Any) -> Iterator[Any]:
    layout = {"crs": mask.crs, "transform": mask.transform, "height": mask.height, "width": mask.width}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "zlevel": 1}
    with (
        writing_raster(path),
        rasterio.Env(**GDAL_OPTIONS),
        rasterio.open(path, "w", driver="GTiff", count=1, dtype="int32", **layout, **tiles) as dataset,
    ):
        yield dataset


class Layers:
    """Ranked objects as they lie upon one another.

    Parameters
    ----------
    ranked
        Objects with masks, the best first.
    smaller_first
        Where objects share pixels the smallest has them, so that what lies within another is not lost;
        otherwise the best.
    """

    def __init__(self, ranked: Sequence[SceneObject], smaller_first: bool = False) -> None:
        shown = [number for number, one in enumerate(ranked) if one.mask is not None]
        shown.reverse()
        if smaller_first:
            shown.sort(key=lambda number: -int(np.asarray(ranked[number].mask).sum()))
        self._upwards = [(number + 1, ranked[number]) for number in shown]
        places = [one.bounds for _, one in self._upwards]
        edges = [(at.row, at.col, at.row + at.height, at.col + at.width) for at in places]
        self._edges = np.array(edges, np.int64).reshape(-1, 4)

    def paint(self, window: Window) -> NDArray[np.int32]:
        """Rank ``(h, w)``, from 1, of the object at every pixel of a window; 0 where there is none."""
        ranks = np.zeros((window.height, window.width), np.int32)
        rows, cols = (window.row, window.row + window.height), (window.col, window.col + window.width)
        top, left, bottom, right = self._edges.T
        meets = (top < rows[1]) & (bottom > rows[0]) & (left < cols[1]) & (right > cols[0])
        for number in np.flatnonzero(meets):
            rank, one = self._upwards[number]
            assert one.mask is not None
            shared = clip_window(one.bounds, rows, cols)
            part = one.mask[slice_within(shared, (one.bounds.row, one.bounds.col))]
            ranks[slice_within(shared, (window.row, window.col))][part] = rank
        return ranks
