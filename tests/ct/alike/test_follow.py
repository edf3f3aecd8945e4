"""An object is followed slice by slice until it ends, and it is said where and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from domainsam_ct.alike.follow import End, find_next, follow, open_plane

SIDE, DEPTH = 60, 20
SPACING = (4.0, 1.0, 1.0)


def disc(radius: float, row: float = 30, col: float = 30) -> np.ndarray:
    rows, cols = np.ogrid[:SIDE, :SIDE]
    return (rows - row) ** 2 + (cols - col) ** 2 <= radius**2


def run(
    volume: np.ndarray, starts: dict[int, np.ndarray], spacing: tuple[float, float, float] = SPACING
) -> Any:
    """Ends and masks of what is followed where a bool volume says that it looks alike."""
    made: dict[int, np.ndarray] = {}

    def keep(frame: int, mask: np.ndarray) -> None:
        made[frame] = made.get(frame, False) | mask

    ends = follow(lambda frame: volume[frame] * 1.0, starts, len(volume), spacing, keep)
    return ends, made


def cone() -> np.ndarray:
    """A body on slices 4 to 14, thickest at 9."""
    volume = np.zeros((DEPTH, SIDE, SIDE), bool)
    for frame in range(4, 15):
        volume[frame] = disc(14 - 2 * abs(frame - 9))
    return volume


def test_it_goes_both_ways_and_stops_where_the_object_ends() -> None:
    volume = cone()
    (below, above), made = run(volume, {9: volume[9]})
    assert below == End(4, "ends")
    assert above == End(14, "ends")
    assert sorted(made) == list(range(4, 15))
    for frame in range(5, 14):
        assert (made[frame] & volume[frame]).sum() >= 0.9 * volume[frame].sum()
        assert not (made[frame] & ~volume[frame]).any()


def test_an_object_that_leaves_the_scan_is_said_to() -> None:
    volume = np.stack([disc(8)] * 5)
    (below, above), made = run(volume, {2: disc(8)})
    assert (below, above) == (End(0, "edge"), End(4, "edge"))
    assert sorted(made) == [0, 1, 2, 3, 4]


def test_what_looks_alike_elsewhere_is_left_out() -> None:
    volume = np.stack([disc(6, 15, 15) | disc(8, 45, 45)] * 3)
    _, made = run(volume, {1: disc(6, 15, 15)})
    assert not made[0][30:, 30:].any()
    assert made[0][15, 15]


def test_a_flood_into_something_else_stops_it() -> None:
    volume = np.stack([disc(5), disc(5), np.ones((SIDE, SIDE), bool)])
    (_, above), made = run(volume, {0: disc(5)})
    assert above == End(1, "spreads")
    assert 2 not in made


def test_thick_slices_may_step_further_than_thin_ones() -> None:
    moved = np.stack([disc(5, 30, 20), disc(5, 30, 27)])
    (_, thin), _ = run(moved, {0: moved[0]}, (0.5, 1.0, 1.0))
    (_, thick), made = run(moved, {0: moved[0]}, (5.0, 1.0, 1.0))
    assert thick == End(1, "edge")
    assert made[1].sum() > 0.9 * moved[1].sum()
    # 3 mm is all that an outline may move between slices that lie half a millimetre apart.
    assert thin.frame == 1
    reached = find_next(moved[1] * 1.0, moved[0], 0.5, (1.0, 1.0))
    assert np.flatnonzero(reached.any(axis=0)).max() <= 20 + 5 + 3


def test_what_grows_faint_ends() -> None:
    likeness = np.stack([disc(8) * share for share in (0.95, 0.9, 0.8, 0.7, 0.6)])
    _, above = follow(lambda frame: likeness[frame], {0: disc(8)}, 5, SPACING, lambda frame, mask: None)
    # 0.7 is less than 0.8 of 0.95.
    assert above == End(2, "faint")


def test_marks_on_two_slices_meet() -> None:
    volume = cone()
    (below, above), made = run(volume, {6: volume[6], 12: volume[12]})
    assert (below.frame, above.frame) == (4, 14)
    assert sorted(made) == list(range(4, 15))


def test_a_bridge_is_cut_and_a_thin_object_survives() -> None:
    two = disc(8, 30, 15) | disc(8, 30, 45)
    bridged = two.copy()
    bridged[30, 15:46] = True
    opened = open_plane(bridged, disc(8, 30, 15), (1.0, 1.0))
    assert not opened[30, 28:32].any()
    assert opened[30, 15]
    assert open_plane(disc(2), disc(2), (1.0, 1.0))[30, 30]


@pytest.mark.parametrize("plane", [(1.0, 1.0), (0.5, 2.0)])
def test_nothing_alike_is_nothing(plane: tuple[float, float]) -> None:
    assert not find_next(np.zeros((SIDE, SIDE)), disc(5), 3.0, plane).any()
