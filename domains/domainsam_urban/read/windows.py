"""Read windows of the grid that networks look at: pixel for pixel, resampled, or warped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.infer.blend import clip_window, slice_within
from domainsam.io.resample import LEAST_COVER, AxisWeights, compute_axis_weights, resample
from domainsam.protocols import Block, Window
from domainsam_urban.read.bands import Radiometry
from domainsam_urban.read.layout import SceneLayout
from domainsam_urban.read.pixels import RawPixels
from domainsam_urban.read.warp import Warp
from domainsam_urban.read.workgrid import Straight

CHUNK_PIXELS = 1 << 19
"""Source pixels held at a time while resampling."""


@dataclass(frozen=True)
class WindowReader:
    """Blocks of a scene's work grid from an open ``rasterio`` dataset; holds none, so any thread may use it.

    Parameters
    ----------
    layout
        How the work grid lies on the file.
    pixels
        What is taken of the file.
    radiometry
        How its values become 0 to 1.
    """

    layout: SceneLayout
    pixels: RawPixels
    radiometry: Radiometry

    def read(self, dataset: Any, window: Window) -> Block:
        """One block of the work grid; parts outside the scene are invalid."""
        if self.layout.warp is not None:
            return self._read_warped(dataset, window, self.layout.warp)
        straight = self.layout.work.straight
        assert straight is not None
        if straight.whole:
            return self._read_native(dataset, window, straight)
        return self._read_resampled(dataset, window, straight)

    def find_seen(self, dataset: Any, rows: tuple[int, int]) -> NDArray[np.bool_]:
        """Which pixels ``(h, w)`` of some rows of the scene's own grid are wanted and hold data."""
        row, col = self.layout.first
        _, seen, wanted = self._read_file(
            dataset, (rows[0] + row, rows[1] + row), (col, col + self.layout.wanted.shape[1])
        )
        return seen & wanted

    def _read_native(self, dataset: Any, window: Window, straight: Straight) -> Block:
        image = np.zeros((len(self.pixels.bands), window.height, window.width), dtype=np.float32)
        valid = np.zeros((window.height, window.width), dtype=bool)
        seen = np.zeros_like(valid)
        down, across = (int(start) for start in straight.starts)
        view = Window(window.row + down, window.col + across, window.height, window.width)
        length = self.layout.view.shape
        part = clip_window(view, (0, length[0]), (0, length[1]))
        if part.height and part.width:
            rows, cols = (part.row, part.row + part.height), (part.col, part.col + part.width)
            inside = slice_within(part, (view.row, view.col))
            image[:, *inside], seen[inside], wanted = self._scaled(dataset, rows, cols)
            valid[inside] = seen[inside] & wanted
        return Block(window, image, valid, seen=seen)

    def _read_resampled(self, dataset: Any, window: Window, straight: Straight) -> Block:
        """Resample a few output rows at a time, so that a strong reduction does not fill the memory."""
        scale, offset, length = straight.scale, straight.offset, self.layout.view.shape
        row, col = straight.first[0] + window.row, straight.first[1] + window.col
        across = compute_axis_weights(col, window.width, scale[1], length[1], offset[1], spline=True)
        image = np.zeros((len(self.pixels.bands), window.height, window.width), dtype=np.float32)
        valid = np.zeros((window.height, window.width), dtype=bool)
        seen = np.zeros_like(valid)
        step = max(1, int(CHUNK_PIXELS / max(1, across.end - across.first) / max(scale[0], 1.0)))
        for start in range(0, window.height, step):
            count = min(step, window.height - start)
            down = compute_axis_weights(row + start, count, scale[0], length[0], offset[0], spline=True)
            if down.end == down.first or across.end == across.first:
                continue
            part = slice(start, start + count)
            image[:, part], valid[part], seen[part] = self._resampled_part(dataset, down, across)
        return Block(window, image, valid, seen=seen)

    def _resampled_part(
        self, dataset: Any, down: AxisWeights, across: AxisWeights
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        source, seen, wanted = self._scaled(dataset, (down.first, down.end), (across.first, across.end))
        image, shown = resample(source, seen, down.matrix, across.matrix)
        if self.layout.area is None:
            return image, shown, shown
        _, asked = resample(source[:1], seen & wanted, down.matrix, across.matrix)
        return image, asked & shown, shown

    def _read_warped(self, dataset: Any, window: Window, warp: Warp) -> Block:
        count = len(self.pixels.bands)

        def read(rows: tuple[int, int], cols: tuple[int, int]) -> NDArray[np.float32]:
            image, seen, wanted = self._scaled(dataset, rows, cols)
            return np.concatenate([image, seen[None], (seen & wanted)[None]]).astype(np.float32)

        planes = warp.sample(window, read, count + 2, pictures=count)
        cover = planes[count]
        # A hair of tolerance, for weights are rounded to float32.
        seen, wanted = cover >= LEAST_COVER - 1e-6, planes[count + 1] >= LEAST_COVER - 1e-6
        image = np.divide(planes[:count], cover, out=np.zeros_like(planes[:count]), where=seen)
        return Block(window, np.clip(image, 0, 1), wanted & seen, seen=seen)

    def _scaled(
        self, dataset: Any, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        """The picture ``(C, h, w)`` of the view's pixels, where it shows data, and where it is wanted."""
        values, seen, wanted = self._read_view(dataset, rows, cols)
        image = self.radiometry.apply(values)
        image *= seen
        return image, seen, wanted

    def _read_view(
        self, dataset: Any, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
        """Raw values ``(C, h, w)`` of the view's pixels, where they hold data, and where they are wanted."""
        turn, (row, col) = self.layout.turn, self.layout.first_seen
        rows, cols = turn.to_file(rows, cols, self.layout.seen.shape)
        parts = self._read_file(dataset, (rows[0] + row, rows[1] + row), (cols[0] + col, cols[1] + col))
        values, seen, wanted = map(turn.as_view, parts)
        return values, seen, wanted

    def _read_file(
        self, dataset: Any, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
        """As :meth:`_read_view`, of the file's rows and columns and in its order."""
        values, seen = self.pixels.read(dataset, rows, cols)
        area = self.layout.area
        return values, seen, np.ones_like(seen) if area is None else area.inside(rows, cols)
