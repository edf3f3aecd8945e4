"""The specialist: coarse masks, encoder weights, and the published code's defects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from domainsam.errors import ConfigError, MissingInputError, WeightsError
from domainsam.foundation.fake import FakeFoundation
from domainsam.prompter.segformer import Blur, PrompterConfig, SegFormerPrompter, compute_log_odds
from domainsam.prompter.segformer_parts import MIT_SIZES, LevelShare, build_encoder, load_pretrained
from domainsam.prompts import PromptSet
from tests.core.prompter.coarse_looks import with_parts


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
    assert coarse.features is not None
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
        shares = [share for share in list(ours.shares)[::-1] if isinstance(share, LevelShare)]
        weight = torch.cat([share.fuse.weight for share in shares], dim=1)
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
    proposals = PromptSet.from_boxes(boxes, mask_logits=compute_log_odds(coarse.logits)[:1])
    prompts = prompter.prompts(coarse, features, foundation, proposals)
    masks = foundation.decode(features, prompts)
    fused = prompter.fuse(compute_log_odds(coarse.logits)[prompts.image_index], masks.logits)
    (fused.square().sum() + masks.iou.sum()).backward()
    assert [name for name, value in prompter.named_parameters() if value.grad is None] == []


def test_log_odds_are_those_of_not_background() -> None:
    logits = torch.randn(2, 4, 3, 3)
    expected = torch.logit(1 - torch.softmax(logits, 1)[:, :1])
    torch.testing.assert_close(compute_log_odds(logits), expected, rtol=1e-4, atol=1e-5)
    two = logits[:, :2]
    torch.testing.assert_close(compute_log_odds(two), two[:, 1:] - two[:, :1])


def test_wide_encoders_are_projected_to_the_tokens_width(foundation: FakeFoundation) -> None:
    prompter = SegFormerPrompter(PrompterConfig(encoder="mit_b2")).eval()
    images = torch.rand(1, 3, 64, 64)
    coarse = prompter.coarse(images)
    assert coarse.features is not None
    assert coarse.features.shape[1] == 768
    proposals = PromptSet.from_boxes(torch.tensor([[8.0, 8, 60, 60]]), mask_logits=torch.zeros(1, 1, 16, 16))
    prompts = prompter.prompts(coarse, foundation.encode(images), foundation, proposals)
    assert prompts.tokens is not None
    assert prompts.tokens.shape == (1, 2, 256)


def test_a_shallower_trunk_sees_less_far() -> None:
    """What is beyond 250 pixels changes an answer through the deepest level, and not without it."""
    image = torch.rand(1, 3, 32, 1024, generator=torch.Generator().manual_seed(0))
    other = image.clone()
    other[..., :256] = 0.5
    for deepest, changes in ((32, True), (16, False)):
        torch.manual_seed(0)
        prompter = SegFormerPrompter(PrompterConfig(encoder="efficientnet_lite0", deepest=deepest)).eval()
        with torch.inference_mode():
            one, two = (prompter.coarse_logits(each)[..., 128:] for each in (image, other))
        assert bool((one != two).any()) is changes


def test_blur_is_that_of_scipy() -> None:
    images = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    found = Blur(1.2)(images)
    sigma = (0, 0, 1.2, 1.2)
    expected = ndimage.gaussian_filter(images.double().numpy(), sigma, mode="nearest", truncate=3.3)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_a_blurred_scene_is_nearly_the_same_to_a_prompter_that_blurs() -> None:
    image = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    apart = {}
    for blur in (0.0, 1.2):
        torch.manual_seed(0)
        config = PrompterConfig(encoder="efficientnet_lite0", deepest=16, blur=blur)
        prompter = SegFormerPrompter(config).eval()
        with torch.inference_mode():
            sharp, soft = (prompter.coarse_logits(each) for each in (image, Blur(0.5)(image)))
        apart[blur] = float((sharp - soft).abs().mean() / sharp.std())
    assert apart[1.2] < apart[0.0] / 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PrompterConfig(blur=-1.0), "blur is -1.0, expected 0 to 4 pixels"),
        (PrompterConfig(blur=float("nan")), "blur is nan, expected 0 to 4 pixels"),
        (PrompterConfig(encoder="mit_b9"), "mit_b9"),
        (PrompterConfig(mixer="sum"), "'mlp' or 'add'"),  # type: ignore[arg-type]
        (PrompterConfig(fusion="mean"), "'sam' or 'gate'"),  # type: ignore[arg-type]
        (PrompterConfig(deepest=16), "stride 16.*32 of a SegFormer"),
        (PrompterConfig(encoder="efficientnet_lite0", deepest=12), "stride 12, expected one of 4, 8, 16, 32"),
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


def test_a_trunk_of_timm_takes_the_place_of_the_segformer() -> None:
    config = PrompterConfig(encoder="efficientnet_lite0", head_width=32)
    prompter = SegFormerPrompter(config).eval()
    coarse = prompter.coarse(torch.rand(1, 3, 64, 96))
    assert coarse.logits.shape == (1, 2, 16, 24)
    assert coarse.features is not None
    assert coarse.features.shape == (1, 32, 16, 24)
    assert prompter.config.mean == (0.485, 0.456, 0.406), "the model's file says what its trunk was given"
    assert SegFormerPrompter(PrompterConfig(encoder="efficientnet_lite0")).head.norm.num_features == 128
    own = SegFormerPrompter(PrompterConfig(encoder="efficientnet_lite0", mean=(0.5, 0.4, 0.3)))
    assert own.mean.flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert own.config.std == (0.229, 0.224, 0.225)


def test_a_trunk_is_the_same_with_and_without_gradients() -> None:
    prompter = SegFormerPrompter(PrompterConfig(encoder="efficientnet_lite0", head_width=32)).eval()
    images = torch.rand(2, 3, 64, 64)
    whole = prompter.coarse(images).logits
    with torch.no_grad():
        torch.testing.assert_close(prompter.coarse_logits(images), whole, rtol=1e-4, atol=1e-4)


def test_a_temperature_divides_the_log_odds(prompter: SegFormerPrompter, images: Tensor) -> None:
    hot = SegFormerPrompter(PrompterConfig(temperature=2.0)).eval()
    hot.load_state_dict(prompter.state_dict())
    with torch.no_grad():
        cold = compute_log_odds(prompter.coarse(images).logits)
        torch.testing.assert_close(compute_log_odds(hot.coarse(images).logits), cold / 2)
        torch.testing.assert_close(compute_log_odds(hot.coarse_logits(images)), cold / 2)
    with pytest.raises(ConfigError, match="temperature is 0"):
        SegFormerPrompter(PrompterConfig(temperature=0))


def test_weights_of_transformers_are_no_trunk_s(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--trunk-weights"):
        load_pretrained(build_encoder("efficientnet_lite0"), str(tmp_path))
