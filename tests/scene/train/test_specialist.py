"""Training of the specialist alone: by command, from a trunk's weights, killed and gone on with."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from domainsam.checkpoint import read_header
from domainsam.errors import CheckpointError, ConfigError
from domainsam_cli import main
from domainsam_scene.generated.scenes import CLASSES
from domainsam_scene.model.network import NetworkConfig
from domainsam_scene.model.scene import load_model
from domainsam_scene.model.specialist import SpecialistNetwork
from domainsam_scene.train.objective import SceneObjective
from domainsam_scene.train.recipe import TrainConfig, TrainOptions, read_recipe
from domainsam_scene.train.scene import train_model

TRUNK = "test_efficientnet"
SMALL = ("--image-size", "64", "--crop", "32", "--batch-size", "2", "--steps", "2", "--quiet")
ALONE = ("--method", "specialist", "--trunk", TRUNK)


def scene(*arguments: object) -> int:
    return main(["scene", *map(str, arguments)])


def recipe(**options: Any) -> TrainConfig:
    """The shipped one with a trunk of a third of a million weights, at 64 pixels."""
    shipped = read_recipe(Path("specialist"))
    return replace(
        shipped,
        batch_size=2,
        modalities=("rgb", "depth"),
        labels=CLASSES,
        judged=1,
        network=replace(shipped.network, trunk=TRUNK, image_size=64, head_width=16),
        crops=replace(shipped.crops, size=64),
        stage=replace(shipped.stage, steps=4, eval_every=2, warmup=1, **options),
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights of the whole network of timm."""
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("weights") / "trunk.safetensors"
    save_file(timm.create_model(TRUNK, pretrained=False).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def trained(samples: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three sensors after two steps."""
    out = tmp_path_factory.mktemp("model") / "alone.safetensors"
    names = ("rgb", "depth", "lidar")
    sensors = [word for name in names for word in ("--modality", name)]
    given = (*ALONE, "--trunk-weights", weights, *sensors, *SMALL)
    assert scene("train", samples, "-o", out, *given) == 0
    return out


def test_a_trained_file_is_a_model_without_a_foundation(trained: Path) -> None:
    header = read_header(trained)
    assert (header.foundation, header.foundation_sha256) == ("none", "")
    model = load_model(trained, device="cpu")
    assert (model.labels, model.modalities) == (CLASSES, ("rgb", "depth", "lidar"))
    assert isinstance(model.network, SpecialistNetwork)


def test_it_segments_and_is_scored_by_command(
    trained: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ("--rgb", samples / "rgb/scene000.png", "--lidar", samples / "lidar/scene000.png")
    outputs = ("-o", tmp_path / "m.png", "--contribution", tmp_path / "c.npz")
    assert scene("segment", *files, "--model", trained, *outputs, "--json") == 0
    assert '"foundation": "none"' in capsys.readouterr().out
    shares = np.load(tmp_path / "c.npz")
    assert {"rgb", "lidar"} <= set(shares.files)
    table = ("--csv", tmp_path / "s.csv", "--missing", "subsets", "--limit", "1", "--quiet")
    assert scene("evaluate", samples, "--layout", "plain", "--model", trained, *table) == 0
    rows = list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))
    assert len({row["sensors"] for row in rows}) == 7
    assert all(0 <= float(row["miou"]) <= 1 for row in rows)
    given = ("--model", trained, "--foundation", "embedded_sam2", "-o", tmp_path / "n.png")
    assert scene("segment", *files, *given) == 2
    assert "is a specialist without a foundation, so --foundation" in capsys.readouterr().err
    assert not (tmp_path / "n.png").exists()


def test_weights_of_a_trunk_file_land(samples: Path, weights: Path, tmp_path: Path) -> None:
    config = replace(recipe(ema=0.0), trunk_weights=str(weights))
    # Without a rate to speak of nothing is learnt, and what the training began with is what it ends with.
    config = replace(config, stage=replace(config.stage, lr=1e-12, weight_decay=0.0, steps=1))
    options = TrainOptions(tmp_path / "m.safetensors", workers=1, device="cpu", quiet=True)
    result = train_model(samples, config, options)
    assert not any("random weights" in note for note in result.notes)
    own, given = load_file(options.out), load_file(weights)
    kernels = {
        name: value
        for name, value in own.items()
        if name.startswith("network.trunk.") and name.endswith("weight")
    }
    assert len(kernels) > 20
    for name, value in kernels.items():
        theirs = given[name.removeprefix("network.trunk.model.")]
        torch.testing.assert_close(value, theirs, rtol=0, atol=1e-9)


def test_a_trunk_without_weights_is_told_and_another_files_refused(
    samples: Path, weights: Path, tmp_path: Path
) -> None:
    options = TrainOptions(tmp_path / "m.safetensors", workers=1, device="cpu", quiet=True)
    config = recipe()
    result = train_model(samples, replace(config, stage=replace(config.stage, steps=1)), options)
    assert any("random weights" in note for note in result.notes)
    other = replace(config.network, trunk="test_resnet")
    with pytest.raises(CheckpointError, match="does not fit trunk 'test_resnet'"):
        train_model(
            samples,
            replace(config, network=other, trunk_weights=str(weights)),
            replace(options, out=tmp_path / "n.safetensors"),
        )
    assert not (tmp_path / "n.safetensors").exists()


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipe()
    options = TrainOptions(tmp_path / "whole.safetensors", workers=1, device="cpu", quiet=True)
    train_model(samples, config, options)
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
    whole, parts = load_file(options.out), load_file(other.out)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_training_lowers_the_loss(samples: Path) -> None:
    config = recipe()
    from domainsam_scene.train.crops import SceneCrops
    from domainsam_scene.train.scene import find_material

    scenes, _, _ = find_material(samples, config, TrainOptions(Path("unused")))
    torch.manual_seed(0)
    network = SpecialistNetwork(
        NetworkConfig(**{**vars(config.network), "labels": CLASSES, "modalities": scenes.modalities})
    ).train()
    objective = SceneObjective(network, replace(config.learning, drop=0.0))
    batch = SceneCrops(scenes, config.crops, 64, 2, (0,)).batch(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = objective(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.65 * losses[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*ALONE, "--foundation", "embedded_sam2"], ["--foundation is of no use to method specialist"]),
        ([*ALONE, "--rank", "4"], ["--rank is of no use", "name another --method"]),
        ([*ALONE, "--checkpointing"], ["--checkpointing is of no use"]),
        (["--config", "specialist", "--rank", "4"], ["--rank is of no use to method specialist"]),
        (["--trunk", "resnet18"], ["--trunk is of no use to method both", "--method specialist"]),
        (
            ["--method", "mlesam", "--trunk-weights", "t.pth"],
            ["--trunk-weights is of no use to method mlesam"],
        ),
        ([*ALONE, "--paper"], ["method 'specialist' was not published"]),
        (["--method", "specialist", "--trunk", "resnet19"], ["no trunk is called 'resnet19'", "resnet18"]),
        ([*ALONE, "--trunk-weights", "absent.pth"], ["absent.pth"]),
        ([*ALONE, "--batch-size", "1", "--crop", "32"], ["--batch-size 2 or --crop 64"]),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_line(
    arguments: list[str], words: list[str], samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scene("train", samples, "-o", tmp_path / "m.safetensors", "--quiet", *arguments) in (2, 3)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("domainsam: ")
    for word in words:
        assert word in line
    assert not (tmp_path / "m.safetensors").exists()


def test_weights_of_a_trunk_are_for_a_specialist_in_a_recipe_too() -> None:
    with pytest.raises(ConfigError, match="trunk_weights are for a specialist, and the method is both"):
        TrainConfig(trunk_weights="t.pth")


def test_the_shipped_recipe_is_what_the_method_is() -> None:
    from domainsam_scene.commands.train import choose_recipe

    named = choose_recipe({"config_path": None, "method": "specialist", "paper": False})
    shipped = choose_recipe({"config_path": Path("specialist"), "method": None, "paper": False})
    assert named == shipped
    assert (named.alone, named.network.trunk) == (True, "efficientnet_lite0")
    usual = choose_recipe({"config_path": None, "method": None, "paper": False})
    assert usual == TrainConfig()
