"""Predicting stacks of slices: shapes, batches, neighbours, and bad stacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from domainsam.errors import InputError
from domainsam.protocols import Block, Window
from domainsam_ct.model.organs import OrganModel
from domainsam_ct.model.predict import add_neighbours
from tests.ct.organs import body, tiny_model

SPACING = (5.0, 5.0)


def stack(depth: int = 5) -> np.ndarray:
    return body(depth=depth).slices.astype(np.float32)


def logits(model: OrganModel, slices: np.ndarray, batch: int) -> torch.Tensor:
    from domainsam_ct.model.predict import apply_window, make_slice_grid

    grid = make_slice_grid((40, 40), SPACING, model.config.pixel_mm, model.config.side)
    images = grid.resample_inward(apply_window(slices, model.window))[:, None]
    with torch.inference_mode():
        return torch.cat([model.network(part) for part in images.split(batch)])


def test_answer_has_the_size_of_the_stack() -> None:
    found = tiny_model().predict_slices(stack(), SPACING)
    assert found.labels.shape == found.confidence.shape == (5, 40, 40)
    assert found.labels.dtype == np.uint8
    assert found.confidence.dtype == np.float16
    assert len(np.unique(found.labels)) > 1
    assert found.confidence.min() >= 1 / 4 - 1e-3
    assert found.confidence.max() <= 1


def test_batch_size_changes_nothing() -> None:
    model = tiny_model()
    apart = (logits(model, stack(), 1) - logits(model, stack(), 5)).abs().max()
    assert apart < 1e-4
    one, many = (tiny_model(batch=size).predict_slices(stack(), SPACING) for size in (1, 4))
    assert (one.labels != many.labels).mean() < 1e-3


@pytest.mark.parametrize("neighbours", [0, 1])
def test_a_block_is_predicted_as_the_slice_is(neighbours: int) -> None:
    model, (one,) = tiny_model(neighbours), stack(1)
    low, high = model.window
    image = np.clip((one - low) / (high - low), 0, 1).astype(np.float32)
    valid = np.ones(one.shape, bool)
    valid[:4] = False
    block = Block(Window(0, 0, *one.shape), np.stack([image] * 3), valid)
    found, alone = model.predict(block, SPACING), model.predict_slices(one[None], SPACING)
    assert found.names == model.labels
    assert found.probability.shape == (len(model.labels), *one.shape)
    assert np.allclose(found.probability.sum(axis=0), 1, atol=1e-5)
    assert (found.labels[:4] == 255).all()
    assert (found.labels[4:] != alone.labels[0, 4:]).mean() < 1e-3
    assert np.abs(found.probability.max(axis=0) - alone.confidence[0]).max() < 2e-3


@pytest.mark.parametrize("neighbours", [0, 1])
def test_a_volume_in_parts_gives_what_the_whole_gives(neighbours: int) -> None:
    model, slices = tiny_model(neighbours), stack(7)
    whole = model.predict_slices(slices, SPACING)
    first = model.predict_slices(slices[:4], SPACING, None, slices[4:5])
    rest = model.predict_slices(slices[4:], SPACING, slices[3:4], None)
    labels = np.concatenate([first.labels, rest.labels])
    assert (whole.labels != labels).mean() < 1e-3
    confidence = np.concatenate([first.confidence, rest.confidence]).astype(np.float32)
    assert np.abs(whole.confidence.astype(np.float32) - confidence).max() < 2e-3


def test_neighbours_are_the_slices_next_to_each() -> None:
    slices = torch.arange(4.0)[:, None, None]
    seen = add_neighbours(slices, torch.tensor([[[-1.0]]]), None)[:, :, 0, 0]
    assert seen.tolist() == [[-1, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]


def test_context_says_whether_neighbours_count() -> None:
    slices = stack(3)
    for neighbours in (0, 1):
        model = tiny_model(neighbours)
        assert model.context == neighbours
        alone = model.predict_slices(slices[1:2], SPACING)
        beside = model.predict_slices(slices[1:2], SPACING, slices[:1] + 300, slices[2:])
        same = np.array_equal(alone.confidence, beside.confidence)
        assert same == (neighbours == 0)


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.full((1, 8, 8), np.nan)])
def test_bad_stacks_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(InputError, match="slices"):
        tiny_model().predict_slices(bad.astype(np.float32), SPACING)


def test_non_square_slices_and_pixels() -> None:
    found = tiny_model().predict_slices(stack()[:, 3:30], (5.0, 3.1))
    assert found.labels.shape == (5, 27, 40)
