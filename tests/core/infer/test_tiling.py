"""Where tiles and crops lie."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainsam.infer.tiling import ALIGN, Lattice, LatticeAxis, TileGrid, place_tiles, split_columns

lengths = st.integers(1, 3000)
sides = st.integers(1, 20).map(lambda count: count * ALIGN)


@given(length=lengths, size=sides, overlap=st.integers(0, 600), offset=st.integers(-900, 900))
def test_tiles_cover_an_axis(length: int, size: int, overlap: int, offset: int) -> None:
    overlap = min(overlap, size - ALIGN)
    starts = place_tiles(length, size, overlap, offset)
    assert starts[0] == 0
    assert list(starts) == sorted(set(starts))
    assert all(start % ALIGN == 0 for start in starts)
    # Neighbours share at least the overlap, and the last tile overhangs by less than one patch.
    assert all(later - earlier <= size - overlap for earlier, later in pairwise(starts))
    assert length <= starts[-1] + size < length + ALIGN or starts == (0,)
    assert starts[-1] + size >= length


def test_offset_shifts_inner_tiles_only() -> None:
    plain, shifted = place_tiles(2000, 512, 128), place_tiles(2000, 512, 128, offset=96)
    assert plain[:3] == (0, 384, 768)
    assert shifted[:4] == (0, 288, 672, 1056)
    assert plain[-1] == shifted[-1] == 1504
    assert place_tiles(2000, 512, 128, offset=384) == plain


@given(shape=st.tuples(lengths, lengths), tile=sides.filter(lambda side: side >= 64))
def test_small_scenes_get_small_tiles(shape: tuple[int, int], tile: int) -> None:
    grid = TileGrid.cover(shape, tile, tile // 4)
    for side, length in zip(grid.size, shape, strict=True):
        assert side <= tile
        assert side % ALIGN == 0
        assert side == tile or side - ALIGN < length <= side


def test_windows_are_row_major_and_strips_take_what_they_touch() -> None:
    grid = TileGrid.cover((700, 1500), 512, 128)
    windows = list(grid.windows())
    assert windows == sorted(windows, key=lambda window: (window.row, window.col))
    touching = grid.row_windows(0, (512, 1024))
    assert [window.col for window in touching] == [384, 768, 992]
    assert all(window.col < 1024 and window.col + window.width > 512 for window in touching)


@given(length=lengths, tile=sides.filter(lambda side: side >= 64))
def test_rows_finish_in_order_and_resume_where_they_touch(length: int, tile: int) -> None:
    grid = TileGrid.cover((length, 40), tile, tile // 2)
    ends = [grid.finished(index, length) for index in range(len(grid.rows))]
    assert ends == sorted(ends)
    assert ends[-1] == length
    for index, end in enumerate(ends[:-1]):
        assert all(start >= end for start in grid.rows[index + 1 :])
        first = grid.first_touching(end)
        assert all(start + grid.size[0] <= end for start in grid.rows[:first])


@given(width=st.integers(1, 100_000), strip=st.integers(32, 9000))
def test_strips_partition_the_width(width: int, strip: int) -> None:
    strips = split_columns(width, strip)
    assert strips[0][0] == 0
    assert strips[-1][1] == width
    assert all(end == first for (_, end), (first, _) in pairwise(strips))
    assert all(0 < end - first <= strip + ALIGN for first, end in strips)


@given(length=lengths, field=st.sampled_from([32, 64, 96, 128, 512, 1024]))
def test_every_pixel_has_its_cell_crop(length: int, field: int) -> None:
    axis = LatticeAxis(length, field)
    for pixel in {0, length // 3, length // 2, length - 1}:
        start = axis.start(axis.cell(pixel))
        assert start <= pixel < start + axis.size
        assert start % axis.quarter == 0
    starts = axis.starts()
    assert starts[0] == 0
    assert starts[-1] + axis.size >= length
    assert starts[-1] + axis.size - length < max(axis.quarter, ALIGN)


def test_objects_up_to_half_a_field_fit_into_their_crop() -> None:
    axis = LatticeAxis(10_000, 1024)
    for first in range(0, 9400, 37):
        end = first + 512
        start = axis.start(axis.cell((first + end) / 2))
        assert start <= first
        assert end <= start + axis.size


@pytest.mark.parametrize("shape", [(5000, 3000), (100, 3000), (700, 20)])
def test_lattice_grid_covers_the_scene(shape: tuple[int, int]) -> None:
    seen = np.zeros(shape, dtype=bool)
    for window in Lattice.cover(shape, 512).grid.windows():
        seen[window.slices] = True
    assert seen.all()
