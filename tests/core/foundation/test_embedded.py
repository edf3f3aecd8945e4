"""The embedded foundation keeps its answers through saving, loading and merging its branches."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from domainsam.errors import CheckpointError, OutputError, WeightsError
from domainsam.foundation import embedded, load_foundation
from domainsam.foundation.base import digest_tensors
from domainsam.foundation.decoders.compact import CompactSam
from domainsam.foundation.embedded import EmbeddedFoundation, merge_branches, read_header, save_embedded
from domainsam.foundation.loading import read_tensors
from domainsam.testing.contracts import make_images, make_prompts

METADATA = {"name": "embedded", "version": "1", "licence": "Apache-2.0", "image_size": 64}
SIZE = (64, 96)


@pytest.fixture(scope="module")
def network() -> CompactSam:
    """Random weights that float16 holds exactly, with batch statistics that are not trivial."""
    torch.manual_seed(0)
    model = CompactSam()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())
    return model.eval()


def test_saved_and_loaded_gives_the_same_masks(network: CompactSam, tmp_path: Path) -> None:
    path = save_embedded(network, tmp_path / "new" / "embedded.safetensors", METADATA)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    foundation = load_foundation(path)
    assert (foundation.name, foundation.image_size) == ("embedded", 64)
    assert foundation.sha256 == digest_tensors(network.state_dict())
    assert read_header(path)["licence"] == "Apache-2.0"
    images, prompts = make_images(2, SIZE), make_prompts(3, 2, SIZE)
    with torch.no_grad():
        expected = network.decode(network.encode(images), prompts)
        found = foundation.decode(foundation.encode(images), prompts)
    limit = 1e-4 * float(expected.logits.abs().max())
    assert float((found.logits - expected.logits).abs().max()) <= limit


def test_merged_branches_give_the_same_features(network: CompactSam) -> None:
    merged = copy.deepcopy(network)
    merge_branches(merged)
    convolutions = [sum(isinstance(m, nn.Conv2d) for m in model.modules()) for model in (network, merged)]
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in merged.encoder.modules())
    assert convolutions[1] < convolutions[0]
    assert norms == 0
    images = make_images(1, SIZE)
    with torch.no_grad():
        expected, found = network.encode(images), merged.encode(images)
    for one, other in zip((found.image, *found.levels), (expected.image, *expected.levels), strict=True):
        assert float((one - other).abs().max()) <= 1e-4 * max(1.0, float(other.abs().max()))


def test_bfloat16_gives_nearly_the_same_masks(network: CompactSam) -> None:
    images, prompts = make_images(1, SIZE), make_prompts(3, 1, SIZE)
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        foundation = EmbeddedFoundation(copy.deepcopy(network), dtype=dtype)
        results.append(foundation.decode(foundation.encode(images), prompts).logits)
    assert results[1].dtype == torch.float32
    assert float((results[0] - results[1]).std() / results[0].std()) < 0.1


def test_absent_weights_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "WEIGHTS", tmp_path / "embedded.safetensors")
    with pytest.raises(WeightsError, match="reinstall domainsam"):
        load_foundation()


def test_metadata_must_name_version_and_licence(network: CompactSam, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="lacks version, licence"):
        save_embedded(network, tmp_path / "embedded.safetensors", {"name": "embedded"})
    assert not list(tmp_path.iterdir())


def test_weights_that_float16_cannot_hold_are_refused(network: CompactSam, tmp_path: Path) -> None:
    broken = copy.deepcopy(network)
    with torch.no_grad():
        broken.decoder.iou_token.weight[0, 0] = 1e6
    with pytest.raises(CheckpointError, match=r"decoder\.iou_token\.weight"):
        save_embedded(broken, tmp_path / "embedded.safetensors", METADATA)
    assert not list(tmp_path.iterdir())


def test_unwritable_folder_is_one_line(network: CompactSam, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        save_embedded(network, tmp_path / "file" / "embedded.safetensors", METADATA)


def test_other_safetensors_are_refused(network: CompactSam, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()},
        tmp_path / "bare.safetensors",
    )
    with pytest.raises(CheckpointError, match="header"):
        load_foundation(tmp_path / "bare.safetensors")


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (160, 224)])
def test_a_scaled_encoder_keeps_frame_and_strides(size: tuple[int, int]) -> None:
    """Its trunk sees 5/8 of the sides; the detail adds nothing before it has learnt, and then something."""
    height, width = size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = CompactSam("test_efficientnet", 64, 5 / 8).eval()
    seen: list[tuple[int, ...]] = []
    network.encoder.trunk.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape[-2:])))
    images = torch.rand(1, 3, height, width)
    with torch.no_grad():
        features = network.encode(images)
        assert features.size == size
        assert features.image.shape == (1, 256, height // 16, width // 16)
        assert [tuple(level.shape[1:]) for level in features.levels] == [
            (32, height // 4, width // 4),
            (64, height // 8, width // 8),
        ]
        assert seen == [tuple(-(-side * 5 // 8 // 32) * 32 for side in size)]
        assert network.encoder.detail is not None
        assert float(network.encoder.detail(images).abs().max()) == 0
        torch.nn.init.ones_(network.encoder.detail.mix.weight)
        assert not torch.equal(network.encode(images).levels[0], features.levels[0])


def test_a_scaled_network_is_read_back_as_it_was(tmp_path: Path) -> None:
    network = CompactSam("test_efficientnet", 64, 5 / 8).eval()
    about = {**METADATA, "encoder": "test_efficientnet", "mlp_dim": 64, "scale": 5 / 8, "image_size": 64}
    path = save_embedded(network, tmp_path / "f.safetensors", about)
    read = load_foundation(path)
    assert read.name == "embedded_fast"
    images = make_images(1, SIZE)
    with torch.no_grad():
        expected = network.encode(images)
    torch.testing.assert_close(read.encode(images).image, expected.image, atol=2e-2, rtol=2e-2)


@pytest.mark.slow
def test_an_encoder_alone_goes_with_the_decoder_that_it_was_taught_for(tmp_path: Path) -> None:
    shipped = load_foundation("embedded_fast")
    network = CompactSam(scale=5 / 8)
    network.load_state_dict(load_whole("embedded_fast"))
    about = {**METADATA, "scale": 5 / 8}
    path = save_embedded(network, tmp_path / "f.safetensors", about, borrow=True)
    assert path.stat().st_size < 12e6
    assert load_foundation(path).sha256 == shipped.sha256
    with torch.no_grad():
        network.decoder.iou_token.weight.add_(1)
    with pytest.raises(CheckpointError, match="decoder is not the embedded foundation's"):
        save_embedded(network, tmp_path / "g.safetensors", about, borrow=True)
    whole = save_embedded(network, tmp_path / "h.safetensors", {**about, embedded.BORROWED: "0" * 64})
    with pytest.raises(CheckpointError, match="for another decoder") as caught:
        load_foundation(whole)
    assert "\n" not in str(caught.value)


def load_whole(name: str) -> dict[str, torch.Tensor]:
    """All tensors of a shipped foundation, borrowed ones too."""
    path = embedded.WEIGHTS.with_name(f"{name}.safetensors")
    return embedded.complete(read_tensors(path), embedded.read_header(path), path)


def test_levels_of_other_pyramids_than_repvit_are_normalised() -> None:
    assert "encoder.norms.3.weight" in CompactSam("test_resnet", 64).state_dict()
    assert not [name for name in CompactSam("repvit_m1", 64).state_dict() if "norms" in name]
