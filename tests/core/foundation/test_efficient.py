"""Efficient generalists: exactly the official tensors, the published cost, loaded by name or by file."""

from __future__ import annotations

import hashlib
import logging
import zipfile
from pathlib import Path

import pytest
import torch
from timm.models.efficientvit_mit import LiteMLA
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from domainsam.errors import CheckpointError, WeightsError
from domainsam.foundation import load_foundation
from domainsam.foundation.efficient import (
    SPECS,
    EfficientFoundation,
    EfficientNetwork,
    build,
    merge_branches,
    normalise,
    save_network,
)
from domainsam.foundation.loading import identify, read_tensors
from domainsam.foundations import FOUNDATIONS
from domainsam.testing.contracts import make_images
from domainsam.weights import FOLDER_VARIABLE, find_weights, record_first_use
from tests.core.generalists import official_tensors, random_network, read_keys, write_official

SMALL = (
    "efficientsam_ti",
    "efficientvit_sam_l0",
    "efficientvit_sam_xl1",
    "repvit_sam",
    "edge_sam",
    "mobile_sam",
)
OFFICIAL = [name for name in SPECS if name not in ("lightening", "edge_sam_3x")]
PUBLISHED = {
    "efficientsam_ti": (6.16, 102),
    "efficientsam_s": (22.35, 246),
    "efficientvit_sam_l0": (34.8 - 4.06, 35),
    "efficientvit_sam_l1": (47.7 - 4.06, 49),
    "efficientvit_sam_l2": (61.3 - 4.06, 69),
    "efficientvit_sam_xl0": (117.0 - 4.06, 185),
    "efficientvit_sam_xl1": (203.3 - 4.06, 322),
    "repvit_sam": (23.16, 113),
    "edge_sam": (5.52, 20.0),
    "mobile_sam": (6.07 - 0.32, 38.8),
}
"""Millions of parameters and GMACs of the encoders: README of EfficientViT-SAM (with 4.06 M of SAM's other
parts), the papers of the others. MobileSAM's file has 0.32 M of a classifier that it never calls."""


def slow_unless(names: list[str], quick: tuple[str, ...]) -> list[object]:
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for weights."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture(scope="module")
def edge_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official("edge_sam", tmp_path_factory.mktemp("edge"))


def shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items()}


@pytest.mark.parametrize("name", slow_unless(OFFICIAL, SMALL))
def test_names_and_shapes_are_the_official_ones(name: str) -> None:
    with torch.device("meta"):
        network = EfficientNetwork(SPECS[name])
    listed = read_keys(name)
    ours = shapes(official_tensors(name, network))
    assert len(ours) == len(network.state_dict()), "two of our tensors have one official name"
    assert ours == {key: shape for key, shape in listed.items() if not key.startswith(SPECS[name].unused)}
    assert [other.name for other in FOUNDATIONS.values() if other.marks and other.marks.fit(listed)] == [name]


@pytest.mark.parametrize("name", slow_unless(list(PUBLISHED), ("efficientsam_ti", "mobile_sam")))
def test_parameters_and_operations_are_the_published_ones(name: str) -> None:
    spec, row = SPECS[name], FOUNDATIONS[name]
    side = spec.image_size // spec.shrink
    with torch.device("meta"):
        encoder = EfficientNetwork(spec).image_encoder.eval()
        images = torch.empty(1, 3, side, side)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        features = encoder(images)
    assert features.shape == (1, 256, 64, 64)
    millions = sum(part.numel() for part in encoder.parameters()) / 1e6
    gmacs = counter.get_total_flops() / 2e9
    assert millions == pytest.approx(PUBLISHED[name][0], rel=0.01)
    assert gmacs == pytest.approx(PUBLISHED[name][1], rel=0.01)
    assert row.parameters == pytest.approx(millions, rel=0.005)
    assert row.gmacs == pytest.approx(gmacs, rel=0.01)


@pytest.mark.parametrize("name", ["edge_sam", "mobile_sam", "efficientvit_sam_l0"])
def test_merging_norms_changes_nothing(name: str) -> None:
    encoder = random_network(name).image_encoder
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = encoder(images)
        merge_branches(encoder)
        after = encoder(images)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in encoder.modules())
    assert float((after - before).abs().max()) <= 1e-4 * float(before.abs().max())


