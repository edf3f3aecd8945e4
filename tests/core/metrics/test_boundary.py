from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from domainsam.metrics.boundary import compute_boundary_f, compute_tolerance, count_boundary, find_outline

masks = arrays(bool, (9, 12))


def slow_outline(mask: np.ndarray) -> np.ndarray:
    rows, cols = mask.shape
    line = np.zeros_like(mask)
    for row in range(rows):
        for col in range(cols):
            below, right = min(row + 1, rows - 1), min(col + 1, cols - 1)
            around = (mask[row, right], mask[below, col], mask[below, right])
            line[row, col] = any(value != mask[row, col] for value in around)
    return line


def slow_met(line: np.ndarray, other: np.ndarray, tolerance: float) -> int:
    others = np.argwhere(other)
    return sum(
        bool(len(others)) and bool((((others - point) ** 2).sum(1) <= tolerance**2).any())
        for point in np.argwhere(line)
    )


@given(masks, masks, st.sampled_from([0.0, 1.0, 1.5, 3.0]))
@settings(max_examples=80, deadline=None)
def test_counts_equal_a_search_over_all_pixels(
    truth: np.ndarray, predicted: np.ndarray, tolerance: float
) -> None:
    true_line, line = slow_outline(truth), slow_outline(predicted)
    assert np.array_equal(find_outline(truth), true_line)
    expected = [
        true_line.sum(),
        slow_met(true_line, line, tolerance),
        line.sum(),
        slow_met(line, true_line, tolerance),
    ]
    assert count_boundary(truth, predicted, tolerance).tolist() == expected


@pytest.mark.parametrize("tolerance", [1, 2.5, 4])
def test_windows_with_a_margin_add_up_to_the_scene(tolerance: float) -> None:
    generator = np.random.default_rng(1)
    truth, predicted = generator.random((2, 40, 46)) > 0.93
    valid = np.ones((40, 46), bool)
    valid[12:15, 5:30] = False
    margin, total = int(np.ceil(tolerance)) + 1, np.zeros(4, int)
    for row in range(0, 40, 10):
        for col in range(0, 46, 23):
            top, left = max(0, row - margin), max(0, col - margin)
            window = np.s_[top : row + 10 + margin, left : col + 23 + margin]
            core = np.s_[row - top : row - top + 10, col - left : col - left + 23]
            total += count_boundary(truth[window], predicted[window], tolerance, valid[window], core)
    assert total.tolist() == count_boundary(truth, predicted, tolerance, valid).tolist()


def square(size: int, shift: int = 0) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[10 + shift : 30 + shift, 10:30] = True
    return mask


def test_a_shift_within_the_tolerance_is_forgiven_and_beyond_it_is_not() -> None:
    assert compute_boundary_f(count_boundary(square(50), square(50, 2), 2)) == 1
    assert compute_boundary_f(count_boundary(square(50), square(50, 2), 1)) < 1
    assert compute_boundary_f(count_boundary(square(50), square(50), 0)) == 1


def test_the_edge_of_the_valid_area_is_no_outline() -> None:
    full, valid = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    full[5:15], valid[5:15] = True, True
    assert count_boundary(full, full, 1, valid).tolist() == [0, 0, 0, 0]
    assert count_boundary(full, full, 1)[0] == 40


def test_one_empty_mask_scores_zero_and_two_are_undefined() -> None:
    empty = np.zeros((50, 50), bool)
    assert compute_boundary_f(count_boundary(square(50), empty, 2)) == 0
    assert compute_boundary_f(count_boundary(empty, square(50), 2)) == 0
    assert np.isnan(compute_boundary_f(count_boundary(empty, empty, 2)))


def test_nothing_met_scores_zero() -> None:
    assert compute_boundary_f([5, 0, 7, 0]) == 0


def test_default_tolerance_is_that_of_davis() -> None:
    assert compute_tolerance((480, 854)) == 8
    assert compute_tolerance((1024, 1024)) == 12


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        count_boundary(square(50), square(51), 1)
    with pytest.raises(ValueError, match="tolerance"):
        count_boundary(square(50), square(50), -1)
