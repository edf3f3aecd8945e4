"""An object is known again by how it looked and lay, where a decoder's logits alone leak."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from domainsam.errors import ConfigError
from domainsam.prompter.carried import learn_carried
from domainsam.prompter.dense import describe_cells
from domainsam.prompter.frozen import freeze, thaw
from domainsam.prompter.likeness import (
    Likeness,
    fit_motion,
    learn_likeness,
    measure_depth,
    move_map,
    share_cells,
)
from domainsam.prompter.track import KINDS, TrackOptions
from domainsam.protocols import Features, Window

WINDOW = Window(0, 0, 64, 96)
SEEN = np.ones(4, bool)


def show(col: int) -> tuple[Features, np.ndarray]:
    """A red square of 24 pixels on blue, left edge at ``col``; features that say nothing."""
    picture = np.zeros((3, 64, 96), np.float32)
    picture[2] = 0.8
    picture[:, 20:44, col : col + 24] = np.array([0.9, 0.1, 0.1], np.float32)[:, None, None]
    return Features(torch.ones(1, 4, 4, 6), (torch.ones(1, 2, 16, 24),), (64, 96)), picture


def square(col: int) -> np.ndarray:
    mask = np.zeros((64, 96), bool)
    mask[20:44, col : col + 24] = True
    return mask


def corners(col: int) -> np.ndarray:
    return np.array([[col + 4.0, 24], [col + 20, 24], [col + 4, 40], [col + 20, 40]])


@pytest.fixture
def likeness() -> Likeness:
    found = learn_likeness(square(16), *show(16), WINDOW, corners(16))
    assert found is not None
    return found


def test_a_leak_is_cut_back_to_the_object(likeness: Likeness) -> None:
    """The decoder says that all of the picture is the object; it has moved by 32 pixels."""
    logits = np.full((16, 24), 6.0, np.float32)
    told = likeness.judge(logits, *show(48), WINDOW, corners(48), SEEN) > 0
    assert np.array_equal(told, square(48)[::4, ::4])


def test_what_a_decoder_misses_is_brought_back(likeness: Likeness) -> None:
    logits = np.full((16, 24), -6.0, np.float32)
    told = likeness.judge(logits, *show(16), WINDOW, corners(16), SEEN) > 0
    assert np.array_equal(told, square(16)[::4, ::4])


def test_an_object_that_covers_all_has_no_likeness() -> None:
    assert learn_likeness(np.ones((64, 96), bool), *show(16), WINDOW, corners(16)) is None


def test_motion_is_a_turn_a_scale_and_a_shift_despite_a_stray_point() -> None:
    before = np.array([[0.0, 0], [200, 0], [0, 200], [200, 200], [100, 40], [60, 180]])
    turn = 1.2 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    now = before @ turn.T + (30, -12)
    now[5] += 90
    found, shift = fit_motion(before, now)
    # Drawn a little towards no turn: 200 square pixels beside 10,000 and more.
    assert found == pytest.approx(turn, abs=0.02)
    assert found @ (100, 100) + shift == pytest.approx(turn @ (100, 100) + (30, -12), abs=2.5)
    alone, shift = fit_motion(before[:2], before[:2] + np.array([7, 9]))
    assert np.array_equal(alone, np.eye(2))
    assert shift == pytest.approx((7, 9))
    assert np.array_equal(fit_motion(before[:0], before[:0])[1], (0, 0))


def test_a_map_moves_between_windows() -> None:
    depth = measure_depth(square(16)[::4, ::4].astype(np.float32))
    assert depth[7, 6] == 3
    assert depth[0, 0] < -5
    other = replace(WINDOW, row=8, col=16)
    moved = move_map(depth, WINDOW, np.eye(2), np.array([8.0, 4.0]), other, (16, 24))
    # A cell of the new window lies (16 - 8, 8 - 4) pixels, that is (2, 1) cells, further in the old one.
    assert moved[:15, :22] == pytest.approx(depth[1:, 2:])
    assert moved[15, 0] == depth.min()


def test_it_is_the_same_from_disk(likeness: Likeness) -> None:
    back = thaw(freeze(likeness, KINDS), KINDS)
    logits = np.zeros((16, 24), np.float32)
    one, other = (each.judge(logits, *show(30), WINDOW, corners(30), SEEN) for each in (likeness, back))
    assert np.array_equal(one, other)


def paint(mask: np.ndarray) -> np.ndarray:
    """Features ``(C, h/4, w/4)`` of red on blue."""
    picture = np.where(mask, np.array([[[0.9]], [[0.1]], [[0.1]]]), np.array([[[0.0]], [[0.0]], [[0.8]]]))
    return describe_cells(show(16)[0], picture.astype(np.float32))


def test_labels_are_carried_to_what_moved_and_bent() -> None:
    """Half of a red square goes up and half goes down: no outline moves so, but each cell knows itself."""
    before, truth = np.zeros((64, 96), bool), np.zeros((64, 96), bool)
    before[16:48, 16:48] = truth[8:40, 16:32] = truth[24:56, 32:48] = True
    carried = learn_carried(paint(before), share_cells(before, WINDOW), WINDOW)
    places = carried.describe(paint(truth))
    own = share_cells(truth, WINDOW) > 0.5
    assert np.array_equal(carried.carry(places, WINDOW) > 0.5, own)
    carried.keep(places, own, WINDOW)
    assert len(carried.last) == 1
    assert np.array_equal(carried.last[0].share > 0, own.reshape(8, 2, 12, 2).any(axis=(1, 3)))
    for _ in range(4):
        carried.keep(places, own, WINDOW)
    assert len(carried.last) == 3


def test_what_bends_is_found_where_its_parts_went_and_goes_on_from_disk() -> None:
    features, before = show(16)
    stiff, bending = (
        learn_likeness(square(16), features, before, WINDOW, corners(16), bends) for bends in (False, True)
    )
    assert stiff is not None
    assert bending is not None
    truth = np.zeros((64, 96), bool)
    truth[20:44, 16:28] = truth[44:56, 16:52] = True
    after = np.where(truth, np.array([[[0.9]], [[0.1]], [[0.1]]]), np.array([[[0]], [[0]], [[0.8]]]))
    given = (np.zeros((16, 24), np.float32), features, after.astype(np.float32), WINDOW, corners(16), SEEN)
    told = bending.judge(*given) > 0
    assert (told & truth[::4, ::4]).sum() / (told | truth[::4, ::4]).sum() > 0.8
    assert stiff.carried is None
    assert bending.carried is not None
    assert len(bending.carried.last) == 1
    hidden = np.zeros((3, 64, 96), np.float32)
    hidden[2] = 0.8
    assert not (bending.judge(given[0] - 8, features, hidden, *given[3:]) > 0).any()
    assert len(bending.carried.last) == 1, "a picture without it is not remembered"
    back = thaw(freeze(bending, KINDS), KINDS)
    assert np.array_equal(back.judge(*given), bending.judge(*given))


def test_labels_are_carried_between_windows_of_one_frame() -> None:
    """The window has moved by 32 pixels to the right, the square by none."""
    before, seen = np.zeros((64, 96), bool), np.zeros((64, 96), bool)
    before[16:48, 40:72] = seen[16:48, 8:40] = True
    carried = learn_carried(paint(before), share_cells(before, WINDOW), WINDOW)
    places = carried.describe(paint(seen))
    found = carried.carry(places, replace(WINDOW, col=32)) > 0.5
    assert np.array_equal(found, share_cells(seen, WINDOW) > 0.5)
    far = carried.carry(places, replace(WINDOW, col=3200))
    assert not far.any(), "nothing within reach, nothing known"


def test_what_bends_needs_likeness() -> None:
    with pytest.raises(ConfigError, match="leave one of the two out"):
        TrackOptions(bends=True, likeness=False)
