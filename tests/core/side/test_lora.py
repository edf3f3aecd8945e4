"""Low-rank updates change nothing at zero, reach what they should, and belong to their expert alone."""

from __future__ import annotations

import pytest
import torch
from sam2.modeling.backbones.hieradet import Hiera
from torch import nn

from domainsam.errors import ConfigError
from domainsam.side.lora import LowRank, add_updates, convert_published, copy_structure
from tests.core.tiny_sam2 import images, tiny_model


@pytest.mark.parametrize(("width", "millions"), [("published", 0.159), ("full", 0.166)])
def test_parameters_of_the_published_size(width: str, millions: float) -> None:
    trunk = Hiera(embed_dim=112, num_heads=2)
    _, updates, _ = add_updates(trunk, rank=4, width=width)  # type: ignore[arg-type]
    count = sum(parameter.numel() for parameter in updates.parameters()) / 1e6
    assert count == pytest.approx(millions, abs=5e-4)


def test_at_zero_the_trunk_is_the_frozen_one() -> None:
    trunk = tiny_model().image_encoder.trunk
    updated, _, _ = add_updates(trunk, rank=4)
    picture = images(1)[0]
    for ours, frozen in zip(updated(picture), trunk(picture), strict=True):
        assert torch.equal(ours, frozen)


def test_the_frozen_trunk_is_shared_and_left_alone() -> None:
    trunk = tiny_model().image_encoder.trunk
    names = set(trunk.state_dict())
    updated, updates, _ = add_updates(trunk, rank=2)
    assert set(trunk.state_dict()) == names
    assert updated.patch_embed.proj.weight is trunk.patch_embed.proj.weight
    assert updated.blocks[0].attn.qkv.update is updates[0]


def test_full_width_reaches_all_queries_and_values_and_no_key() -> None:
    frozen = nn.Linear(4, 24, bias=False)
    update = LowRank(4, 8, rank=2, width="full")
    nn.init.ones_(update.up_q)
    nn.init.ones_(update.up_v)
    trunk = nn.Module()
    trunk.blocks = nn.ModuleList([nn.Module()])
    trunk.blocks[0].attn = nn.Module()
    trunk.blocks[0].attn.qkv = frozen
    for width, reach in (("full", 8), ("published", 4)):
        updated, updates, _ = add_updates(trunk, rank=2, width=width)  # type: ignore[arg-type]
        for name in ("up_q", "up_v"):
            nn.init.ones_(updates[0].get_parameter(name))
        x = torch.randn(3, 5, 4)
        changed = (updated.blocks[0].attn.qkv(x) != frozen(x)).any(dim=(0, 1))
        expected = [channel < reach or channel >= 24 - reach for channel in range(24)]
        assert changed.tolist() == expected


def test_blocks_of_a_batch_have_their_own_expert() -> None:
    update = LowRank(4, 4, rank=2, experts=3)
    nn.init.normal_(update.up_q)
    x = torch.randn(6, 5, 4)
    together, _ = update(x, (2, 0))
    first, _ = update(x[:3], (2,))
    second, _ = update(x[3:], (0,))
    assert torch.allclose(together, torch.cat([first, second]), atol=1e-6)


def test_absent_experts_get_exactly_no_gradient() -> None:
    update = LowRank(4, 4, rank=2, experts=3)
    nn.init.normal_(update.up_v)
    nn.init.normal_(update.up_q)
    queries, values = update(torch.randn(4, 5, 4), (0, 2))
    (queries.sum() + values.sum()).backward()
    for parameter in update.parameters():
        assert parameter.grad is not None
        assert not parameter.grad[1].any()
        assert parameter.grad[[0, 2]].abs().sum() > 0


def test_published_names_are_understood() -> None:
    _, updates, _ = add_updates(tiny_model().image_encoder.trunk, rank=4, width="published")
    theirs = {"sam.sam_mask_decoder.iou_token.weight": torch.zeros(1)}
    inner = {"down_q": "linear_a_q", "up_q": "linear_b_q", "down_v": "linear_a_v", "up_v": "linear_b_v"}
    for name, value in updates.state_dict().items():
        block, part = name.split(".")
        key = f"sam.image_encoder.trunk.blocks.{block}.attn.qkv.{inner[part]}.weight"
        theirs[key] = torch.randn_like(value[0])
    ours = convert_published(theirs, "sam.image_encoder.trunk.blocks.")
    updates.load_state_dict(ours)
    assert torch.equal(
        updates[3].up_v[0], theirs["sam.image_encoder.trunk.blocks.3.attn.qkv.linear_b_v.weight"]
    )


def test_encoders_without_attention_are_refused() -> None:
    with pytest.raises(ConfigError, match="attention blocks"):
        add_updates(nn.Conv2d(3, 3, 1), rank=4)


def test_a_replica_has_its_own_structure_and_the_same_tensors() -> None:
    original = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    copy = copy_structure(original)
    copy[0] = nn.Identity()
    assert isinstance(original[0], nn.Linear)
    assert copy[1].running_mean is original[1].running_mean
