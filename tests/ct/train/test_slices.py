"""The published loss, the stream of slices, and Dice on cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom
from torch.nn import functional as F

from domainsam.errors import InputError
from domainsam.train.losses import IGNORE
from domainsam_ct.train.augmentation import AugmentOptions
from domainsam_ct.train.case import Case
from domainsam_ct.train.cuts import Frame
from domainsam_ct.train.slices import (
    LossOptions,
    SliceStream,
    average_dice,
    organ_loss,
    repeat_rare,
    score_case,
    zoom_indices,
)
from tests.ct.organs import LABELS, body


def published_dice(logits: torch.Tensor, target: torch.Tensor, classes: int) -> torch.Tensor:
    """SAMed's ``DiceLoss`` written out: softmax, one-hot, one value a class, mean."""
    scores, total = torch.softmax(logits, 1), torch.zeros(())
    for index in range(classes):
        score, truth = scores[:, index], (target == index).float()
        shared = (score * truth).sum()
        total = total + 1 - (2 * shared + 1e-5) / ((score * score).sum() + (truth * truth).sum() + 1e-5)
    return total / classes


def test_loss_is_the_published_one() -> None:
    logits = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 4, (2, 64, 64), generator=torch.Generator().manual_seed(1))
    parts = organ_loss(logits, labels, LossOptions())
    small = labels[:, 2::4, 2::4]
    entropy, dice = F.cross_entropy(logits, small), published_dice(logits, small, 4)
    torch.testing.assert_close(parts["loss"], 0.2 * entropy + 0.8 * dice)


def test_unknown_pixels_take_no_part() -> None:
    labels = torch.randint(0, 4, (1, 16, 16), generator=torch.Generator().manual_seed(1))
    labels[:, :8] = IGNORE
    logits = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    changed = logits.clone()
    changed[:, :, :2] += 5
    one, two = (organ_loss(part, labels, LossOptions())["loss"] for part in (logits, changed))
    torch.testing.assert_close(one, two)
    nothing = organ_loss(logits, torch.full_like(labels, IGNORE), LossOptions())["loss"]
    assert torch.isfinite(nothing)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_right_answers_cost_least(stride: int) -> None:
    labels = torch.zeros(1, 32, 32, dtype=torch.int64)
    labels[:, 8:24, 8:24] = 2
    right = 20 * F.one_hot(labels[:, ::4, ::4], 3).permute(0, 3, 1, 2).float()
    costs = [organ_loss(part, labels, LossOptions(stride=stride))["loss"] for part in (right, -right)]
    assert costs[0] < costs[1]


def test_a_class_that_a_batch_lacks_takes_no_part_where_it_is_skipped() -> None:
    labels = torch.zeros(1, 16, 16, dtype=torch.int64)
    labels[:, :8] = 1
    logits = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    shares = torch.softmax(logits, 1)
    truth = F.one_hot(labels[:, 2::4, 2::4], 4).permute(0, 3, 1, 2).float()
    shared, total = (shares * truth).sum((0, 2, 3)), (shares**2 + truth).sum((0, 2, 3))
    each = 1 - (2 * shared + 1e-5) / (total + 1e-5)
    skipped = organ_loss(logits, labels, LossOptions(absent="skip"))["dice_loss"]
    counted = organ_loss(logits, labels, LossOptions())["dice_loss"]
    torch.testing.assert_close(skipped, each[:2].mean())
    torch.testing.assert_close(counted, each.mean())


def test_rare_organs_come_more_often() -> None:
    shown = np.zeros((8, 3), bool)
    # Organs in all, in a half and in an eighth of the slices.
    shown[:, 0], shown[:4, 1], shown[0, 2] = True, True, True
    np.testing.assert_allclose(repeat_rare(shown, 1.0), [8**0.5] + [2**0.5] * 3 + [1.0] * 4)
    np.testing.assert_allclose(repeat_rare(shown, 0.25), [2**0.5] + [1.0] * 7)
    np.testing.assert_allclose(repeat_rare(shown, 0.0), 1.0)


def test_an_epoch_shows_rare_organs_as_often_as_asked() -> None:
    case = body(depth=100)
    # The right kidney in a hundredth of the slices, the rest everywhere.
    labels = case.labels.copy()
    labels[1:][labels[1:] == 1] = 0
    own = stream([Case("rare", case.slices, labels, case.spacing_mm)], repeat=1.0)
    assert own.places.count((0, 0)) == 10
    assert all(own.places.count((0, index)) == 1 for index in range(1, 100))


def test_the_first_steps_see_larger_pixels() -> None:
    frame = Frame(128, 1.5, 0, 96)
    own = SliceStream([body()], frame, AugmentOptions(), (-125, 275), LABELS, 2, (7,), coarse_steps=1)
    assert own.batch(0).images.shape == (2, 1, 96, 96)
    assert own.batch(1).images.shape == (2, 1, 96, 128)
    assert own.batch(1).labels.shape == (2, 96, 128)
    assert frame.coarsen() == Frame(96, 2.0, 0, 96)


def stream(cases: list[Case], **options: object) -> SliceStream:
    frame = Frame(32, 5.0, 0)
    return SliceStream(cases, frame, AugmentOptions(), (-125, 275), LABELS, 4, (7,), **options)  # type: ignore[arg-type]


def empty(name: str) -> Case:
    case = body(name)
    return Case(name, case.slices, np.zeros_like(case.labels), case.spacing_mm)


def test_a_step_is_the_same_batch_whenever_it_is_asked_for() -> None:
    one, two = stream([body()]), stream([body()])
    two.batch(0)
    first, again = one.batch(5), two.batch(5)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.images, one.batch(6).images)


def test_every_slice_comes_once_an_epoch() -> None:
    own = stream([body(depth=6), body("two", depth=6)])
    assert own.epoch_steps == 3
    assert sorted(own.places) == [(case, index) for case in range(2) for index in range(6)]


def test_variants_come_again_and_new_versions_do_not() -> None:
    def versions(variants: int) -> int:
        own = stream([body(depth=4)], variants=variants)
        images = torch.cat([own.batch(step).images for step in range(6)])
        return len({part.numpy().tobytes() for part in images})

    assert versions(2) == 8
    assert versions(0) == 24


def test_empty_slices_are_shown_as_often_as_asked() -> None:
    cases = [body(depth=4), empty("none")]
    assert len(stream(cases).places) == 10
    assert len(stream(cases, empty_share=0.0).places) == 4
    with pytest.raises(InputError, match="no case shows an organ"):
        stream([empty("none")])


def test_dice_of_cases() -> None:
    truth = np.array([[[0, 1, 1, 3, IGNORE, 0]]], np.uint8)
    found = np.array([[[0, 1, 0, 3, 3, 3]]], np.uint8)
    scores = score_case(truth, found, LABELS)
    assert scores == {"kidney_right": pytest.approx(2 / 3), "liver": pytest.approx(2 / 3)}
    means = average_dice([scores, {"liver": 1.0}])
    assert means["dice_liver"] == pytest.approx(5 / 6)
    assert means["dice"] == pytest.approx((2 / 3 + 5 / 6) / 2)
    assert average_dice([]) == {}


@pytest.mark.parametrize(("length", "count"), [(512, 128), (64, 16), (96, 24)])
def test_published_labels_are_sampled_as_scipys_zoom_samples(length: int, count: int) -> None:
    """SAM-LST brings labels to a quarter of the size by ``zoom`` of order 0."""
    values = np.arange(length)
    assert np.array_equal(zoom_indices(length, count).numpy(), zoom(values, count / length, order=0))
