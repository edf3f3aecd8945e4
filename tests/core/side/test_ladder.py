"""The ladder and the class decoder: what the gates blend, what learns, what stays the foundation's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from domainsam.errors import ConfigError, WeightsError
from domainsam.foundation.decoders.compact import CompactSam
from domainsam.foundation.decoders.sam import decode_all
from domainsam.foundation.embedded import EmbeddedFoundation
from domainsam.foundation.fake import FakeFoundation
from domainsam.foundation.sam import SamFoundation, SamNetwork, SamSize
from domainsam.prompts import PromptSet
from domainsam.protocols import Features, Foundation, SideNetwork
from domainsam.side.classes import ClassDecoder
from domainsam.side.ladder import Ladder, LadderConfig, load_specialist

RESNET18_TO_STRIDE_16 = 2_782_784
"""conv1 9,408 + norm 128 + layers 147,968 + 525,568 + 2,099,712."""
SAM_UPSCALING = 73_952
"""256 * 64 * 4 + 64, norm 128, 64 * 32 * 4 + 32."""


@pytest.fixture(scope="module")
def compact() -> EmbeddedFoundation:
    torch.manual_seed(3)
    return EmbeddedFoundation(CompactSam())


@pytest.fixture(scope="module")
def sam() -> SamFoundation:
    torch.manual_seed(4)
    network = SamNetwork(SamSize(width=32, depth=2, heads=2, global_blocks=(1,), image_size=64))
    return SamFoundation(network, "sam_vit_b", 64)


def model_of(foundation: Foundation) -> nn.Module:
    assert isinstance(foundation, EmbeddedFoundation | SamFoundation)
    return foundation.model


@pytest.fixture(params=["compact", "sam"])
def foundation(request: pytest.FixtureRequest) -> Foundation:
    return request.getfixturevalue(request.param)


def images(count: int = 2, side: int = 64) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(5))


def gated(ladder: Ladder, value: float) -> Ladder:
    nn.init.constant_(ladder.gates, value)
    return ladder.eval()


def nothing(count: int) -> PromptSet:
    index = torch.arange(count)
    return PromptSet(index, index, torch.ones(count))


def frozen_path(foundation: Foundation, features: Features) -> Tensor:
    """All four masks of the frozen foundation for a prompt that says nothing."""
    prompts = nothing(len(features.image))
    if isinstance(foundation, EmbeddedFoundation):
        return foundation.model.decode_all(features, prompts).logits
    assert isinstance(foundation, SamFoundation)
    encoder = foundation.model.prompt_encoder
    return decode_all(
        foundation.model.mask_decoder,
        features.image,
        features.levels,
        encoder.pe_layer(features.image.shape[-2:])[None],
        torch.zeros(len(features.image), 0, 256),
        encoder.no_mask_embed.weight[..., None, None],
    ).logits


@torch.no_grad()
def test_gate_of_one_is_the_frozen_foundation(foundation: Foundation) -> None:
    torch.manual_seed(0)
    ladder = gated(Ladder(LadderConfig()), float("inf"))
    decoder = ClassDecoder(foundation, 4).eval()
    features = foundation.encode(images())
    refined = ladder.refine(images(), features)
    assert torch.equal(refined.image, features.image)
    torch.testing.assert_close(decoder(refined), frozen_path(foundation, features), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("depths", [(16,), (16, 8, 4)])
def test_gate_of_zero_is_the_cnn_path(foundation: Foundation, depths: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ladder = gated(Ladder(LadderConfig(depths=depths)), float("-inf"))
    features = foundation.encode(images())
    other = foundation.encode(images().flip(-1))
    own = ladder.specialist(images())
    refined = ladder.refine(images(), features)
    assert torch.equal(refined.image, own[16])
    if len(depths) > 1:
        again = ladder.refine(images(), other)
        assert all(map(torch.equal, (refined.image, *refined.levels), (again.image, *again.levels)))


@torch.no_grad()
def test_gate_starts_as_an_even_blend(compact: EmbeddedFoundation) -> None:
    ladder = Ladder(LadderConfig()).eval()
    assert isinstance(ladder, SideNetwork)
    assert ladder.shares() == {16: 0.5}
    features = compact.encode(images())
    refined = ladder.refine(images(), features)
    expected = (features.image + ladder.specialist(images())[16]) / 2
    torch.testing.assert_close(refined.image, expected)
    assert refined.levels is not features.levels
    assert all(map(torch.equal, refined.levels, features.levels))


def test_no_gradient_reaches_the_foundation(foundation: Foundation) -> None:
    torch.manual_seed(0)
    ladder, decoder = Ladder(LadderConfig(depths=(16, 8, 4))), ClassDecoder(foundation, 9)
    features = foundation.encode(images())
    assert not features.image.requires_grad
    decoder(ladder(images(), features)).square().mean().backward()
    trained = [*ladder.named_parameters(), *decoder.named_parameters()]
    silent = [name for name, part in trained if part.grad is None or not part.grad.abs().any()]
    assert not silent
    assert all(part.grad is None and not part.requires_grad for part in model_of(foundation).parameters())


def count(module: nn.Module) -> int:
    return sum(part.numel() for part in module.parameters() if part.requires_grad)


def test_published_setting_trains_as_many_values_as_published(sam: SamFoundation) -> None:
    ladder, decoder = Ladder(LadderConfig()), ClassDecoder(sam, 9, tokens="random")
    assert count(ladder) == RESNET18_TO_STRIDE_16 + 1
    assert count(ladder) + count(decoder) == 2_856_737
    names = decoder.state_dict()
    assert "tokens" in names
    assert any(name.startswith("hypernetworks.8") for name in names)


def test_trained_tokens_and_hypernetworks_are_counted(sam: SamFoundation) -> None:
    hypernetwork = 2 * (256 * 256 + 256) + 256 * 32 + 32
    assert count(ClassDecoder(sam, 9)) == SAM_UPSCALING + 9 * 256 + 9 * hypernetwork


def test_the_foundation_is_neither_saved_nor_changed(compact: EmbeddedFoundation) -> None:
    before = {name: value.clone() for name, value in compact.model.state_dict().items()}
    decoder = ClassDecoder(compact, 3)
    assert not any("transformer" in name for name in decoder.state_dict())
    optimizer = torch.optim.SGD(decoder.parameters(), lr=1.0)
    decoder(compact.encode(images())).mean().backward()
    optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in compact.model.state_dict().items())


@torch.no_grad()
def test_segformer_encoder_as_specialist(compact: EmbeddedFoundation) -> None:
    torch.manual_seed(0)
    ladder = Ladder(LadderConfig("mit_b0", (16, 4))).eval()
    features = compact.encode(images())
    refined = ladder.refine(images(), features)
    assert refined.image.shape == features.image.shape
    assert refined.levels[0].shape == features.levels[0].shape
    assert not torch.equal(refined.levels[0], features.levels[0])
    assert torch.equal(refined.levels[1], features.levels[1])


@pytest.mark.parametrize("depths", [(8,), (16, 32), (16, 16), ()])
def test_unknown_depths_are_refused(depths: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="depths"):
        LadderConfig(depths=depths)


def test_unknown_specialist_is_refused() -> None:
    with pytest.raises(ConfigError, match="specialist"):
        Ladder(LadderConfig("no_such_net"))


def test_foundation_without_decoder_is_refused() -> None:
    with pytest.raises(ConfigError, match="no mask decoder"):
        ClassDecoder(FakeFoundation(), 2)


def test_published_weights_fill_the_specialist(tmp_path: object) -> None:
    torch.manual_seed(0)
    ladder, other = Ladder(LadderConfig()), Ladder(LadderConfig())
    path = f"{tmp_path}/resnet18.pth"
    weights = {**other.specialist.model.state_dict(), "fc.weight": torch.zeros(1000, 512)}
    torch.save(weights, path)
    load_specialist(ladder, path)
    same = zip(ladder.specialist.parameters(), other.specialist.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in same)
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="does not hold a resnet18"):
        load_specialist(ladder, path)
