"""Averaging a network's answers to turned and mirrored pictures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from domainsam.infer.sweep import average_views


def shifted(images: Tensor) -> Tensor:
    """An answer that depends on the way a picture is held: each pixel's neighbour to the left."""
    return torch.roll(images, 1, -1)


@pytest.mark.parametrize("shape", [(5, 5), (4, 7)])
def test_eight_views_answer_turned_pictures_alike(shape: tuple[int, int]) -> None:
    image = torch.rand((2, 1, *shape), generator=torch.Generator().manual_seed(0))
    whole = average_views(shifted, image, 8)
    assert whole.shape == image.shape
    for turn in range(4):
        turned = torch.rot90(image, turn, (-2, -1))
        torch.testing.assert_close(average_views(shifted, turned, 8), torch.rot90(whole, turn, (-2, -1)))
    torch.testing.assert_close(average_views(shifted, image.flip(-1), 8), whole.flip(-1))


def test_four_views_are_the_quarter_turns() -> None:
    image = torch.zeros((1, 1, 5, 5))
    image[..., 2, 2] = 4
    # A neighbour to the left, of four turned pictures, is each of the four neighbours.
    expected = torch.zeros((5, 5))
    expected[1, 2] = expected[3, 2] = expected[2, 1] = expected[2, 3] = 1
    torch.testing.assert_close(average_views(shifted, image, 4)[0, 0], expected)


def test_views_of_what_turns_with_the_picture_change_nothing() -> None:
    image = torch.rand((1, 3, 8, 6))
    for views in (1, 4, 8):
        torch.testing.assert_close(average_views(lambda shown: shown * 2, image, views), image * 2)
