"""Graphs for other runtimes give what the foundations give, before anything is written."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from domainsam.errors import ConfigError
from domainsam.foundation import load_foundation
from domainsam.foundation.efficient import SPECS, EfficientFoundation
from domainsam.foundation.encoders.efficientvit import SPECS as VITS
from domainsam.foundation.graphs import (
    BOTTOM_RIGHT,
    TOP_LEFT,
    DecoderGraph,
    EncoderGraph,
    PromptGraph,
    halve_smoothly,
    list_inputs,
    require_exportable,
)
from domainsam.foundation.sam import SamFoundation, SamNetwork, SamSize
from domainsam.prompts import POINT_PADDING, PromptSet
from tests.core.generalists import random_network
from tests.core.official import lively

SIZES = [(160, 96), (224, 448), (128, 128)]


@pytest.mark.parametrize("size", SIZES)
def test_sam_with_windows_and_without_gives_the_same_features(size: tuple[int, int]) -> None:
    shape = SamSize(48, 2, 3, (1,), image_size=128, window=7)
    network = SamNetwork(shape)
    lively(network)
    foundation = SamFoundation(network, "sam_vit_b", 128)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = foundation.encode(images).image
        (given,) = EncoderGraph(foundation)(images)
    assert wanted.std() > 0.1
    assert (given - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("size", SIZES)
def test_halving_is_the_antialiased_one(size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(2))
    half = (size[0] // 2, size[1] // 2)
    wanted = F.interpolate(images, size=half, mode="bilinear", antialias=True)
    torch.testing.assert_close(halve_smoothly(images), wanted, atol=1e-6, rtol=0)


def test_only_the_large_sizes_of_efficientvit_halve() -> None:
    assert {spec.shrink for spec in SPECS.values()} == {1, 2}, "another factor needs another graph"
    assert [spec.name for spec in VITS if spec.shrink == 2] == [
        f"efficientvit_sam_l{size}" for size in range(3)
    ]


def test_prompts_drawn_from_labels_are_those_of_boxes_clicks_and_masks() -> None:
    foundation = load_foundation("embedded")
    images = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(3))
    prompts = PromptSet(
        image_index=torch.tensor([1, 0]),
        labels=torch.ones(2, dtype=torch.int64),
        scores=torch.ones(2),
        points=torch.tensor([[[20.0, 30.0, 1.0], [50.0, 80.0, 0.0]], [[9.0, 9.5, 0.0], [0.0, 0.0, -1.0]]]),
        boxes=torch.tensor([[8.0, 12.0, 40.0, 60.0], [0.0, 0.0, 64.0, 96.0]]),
        mask_logits=torch.linspace(-3, 3, 2 * 24 * 16).reshape(2, 1, 24, 16),
    )
    assert prompts.points is not None
    assert prompts.boxes is not None
    assert prompts.mask_logits is not None
    points = torch.cat([prompts.points[..., :2], prompts.boxes.reshape(2, 2, 2)], dim=1)
    labels = torch.cat([prompts.points[..., 2].long(), torch.tensor([[2, 3], [2, 3]])], dim=1)
    with torch.inference_mode():
        features = foundation.encode(images)
        wanted = [foundation.decode(features, prompts, many) for many in (False, True)]
        tokens = PromptGraph(foundation)(points, labels, torch.tensor([96.0, 64.0]))
        torch.testing.assert_close(tokens, foundation.embed(prompts, (96, 64)))
        given = dict(zip(("image", "level4", "level8"), (features.image, *features.levels), strict=True))
        given |= {"index": prompts.image_index, "tokens": tokens, "has_mask": torch.ones(1)}
        given |= {"mask": prompts.mask_logits, "points": points, "labels": labels}
        logits, iou = DecoderGraph(foundation)(*(given[name] for name in list_inputs(foundation)))
    torch.testing.assert_close(
        logits, torch.cat([part.logits for part in wanted], dim=1), atol=1e-3, rtol=1e-4
    )
    torch.testing.assert_close(iou, torch.cat([part.iou for part in wanted], dim=1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "kinds",
    [("boxes",), ("points",), ("mask_logits",), ("points", "boxes"), ("points", "boxes", "mask_logits")],
)
def test_prompts_drawn_on_the_mask_are_those_of_the_small_sam2(kinds: tuple[str, ...]) -> None:
    foundation = load_foundation("embedded_sam2")
    drawn = {
        "points": torch.tensor([[[20.0, 30.0, 1.0], [50.0, 80.0, 0.0]], [[9.0, 9.5, 0.0], [0.0, 0.0, -1.0]]]),
        "boxes": torch.tensor([[8.0, 12.0, 40.0, 60.0], [0.0, 0.0, 64.0, 96.0]]),
        "mask_logits": torch.linspace(-3, 3, 2 * 24 * 16).reshape(2, 1, 24, 16),
    }
    given = {kind: drawn[kind] for kind in kinds}
    prompts = PromptSet(torch.tensor([1, 0]), torch.ones(2, dtype=torch.int64), torch.ones(2), **given)
    places, labels = [torch.zeros(2, 1, 2)], [torch.full((2, 1), POINT_PADDING)]
    if "points" in given:
        places.append(drawn["points"][..., :2])
        labels.append(drawn["points"][..., 2].long())
    if "boxes" in given:
        places.append(drawn["boxes"].reshape(2, 2, 2))
        labels.append(torch.tensor([[TOP_LEFT, BOTTOM_RIGHT]] * 2))
    with torch.inference_mode():
        features = foundation.encode(torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(3)))
        wanted = [foundation.decode(features, prompts, many) for many in (False, True)]
        asked = {
            **dict(zip(("image", "level4", "level8"), (features.image, *features.levels), strict=True)),
            "index": prompts.image_index,
            "tokens": foundation.embed(prompts, (96, 64)),
            "mask": given.get("mask_logits", torch.zeros(1, 1, 24, 16)),
            "has_mask": torch.tensor([float("mask_logits" in given)]),
            "points": torch.cat(places, dim=1),
            "labels": torch.cat(labels, dim=1),
        }
        logits, iou = DecoderGraph(foundation)(*(asked[name] for name in list_inputs(foundation)))
    expected = torch.cat([part.logits for part in wanted], dim=1)
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(iou, torch.cat([part.iou for part in wanted], dim=1), atol=1e-4, rtol=1e-4)


def test_who_knows_no_masks_has_no_input_for_them() -> None:
    spec = replace(SPECS["lightening"], image_size=64)
    small = random_network("lightening", width=48, heads=3, depth=1, segment=16, dilation=2)
    plain = ("image", "index", "tokens")
    assert list_inputs(EfficientFoundation(small, spec)) == (*plain, "mask", "has_mask")


def test_a_foundation_for_tests_cannot_be_exported() -> None:
    with pytest.raises(ConfigError, match="'fake' cannot be exported: only those of this package"):
        require_exportable(load_foundation("fake"))
