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


def test_another_pyramid_is_read_back_as_it_was(tmp_path: Path) -> None:
    """Its batch norms are merged, its levels keep frame and strides."""
    network = CompactSam("test_efficientnet", 64).eval()
    about = {**METADATA, "encoder": "test_efficientnet", "mlp_dim": 64, "image_size": 64}
    read = load_foundation(save_embedded(network, tmp_path / "f.safetensors", about))
    assert read.name == "embedded_lite"
    assert isinstance(read, EmbeddedFoundation)
    assert not [m for m in read.model.encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = network.encode(images)
    found = read.encode(images)
    shapes = [(1, 256, 4, 6), (1, 32, 16, 24), (1, 64, 8, 12)]
    assert [tuple(level.shape) for level in (found.image, *found.levels)] == shapes
    torch.testing.assert_close(found.image, expected.image, atol=2e-2, rtol=2e-2)


class NormFirst(nn.Module):
    """A trunk whose norm is registered after its convolution and comes before it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        self.norm.running_mean += 1.5
        self.norm.running_var += 1.5

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [self.conv(self.norm(images))]


def test_norms_that_do_not_follow_their_neighbour_stay() -> None:
    network = CompactSam("test_efficientnet", 64)
    network.encoder.trunk = NormFirst()
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = network.eval().encoder.trunk(images)[0]
        merge_branches(network)
        torch.testing.assert_close(network.encoder.trunk(images)[0], expected)


def test_a_file_of_the_kind_that_is_gone_says_what_to_take(network: CompactSam, tmp_path: Path) -> None:
    path = save_embedded(network, tmp_path / "f.safetensors", {**METADATA, "scale": 5 / 8})
    with pytest.raises(CheckpointError, match="use embedded_lite, or train it anew"):
        load_foundation(path)
    with pytest.raises(WeightsError, match="embedded_fast is no longer shipped: take embedded_lite"):
        load_foundation("embedded_fast")


def test_levels_of_other_pyramids_than_repvit_are_normalised() -> None:
    assert "encoder.norms.3.weight" in CompactSam("test_resnet", 64).state_dict()
    assert not [name for name in CompactSam("repvit_m1", 64).state_dict() if "norms" in name]
