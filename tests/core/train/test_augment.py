"""Augmentations: image, truth and boxes move together, and chance is the generator's alone."""

from __future__ import annotations

import numpy as np
import pytest

from domainsam.train.augment import (
    DIHEDRAL,
    ColourOptions,
    Sample,
    crop_size,
    cutmix,
    fill_unseen,
    hide_border,
    recolour,
    resize,
    turn_dihedral,
    turn_freely,
)
from domainsam.train.losses import IGNORE


@pytest.fixture
def sample() -> Sample:
    """The image's red channel *is* the truth, so any separation of the two shows."""
    labels = np.zeros((24, 40), np.uint8)
    labels[3:9, 20:36] = 1
    image = np.stack(
        [labels, np.arange(40)[None] / 40 + 0 * labels, np.arange(24)[:, None] / 24 + 0 * labels]
    )
    valid = np.ones(labels.shape, bool)
    valid[20:, :5] = False
    labels[~valid] = IGNORE
    box = np.array([[20, 3, 36, 9]], np.float32)
    return Sample((image * valid).astype(np.float32), labels, valid, box)


def truth_box(labels: np.ndarray) -> list[int]:
    rows, cols = np.nonzero(labels == 1)
    return [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("element", range(DIHEDRAL))
def test_a_turn_never_separates_image_truth_and_boxes(sample: Sample, element: int) -> None:
    turned = turn_dihedral(sample, element)
    assert np.array_equal(turned.image[0] == 1, turned.labels == 1)
    assert np.array_equal(turned.labels == IGNORE, ~turned.valid)
    assert turned.boxes[0].tolist() == truth_box(turned.labels)


def test_the_eight_turns_differ_and_four_quarters_are_none(sample: Sample) -> None:
    square = Sample(sample.image[:, :, :24], sample.labels[:, :24], sample.valid[:, :24])
    images = {turn_dihedral(square, element).image.tobytes() for element in range(DIHEDRAL)}
    assert len(images) == DIHEDRAL
    back = sample
    for _ in range(4):
        back = turn_dihedral(back, 1)
    assert np.array_equal(back.image, sample.image)
    assert np.array_equal(back.boxes, sample.boxes)


def test_an_unflipped_truth_would_be_caught(sample: Sample) -> None:
    """The published defect: the prediction is moved back, image and truth are not."""
    flipped = turn_dihedral(sample, 4)
    moved_back = flipped.image[0][:, ::-1] == 1
    assert not np.array_equal(moved_back, flipped.labels == 1)


def test_resizing_scales_boxes_with_the_truth(sample: Sample) -> None:
    larger = resize(sample, 48, 120)
    assert larger.boxes[0].tolist() == truth_box(larger.labels)
    smaller = resize(larger, 24, 40)
    assert np.array_equal(smaller.labels, sample.labels)
    assert np.abs(smaller.image - sample.image)[:, sample.valid].mean() < 0.05


def test_resizing_does_not_mix_missing_pixels_in(sample: Sample) -> None:
    flat = Sample(
        np.where(sample.valid, np.float32(0.6), np.float32(0))[None].repeat(3, 0), sample.labels, sample.valid
    )
    for size in ((31, 57), (11, 17)):
        small = resize(flat, *size)
        assert np.allclose(small.image[:, small.valid], 0.6, atol=1e-5)
        assert np.count_nonzero(small.image[:, ~small.valid]) == 0
        assert np.all(small.labels[~small.valid] == IGNORE)


def test_colour_changes_the_image_alone_and_stays_in_range(sample: Sample) -> None:
    for seed in range(20):
        seen = recolour(sample, np.random.default_rng(seed), ColourOptions())
        assert seen.image.dtype == np.float32
        assert 0 <= seen.image.min() <= seen.image.max() <= 1
        assert np.count_nonzero(seen.image[:, ~seen.valid]) == 0
        assert np.array_equal(seen.labels, sample.labels)
        assert not np.array_equal(seen.image, sample.image)
    still = recolour(sample, np.random.default_rng(0), ColourOptions(strength=0))
    assert still is sample


def test_blur_takes_detail_and_leaves_means_and_what_lies_beside_nodata() -> None:
    rng = np.random.default_rng(0)
    image = np.repeat(rng.uniform(0.2, 0.8, (1, 64, 64)), 3, 0).astype(np.float32)
    valid = np.ones((64, 64), bool)
    valid[:, 40:] = False
    whole = Sample(image * valid, np.zeros((64, 64), np.uint8), valid)
    # Nothing but blur: every other change has a range of no width, or never happens.
    options = ColourOptions(
        saturation=(1, 1),
        gain=0.0,
        offset=0.0,
        contrast=(1, 1),
        brightness=(1, 1),
        gamma=(1, 1),
        grey_share=0.0,
        permute_share=0.0,
        haze_share=0.0,
        noise_share=0.0,
        blur_share=1.0,
        blur=2.0,
    )
    seen = recolour(whole, np.random.default_rng(1), options).image
    assert np.count_nonzero(seen[:, ~valid]) == 0
    assert seen[:, :, :40].std() < 0.5 * whole.image[:, :, :40].std()
    assert seen[:, :, :40].mean() == pytest.approx(float(whole.image[:, :, :40].mean()), abs=0.01)
    # A column beside nodata is as bright as the others: no darkness comes in from there.
    assert seen[:, :, 39].mean() == pytest.approx(float(whole.image[:, :, 36:40].mean()), abs=0.03)


def test_the_generator_decides_everything(sample: Sample) -> None:
    def once(seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        changed = [
            recolour(turn_dihedral(sample, int(rng.integers(4)) // 2 * 2), rng, ColourOptions())
            for _ in range(3)
        ]
        return b"".join(part.image.tobytes() for part in cutmix(changed, rng, (0.3, 0.6)))

    assert once(5) == once(5)
    assert once(5) != once(6)


def test_cutmix_takes_image_truth_and_validity_from_the_same_sample(sample: Sample) -> None:
    others = [sample, turn_dihedral(sample, 2), turn_dihedral(sample, 4)]
    mixed = cutmix(others, np.random.default_rng(3), (0.4, 0.6))
    for part in mixed:
        assert np.array_equal(part.image[0] == 1, part.labels == 1)
        assert np.array_equal(part.labels == IGNORE, ~part.valid)
        assert len(part.boxes) == 0
    assert any(not np.array_equal(new.labels, old.labels) for new, old in zip(mixed, others, strict=True))


def test_windows_keep_the_promised_magnification() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = crop_size(rng, 256, (0.5, 2.0), 0.15)
        assert 0.49 < 256 / (height * width) ** 0.5 < 2.05
        assert abs(np.log(width / height)) < 0.31


def even(side: int = 32) -> Sample:
    """A square whose red channel is the truth, all of it seen."""
    labels = np.zeros((side, side), np.uint8)
    labels[2:8, 5:14] = 1
    image = np.stack([labels, 0.5 + 0 * labels, np.arange(side)[:, None] / side + 0 * labels])
    return Sample(image.astype(np.float32), labels, np.ones(labels.shape, bool))


@pytest.mark.parametrize("turns", range(4))
def test_a_free_turn_by_quarters_is_that_of_the_square(turns: int) -> None:
    whole = even()
    free, exact = turn_freely(whole, 90 * turns, 32), turn_dihedral(whole, turns)
    assert np.array_equal(free.labels, exact.labels)
    np.testing.assert_allclose(free.image, exact.image, atol=1e-4)
    assert free.valid.all()


def test_a_free_turn_keeps_image_and_truth_together_and_knows_where_it_sees_nothing() -> None:
    turned = turn_freely(even(), 45, 32)
    inside = turned.valid & (turned.labels == 1)
    assert turned.image[0][inside].mean() > 0.8
    assert turned.image[0][turned.valid & (turned.labels == 0)].max() < 0.75
    # The corners of a square that is turned by 45 degrees: 1 - (2 (sqrt 2 - 1)) of it.
    assert (~turned.valid).mean() == pytest.approx(1 - 2 * (np.sqrt(2) - 1), abs=0.03)
    assert np.array_equal(turned.labels == IGNORE, ~turned.valid)
    assert (turned.image[:, ~turned.valid] == 0).all()
    np.testing.assert_allclose(turned.image[1][turned.valid], 0.5, atol=1e-4)


def test_a_hidden_border_is_unseen_and_unknown() -> None:
    whole = even(64)
    for seed in range(5):
        hidden = hide_border(whole, np.random.default_rng(seed), (0.3, 0.3))
        assert 0.02 < (~hidden.valid).mean() < 0.35
        assert np.array_equal(hidden.labels == IGNORE, ~hidden.valid)
        assert (hidden.image[:, ~hidden.valid] == 0).all()
        assert np.array_equal(hidden.image[:, hidden.valid], whole.image[:, hidden.valid])


def test_unseen_ground_is_filled_from_its_neighbourhood_or_left_black() -> None:
    sample = even()
    sample.valid[:, 20:] = False
    sample = Sample(sample.image * sample.valid, sample.labels, sample.valid)
    found = set()
    for seed in range(20):
        filled = fill_unseen(sample, np.random.default_rng(seed))
        assert np.array_equal(filled.image[:, sample.valid], sample.image[:, sample.valid])
        assert np.array_equal(filled.valid, sample.valid)
        beyond = filled.image[1, :, 20:]
        found.add("black" if not beyond.any() else "filled")
        if beyond.any():
            np.testing.assert_allclose(beyond, 0.5, atol=1e-3)
            # What is near in the picture is near in colour: the third channel grows downwards.
            assert filled.image[2, 28, 22] > filled.image[2, 3, 22]
    assert found == {"black", "filled"}


def test_nothing_is_filled_where_all_or_nothing_is_seen() -> None:
    whole, rng = even(), np.random.default_rng(0)
    assert fill_unseen(whole, rng) is whole
    blind = Sample(0 * whole.image, whole.labels, ~whole.valid)
    assert fill_unseen(blind, rng) is blind
