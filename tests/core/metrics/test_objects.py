from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from domainsam.metrics.components import ObjectAccumulator
from domainsam.metrics.objects import Overlaps, match_any, match_one_to_one, score_detection
from tests.core.label_images import detection_counts, label_overlaps

masks = arrays(bool, (7, 8))


def labels_of(mask: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.label(mask, np.ones((3, 3)))[0])


def iou_matrix(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Predictions x truths, by looking at every pair of label images on its own."""
    rows = [
        [
            ((truth == j) & (predicted == i)).sum() / ((truth == j) | (predicted == i)).sum()
            for j in range(1, truth.max() + 1)
        ]
        for i in range(1, predicted.max() + 1)
    ]
    return np.array(rows, float).reshape(predicted.max(), truth.max())


def paper_counts(iou: np.ndarray) -> list[int]:
    """Each prediction in turn takes the best truth left; what it takes is gone."""
    iou, found = iou.copy(), 0
    for row in range(len(iou)):
        if iou.shape[1] and iou[row].max() > 0:
            iou[:, iou[row].argmax()] = 0
            found += 1
    return [found, len(iou) - found, iou.shape[1] - found]


def most_pairs(allowed: np.ndarray) -> int:
    """Size of the largest matching, by trying every order of the longer side."""
    if allowed.shape[0] > allowed.shape[1]:
        allowed = allowed.T
    rows, cols = allowed.shape
    return max(
        (
            sum(allowed[row, col] for row, col in enumerate(order))
            for order in permutations(range(cols), rows)
        ),
        default=0,
    )


@given(masks, masks)
@settings(max_examples=150, deadline=None)
def test_any_overlap_equals_the_papers_procedure(truth: np.ndarray, predicted: np.ndarray) -> None:
    table = label_overlaps(labels_of(truth), labels_of(predicted))
    expected = paper_counts(iou_matrix(labels_of(truth), labels_of(predicted)))
    assert detection_counts(table, match_any(table)) == expected


@given(masks, masks, st.sampled_from([0.05, 0.2, 0.5, 0.75, 1.0]))
@settings(max_examples=150, deadline=None)
def test_one_to_one_matching_is_the_largest(
    truth: np.ndarray, predicted: np.ndarray, threshold: float
) -> None:
    true_labels, labels = labels_of(truth), labels_of(predicted)
    table = label_overlaps(true_labels, labels)
    matching = match_one_to_one(table, threshold)
    assert (
        len(set(matching.truth_index.tolist()))
        == len(set(matching.predicted_index.tolist()))
        == len(matching)
    )
    iou = iou_matrix(true_labels, labels)
    assert (iou[matching.predicted_index, matching.truth_index] >= threshold).all()
    assert len(matching) == most_pairs(iou >= threshold)


@given(masks, masks)
@settings(max_examples=60, deadline=None)
def test_above_one_half_every_object_has_one_partner(truth: np.ndarray, predicted: np.ndarray) -> None:
    table = label_overlaps(labels_of(truth), labels_of(predicted))
    assert len(match_one_to_one(table, 0.500001)) == int((table.iou > 0.5).sum())


def overlapping(pairs: list[tuple[int, int, float]], truths: int, predictions: int) -> Overlaps:
    """Objects of area 1 that share the given areas; polygons may overlap their own kind."""
    truth, predicted, shared = (np.array(column) for column in zip(*pairs, strict=True))
    return Overlaps(np.ones(truths), np.ones(predictions), truth, predicted, shared.astype(float))


def test_competing_pairs_give_way_to_the_larger_matching() -> None:
    # The best pair alone (0, 0) would leave truth 1 and prediction 1 without partners.
    table = overlapping([(0, 0, 0.95), (0, 1, 0.7), (1, 0, 0.7)], truths=2, predictions=2)
    matching = match_one_to_one(table)
    assert sorted(zip(matching.truth_index, matching.predicted_index, strict=True)) == [(0, 1), (1, 0)]


def test_of_equal_matchings_the_higher_iou_wins() -> None:
    table = overlapping([(0, 0, 0.7), (0, 1, 0.9)], truths=1, predictions=2)
    assert match_one_to_one(table).predicted_index.tolist() == [1]


def test_two_halves_of_one_object_tie_at_one_half() -> None:
    truth = np.ones((2, 4), int)
    predicted = np.array([[1, 1, 2, 2]] * 2)
    table = label_overlaps(truth, predicted)
    assert table.iou.tolist() == [0.5, 0.5]
    assert detection_counts(table, match_one_to_one(table)) == [1, 1, 0]


def test_predictions_without_truth_are_false_alarms_not_a_crash() -> None:
    nothing, found = np.zeros((4, 4), int), np.diag([1, 0, 2, 0])
    alarms, missed, empty = (
        label_overlaps(nothing, found),
        label_overlaps(found, nothing),
        label_overlaps(nothing, nothing),
    )
    for match in (match_any, match_one_to_one):
        assert detection_counts(alarms, match(alarms)) == [0, 2, 0]
        assert detection_counts(missed, match(missed)) == [0, 0, 2]
        assert detection_counts(empty, match(empty)) == [0, 0, 0]
    scores = score_detection([[0, 2, 0], [0, 0, 2], [3, 1, 1]])
    assert np.isnan(scores.recall[0])
    assert np.isnan(scores.precision[1])
    assert scores.f1.tolist() == [0.0, 0.0, 0.75]


@given(masks, masks, st.lists(st.integers(0, 7), max_size=4))
@settings(max_examples=120, deadline=None)
def test_bands_give_the_objects_of_the_whole(
    truth: np.ndarray, predicted: np.ndarray, cuts: list[int]
) -> None:
    bands = ObjectAccumulator()
    for rows in np.split(np.arange(7), sorted(cuts)):
        bands.add(truth[rows], predicted[rows])
    table, expected = bands.finish(), label_overlaps(labels_of(truth), labels_of(predicted))
    assert table.overlaps.truth_area.tolist() == expected.truth_area.tolist()
    assert table.overlaps.predicted_area.tolist() == expected.predicted_area.tolist()
    given_pairs = zip(
        table.overlaps.truth_index, table.overlaps.predicted_index, table.overlaps.shared, strict=True
    )
    whole_pairs = zip(expected.truth_index, expected.predicted_index, expected.shared, strict=True)
    assert sorted(given_pairs) == sorted(whole_pairs)
    labels = labels_of(truth)
    centres = ndimage.center_of_mass(truth, labels, range(1, labels.max() + 1))
    np.testing.assert_allclose(table.truth_centre, np.array(centres).reshape(-1, 2))


def test_objects_of_nothing() -> None:
    table = ObjectAccumulator().finish()
    assert len(table.overlaps.truth_area) == len(table.overlaps.shared) == 0


def test_bad_arguments_are_refused() -> None:
    table = label_overlaps(np.eye(2, dtype=int), np.eye(2, dtype=int))
    with pytest.raises(ValueError, match="IoU threshold"):
        match_one_to_one(table, 0.0)
    bands = ObjectAccumulator().add(np.zeros((2, 3), bool), np.zeros((2, 3), bool))
    with pytest.raises(ValueError, match="expected"):
        bands.add(np.zeros((2, 4), bool), np.zeros((2, 4), bool))
