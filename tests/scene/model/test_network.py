"""What the ways of joining sensors must keep, under random weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from domainsam.errors import ConfigError
from domainsam.memory.memorysam import PUBLISHED, SequenceOptions
from domainsam.memory.prototypes import PrototypeOptions
from domainsam.side.experts import Router, fuse
from domainsam_scene.model.network import Method, NetworkConfig, SceneNetwork
from domainsam_scene.model.scene import load_network, load_published, save_network
from domainsam_scene.train.objective import LearningOptions, SceneBatch, SceneObjective, choose_kept
from tests.core.tiny_sam2 import images, tiny_foundation

SENSORS = ("rgb", "depth", "lidar")
LABELS = ("road", "car", "sky", "tree")


@pytest.fixture(scope="module")
def foundation() -> Any:
    return tiny_foundation()


def network(
    foundation: Any, method: Method, sensors: tuple[str, ...] = SENSORS, **options: Any
) -> SceneNetwork:
    torch.manual_seed(3)
    config = NetworkConfig(labels=LABELS, modalities=sensors, method=method, image_size=64, rank=4, **options)
    made = SceneNetwork(config, foundation)
    for name, part in made.named_parameters():
        if "up_" in name:
            nn.init.normal_(part, std=0.3)
        if "hypernetworks" in name and name.endswith("layers.2.weight"):
            nn.init.normal_(part, std=0.5)
    return made.eval()


def sensed(names: tuple[str, ...] = SENSORS, batch: int = 2) -> dict[str, Tensor]:
    stack = images(len(SENSORS), batch)
    return {name: stack[SENSORS.index(name)] for name in names}


METHODS: tuple[Method, ...] = ("memorysam", "mlesam", "both", "early")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("names", [("rgb",), ("lidar", "rgb"), SENSORS])
@torch.no_grad()
def test_any_subset_in_any_order(foundation: Any, method: Method, names: tuple[str, ...]) -> None:
    model = network(foundation, method)
    answer = model(sensed(names))
    turned = model(dict(reversed(sensed(names).items())))
    assert answer.logits.shape == (2, 4, 64, 64)
    assert torch.equal(answer.logits, turned.logits)
    assert answer.modalities == tuple(name for name in SENSORS if name in names)
    assert answer.per_modality.shape == (len(names), 2, 4, 16, 16)
    assert torch.allclose(answer.weights.sum(0), torch.ones(2))


@torch.no_grad()
def test_one_expert_present_is_plain_low_rank(foundation: Any) -> None:
    several, alone = network(foundation, "mlesam"), network(foundation, "single", ("depth",))
    state = several.state_dict()
    for name, value in alone.state_dict().items():
        taken = state[name][1:2] if name.startswith("updates.") else state[name]
        value.copy_(taken)
    assert torch.allclose(several(sensed(("depth",))).logits, alone(sensed(("depth",))).logits, atol=1e-5)


@torch.no_grad()
def test_equal_routing_makes_weighted_equal_unified() -> None:
    router, levels = Router(), [torch.randn(3, 2, 256, side, side) for side in (16, 8, 4)]
    for score in router.score:
        assert isinstance(score, nn.Conv2d | nn.Linear)
        nn.init.zeros_(score.weight)
    weights = router(levels)
    assert torch.allclose(weights, torch.full_like(weights, 1 / 3))
    assert torch.allclose(fuse(levels[0], weights[0]), levels[0].mean(0), atol=1e-6)


@torch.no_grad()
def test_the_router_keeps_the_greatest() -> None:
    weights = Router(keep=2)([torch.randn(4, 3, 256, side, side) for side in (16, 8, 4)])
    assert ((weights > 0).sum(1) == 2).all()
    assert torch.allclose(weights.sum(1), torch.ones(3, 3))


def silence(update: nn.Module) -> None:
    """Let an update of the encoder's attention add nothing."""
    for name in ("up_q", "up_v"):
        nn.init.zeros_(update.get_parameter(name))


