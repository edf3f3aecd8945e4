"""Trunks of timm by name, and pretrained weights of which every tensor is accounted for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from domainsam.errors import CheckpointError, ConfigError, WeightsError
from domainsam.tensorfile import COUNTER
from domainsam.trunks import build_trunk, find_normalisation, load_trunk

LITE = "efficientnet_lite0"


@pytest.fixture(scope="module")
def whole() -> dict[str, Tensor]:
    """A whole classifier's tensors, each with values of its own."""
    torch.manual_seed(3)
    return {name: value.clone() for name, value in timm.create_model(LITE).state_dict().items()}


def same(trunk: Any, tensors: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, tensors[name]) for name, value in trunk.model.state_dict().items())


def test_a_trunk_gives_four_levels_by_name() -> None:
    trunk = build_trunk(LITE).eval()
    levels = trunk(torch.zeros(1, 3, 64, 96))
    assert trunk.widths == (24, 40, 112, 320)
    assert [tuple(level.shape) for level in levels] == [
        (1, width, 64 // stride, 96 // stride)
        for width, stride in zip((24, 40, 112, 320), (4, 8, 16, 32), strict=True)
    ]


def test_a_trunk_gives_the_levels_that_are_asked_for() -> None:
    trunk = build_trunk("resnet18", strides=(8, 16))
    assert trunk.widths == (128, 256)
    assert [level.shape[-1] for level in trunk.eval()(torch.zeros(1, 3, 64, 64))] == [8, 4]


def test_nothing_is_built_behind_the_last_level_that_is_asked_for(
    whole: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(whole, tmp_path / "w.safetensors")
    short, long = build_trunk(LITE, strides=(4, 8, 16)).eval(), build_trunk(LITE).eval()
    assert sum(value.numel() for value in short.parameters()) < 0.3 * sum(
        value.numel() for value in long.parameters()
    )
    note = load_trunk(short, tmp_path / "w.safetensors")
    load_trunk(long, tmp_path / "w.safetensors")
    assert "not needed" in note
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for one, other in zip(short(image), long(image), strict=False):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "said"),
    [("efficientnet_lite", "near: efficientnet_lite"), ("nothing_of_the_kind", "expected a network of timm")],
)
def test_an_unknown_trunk_is_an_error(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_trunk(name)


def test_a_network_without_a_pyramid_is_an_error() -> None:
    with pytest.raises(ConfigError, match="levels at strides 16"):
        build_trunk("vit_tiny_patch16_224")


@pytest.mark.parametrize("name", ["test_maxvit", "test_coatnet", "test_mambaout"])
def test_a_trunk_for_one_size_or_with_channels_last_is_refused(name: str) -> None:
    # Attention in windows of 5 pixels, positions of 160 pixels alone, levels (H, W, C).
    with pytest.raises(ConfigError, match=rf"trunk '{name}' does not take pictures of 64 x 96 pixels"):
        build_trunk(name)


def test_looking_at_a_trunk_leaves_no_trace() -> None:
    trunk = build_trunk("test_efficientnet")
    assert trunk.training
    counters = [value for name, value in trunk.state_dict().items() if name.endswith(COUNTER)]
    assert counters
    assert not any(counters)


def test_a_trunk_has_its_own_normalisation() -> None:
    assert find_normalisation(LITE).mean == (0.485, 0.456, 0.406)
    assert find_normalisation("tf_efficientnet_lite0").std == (0.5, 0.5, 0.5)


def test_weights_come_by_name(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    save_file(whole, tmp_path / "w.safetensors")
    trunk = build_trunk(LITE)
    note = load_trunk(trunk, tmp_path / "w.safetensors")
    assert same(trunk, whole)
    assert "288 tensors by name, 8 not needed" in note


def test_weights_come_by_order_and_shape(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    other = {f"_net.{i}.{name.rpartition('.')[2]}": value for i, (name, value) in enumerate(whole.items())}
    torch.save(other, tmp_path / "w.pth")
    trunk = build_trunk(LITE)
    assert "288 tensors by order and shape" in load_trunk(trunk, tmp_path / "w.pth")
    assert same(trunk, whole)


def test_neither_classifier_nor_counters_are_needed(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    trunk = build_trunk(LITE)
    needed = trunk.model.state_dict().keys()
    save_file(
        {name: value for name, value in whole.items() if name in needed and not name.endswith(COUNTER)},
        tmp_path / "w.safetensors",
    )
    load_trunk(trunk, tmp_path / "w.safetensors")
    assert torch.equal(trunk.model.conv_stem.weight, whole["conv_stem.weight"])


def test_weights_of_a_flattened_network_find_their_names(tmp_path: Path) -> None:
    tensors = timm.create_model("convnext_atto").state_dict()
    save_file(tensors, tmp_path / "w.safetensors")
    trunk = build_trunk("convnext_atto")
    load_trunk(trunk, tmp_path / "w.safetensors")
    assert torch.equal(trunk.model.stem_0.weight, tensors["stem.0.weight"])


def spoilt(whole: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    tensors = dict(whole)
    if how == "missing":
        del tensors["blocks.0.0.conv_dw.weight"]
    elif how == "left over":
        tensors["neck.weight"] = torch.zeros(2)
    elif how == "wrong shape":
        tensors["conv_stem.weight"] = torch.zeros(16, 3, 3, 3)
    else:
        tensors = {f"x{i}.{name.rpartition('.')[2]}": value for i, (name, value) in enumerate(whole.items())}
        first = next(iter(tensors))
        tensors[first] = torch.zeros(7)
    return tensors


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", "missing: blocks.0.0.conv_dw.weight"),
        ("left over", "left over: neck.weight"),
        ("wrong shape", r"wrong shape: conv_stem.weight \(16, 3, 3, 3\) instead of \(32, 3, 3, 3\)"),
        (
            "order",
            r"difference is x0.weight \(7,\) where the trunk has conv_stem.weight \(32, 3, 3, 3\)",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    tmp_path: Path, whole: dict[str, Tensor], how: str, said: str
) -> None:
    save_file(spoilt(whole, how), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=said):
        load_trunk(build_trunk(LITE), tmp_path / "w.safetensors")


def test_what_is_named_as_unused_is_left_aside(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    save_file(spoilt(whole, "left over"), tmp_path / "w.safetensors")
    note = load_trunk(build_trunk(LITE), tmp_path / "w.safetensors", unused=("neck.",))
    assert "1 left aside (neck.weight)" in note


def test_a_file_that_is_absent_or_holds_code_is_refused(tmp_path: Path) -> None:
    trunk = build_trunk(LITE)
    with pytest.raises(WeightsError, match="does not exist"):
        load_trunk(trunk, tmp_path / "absent.pth")
    torch.save({"w": Path("x")}, tmp_path / "code.pth")
    with pytest.raises(CheckpointError, match="more than tensors"):
        load_trunk(trunk, tmp_path / "code.pth")
