"""The specialist alone: any sensors in any order, in any company, and its model file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from domainsam.checkpoint import read_header
from domainsam.describe import describe_weights
from domainsam.errors import ConfigError
from domainsam_scene.model.build import build_network
from domainsam_scene.model.network import NetworkConfig, SceneNetwork
from domainsam_scene.model.output import SceneOutput
from domainsam_scene.model.scene import load_model, load_network, save_network
from domainsam_scene.model.specialist import LEVELS, SpecialistNetwork
from domainsam_scene.train.objective import LearningOptions, SceneBatch, SceneObjective
from tests.core.foundation.test_norms import count_norms, stir
from tests.core.tiny_sam2 import images, tiny_foundation

SENSORS = ("rgb", "depth", "lidar")
LABELS = ("road", "car", "sky", "tree")
TRUNK = "test_efficientnet"


def network(sensors: tuple[str, ...] = SENSORS, **options: Any) -> SpecialistNetwork:
    """One whose sensors differ and whose norms do something, as after training."""
    torch.manual_seed(3)
    config = NetworkConfig(
        labels=LABELS,
        modalities=sensors,
        method="specialist",
        trunk=TRUNK,
        image_size=64,
        head_width=16,
        **options,
    )
    made = SpecialistNetwork(config)
    for part in (made.stem, *made.project):
        for values in part.parameters():
            nn.init.normal_(values, std=0.5)
    nn.init.normal_(made.head.classify.weight, std=1.0)
    stir(made)
    return made


def sensed(names: tuple[str, ...] = SENSORS, batch: int = 2) -> dict[str, Tensor]:
    stack = images(len(SENSORS), batch)
    return {name: stack[SENSORS.index(name)] for name in names}


@pytest.mark.parametrize("names", [("rgb",), ("lidar", "rgb"), SENSORS])
@torch.no_grad()
def test_any_subset_in_any_order(names: tuple[str, ...]) -> None:
    model = network()
    answer = model(sensed(names))
    turned = model(dict(reversed(sensed(names).items())))
    assert answer.logits.shape == (2, 4, 64, 64)
    assert answer.logits.argmax(1).unique().numel() > 1
    assert torch.equal(answer.logits, turned.logits)
    assert answer.modalities == tuple(name for name in SENSORS if name in names)
    assert answer.per_modality.shape == (len(names), 2, 4, 16, 16)
    assert torch.allclose(answer.weights.sum(0), torch.ones(2))


@torch.no_grad()
def test_what_a_sensor_alone_says_is_the_answer_without_the_others() -> None:
    model = network()
    whole = model(sensed())
    for place, name in enumerate(SENSORS):
        alone = model(sensed((name,))).per_modality[0]
        torch.testing.assert_close(whole.per_modality[place], alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_an_absent_sensor_is_no_black_picture() -> None:
    model = network()
    without = model(sensed(("rgb", "lidar"))).logits
    black = model({**sensed(("rgb", "lidar")), "depth": torch.zeros(2, 3, 64, 64)}).logits
    assert (without - black).abs().max() > 0.1


@torch.no_grad()
def test_sensors_may_change_places_with_their_maps() -> None:
    order = [2, 0, 1]
    first, second = network(), network(tuple(SENSORS[index] for index in order))
    own = first.state_dict()
    for name, value in second.state_dict().items():
        value.copy_(own[name][order] if name.startswith(("stem.", "project.")) else own[name])
    torch.testing.assert_close(first(sensed()).logits, second(sensed()).logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_neither_the_batch_nor_other_groups_change_an_answer() -> None:
    model = network()
    groups: list[Mapping[str, Tensor]] = [sensed(), sensed(("lidar",), batch=1)]
    together = model.answer(groups)
    for group, found in zip(groups, together, strict=True):
        for row in range(len(next(iter(group.values())))):
            alone: SceneOutput = model({name: picture[row : row + 1] for name, picture in group.items()})
            torch.testing.assert_close(found.logits[row], alone.logits[0], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(found.weights[:, row], alone.weights[:, 0])


@torch.no_grad()
def test_only_cameras_are_normalised_where_that_is_asked_for() -> None:
    every, cameras = network(), network(normalise="camera")
    assert torch.equal(every(sensed(("rgb",))).logits, cameras(sensed(("rgb",))).logits)
    depth = sensed(("depth",))
    ready = {"depth": depth["depth"] * every.std + every.mean}
    torch.testing.assert_close(cameras(depth).logits, every(ready).logits, rtol=1e-4, atol=1e-4)


def test_no_known_sensor_is_an_error() -> None:
    with pytest.raises(ConfigError, match="none of radar is known; there are: rgb, depth, lidar"):
        network()({"radar": torch.zeros(1, 3, 64, 64)})


@torch.no_grad()
def test_a_network_that_only_answers_has_no_norms() -> None:
    model = network()
    before = model(sensed()).logits
    assert count_norms(model) > 10
    assert count_norms(model.merge_norms()) == 0
    torch.testing.assert_close(model(sensed()).logits, before, rtol=1e-4, atol=1e-4)


def test_every_part_learns_whatever_sensors_scenes_have() -> None:
    model = network().train()
    objective = SceneObjective(model, LearningOptions(drop=0.0))
    present = {"depth": torch.tensor([True, False]), "lidar": torch.tensor([False, False])}
    batch = SceneBatch(sensed(), torch.randint(0, 4, (2, 64, 64)), present)
    objective(batch)["loss"].backward()
    assert not [name for name, part in model.named_parameters() if part.grad is None]
    for part in ("stem", *(f"project.{place}" for place in range(LEVELS))):
        gradient = model.get_parameter(f"{part}.weight").grad
        assert gradient is not None
        assert not gradient[2].any()
        assert gradient[:2].abs().sum() > 0


def test_batch_norms_learn_from_all_groups_at_once() -> None:
    # 32 pixels are one value at the coarsest stride, of which a group of one scene could learn nothing.
    model = network().train()
    small = {name: picture[..., :32, :32] for name, picture in sensed().items()}
    batch = SceneBatch(small, torch.randint(0, 4, (2, 32, 32)), {"depth": torch.tensor([True, False])})
    assert torch.isfinite(SceneObjective(model, LearningOptions(drop=0.0))(batch)["loss"])


def test_a_model_file_gives_the_same_answers_without_a_foundation(tmp_path: Path) -> None:
    model, path = network(), tmp_path / "m.safetensors"
    save_network(path, model, None, {"mean_iou": 0.5}, {})
    header = read_header(path)
    assert (header.foundation, header.foundation_sha256, header.labels) == ("none", "", LABELS)
    again, _ = load_network(path, None)
    with torch.no_grad():
        assert torch.equal(again(sensed()).logits, model(sensed()).logits)
    loaded = load_model(path, device="cpu", precision="fp32")
    assert (loaded.foundation_name, loaded.modalities, loaded.image_size) == ("none", SENSORS, 64)
    assert count_norms(loaded.network) == 0
    picture = {"lidar": np.full((3, 40, 70), 0.5, np.float32)}
    found = loaded.predict_sensors(picture)
    assert found.labels.shape == (40, 70)
    assert set(found.contribution) == {"lidar"}
    facts = describe_weights(path)
    assert (facts["foundation"], facts["method"], facts["trunk"]) == ("none", "specialist", TRUNK)


def test_a_specialist_takes_no_foundation_and_the_others_need_one(tmp_path: Path) -> None:
    save_network(tmp_path / "m.safetensors", network(), None, {}, {})
    with pytest.raises(ConfigError, match="m is a specialist without a foundation, so --foundation embedded"):
        load_model(tmp_path / "m.safetensors", "embedded_sam2", "cpu")
    config = NetworkConfig(labels=LABELS, modalities=SENSORS, image_size=64, rank=2)
    with pytest.raises(ConfigError, match="method both stands beside a foundation, and there is none"):
        build_network(config, None)
    assert isinstance(build_network(config, tiny_foundation()), SceneNetwork)
