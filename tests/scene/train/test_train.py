"""Training by command: a model that loads, goes on where it was stopped, and keeps to published recipes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from domainsam.errors import ConfigError, WeightsError
from domainsam.foundation import load_foundation
from domainsam.memory import memorysam
from domainsam.tensorfile import read_safetensors
from domainsam_cli import main
from domainsam_scene.generated.scenes import CLASSES
from domainsam_scene.model.network import NetworkConfig, SceneNetwork
from domainsam_scene.model.scene import load_model
from domainsam_scene.train.objective import compute_class_weights, unweigh
from domainsam_scene.train.recipe import TrainConfig, TrainOptions, make_paper_recipe, set_steps
from domainsam_scene.train.scene import train_model

SMALL = ("--image-size", "70", "--crop", "32", "--batch-size", "2", "--rank", "2", "--quiet")


def scene(*arguments: object) -> int:
    return main(["scene", *map(str, arguments)])


@pytest.fixture(scope="module")
def trained(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two sensors after two steps."""
    out = tmp_path_factory.mktemp("model") / "two.safetensors"
    given = ("--modality", "rgb", "--modality", "depth", "--steps", "2", "--drop", "0.5", *SMALL)
    assert scene("train", samples, "-o", out, *given) == 0
    return out


def test_a_trained_file_is_a_model(trained: Path) -> None:
    model = load_model(trained)
    assert model.labels == CLASSES
    assert model.modalities == ("rgb", "depth")
    assert model.image_size == 64
    answer = model.predict_sensors({"depth": np.full((3, 40, 70), 0.5, np.float32)})
    assert answer.labels.shape == (40, 70)
    assert set(answer.contribution) == {"depth"}


def test_a_model_of_other_sensors_says_what_it_knows(
    trained: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    event = samples / "event" / "scene000.png"
    words = ("segment", "--event", event, "--model", trained, "-o", tmp_path / "m.png")
    assert scene(*words) == 2
    assert "rgb, depth" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_another_foundation_is_refused(
    trained: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rgb = samples / "rgb" / "scene000.png"
    given = ("--model", trained, "--foundation", "embedded")
    assert scene("segment", "--rgb", rgb, *given, "-o", tmp_path / "m.png") != 0
    assert "foundation" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(batch_size=2, modalities=("rgb", "depth"), labels=CLASSES, judged=1)
    config = replace(
        config,
        network=replace(config.network, image_size=64, rank=2),
        crops=replace(config.crops, size=32),
        stage=replace(config.stage, steps=4, eval_every=2, ema=0.0),
    )
    options = TrainOptions(tmp_path / "whole.safetensors", workers=1, device="cpu", quiet=True)
    train_model(samples, config, options)

    from domainsam_scene.train.objective import SceneObjective

    real, calls = SceneObjective.forward, []

    def breaks(self: SceneObjective, batch: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, batch)

    other = replace(options, out=tmp_path / "parts.safetensors")
    monkeypatch.setattr(SceneObjective, "forward", breaks)
    with pytest.raises(KeyboardInterrupt):
        train_model(samples, config, other)
    monkeypatch.undo()
    assert not other.out.exists()
    train_model(samples, config, replace(other, resume=True))
    whole, parts = (read_safetensors(path) for path in (options.out, other.out))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_published_recipe_has_the_published_choices() -> None:
    first = TrainConfig()
    memory = make_paper_recipe(replace(first, network=replace(first.network, method="memorysam")), "deliver")
    assert memory.network.rank == 4
    assert memory.network.lora_width == "published"
    assert memory.network.sequence == memorysam.PUBLISHED
    assert memory.network.sequence.class_map == "iou"
    assert memory.network.memory_trained
    assert memory.learning.prototypes.twice
    assert (memory.learning.drop, memory.learning.dice, memory.learning.each) == (0, 0, 0)
    assert (memory.epochs, memory.stage.lr, memory.stage.schedule) == (200, 6e-4, "poly_rest")
    assert (memory.crops.jitter, memory.crops.blur, memory.crops.colour) == (0.2, 0.2, 0)
    assert (memory.network.normalise, memory.stage.decay_vectors) == ("camera", False)
    assert memory.foundation == "sam2_hiera_base_plus"
    assert make_paper_recipe(memory, "mcubes").epochs == 500
    experts = make_paper_recipe(replace(first, network=replace(first.network, method="mlesam")), "deliver")
    assert (experts.network.rank, experts.network.lora_width) == (32, "full")


def test_epochs_become_steps_with_ten_epochs_of_warm_up() -> None:
    config = set_steps(replace(TrainConfig(), epochs=50, batch_size=4), scenes=40)
    assert (config.stage.steps, config.stage.warmup, config.stage.eval_every) == (500, 100, 10)


@pytest.fixture(scope="module")
def network() -> SceneNetwork:
    config = NetworkConfig(labels=("a", "b", "c"), modalities=("rgb",), method="both", image_size=64, rank=2)
    return SceneNetwork(config, load_foundation("embedded_sam2")).eval()


@torch.no_grad()
def test_weights_of_classes_are_taken_out_of_the_answer(network: SceneNetwork) -> None:
    weights = compute_class_weights(torch.tensor([0.9, 0.09, 0.01]))
    assert weights.mean().item() == pytest.approx(1)
    assert (weights[2] / weights[0]).item() == pytest.approx(90**0.5, rel=1e-4)
    picture = {"rgb": torch.rand(1, 3, 64, 64)}
    before = network(picture).logits
    unweigh(network, weights, 0.5)
    gone = before - network(picture).logits
    assert torch.allclose(gone, (0.5 * weights.log()).view(1, 3, 1, 1).expand_as(gone), atol=1e-4)


def test_there_must_be_a_head_to_take_them_out_of(network: SceneNetwork) -> None:
    config = replace(network.config, method="memorysam")
    other = SceneNetwork(config, load_foundation("embedded_sam2"))
    with pytest.raises(ConfigError, match="memorysam"):
        unweigh(other, torch.ones(3))


def test_the_short_name_of_base_plus_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOMAINSAM_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"weights of sam2\.1_hiera_base_plus not found"):
        load_foundation("sam2.1_hiera_b+")
