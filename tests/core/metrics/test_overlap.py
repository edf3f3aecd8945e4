from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from domainsam.metrics.overlap import IGNORE, Confusion, divide, score_overlap


@st.composite
def labelled(draw: st.DrawFn) -> tuple[int, np.ndarray, np.ndarray]:
    classes = draw(st.integers(2, 4))
    size = draw(st.integers(1, 60))
    labels = st.lists(st.integers(0, classes - 1), min_size=size, max_size=size)
    return classes, np.array(draw(labels)), np.array(draw(labels))


@given(labelled())
@settings(max_examples=80, deadline=None)
def test_scores_equal_sklearn(case: tuple[int, np.ndarray, np.ndarray]) -> None:
    classes, truth, predicted = case
    scores = Confusion(classes).add(truth, predicted).scores()
    labels, options = list(range(classes)), {"average": None, "zero_division": np.nan}
    np.testing.assert_allclose(scores.accuracy, reference.accuracy_score(truth, predicted))
    np.testing.assert_allclose(
        scores.precision, reference.precision_score(truth, predicted, labels=labels, **options)
    )
    np.testing.assert_allclose(
        scores.recall, reference.recall_score(truth, predicted, labels=labels, **options)
    )
    np.testing.assert_allclose(scores.f1, reference.f1_score(truth, predicted, labels=labels, **options))
    occurs = np.isin(labels, np.union1d(truth, predicted))
    assert np.array_equal(np.isfinite(scores.iou), occurs)
    present = [label for label in labels if occurs[label]]
    np.testing.assert_allclose(
        scores.iou[occurs], reference.jaccard_score(truth, predicted, labels=present, average=None)
    )
    np.testing.assert_allclose(scores.iou, scores.dice / (2 - scores.dice))


@given(labelled(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_windows_in_any_order_give_the_whole(
    case: tuple[int, np.ndarray, np.ndarray], random: object
) -> None:
    classes, truth, predicted = case
    whole = Confusion(classes).add(truth, predicted)
    cuts = list(zip(np.array_split(truth, 5), np.array_split(predicted, 5), strict=True))
    random.shuffle(cuts)  # type: ignore[attr-defined]
    first, second = Confusion(classes), Confusion(classes)
    for index, cut in enumerate(cuts):
        (first if index % 2 else second).add(*cut)
    assert np.array_equal(first.merge(second).matrix, whole.matrix)


def test_ignored_pixels_do_not_count_wherever_they_stand() -> None:
    truth = np.array([[0, 1, IGNORE], [1, IGNORE, 0]], np.uint8)
    predicted = np.array([[1, 1, 0], [IGNORE, 1, 0]], np.uint8)
    assert Confusion().add(truth, predicted).matrix.tolist() == [[1, 1], [0, 1]]


def test_undefined_scores_are_not_numbers() -> None:
    nothing_true = Confusion().add(np.zeros(4, int), np.array([0, 0, 1, 1])).scores()
    assert nothing_true.precision[1] == 0
    assert np.isnan(nothing_true.recall[1])
    assert nothing_true.iou[1] == 0
    nothing_predicted = Confusion().add(np.array([0, 1]), np.zeros(2, int)).scores()
    assert np.isnan(nothing_predicted.precision[1])
    assert nothing_predicted.recall[1] == 0
    assert np.isnan(Confusion().scores().accuracy)
    assert np.isnan(Confusion().add(np.zeros(3, int), np.zeros(3, int)).scores().f1[1])


def test_scores_work_on_stacks_of_matrices() -> None:
    stack = np.random.default_rng(0).integers(0, 9, (7, 3, 3))
    together = score_overlap(stack)
    assert together.iou.shape == (7, 3)
    assert together.accuracy.shape == (7,)
    np.testing.assert_allclose(together.iou[4], score_overlap(stack[4]).iou)


def test_booleans_are_labels_too() -> None:
    assert Confusion().add(np.array([True, False]), np.array([True, True])).matrix.tolist() == [
        [0, 1],
        [0, 1],
    ]


@pytest.mark.parametrize("labels", [np.array([0, 2]), np.array([-1, 0])])
def test_unknown_label_is_refused(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected 0 to 1 or 255 to ignore"):
        Confusion().add(np.array([0, 1]), labels)


def test_other_shapes_and_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the same"):
        Confusion().add(np.zeros((2, 2), int), np.zeros(4, int))
    with pytest.raises(ValueError, match="cannot merge 3 classes into 2"):
        Confusion(2).merge(Confusion(3))
    with pytest.raises(ValueError, match="1 or more"):
        Confusion(0)


def test_ratio_broadcasts() -> None:
    result = divide([[1.0, 2.0], [3.0, 4.0]], [2.0, 0.0])
    assert result[:, 0].tolist() == [0.5, 1.5]
    assert np.isnan(result[:, 1]).all()
