"""The wording of prompts: their parts, mirrored images, empty tiles, short types."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.foundation.fake import FakeFoundation
from domainsam.prompter.proposals import ProposalConfig
from domainsam.prompter.segformer import PrompterConfig, PromptParts, SegFormerPrompter, compute_log_odds
from domainsam.prompter.segformer_parts import MIT_SIZES
from domainsam.prompts import PromptSet
from domainsam.protocols import Coarse
from tests.core.prompter.coarse_looks import seen, with_parts


def test_prompts_carry_all_parts(
    prompter: SegFormerPrompter, foundation: FakeFoundation, images: Tensor
) -> None:
    prompts = prompter.prompts(seen(prompter, images), foundation.encode(images), foundation)
    assert prompts.image_index.tolist() == [0, 0, 1, 1]
    assert prompts.boxes is not None
    assert prompts.boxes[0].tolist() == [8.0, 4.0, 36.0, 32.0]
    assert prompts.mask_logits is not None
    assert prompts.mask_logits.shape == (4, 1, 16, 24)
    assert prompts.tokens is not None
    assert prompts.tokens.shape == (4, 2, 256)


@pytest.mark.parametrize("dims", [[3], [2]])
def test_prompts_lie_on_the_object_when_the_image_is_mirrored(
    prompter: SegFormerPrompter, foundation: FakeFoundation, images: Tensor, dims: list[int]
) -> None:
    # The published training un-flips the coarse logits while image and truth stay flipped, so
    # that on half the samples the prompts lie where the object is not.
    straight = seen(prompter, images)
    assert straight.features is not None
    mirrored = Coarse(straight.logits.flip(dims), straight.features.flip(dims))
    flipped = images.flip(dims)
    prompts = prompter.prompts(mirrored, foundation.encode(flipped), foundation)
    assert prompts.boxes is not None
    assert prompts.mask_logits is not None
    inside = compute_log_odds(mirrored.logits) > 0
    for index, (box, owner) in enumerate(zip(prompts.boxes, prompts.image_index, strict=True)):
        x1, y1, x2, y2 = (int(edge) // 4 for edge in box)
        assert inside[owner, 0, y1:y2, x1:x2].all()
        assert torch.equal(prompts.mask_logits[index] > 0, inside[owner])


class PooledLevels(nn.Module):
    """An encoder that commutes with flips: averages over cells of 4, 8, 16 and 32 pixels."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        levels = []
        for stride, width in zip((4, 8, 16, 32), MIT_SIZES["mit_b0"].widths, strict=True):
            cells = F.avg_pool2d(images, stride)
            levels.append(cells.repeat(1, width // 3 + 1, 1, 1)[:, :width])
        return tuple(levels)


@pytest.mark.parametrize("dims", [[3], [2], [2, 3]])
def test_a_mirrored_image_gets_the_mirrored_prompts(foundation: FakeFoundation, dims: list[int]) -> None:
    torch.manual_seed(0)
    prompter = SegFormerPrompter(PrompterConfig(proposals=ProposalConfig(min_side=0, min_area=0))).eval()
    prompter.encoder = PooledLevels()  # type: ignore[assignment]
    images = F.interpolate(torch.rand(2, 3, 8, 12), scale_factor=16, mode="nearest")
    answers = []
    for view in (images, images.flip(dims)):
        coarse = prompter.coarse(view)
        # Random weights are off balance: centred on their median, half of the tile is an object.
        middle = compute_log_odds(coarse.logits).median()
        shift = torch.stack([middle, torch.zeros(())]).view(1, 2, 1, 1)
        coarse = Coarse(coarse.logits + shift, coarse.features)
        answers.append(prompter.prompts(coarse, foundation.encode(view), foundation))
    straight, mirrored = answers
    assert len(straight) == len(mirrored) >= 2
    assert straight.boxes is not None
    assert mirrored.boxes is not None
    x1, y1, x2, y2 = straight.boxes.unbind(1)
    if 3 in dims:
        x1, x2 = 192 - x2, 192 - x1
    if 2 in dims:
        y1, y2 = 128 - y2, 128 - y1
    owners = straight.image_index.float()
    expected = sorted(torch.stack([owners, x1, y1, x2, y2], dim=1).tolist())
    found = torch.cat([mirrored.image_index[:, None].float(), mirrored.boxes], dim=1)
    assert sorted(found.tolist()) == expected
    assert straight.mask_logits is not None
    assert mirrored.mask_logits is not None
    for owner in (0, 1):
        one = straight.mask_logits[straight.image_index == owner][0].flip([dim - 1 for dim in dims])
        other = mirrored.mask_logits[mirrored.image_index == owner][0]
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4)


def test_an_empty_tile_has_no_prompts_and_no_crash(
    prompter: SegFormerPrompter, foundation: FakeFoundation, images: Tensor
) -> None:
    coarse = prompter.coarse(images)
    nothing = Coarse(torch.tensor([5.0, -5.0]).view(1, 2, 1, 1).expand_as(coarse.logits), coarse.features)
    features = foundation.encode(images)
    prompts = prompter.prompts(nothing, features, foundation)
    assert len(prompts) == 0
    masks = foundation.decode(features, prompts)
    coarse_part = compute_log_odds(nothing.logits)[prompts.image_index]
    assert prompter.fuse(coarse_part, masks.logits).shape == (0, 1, 16, 24)


def test_proposals_of_others_are_worded_in_their_order(
    prompter: SegFormerPrompter, foundation: FakeFoundation, images: Tensor
) -> None:
    boxes = torch.tensor([[40.0, 8, 90, 60], [0, 0, 10, 10], [4, 4, 60, 60]])
    owners = torch.tensor([1, 0, 1])
    given = PromptSet.from_boxes(boxes, image_index=owners, mask_logits=torch.randn(3, 1, 16, 24))
    features = foundation.encode(images)
    prompts = prompter.prompts(prompter.coarse(images), features, foundation, given)
    assert torch.equal(prompts.image_index, owners)
    assert prompts.boxes is given.boxes
    assert prompts.mask_logits is given.mask_logits
    alone = prompter.prompts(prompter.coarse(images), features, foundation, given[1:2])
    assert prompts.tokens is not None
    assert alone.tokens is not None
    torch.testing.assert_close(prompts.tokens[1:2], alone.tokens)


@pytest.mark.parametrize("mixer", ["mlp", "add"])
def test_parts_can_be_switched_off(foundation: FakeFoundation, images: Tensor, mixer: str) -> None:
    torch.manual_seed(0)
    full = SegFormerPrompter(PrompterConfig(mixer=mixer)).eval()  # type: ignore[arg-type]
    coarse, features = seen(full, images), foundation.encode(images)
    tokens = {}
    for part in ("none", "box", "mask", "sam_embedding", "segformer_embedding"):
        prompts = with_parts(full, **({} if part == "none" else {part: False})).prompts(
            coarse, features, foundation
        )
        assert len(prompts) == 4
        assert (prompts.boxes is None) == (part == "box")
        assert (prompts.mask_logits is None) == (part == "mask")
        assert prompts.tokens is not None
        tokens[part] = prompts.tokens
        assert torch.isfinite(foundation.decode(features, prompts).logits).all()
    assert torch.equal(tokens["none"], tokens["mask"])
    for part in ("box", "sam_embedding", "segformer_embedding"):
        assert not torch.allclose(tokens["none"], tokens[part])


@pytest.mark.parametrize("off", list(product([True, False], repeat=4)))
@pytest.mark.parametrize("count", [0, 3])
def test_every_combination_of_parts_can_be_decoded(
    prompter: SegFormerPrompter, foundation: FakeFoundation, images: Tensor, off: tuple[bool, ...], count: int
) -> None:
    one = copy.copy(prompter)
    one.config = replace(prompter.config, parts=PromptParts(*off))
    coarse, features = seen(prompter, images), foundation.encode(images)
    boxes = torch.tensor([[8.0, 8, 60, 60], [0, 0, 20, 30], [40, 4, 96, 64]])[:count]
    given = PromptSet.from_boxes(
        boxes, mask_logits=compute_log_odds(coarse.logits)[:1].expand(count, -1, -1, -1)
    )
    masks = foundation.decode(features, one.prompts(coarse, features, foundation, given))
    assert masks.logits.shape == (count, 1, 16, 24)
    assert torch.isfinite(masks.logits).all()


def test_tokens_alone_carry_the_pooled_features(
    prompter: SegFormerPrompter, foundation: FakeFoundation, images: Tensor
) -> None:
    bare = with_parts(prompter, box=False, mask=False)
    prompts = bare.prompts(seen(prompter, images), foundation.encode(images), foundation)
    assert prompts.boxes is None
    assert prompts.mask_logits is None
    assert prompts.tokens is not None
    # Two prompts of one image are then the same, two images differ.
    assert torch.equal(prompts.tokens[0], prompts.tokens[1])
    assert not torch.allclose(prompts.tokens[0], prompts.tokens[2])


def test_short_types_change_little_and_tokens_stay_float32(
    prompter: SegFormerPrompter, foundation: FakeFoundation, images: Tensor
) -> None:
    answers = []
    boxes = torch.tensor([[8.0, 8, 60, 60]])
    for enabled in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            coarse, features = prompter.coarse(images), foundation.encode(images)
            given = PromptSet.from_boxes(boxes, mask_logits=compute_log_odds(coarse.logits)[:1])
            prompts = prompter.prompts(coarse, features, foundation, given)
            logits = foundation.decode(features, prompts).logits
        assert prompts.tokens is not None
        assert prompts.tokens.dtype == features.image.dtype
        assert compute_log_odds(coarse.logits).dtype == torch.float32
        answers.append((compute_log_odds(coarse.logits), prompts.tokens.float(), logits.float()))
    for exact, short in zip(*answers, strict=True):
        assert float((exact - short).std()) < 0.1 * float(exact.std())


def test_without_embeddings_the_foundation_words_the_box_itself(
    prompter: SegFormerPrompter, foundation: FakeFoundation, images: Tensor
) -> None:
    plain = with_parts(prompter, sam_embedding=False, segformer_embedding=False)
    prompts = plain.prompts(seen(prompter, images), foundation.encode(images), foundation)
    assert prompts.tokens is None
    assert prompts.boxes is not None
