"""Training samples from images with object masks."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from domainsam.errors import InputError
from domainsam.train.samples import Record, SampleStream, choose_masks, collate, crop, draw_region


def record(name: str, source: str = "a", held_back: bool = False) -> Record:
    """Four squares of their own colours on noise."""
    rng = np.random.default_rng(len(name))
    image = rng.integers(0, 60, (96, 128, 3)).astype(np.uint8)
    ids = np.zeros((96, 128), np.int16)
    for number, (row, col) in enumerate(((8, 8), (8, 72), (56, 8), (56, 72)), start=1):
        ids[row : row + 32, col : col + 40] = number
        image[row : row + 32, col : col + 40] = 60 * number
    return Record(source, name, held_back, image, ids, ((1, 2),))


def test_a_seed_fixes_the_order() -> None:
    first, again, other = (
        collate(list(islice(SampleStream([record("x"), record("yy")], 64, 3, seed), 4))) for seed in (5, 5, 6)
    )
    assert first[0].shape == (4, 3, 64, 64)
    assert first[0].dtype == torch.uint8
    assert first[1].shape == (4, 3, 16, 16)
    assert first[1].dtype == torch.bool
    assert first[1].flatten(2).any(2).all(), "no mask is empty"
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_crops_keep_labels_on_their_objects() -> None:
    whole = record("x")
    for seed in range(8):
        pixels, labels = crop(whole.image, whole.ids, 64, np.random.default_rng(seed))
        assert pixels.shape == (64, 64, 3)
        for number in range(1, 5):
            own = pixels[labels == number]
            if len(own) > 100:
                assert abs(np.median(own) - 60 * number) <= 2


def test_shares_decide_how_often_a_set_is_drawn() -> None:
    stream = SampleStream([record("x", "a"), record("y", "b"), record("z", "b")], 64, 1, 0, {"a": 3, "b": 1})
    np.testing.assert_allclose(stream.weights, [0.75, 0.125, 0.125])


def test_groups_are_asked_for_as_one_object() -> None:
    labels = np.array([[1, 2], [3, 0]], np.int16).repeat(32, 0).repeat(32, 1)
    masks = choose_masks(labels, ((1, 2),), 40, np.random.default_rng(0))
    assert masks.shape == (40, 16, 16)
    assert {int(mask.sum()) for mask in masks} <= {64, 128}


def test_nothing_to_ask_for_gives_no_masks() -> None:
    assert choose_masks(np.zeros((64, 64), np.int16), (), 3, np.random.default_rng(0)).shape == (0, 16, 16)


def test_regions_are_connected() -> None:
    from scipy import ndimage

    regions = [draw_region(64, np.random.default_rng(seed)) for seed in range(5)]
    assert all(ndimage.label(region)[1] == 1 for region in regions)


def test_records_that_are_held_back_are_never_drawn() -> None:
    stream = SampleStream([record("x"), record("y", held_back=True)], 64, 1, 0)
    assert [item.name for item in stream.records] == ["x"]
    with pytest.raises(InputError, match="all of 1 records are held back"):
        SampleStream([record("y", held_back=True)], 64, 1, 0)
