"""Random crops: free turns, hidden borders and who is drawn how often."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.protocols import Window
from domainsam.train.augment import ColourOptions, Sample
from domainsam.train.crops import CropOptions, RandomCrops
from domainsam.train.losses import IGNORE

PLAIN = CropOptions(32, (1.0, 1.0), aspect=0.0, colour=ColourOptions(strength=0))


class Ground:
    """A scene in one brightness, settled on its left half."""

    ratio, weight = 1.0, 1.0

    def __init__(self, brightness: float, shape: tuple[int, int] = (96, 96)) -> None:
        self.shape, self.brightness = shape, brightness
        self.anchors: NDArray[np.int64] = np.zeros((0, 2), np.int64)

    def sample(self, window: Window) -> Sample:
        rows, cols = self.shape
        labels = np.repeat((np.arange(cols) < cols // 2)[None], rows, 0).astype(np.uint8)[window.slices]
        image = np.full((3, *labels.shape), self.brightness, np.float32)
        image[0] = labels
        return Sample(image, labels, np.ones(labels.shape, bool))


def test_a_step_is_the_same_batch_whoever_asks() -> None:
    options = replace(PLAIN, turn_share=0.5, border_share=0.5, scale=(0.7, 1.6))
    one, other = (RandomCrops([Ground(0.5)], options, 3, (1, 2)) for _ in range(2))
    other.batch(4)
    first, second = one.batch(7), other.batch(7)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)
    assert first.images.shape == (3, 3, 32, 32)
    assert not torch.equal(first.images, one.batch(8).images)


def test_a_free_turn_takes_the_ground_it_needs() -> None:
    crops = RandomCrops([Ground(0.5)], replace(PLAIN, turn_share=1.0), 8, (0,))
    batch = crops.batch(0)
    assert batch.valid.all(), "a scene of three times the crop's side reaches into all corners"
    # Red is the truth, so it turned with the labels; at the settlement's edge it is a blend.
    assert (((batch.images[:, 0] > 0.5).long() == batch.labels).float().mean()) > 0.97


def test_a_small_scene_turned_leaves_corners_without_ground() -> None:
    crops = RandomCrops([Ground(0.5, (32, 32))], replace(PLAIN, turn_share=1.0), 16, (0,))
    batch = crops.batch(0)
    assert 0.02 < (~batch.valid).float().mean() < 0.18
    assert torch.equal(batch.labels == IGNORE, ~batch.valid)


def test_borders_are_hidden_as_often_as_asked() -> None:
    crops = RandomCrops([Ground(0.5)], replace(PLAIN, border_share=0.5), 64, (0,))
    hidden = (~crops.batch(0).valid).flatten(1).any(1).float().mean()
    assert 0.3 < hidden < 0.7


def test_scenes_are_drawn_by_ground_unless_chances_say_otherwise() -> None:
    scenes = [Ground(0.25), Ground(0.75)]
    plain = RandomCrops(scenes, PLAIN, 64, (0,)).batch(0)
    assert 0.3 < (plain.images[:, 1].mean((1, 2)) > 0.5).float().mean() < 0.7
    told = RandomCrops(scenes, PLAIN, 64, (0,), chances=[0.0, 2.0]).batch(0)
    assert (told.images[:, 1].mean((1, 2)) > 0.5).all()
    with pytest.raises(InputError, match="no scene has labelled ground"):
        RandomCrops(scenes, PLAIN, 4, (0,), chances=[0.0, 0.0])
