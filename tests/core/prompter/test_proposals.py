"""Components as prompts: boxes, scores, the filter, empty images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from domainsam.prompter.proposals import PUBLISHED, ProposalConfig, find_proposals, is_box_kept

EVERYTHING = ProposalConfig(min_side=0, min_area=0)


def log_odds(*rectangles: tuple[int, int, int, int, int], images: int = 1, side: int = 32) -> torch.Tensor:
    """Maps of -4 with +4 in rectangles (image, row, column, height, width)."""
    maps = torch.full((images, 1, side, side), -4.0)
    for image, row, col, height, width in rectangles:
        maps[image, 0, row : row + height, col : col + width] = 4.0
    return maps


def test_boxes_are_exclusive_edges_in_image_pixels() -> None:
    found = find_proposals(log_odds((0, 2, 3, 5, 7)), EVERYTHING)
    assert found.boxes is not None
    assert found.boxes.tolist() == [[12.0, 8.0, 40.0, 28.0]]
    assert found.labels.tolist() == [1]
    assert found.scores.item() == pytest.approx(torch.sigmoid(torch.tensor(4.0)).item())


def test_prompts_belong_to_their_image() -> None:
    maps = log_odds((0, 2, 3, 5, 7), (2, 0, 0, 4, 4), (2, 20, 20, 6, 6), images=3)
    found = find_proposals(maps, EVERYTHING)
    assert found.image_index.tolist() == [0, 2, 2]
    assert found.mask_logits is not None
    for index, owner in enumerate(found.image_index.tolist()):
        assert torch.equal(found.mask_logits[index], maps[owner])


def test_empty_images_have_no_prompts() -> None:
    found = find_proposals(log_odds(images=2))
    assert len(found) == 0
    assert found.boxes is not None
    assert found.boxes.shape == (0, 4)
    assert found.mask_logits is not None
    assert found.mask_logits.shape == (0, 1, 32, 32)


def test_filter_looks_at_size_and_not_at_place() -> None:
    # The published code compares x2 and y2 with the limit: a large object at the top left
    # was dropped, a small one at the bottom right kept.
    config = ProposalConfig(min_side=40, min_area=1600)
    near_origin = find_proposals(log_odds((0, 0, 0, 10, 10)), config)
    far_but_small = find_proposals(log_odds((0, 28, 28, 4, 4)), config)
    assert len(near_origin) == 1
    assert len(far_but_small) == 0


@given(row=st.integers(0, 16), col=st.integers(0, 16), height=st.integers(1, 16), width=st.integers(1, 16))
def test_what_is_kept_does_not_depend_on_where_it_is(row: int, col: int, height: int, width: int) -> None:
    config = ProposalConfig(min_side=24, min_area=1000)
    moved = find_proposals(log_odds((0, row, col, height, width)), config)
    still = find_proposals(log_odds((0, 0, 0, height, width)), config)
    assert len(moved) == len(still) == int(is_box_kept(4 * width, 4 * height, config))


def test_published_filter_means_a_hundred_pixels() -> None:
    assert is_box_kept(100, 100, PUBLISHED)
    assert not is_box_kept(99, 500, PUBLISHED)


def test_diagonal_pixels_are_one_component() -> None:
    maps = log_odds((0, 4, 4, 3, 3), (0, 7, 7, 3, 3))
    assert len(find_proposals(maps, EVERYTHING)) == 1


@pytest.mark.parametrize("dims", [[3], [2], [2, 3]])
def test_proposals_follow_a_flip(dims: list[int]) -> None:
    maps = log_odds((0, 2, 3, 5, 7), (0, 20, 10, 6, 9))
    straight, mirrored = find_proposals(maps).boxes, find_proposals(maps.flip(dims)).boxes
    assert straight is not None
    assert mirrored is not None
    side = 4.0 * maps.shape[-1]
    x1, y1, x2, y2 = straight.unbind(1)
    if 3 in dims:
        x1, x2 = side - x2, side - x1
    if 2 in dims:
        y1, y2 = side - y2, side - y1
    expected = torch.stack([x1, y1, x2, y2], dim=1)
    assert sorted(mirrored.tolist()) == sorted(expected.tolist())


def test_only_the_largest_are_kept_when_there_are_too_many() -> None:
    maps = log_odds((0, 0, 0, 2, 2), (0, 5, 0, 8, 8), (0, 16, 16, 3, 3))
    config = ProposalConfig(min_side=0, min_area=0, max_prompts=2)
    boxes = find_proposals(maps, config).boxes
    assert boxes is not None
    assert np.array_equal((boxes[:, 2] - boxes[:, 0]).numpy(), [32, 12])


def test_threshold_moves_the_outline() -> None:
    maps = log_odds((0, 4, 4, 12, 12))
    maps[0, 0, 6:10, 6:10] = 0.5
    assert len(find_proposals(maps - 4, ProposalConfig(threshold=0.45))) == 1
    assert len(find_proposals(maps - 4, ProposalConfig(threshold=0.55))) == 0


def test_mask_prompts_keep_their_gradient() -> None:
    maps = log_odds((0, 4, 4, 12, 12)).requires_grad_()
    found = find_proposals(maps)
    assert found.mask_logits is not None
    found.mask_logits.sum().backward()
    assert maps.grad is not None
    assert torch.equal(maps.grad, torch.ones_like(maps))