def test_a_name_and_a_file_load_the_same_after_telling_licence_and_checksum(
    folder: Path, edge_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "edge_sam.pth"
    path.symlink_to(edge_file)
    digest = hashlib.sha256(edge_file.read_bytes()).hexdigest()
    with caplog.at_level(logging.WARNING):
        by_name = load_foundation("edge_sam")
    assert "weights of edge_sam are under the S-Lab License 1.0, non-commercial use only" in caplog.text
    assert f"the sha256 of {path} is {digest}" in caplog.text
    assert (folder / "edge_sam.pth.sha256").read_text() == f"{digest}  edge_sam.pth\n"
    assert record_first_use("edge_sam", path) is None, "it is told once"
    assert identify(edge_file) == "edge_sam"
    by_file = load_foundation(edge_file)
    assert by_name.name == by_file.name == "edge_sam"
    assert by_name.sha256 == by_file.sha256
    image = make_images(1, (64, 96))
    assert torch.equal(by_name.encode(image).image, by_file.encode(image).image)


def test_extra_heads_are_left_out_and_other_strangers_refused(edge_file: Path) -> None:
    tensors = read_tensors(edge_file)
    build({**tensors, "rpn_head.conv.weight": torch.zeros(1)}, SPECS["edge_sam"], "file.pth")
    with pytest.raises(CheckpointError, match=r"unexpected: image_encoder\.more"):
        build({**tensors, "image_encoder.more": torch.zeros(1)}, SPECS["edge_sam"], "file.pth")
    less = {name: value for name, value in tensors.items() if name != "image_encoder.neck.0.weight"}
    with pytest.raises(CheckpointError, match=r"missing: image_encoder\.neck\.0\.weight"):
        build(less, SPECS["edge_sam"], "file.pth")


def test_the_file_of_another_foundation_is_named(folder: Path, edge_file: Path) -> None:
    (folder / "mobile_sam.pt").symlink_to(edge_file)
    with pytest.raises(
        CheckpointError, match=r"holds the tensors of edge_sam, not of mobile_sam: say"
    ) as caught:
        load_foundation("mobile_sam")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "meant"),
    [("edgesam", "edge_sam"), ("efficientvit-sam-l0", "efficientvit_sam_l0"), ("mobilesam", "mobile_sam")],
)
def test_a_name_that_is_nearly_right_brings_the_right_one(given: str, meant: str) -> None:
    with pytest.raises(WeightsError, match=f"did you mean {meant}"):
        load_foundation(given)


def test_official_files_go_by_two_names_and_one_comes_in_a_zip(folder: Path) -> None:
    path = write_official("efficientsam_ti", folder)
    with zipfile.ZipFile(folder / "file.pt.zip", "w") as archive:
        archive.write(path, "weights/efficient_sam_vitt.pt")
    assert identify(folder / "file.pt.zip") == "efficientsam_ti"
    (folder / "xl1.pt").write_bytes(b"")
    assert find_weights("efficientvit_sam_xl1") == folder / "xl1.pt"


def test_half_sized_encoders_keep_the_frame_of_the_image() -> None:
    foundation = EfficientFoundation(random_network("efficientvit_sam_l0"), SPECS["efficientvit_sam_l0"])
    images = make_images(1, (96, 160))
    features = foundation.encode(images)
    assert features.size == (96, 160)
    small = F.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)
    padded = F.pad(normalise(small, foundation.spec), (0, 16, 0, 16))
    assert padded.shape[2:] == (64, 96), "half of the next multiples of 64"
    with torch.inference_mode():
        whole = foundation.model.image_encoder(padded)
    assert torch.allclose(features.image, whole[..., :6, :10], atol=1e-5)


def test_linear_attention_equals_its_quadratic_form() -> None:
    encoder = random_network("efficientvit_sam_l0").image_encoder
    attention = next(part for part in encoder.modules() if isinstance(part, LiteMLA))
    query, key, value = torch.randn(3, 2, 4, 30, 32, generator=torch.Generator().manual_seed(0)).unbind(0)
    query, key = query.relu(), key.relu()
    found = attention._attn(query, key, F.pad(value, (0, 1), value=1.0))
    weights = query @ key.transpose(-1, -2)
    assert torch.allclose(found, weights @ value / weights.sum(-1, keepdim=True), atol=1e-5)


def test_norms_and_linear_attention_have_the_official_epsilons() -> None:
    network = random_network("efficientvit_sam_l0")
    parts = list(network.modules())
    assert {part.eps for part in parts if isinstance(part, torch.nn.BatchNorm2d | torch.nn.LayerNorm)} == {
        1e-6
    }
    assert {part.eps for part in parts if type(part).__name__ == "LiteMLA"} == {1e-15}
    decoder = random_network("edge_sam").mask_decoder
    assert {part.eps for part in decoder.modules() if isinstance(part, torch.nn.LayerNorm)} == {1e-5}


def test_a_foundation_of_ones_own_is_found_by_its_name(folder: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"no weights of lightening are published.*lightening\.safetensors"
    ):
        load_foundation("lightening")
    network = random_network("lightening", segment=8, dilation=4)
    save_network(network, SPECS["lightening"], folder / "lightening.safetensors", segment=8, dilation=4)
    foundation = load_foundation("lightening")
    assert isinstance(foundation, EfficientFoundation)
    attention = foundation.model.image_encoder.blocks[0].attn
    assert (attention.segment, attention.dilation) == (8, 4)
    usual = random_network("lightening")
    usual.load_state_dict(network.state_dict())
    images = make_images(1, (64, 64))
    other = EfficientFoundation(usual, SPECS["lightening"])
    assert other.sha256 == foundation.sha256
    assert not torch.allclose(other.encode(images).image, foundation.encode(images).image, atol=1e-3)


@pytest.mark.parametrize("settings", [{"segment": 8, "dilation": 7}, {"segment": 9, "dilation": 2}])
def test_settings_that_do_not_fit_are_refused(folder: Path, settings: dict[str, int]) -> None:
    path = folder / "lightening.safetensors"
    save_network(random_network("lightening"), SPECS["lightening"], path, None, **settings)
    with pytest.raises(CheckpointError, match="dilated attention with segments"):
        load_foundation(path)