@torch.no_grad()
def test_updates_at_zero_leave_the_frozen_features(foundation: Any) -> None:
    model = network(foundation, "mlesam")
    for update in model.updates:
        silence(update)
    stack = images(3, 2)
    levels = model._encoder.encode(stack, (0, 1, 2))
    frozen = foundation.model.image_encoder(
        (stack - model._encoder._mean).div(model._encoder._std).flatten(0, 1)
    )
    for ours, theirs in zip(levels, frozen["backbone_fpn"], strict=True):
        assert torch.allclose(ours.flatten(0, 1), theirs, atol=1e-5)


@torch.no_grad()
def test_updates_at_zero_and_one_sensor_are_the_official_path(foundation: Any) -> None:
    model = network(foundation, "memorysam", ("rgb",), sequence=PUBLISHED)
    for update in model.updates:
        silence(update)
    nn.init.constant_(model.decoder.decoder.pred_obj_score_head.layers[-1].bias, 10.0)
    official = copy.deepcopy(foundation.model)
    official.sam_mask_decoder = model.decoder.decoder
    picture = sensed(("rgb",))["rgb"]
    levels = official.forward_image((picture - model._encoder._mean) / model._encoder._std)["backbone_fpn"]
    plain = levels[2] + official.no_mem_embed.view(1, -1, 1, 1)
    theirs = official._forward_sam_heads(plain, high_res_features=levels[:2], multimask_output=True)[0]
    assert theirs.std() > 0.05
    assert torch.allclose(model({"rgb": picture}).per_modality[0], theirs, atol=1e-4)


def test_a_dropped_sensor_gives_its_expert_exactly_no_gradient(foundation: Any) -> None:
    model = network(foundation, "mlesam")
    model(sensed(("rgb", "lidar"))).logits.square().mean().backward()
    for update in model.updates:
        for part in update.parameters():
            assert part.grad is not None
            assert not part.grad[1].any()
            assert part.grad[[0, 2]].abs().sum() > 0


@torch.no_grad()
def test_sensors_may_change_places_with_their_experts(foundation: Any) -> None:
    order = [2, 0, 1]
    first = network(foundation, "mlesam")
    second = network(foundation, "mlesam", tuple(SENSORS[index] for index in order))
    for name, value in second.state_dict().items():
        own = first.state_dict()[name]
        value.copy_(own[order] if name.startswith("updates.") else own)
    assert torch.allclose(first(sensed()).logits, second(sensed()).logits, atol=1e-4)


@torch.no_grad()
def test_the_order_of_sensors_matters_to_memory_alone(foundation: Any) -> None:
    first = network(foundation, "memorysam")
    second = network(foundation, "memorysam", SENSORS[::-1])
    second.load_state_dict(first.state_dict())
    assert not torch.allclose(first(sensed()).logits, second(sensed()).logits, atol=1e-3)


def test_prototypes_leave_no_trace_in_what_is_used(foundation: Any) -> None:
    batch = SceneBatch(sensed(), torch.randint(0, 4, (2, 64, 64)))
    answers = []
    for weight in (0.0, 1.0):
        model = network(foundation, "memorysam")
        options = LearningOptions(drop=0.0, prototypes=PrototypeOptions(weight=weight))
        with torch.no_grad():
            losses = SceneObjective(model, options).eval()(batch)
            answers.append(model(sensed()).logits)
        assert ("prototypes" in losses) == bool(weight)
        assert not any("prototype" in name for name in model.state_dict())
    assert torch.equal(*answers)


@pytest.mark.parametrize("method", METHODS)
def test_every_trained_part_learns(foundation: Any, method: Method) -> None:
    model = network(foundation, method).train()
    objective = SceneObjective(model, LearningOptions(drop=0.0, balance=True), torch.full((4,), 0.25))
    loss = objective(SceneBatch(sensed(), torch.randint(0, 4, (2, 64, 64))))["loss"]
    loss.backward()
    # A token for absent objects is used with the gate alone, routing where there are sensors to weigh.
    spared = ("memory.absent", "router" if method == "early" else "-")
    idle = [
        name
        for name, part in model.named_parameters()
        if part.requires_grad and part.grad is None and not name.startswith(spared)
    ]
    assert not idle


