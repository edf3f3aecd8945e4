"""A stack of rasters through a model, tile by tile, blended without seams and resumable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import ConfigError
from domainsam.infer.blend import Band, hann_window
from domainsam.infer.journal import JOURNAL_FILE, Journal
from domainsam.infer.store import RawRaster
from domainsam.infer.tiling import ALIGN, TileGrid, axis_starts, column_strips
from domainsam.progress import Progress, silent
from domainsam.protocols import Window
from domainsam_scene.model.predict import NODATA, SCALE, ScenePrediction
from domainsam_scene.model.scene import SceneModel
from domainsam_scene.read.rasters import SceneSource

BAND_BYTES = 512 * 2**20
"""Memory that the band of unfinished rows may take; wider maps are done in column strips."""


@dataclass(frozen=True)
class TileOptions:
    """Side and overlap of tiles in pixels of the map, and whether to go on with an earlier run.

    ``offset`` (rows, columns) moves the tiles; it changes the answer only by what lies around each tile.
    """

    tile: int
    overlap: int
    keep_probability: bool = False
    resume: bool = False
    offset: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.tile < ALIGN or self.tile % ALIGN:
            raise ConfigError(f"--tile {self.tile} must be a multiple of {ALIGN}, and {ALIGN} or more")
        if not 0 <= self.overlap < self.tile:
            raise ConfigError(f"--overlap {self.overlap} must lie between 0 and {self.tile - 1} (the tile)")


@dataclass(frozen=True)
class StackAnswer:
    """Staged results: files of bytes in ``folder``, each of ``shape``, in the order of ``names``."""

    folder: Path
    shape: tuple[int, int]
    names: tuple[str, ...]
    resumed: bool

    def open(self, name: str) -> RawRaster:
        """``labels``, ``confidence``, ``contribution/SENSOR`` or ``probability/NUMBER``."""
        return RawRaster.open(self.folder / _file_name(name), self.shape)

    def some(self, kind: str) -> tuple[str, ...]:
        """Names of all results of a kind."""
        return tuple(name for name in self.names if name.split("/")[0] == kind)


def segment_stack(
    source: SceneSource,
    model: SceneModel,
    folder: Path,
    options: TileOptions,
    progress: Progress | None = None,
) -> StackAnswer:
    """Segment a stack into staged files.

    Class probabilities and contributions of overlapping tiles are averaged
    with Hann weights in a band of rows that slides down the map, so memory
    follows the tile and not the map. Finished rows are journalled.

    Raises
    ------
    InputError
        If a raster turns out to be damaged, or a journal is of another run.
    OutputError
        If the disk is full.
    """
    run = _Run(source, model, folder, options)
    try:
        run.go(progress or silent)
    finally:
        run.close()
    return StackAnswer(folder, source.map_grid.shape, tuple(run.staged), run.journal.resumed)


class _Run:
    def __init__(self, source: SceneSource, model: SceneModel, folder: Path, options: TileOptions) -> None:
        self.source, self.model, self.options = source, model, options
        self.shape = source.map_grid.shape
        self.sensors = tuple(source.sensors)
        self.classes = len(model.labels)
        fingerprint = {
            **source.fingerprint,
            "model": model.name,
            "labels": list(model.labels),
            "tile": options.tile,
            "overlap": options.overlap,
            "offset": list(options.offset),
            "probability": options.keep_probability,
        }
        self.journal = Journal(folder / JOURNAL_FILE, fingerprint, options.resume)
        names = ["labels", "confidence", *(f"contribution/{name}" for name in self.sensors)]
        if options.keep_probability:
            names += [f"probability/{index}" for index in range(self.classes)]
        self.staged: dict[str, RawRaster] = {}
        for name in names:
            path = folder / _file_name(name)
            make = RawRaster.open if self.journal.resumed and path.exists() else RawRaster.create
            self.staged[name] = make(path, self.shape)

    def go(self, progress: Progress) -> None:
        tile, planes = self.options.tile, self.classes + len(self.sensors) + 1
        width = max(tile, BAND_BYTES // (4 * planes * tile))
        done = {tuple(record["strip"]): int(record["rows"]) for record in self.journal.records}
        total = self.shape[0] * self.shape[1]
        finished = 0
        for strip in column_strips(self.shape[1], width):
            start = done.get(strip, 0)
            finished += start * (strip[1] - strip[0])
            for end in self._strip(strip, start):
                finished += (end - start) * (strip[1] - strip[0])
                start = end
                progress("segment", finished, total)

    def _strip(self, strip: tuple[int, int], start: int) -> Iterator[int]:
        """Do a strip of columns from row ``start``; yields the rows that are done."""
        if start >= self.shape[0]:
            return
        grid = tile_grid(self.shape, self.options)
        band = Band(self.classes + len(self.sensors) + 1, self.options.tile, strip, start)
        for index in range(grid.first_touching(start), len(grid.rows)):
            for window in grid.row_windows(index, strip):
                self._add(band, window)
            end = min(grid.finished(index, self.shape[0]), self.shape[0])
            if end > band.top:
                top = band.top
                self._store(band.finish(end), Window(top, strip[0], end - top, strip[1] - strip[0]))
                for staged in self.staged.values():
                    staged.sync()
                self.journal.append({"strip": list(strip), "rows": end})
                yield end

    def _add(self, band: Band, window: Window) -> None:
        planes = self.source.read_sensors(window)
        seen = {name: plane for name, plane in planes.items() if plane.valid.any()}
        if not seen:
            return
        answer = self.model.predict(
            {name: plane.image for name, plane in seen.items()},
            {name: plane.valid for name, plane in seen.items()},
        )
        sums, part = band.view(window)
        weight = (hann_window(window.height, window.width) * (answer.labels != NODATA))[part]
        sums[: self.classes] += weight * answer.probability[:, *part].astype(np.float32)
        for place, share in enumerate(_shares(answer, self.sensors)):
            if share is not None:
                sums[self.classes + place] += weight * share[part]
        sums[-1] += weight

    def _store(self, sums: NDArray[np.float32], window: Window) -> None:
        weight = sums[-1]
        seen = weight > 0
        mean = np.divide(sums[:-1], weight, out=np.zeros_like(sums[:-1]), where=seen)
        probability = mean[: self.classes]
        labels = np.where(seen, probability.argmax(axis=0), NODATA).astype(np.uint8)
        self.staged["labels"].write(window, labels)
        self.staged["confidence"].write(window, _stored(probability.max(axis=0), seen))
        for place, name in enumerate(self.sensors):
            self.staged[f"contribution/{name}"].write(window, _stored(mean[self.classes + place], seen))
        if self.options.keep_probability:
            for index in range(self.classes):
                self.staged[f"probability/{index}"].write(window, _stored(probability[index], seen))

    def close(self) -> None:
        self.journal.close()
        for staged in self.staged.values():
            staged.close()


def tile_grid(shape: tuple[int, int], options: TileOptions) -> TileGrid:
    """Tiles of one size everywhere, so that the network sees one scale; a small map is overhung."""
    tile = options.tile
    rows, cols = (
        axis_starts(length, tile, min(options.overlap, tile - ALIGN), offset)
        for length, offset in zip(shape, options.offset, strict=True)
    )
    return TileGrid(rows, cols, (tile, tile))


def _shares(answer: ScenePrediction, sensors: tuple[str, ...]) -> list[NDArray[np.float32] | None]:
    """Contributions 0 to 1 in the order of ``sensors``, None for those that saw nothing of the tile."""
    parts: Mapping[str, Any] = answer.contribution
    return [parts[name].astype(np.float32) / np.float32(SCALE) if name in parts else None for name in sensors]


def _stored(share: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    levels = np.rint(np.clip(share, 0, 1) * SCALE).astype(np.uint8)
    return np.where(seen, levels, np.uint8(NODATA))


def _file_name(name: str) -> str:
    return f"{name.replace('/', '-')}.u8"
