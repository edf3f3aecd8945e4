"""Tile grids: overlapping windows, column strips and the lattice of crops.

Every position is a multiple of :data:`ALIGN` scene pixels, counted from the
scene's first pixel. Encoders cut images into patches of up to 32 pixels, so
two tile grids that differ by a multiple of 32 give a pixel the same patches,
and the answer depends on the tile grid only through context.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from domainsam.protocols import Window

ALIGN = 32
"""Largest stride of the encoders used here, in pixels."""


def round_up(value: int, step: int = ALIGN) -> int:
    """The smallest multiple of ``step`` that is not below ``value``."""
    return -(-value // step) * step


def fit_size(length: int, size: int) -> int:
    """Side of a tile along an axis of ``length`` pixels: ``size``, or less where the scene is shorter."""
    return min(size, round_up(length))


def place_tiles(length: int, size: int, overlap: int, offset: int = 0) -> tuple[int, ...]:
    """First pixels of the tiles that cover an axis, ascending.

    Parameters
    ----------
    length
        Pixels along the axis.
    size
        Side of a tile, a multiple of :data:`ALIGN`.
    overlap
        Least number of pixels shared by neighbours; below ``size``.
    offset
        Shift of the grid in pixels, rounded down to a multiple of :data:`ALIGN`.

    Returns
    -------
    tuple of int
        The first and last tile are pushed inside the scene, so that none lacks
        context for the sake of a regular grid; the last may overhang by less
        than :data:`ALIGN` pixels.
    """
    last = max(0, round_up(length - size))
    stride = max(ALIGN, (size - overlap) // ALIGN * ALIGN)
    shift = -(offset // ALIGN * ALIGN % stride)
    count = -(-(last - shift) // stride) + 1
    return tuple(sorted({min(max(shift + index * stride, 0), last) for index in range(count)}))


@dataclass(frozen=True)
class TileGrid:
    """Overlapping tiles of a scene in row-major order.

    ``rows`` and ``cols`` are the tiles' first pixels, ``size`` their
    ``(height, width)``.
    """

    rows: tuple[int, ...]
    cols: tuple[int, ...]
    size: tuple[int, int]

    @classmethod
    def cover(
        cls, shape: tuple[int, int], tile: int, overlap: int, offset: tuple[int, int] = (0, 0)
    ) -> TileGrid:
        """Tiles of side ``tile`` that cover a scene of ``shape`` (rows, columns)."""
        size = (fit_size(shape[0], tile), fit_size(shape[1], tile))
        rows, cols = (
            place_tiles(length, side, min(overlap, side - ALIGN), shift)
            for length, side, shift in zip(shape, size, offset, strict=True)
        )
        return cls(rows, cols, size)

    def windows(self) -> Iterator[Window]:
        """All tiles, row by row."""
        for row in range(len(self.rows)):
            yield from self.row_windows(row)

    def row_windows(self, index: int, columns: tuple[int, int] | None = None) -> tuple[Window, ...]:
        """Tiles of one row of the grid, only those that meet ``columns`` (first, end) where given."""
        height, width = self.size
        first, end = columns if columns is not None else (self.cols[0], self.cols[-1] + width)
        return tuple(
            Window(self.rows[index], col, height, width)
            for col in self.cols
            if col < end and col + width > first
        )

    def finished(self, index: int, scene_rows: int) -> int:
        """Scene rows that no tile row after ``index`` touches: all rows before the returned one."""
        return self.rows[index + 1] if index + 1 < len(self.rows) else scene_rows

    def first_touching(self, row: int) -> int:
        """Index of the first tile row that reaches scene row ``row`` or below."""
        return next(index for index, start in enumerate(self.rows) if start + self.size[0] > row)


def split_columns(width: int, strip: int) -> tuple[tuple[int, int], ...]:
    """Column ranges ``(first, end)`` of about ``strip`` pixels that partition a scene's width."""
    count = max(1, -(-width // strip))
    step = round_up(-(-width // count))
    return tuple((first, min(first + step, width)) for first in range(0, width, step))


@dataclass(frozen=True)
class LatticeAxis:
    """Crops along one axis, anchored at the scene's first pixel.

    Cells of half a crop partition the axis; the crop of a cell is centred on
    it, then pushed inside the scene. All positions are multiples of a quarter
    of the crop, so a crop is exactly four quarters (fewer in a short scene).
    """

    length: int
    field: int

    @property
    def quarter(self) -> int:
        """Pixels of a quarter of a crop."""
        return self.field // 4

    @property
    def size(self) -> int:
        """Pixels of a crop: the field, or less where the scene is shorter."""
        return fit_size(self.length, self.field)

    @property
    def cells(self) -> int:
        """Number of cells."""
        return -(-self.length // (2 * self.quarter))

    def cell(self, pixel: float) -> int:
        """The cell that holds a pixel coordinate."""
        return min(max(int(pixel // (2 * self.quarter)), 0), self.cells - 1)

    def start(self, cell: int) -> int:
        """First pixel of a cell's crop."""
        last = max(0, round_up(self.length - self.field, self.quarter))
        return min(max((2 * cell - 1) * self.quarter, 0), last)

    def starts(self) -> tuple[int, ...]:
        """First pixels of all different crops, ascending."""
        return tuple(sorted({self.start(cell) for cell in range(self.cells)}))


@dataclass(frozen=True)
class Lattice:
    """The crops in which objects are decoded: fixed to the scene, whatever the tile grid."""

    rows: LatticeAxis
    cols: LatticeAxis

    @classmethod
    def cover(cls, shape: tuple[int, int], field: int) -> Lattice:
        """Crops of side ``field``, a multiple of 4 x :data:`ALIGN` or at least of :data:`ALIGN`."""
        return cls(LatticeAxis(shape[0], field), LatticeAxis(shape[1], field))

    def crop(self, row: int, col: int) -> Window:
        """The crop whose first pixel is ``(row, col)``."""
        return Window(row, col, self.rows.size, self.cols.size)

    @property
    def grid(self) -> TileGrid:
        """The different crops as a tile grid."""
        return TileGrid(self.rows.starts(), self.cols.starts(), (self.rows.size, self.cols.size))
