"""Training slices that were moved and changed: labels stay on their organs, sides stay sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from domainsam.train.losses import IGNORE
from domainsam_ct.train.augmentation import AugmentOptions, draw_slice, swap_sides
from domainsam_ct.train.case import Case, coarsen_case, find_mirror_pairs
from domainsam_ct.train.cuts import Frame, find_body
from tests.ct.organs import LABELS, body

FRAME = Frame(64, 4.0, 1)
STILL = AugmentOptions(
    rotate=0, tilt=0, scale=(1, 1), stretch=0, shift_mm=0, bend_mm=0,
    enhance_share=0, gain=0, offset_hu=0, noise_hu=0, blur_mm=0,
)  # fmt: skip
TWINS = find_mirror_pairs(LABELS)


def test_paired_organs_are_found_by_name() -> None:
    assert TWINS == {1: 2, 2: 1}
    names = ("background", "lung_upper_lobe_left", "lung_upper_lobe_right", "liver", "left_atrium")
    assert find_mirror_pairs(names) == {1: 2, 2: 1}


def test_nothing_to_change_changes_nothing() -> None:
    case, frame = body(), Frame(40, 5.0, 1)
    drawn = draw_slice(case, 3, np.random.default_rng(0), frame, STILL, TWINS)
    assert np.array_equal(drawn.labels, case.labels[3])
    expected = torch.from_numpy(case.slices[2:5].astype(np.float32))
    torch.testing.assert_close(drawn.slices, expected, atol=0.05, rtol=0)


@pytest.mark.parametrize("seed", range(6))
def test_labels_stay_on_their_organs(seed: int) -> None:
    quiet = replace(AugmentOptions(), enhance_share=0, gain=0, offset_hu=0, noise_hu=0, blur_mm=0)
    case = body(depth=30)
    drawn = draw_slice(case, 15, np.random.default_rng(seed), FRAME, quiet, TWINS)
    middle = drawn.slices[1].numpy()
    for value, units in ((1, 180), (2, 180), (3, 90)):
        found = middle[drawn.labels == value]
        assert found.size > 20
        assert abs(np.median(found) - units) < 15


@pytest.mark.parametrize("seed", range(6))
def test_strong_changes_never_exchange_the_sides(seed: int) -> None:
    drawn = draw_slice(body(depth=30), 15, np.random.default_rng(seed), FRAME, AugmentOptions(), TWINS)
    columns = [np.argwhere(drawn.labels == value)[:, 1].mean() for value in (1, 2)]
    assert columns[0] < columns[1]


def test_chance_comes_from_the_generator_alone() -> None:
    one, two, other = (
        draw_slice(body(), 2, np.random.default_rng(seed), FRAME, AugmentOptions(), TWINS)
        for seed in (1, 1, 2)
    )
    assert torch.equal(one.slices, two.slices)
    assert np.array_equal(one.labels, two.labels)
    assert not torch.equal(one.slices, other.slices)


def test_what_lies_above_the_volume_is_unknown() -> None:
    tilted = replace(STILL, tilt=25.0)
    drawn = [
        draw_slice(body(depth=12), 11, np.random.default_rng(seed), FRAME, tilted, TWINS) for seed in range(4)
    ]
    assert any((part.labels == IGNORE).any() for part in drawn)
    beside = draw_slice(body(), 2, np.random.default_rng(0), Frame(64, 5.0), STILL, TWINS)
    assert not beside.labels[:10].any()
    assert beside.slices[0, :10].max() == -1024


def test_structures_enhance_one_by_one() -> None:
    case = body()
    only = replace(STILL, enhance_share=1.0, enhance_hu=60.0)
    plain = draw_slice(case, 3, np.random.default_rng(0), FRAME, STILL, TWINS)
    drawn = draw_slice(case, 3, np.random.default_rng(0), FRAME, only, TWINS)
    change = (drawn.slices - plain.slices)[1].numpy()
    inner = [np.median(change[plain.labels == value]) for value in (1, 2, 3)]
    assert len({round(float(value)) for value in inner}) == 3
    assert np.abs(change[:5]).max() < 1e-3


@pytest.mark.parametrize("seed", range(8))
def test_a_mirrored_slice_names_the_sides_anew(seed: int) -> None:
    options = AugmentOptions("published")
    case = body()
    plain = draw_slice(case, 3, np.random.default_rng(0), FRAME, STILL, TWINS).labels
    mended = draw_slice(case, 3, np.random.default_rng(seed), FRAME, options, TWINS).labels
    paper = draw_slice(case, 3, np.random.default_rng(seed), FRAME, AugmentOptions("paper"), TWINS).labels
    turned = [np.rot90(plain, turn) for turn in range(4)]
    if any(np.array_equal(mended == 3, one == 3) for one in turned):
        assert np.array_equal(mended, paper)
    elif any(np.array_equal(mended == 3, one[:, ::-1] == 3) for one in turned):
        assert np.array_equal(mended, swap_sides(paper, TWINS))
        assert not np.array_equal(mended, paper)


def test_coarse_cases_stay_and_fine_ones_are_reduced() -> None:
    case = body()
    assert coarsen_case(case, 5.0) is case
    assert coarsen_case(case, 0.0) is case
    reduced = coarsen_case(replace(case, spacing_mm=(5.0, 1.0, 1.0)), 2.0)
    assert reduced.spacing_mm == (5.0, 2.0, 2.0)
    assert reduced.slices.shape == (6, 32, 32)
    assert set(np.unique(reduced.labels)) == {0, 1, 2, 3}
    share = [(part == 3).sum() * size for part, size in ((case.labels, 1), (reduced.labels, 4))]
    assert abs(share[0] - share[1]) < 0.15 * share[0]
    assert reduced.slices[:, 0, 0].max() == -1024


def test_stretched_frames_take_the_whole_slice() -> None:
    case: Case = body()
    drawn = draw_slice(case, 0, np.random.default_rng(0), Frame(80, 0.0), STILL, TWINS)
    assert drawn.labels.shape == (80, 80)
    assert np.array_equal(drawn.labels[::2, ::2], case.labels[0])


def move_aside(case: Case) -> Case:
    """The same body 4 pixels higher and 6 to the right in a picture of 60 pixels."""
    slices = np.full((len(case.slices), 60, 60), -1000, np.int16)
    labels = np.zeros(slices.shape, np.uint8)
    slices[:, 6:46, 16:56], labels[:, 6:46, 16:56] = case.slices, case.labels
    return replace(case, slices=slices, labels=labels)


def test_a_low_cut_lies_about_the_body() -> None:
    case = move_aside(body())
    np.testing.assert_allclose(find_body(case, 3), [0, -20, 30], atol=1.0)
    frame = Frame(40, 5.0, 1, 36)
    drawn = draw_slice(case, 3, np.random.default_rng(0), frame, STILL, TWINS)
    assert drawn.slices.shape == (3, 36, 40)
    # Half a pixel of the body's middle may be lost to noise at its edge.
    assert (drawn.labels != body().labels[3][2:38]).mean() < 0.03


def test_a_slice_without_a_body_has_its_middle() -> None:
    nothing = replace(body(), slices=np.full((6, 40, 40), -1000, np.int16))
    np.testing.assert_array_equal(find_body(nothing, 0), [0, 0, 0])


def test_neighbours_come_as_near_as_thin_slices_have_them() -> None:
    rising = np.broadcast_to(np.arange(6, dtype=np.int16)[:, None, None] * 100, (6, 40, 40))
    case = replace(body(), slices=np.ascontiguousarray(rising))
    steps = []
    for seed in range(20):
        drawn = draw_slice(
            case, 3, np.random.default_rng(seed), Frame(32, 5.0, 1), replace(STILL, thin=0.3), TWINS
        )
        below, middle, above = (float(part[16, 16]) for part in drawn.slices)
        assert middle == pytest.approx(300, abs=0.1)
        assert above - middle == pytest.approx(middle - below, abs=0.1)
        steps.append((above - middle) / 100)
    assert 0.3 <= min(steps) < 0.5 < 0.8 < max(steps) <= 1.0
