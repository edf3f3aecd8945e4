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

from domainsam.infer.blend import LEVELS, NODATA, clip_window, slice_within
from domainsam.infer.found import FoundObject
from domainsam.infer.objects import EngineResult
from domainsam.infer.store import RawRaster
from domainsam.io.rasters import GDAL_OPTIONS, open_raster, writing_raster
from domainsam.protocols import Block, SceneObject, Window
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.write.outlines import list_windows
from domainsam_urban.write.polygons import PolygonOptions, polygonise
from domainsam_urban.write.provenance import Provenance

BAND_ROWS = 512
PROBABILITY_FILE = "probability.u8"


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
        ``rank``, from 1, follows ``class``.
    """
    write_ranks(Layers(ranked, smaller_first), mask_path, ranks_path)
    name = next(iter(options.labels.values()))
    # Every rank is a class of its own, so that neighbours stay apart.
    own = {rank: str(rank) for rank in range(1, len(ranked) + 1)} or {1: "1"}
    table = polygonise(ranks_path, replace(options, labels=own), provenance=provenance, dropped=dropped)
    rank = table["class"].astype(np.int64).to_numpy()
    scores = np.array([one.score for one in ranked])
    table["class"] = name
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
            seen = mask.read(1, window=place) == 1
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


def stage_ranked(
    source: RasterSource,
    found: Sequence[SceneObject],
    label: str,
    folder: Path,
    told: dict[str, Any],
    seconds: dict[str, float],
    smaller_first: bool = False,
) -> EngineResult:
    """Objects as the engine answers: every pixel has the score of the object that has it, or 0.

    Parameters
    ----------
    found
        Objects with masks, the best first.
    label
        What all of them are.
    folder
        Takes the staged answer.
    smaller_first
        As of :class:`Layers`.

    Raises
    ------
    OutputError
        If the folder cannot be written or the disk is full.
    """
    shape = source.grid.frame_shape
    valid = inside = 0
    path, layers = folder / PROBABILITY_FILE, Layers(found, smaller_first)
    scores = np.array([0.0, *(one.score for one in found)])
    stored = np.rint(np.clip(scores, 1 / LEVELS, 1.0) * LEVELS).astype(np.uint8)
    stored[0] = 0
    with RawRaster.create(path, shape) as raster:
        for row in range(0, shape[0], BAND_ROWS):
            window = Window(row, 0, min(BAND_ROWS, shape[0] - row), shape[1])
            block: Block = source.read(window)
            ranks = layers.paint(window)
            raster.write(window, np.where(block.valid, stored[ranks], np.uint8(NODATA)))
            valid += int(block.valid.sum())
            inside += int(((ranks > 0) & block.valid).sum())
    return EngineResult(
        coarse=path,
        probability=path,
        shape=shape,
        level=1,
        components=(),
        found=len(found),
        pixels=shape[0] * shape[1],
        valid_pixels=valid,
        object_pixels=inside,
        crops=0,
        resumed=False,
        seconds=seconds,
        names=(label,),
        kept=len(found),
        objects=tuple(FoundObject(label, one.score, one.bounds) for one in found),
        told=told,
        ranked=tuple(found),
    )