def test_frozen_weights_are_in_no_state_dict_and_do_not_change(foundation: Any) -> None:
    model = network(foundation, "both")
    frozen = {id(part) for part in foundation.model.parameters()}
    assert not frozen & {id(part) for part in model.parameters()}
    assert not any(part.requires_grad for part in foundation.model.parameters())


def test_checkpointing_changes_no_gradient(foundation: Any) -> None:
    gradients: list[Tensor] = []
    for checkpointing in (False, True):
        model = network(foundation, "mlesam", checkpointing=checkpointing)
        model(sensed()).logits.square().mean().backward()
        gradient = model.get_parameter("updates.2.up_q").grad
        assert gradient is not None
        gradients.append(gradient)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)


def test_dropping_keeps_one_sensor_at_least() -> None:
    torch.manual_seed(0)
    drawn = [choose_kept(SENSORS, 0.9) for _ in range(50)]
    assert min(len(names) for names in drawn) == 1
    assert {name for names in drawn for name in names} == set(SENSORS)
    assert choose_kept(SENSORS, 0.0) == SENSORS


def test_foundations_without_memory_are_refused() -> None:
    from domainsam.foundation import load_foundation

    with pytest.raises(ConfigError, match="SAM 2's kind"):
        SceneNetwork(NetworkConfig(labels=LABELS, modalities=SENSORS), load_foundation("fake"))


def test_a_model_file_gives_the_same_answers(foundation: Any, tmp_path: Any) -> None:
    model = network(foundation, "both", sequence=SequenceOptions(slots="order"))
    save_network(tmp_path / "m.safetensors", model, foundation, {"mean_iou": 0.5}, {}, half=False)
    again, header = load_network(tmp_path / "m.safetensors", foundation)
    assert again.config == model.config
    assert header.labels == LABELS
    with torch.no_grad():
        assert torch.equal(again(sensed()).logits, model(sensed()).logits)


def test_published_names_are_taken_and_the_rest_is_told(foundation: Any, tmp_path: Path) -> None:
    source = network(foundation, "memorysam", lora_width="published")
    target = network(foundation, "memorysam", lora_width="published")
    theirs = {
        "sam.image_encoder.trunk.pos_embed": torch.zeros(1),
        "sam.mask_downsample.weight": torch.zeros(1),
    }
    names = {"decoder.decoder.": "sam_mask_decoder.", "memory.attention.": "memory_attention."}
    inner = {"down_q": "linear_a_q", "up_q": "linear_b_q", "down_v": "linear_a_v", "up_v": "linear_b_v"}
    for name, value in source.state_dict().items():
        value = torch.randn_like(value)
        if name.startswith("updates."):
            _, block, part = name.split(".")
            theirs[f"sam.image_encoder.trunk.blocks.{block}.attn.qkv.{inner[part]}.weight"] = value[0]
        for ours, published in names.items():
            if name.startswith(ours):
                theirs["sam." + published + name.removeprefix(ours)] = value
    skipped = load_published(target, theirs)
    assert skipped == ("sam.image_encoder.trunk.pos_embed", "sam.mask_downsample.weight")
    key = "sam.image_encoder.trunk.blocks.2.attn.qkv.linear_b_v.weight"
    assert torch.equal(target.updates[2].up_v[0], theirs[key])
    assert torch.equal(
        target.decoder.decoder.iou_token.weight, theirs["sam.sam_mask_decoder.iou_token.weight"]
    )
    save_network(tmp_path / "m.safetensors", target, foundation, {}, {}, half=False)
    again, _ = load_network(tmp_path / "m.safetensors", foundation)
    assert isinstance(again, SceneNetwork)
    assert torch.equal(again.updates[2].up_v[0], theirs[key])
