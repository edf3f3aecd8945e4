"""The specialist: coarse masks, the wording of prompts, and the published code's defects."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from domainsam.errors import ConfigError, MissingInputError, WeightsError
from domainsam.foundation.fake import FakeFoundation
from domainsam.prompter.proposals import ProposalConfig
from domainsam.prompter.segformer import PrompterConfig, PromptParts, SegFormerPrompter, log_odds
from domainsam.prompter.segformer_parts import MIT_SIZES, build_encoder, load_pretrained
from domainsam.prompts import PromptSet
from domainsam.protocols import Coarse


@pytest.fixture(scope="module")
def prompter() -> SegFormerPrompter:
    torch.manual_seed(0)
    return SegFormerPrompter().eval()


@pytest.fixture(scope="module")
def foundation() -> FakeFoundation:
    return FakeFoundation()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def with_parts(prompter: SegFormerPrompter, **parts: bool) -> SegFormerPrompter:
    other = SegFormerPrompter(replace(prompter.config, parts=PromptParts(**parts))).eval()
    other.load_state_dict(prompter.state_dict())
    return other


def seen(prompter: SegFormerPrompter, images: Tensor) -> Coarse:
    """A first look whose logits hold two clear objects in each image."""
    coarse = prompter.coarse(images)
    logits = torch.zeros_like(coarse.logits)
    logits[:, 1] = -5
    logits[:, 1, 1:8, 2:9] = 5
    logits[:, 1, 9:15, 12:22] = 5
    return Coarse(logits, coarse.features)


def test_trained_parts_have_the_published_sizes(prompter: SegFormerPrompter) -> None:
    # log/beijing_output.log of UV-SAM: 3.3 M encoder, 395 K head, 524 K mixer.
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in prompter.named_children()}
    assert round(sizes["encoder"] / 1e6, 1) == 3.3
    assert sizes["head"] // 1000 == 395
    assert sizes["mixer"] // 1000 == 524


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (160, 32)])
def test_any_multiple_of_32_works(prompter: SegFormerPrompter, height: int, width: int) -> None:
    coarse = prompter.coarse(torch.rand(1, 3, height, width))
    assert coarse.logits.shape == (1, 2, height // 4, width // 4)
    assert coarse.features.shape == (1, 256, height // 4, width // 4)


@pytest.mark.parametrize("shape", [(1, 3, 60, 64), (3, 64, 64), (1, 4, 64, 64)])
def test_other_shapes_are_refused(prompter: SegFormerPrompter, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        prompter.coarse(torch.rand(shape))


def test_an_image_does_not_see_its_batch(prompter: SegFormerPrompter, images: Tensor) -> None:
    together = prompter.coarse(images)
    for index in range(2):
        alone = prompter.coarse(images[[index]])
        torch.testing.assert_close(alone.logits, together.logits[[index]], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.features, together.features[[index]], rtol=1e-4, atol=1e-5)


def test_head_computes_what_the_published_one_does(prompter: SegFormerPrompter, images: Tensor) -> None:
    reference = SegformerForSemanticSegmentation(SegformerConfig(num_labels=2)).eval()
    reference.segformer.load_state_dict(prompter.encoder.model.state_dict())
    theirs, ours = reference.decode_head, prompter.head
    with torch.no_grad():
        for index, share in enumerate(ours.shares):
            theirs.linear_projections[index].proj.load_state_dict(share.project.state_dict())
        # Their concatenation runs from the coarsest level to the finest.
        weight = torch.cat([share.fuse.weight for share in list(ours.shares)[::-1]], dim=1)
        theirs.linear_fuse.weight.copy_(weight[:, :, None, None])
        theirs.batch_norm.load_state_dict(ours.norm.state_dict())
        theirs.classifier.load_state_dict(ours.classify.state_dict())
        expected = reference(pixel_values=(images - prompter.mean) / prompter.std).logits
        torch.testing.assert_close(prompter.coarse(images).logits, expected, rtol=1e-3, atol=1e-4)


def test_channels_are_read_as_red_green_blue(prompter: SegFormerPrompter, foundation: FakeFoundation) -> None:
    # The published inference reverses the channels twice over and so feeds BGR.
    coloured = torch.zeros(1, 3, 32, 32)
    coloured[:, 0] = 1.0
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = ((torch.tensor([1.0, 0.0, 0.0]) - mean) / std).view(1, 3, 1, 1).expand_as(coloured)
    received = []
    hook = prompter.encoder.register_forward_pre_hook(lambda _, inputs: received.append(inputs[0]))
    prompter.coarse(coloured)
    hook.remove()
    torch.testing.assert_close(received[0], expected)
    assert not torch.allclose(prompter.coarse(coloured).logits, prompter.coarse(coloured.flip(1)).logits)
    assert not torch.equal(foundation.encode(coloured).image, foundation.encode(coloured.flip(1)).image)


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
    mirrored = Coarse(straight.logits.flip(dims), straight.features.flip(dims))
    flipped = images.flip(dims)
    prompts = prompter.prompts(mirrored, foundation.encode(flipped), foundation)
    assert prompts.boxes is not None
    assert prompts.mask_logits is not None
    inside = log_odds(mirrored.logits) > 0
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
        middle = log_odds(coarse.logits).median()
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
    coarse_part = log_odds(nothing.logits)[prompts.image_index]
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
    given = PromptSet.from_boxes(boxes, mask_logits=log_odds(coarse.logits)[:1].expand(count, -1, -1, -1))
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
            given = PromptSet.from_boxes(boxes, mask_logits=log_odds(coarse.logits)[:1])
            prompts = prompter.prompts(coarse, features, foundation, given)
            logits = foundation.decode(features, prompts).logits
        assert prompts.tokens is not None
        assert prompts.tokens.dtype == features.image.dtype
        assert log_odds(coarse.logits).dtype == torch.float32
        answers.append((log_odds(coarse.logits), prompts.tokens.float(), logits.float()))
    for exact, short in zip(*answers, strict=True):
        assert float((exact - short).std()) < 0.1 * float(exact.std())


def test_encoder_levels_are_the_hidden_states_of_the_published_one(
    prompter: SegFormerPrompter, images: Tensor
) -> None:
    with torch.no_grad():
        levels = prompter.encoder(images)
        published = prompter.encoder.model(pixel_values=images, output_hidden_states=True).hidden_states
    stages = [level for level in published if level.shape[1:] != images.shape[1:]]
    assert [level.shape[-1] for level in levels] == [24, 12, 6, 3]
    for level, expected in zip(levels, stages, strict=True):
        torch.testing.assert_close(level, expected.reshape(level.shape), rtol=1e-5, atol=1e-6)


def test_without_embeddings_the_foundation_words_the_box_itself(
    prompter: SegFormerPrompter, foundation: FakeFoundation, images: Tensor
) -> None:
    plain = with_parts(prompter, sam_embedding=False, segformer_embedding=False)
    prompts = plain.prompts(seen(prompter, images), foundation.encode(images), foundation)
    assert prompts.tokens is None
    assert prompts.boxes is not None


def test_fuse_as_published_with_a_gate_and_without_sam(prompter: SegFormerPrompter) -> None:
    coarse, mask = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    assert torch.equal(prompter.fuse(coarse, mask), mask)
    assert torch.equal(with_parts(prompter, sam=False).fuse(coarse, mask), coarse)
    gated = SegFormerPrompter(PrompterConfig(fusion="gate"))
    torch.testing.assert_close(gated.fuse(coarse, mask), (coarse + mask) / 2)
    assert gated.gate is not None
    with torch.no_grad():
        gated.gate.fill_(50.0)
    torch.testing.assert_close(gated.fuse(coarse, mask), mask)


def test_gradients_reach_every_trained_tensor(foundation: FakeFoundation, images: Tensor) -> None:
    torch.manual_seed(0)
    prompter = SegFormerPrompter(PrompterConfig(fusion="gate", drop_path=0.0)).train()
    coarse, features = prompter.coarse(images), foundation.encode(images)
    boxes = torch.tensor([[8.0, 8, 60, 60]])
    proposals = PromptSet.from_boxes(boxes, mask_logits=log_odds(coarse.logits)[:1])
    prompts = prompter.prompts(coarse, features, foundation, proposals)
    masks = foundation.decode(features, prompts)
    fused = prompter.fuse(log_odds(coarse.logits)[prompts.image_index], masks.logits)
    (fused.square().sum() + masks.iou.sum()).backward()
    assert [name for name, value in prompter.named_parameters() if value.grad is None] == []


def test_log_odds_are_those_of_not_background() -> None:
    logits = torch.randn(2, 4, 3, 3)
    expected = torch.logit(1 - torch.softmax(logits, 1)[:, :1])
    torch.testing.assert_close(log_odds(logits), expected, rtol=1e-4, atol=1e-5)
    two = logits[:, :2]
    torch.testing.assert_close(log_odds(two), two[:, 1:] - two[:, :1])


def test_wide_encoders_are_projected_to_the_tokens_width(foundation: FakeFoundation) -> None:
    prompter = SegFormerPrompter(PrompterConfig(encoder="mit_b2")).eval()
    images = torch.rand(1, 3, 64, 64)
    coarse = prompter.coarse(images)
    assert coarse.features.shape[1] == 768
    proposals = PromptSet.from_boxes(torch.tensor([[8.0, 8, 60, 60]]), mask_logits=torch.zeros(1, 1, 16, 16))
    prompts = prompter.prompts(coarse, foundation.encode(images), foundation, proposals)
    assert prompts.tokens is not None
    assert prompts.tokens.shape == (1, 2, 256)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PrompterConfig(encoder="mit_b9"), "mit_b9"),
        (PrompterConfig(mixer="sum"), "'mlp' or 'add'"),  # type: ignore[arg-type]
        (PrompterConfig(fusion="mean"), "'sam' or 'gate'"),  # type: ignore[arg-type]
    ],
)
def test_impossible_configurations_are_refused(config: PrompterConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SegFormerPrompter(config)


def test_encoder_weights_come_from_a_local_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    published = build_encoder("mit_b0")
    published.model.save_pretrained(tmp_path / "mit-b0")
    other = build_encoder("mit_b0")
    load_pretrained(other, str(tmp_path / "mit-b0"))
    for name, value in other.model.state_dict().items():
        assert torch.equal(value, published.model.state_dict()[name])


def test_encoder_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    build_encoder("mit_b0").model.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"\(32, 64, 160, 256\), expected \(64, 128, 320, 512\)"):
        load_pretrained(build_encoder("mit_b1"), str(tmp_path))


def test_absent_encoder_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingInputError, match="no folder"):
        load_pretrained(build_encoder("mit_b0"), str(tmp_path / "nowhere"))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match="allow the download"):
        load_pretrained(build_encoder("mit_b0"), "somebody/never-downloaded")


def test_sizes_cover_b0_to_b5() -> None:
    assert list(MIT_SIZES) == [f"mit_b{index}" for index in range(6)]


def test_a_frozen_segformer_stays_as_it_is_while_the_rest_learns() -> None:
    prompter = SegFormerPrompter(PrompterConfig(fusion="gate"))
    prompter.freeze_segformer()
    prompter.train()
    images = torch.rand(2, 3, 64, 64)
    known = {name: tensor.clone() for name, tensor in prompter.state_dict().items()}
    assert torch.equal(prompter.coarse(images).logits, prompter.coarse(images).logits), (
        "no dropout, no drop path"
    )
    for name, tensor in prompter.state_dict().items():
        assert torch.equal(tensor, known[name]), f"{name}: batch norms must not follow the batches"
    learning = {name.split(".")[0] for name, part in prompter.named_parameters() if part.requires_grad}
    assert learning == {"mixer", "gate"}
