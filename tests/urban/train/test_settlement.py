"""Training end to end on small drawn scenes: a model file that loads, judges and maps again."""

from __future__ import annotations

import csv
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from affine import Affine
from click.testing import CliRunner

from domainsam.checkpoint import load
from domainsam.errors import CheckpointError, ConfigError, InputError, OutputError
from domainsam.foundation.fake import FakeFoundation
from domainsam.io.pairing import find_scenes
from domainsam.prompter.proposals import ProposalConfig
from domainsam.prompter.segformer import PrompterConfig, SegFormerPrompter
from domainsam.prompter.trained import begin_from, load_prompter
from domainsam.testing.synthetic import make_settlement_scene
from domainsam.train.crops import CropOptions
from domainsam.train.devices import OneDevice
from domainsam.train.loop import StageOptions
from domainsam.train.objectives import judge
from domainsam.train.split import BlockOptions
from domainsam_urban.commands.train import train
from domainsam_urban.train.recipe import TrainConfig, TrainOptions, make_paper_recipe, read_recipe, set_epochs
from domainsam_urban.train.scenes import cut_judging_tiles, gather_material
from domainsam_urban.train.settlement import train_model
from tests.urban.tiny import PLACE, write_scene

ROOT = Path(__file__).resolve().parents[3]
STAGE = StageOptions(2, warmup=1, eval_every=2)
TINY = TrainConfig(
    foundation="fake",
    batch_size=2,
    joint_batch_size=2,
    val_tile=96,
    prompter=PrompterConfig(fusion="gate", proposals=ProposalConfig(min_side=4, min_area=16)),
    crops=CropOptions(size=64),
    split=BlockOptions(size_m=40, buffer_m=5),
    coarse=STAGE,
    joint=STAGE,
)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes that overlap by half, each with a mask beside it."""
    folder = tmp_path_factory.mktemp("scenes")
    drawn = make_settlement_scene(192, 288, seed=4)
    truth = np.zeros((192, 288), np.uint8)
    truth[20:90, 30:120] = truth[100:180, 60:250] = 1
    for name, left in (("a", 0), ("b", 96)):
        part = (slice(None), slice(left, left + 192))
        place = PLACE @ Affine.translation(left, 0)
        write_scene(folder / f"{name}_image.tif", drawn.image[part], transform=place)
        write_scene(folder / f"{name}_mask.tif", truth[part][..., None], transform=place)
    return folder


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "m.safetensors"
    options = TrainOptions(out, val=scenes, quiet=True, device="cpu")
    # The same scenes as validation would leave nothing to learn from.
    with pytest.raises(InputError, match="no scene has labelled ground"):
        train_model([scenes], scenes, TINY, options)
    result = train_model([scenes], scenes, TINY, replace(options, val=None))
    assert set(result.metrics) == {"coarse_iou", "full_iou"}
    return out


def test_the_model_file_loads_again_and_says_where_it_came_from(trained: Path) -> None:
    prompter, header = load_prompter(trained, "urban", FakeFoundation())
    assert not prompter.training
    assert header.labels == ("background", "settlement")
    assert header.config["scene"]["resolution"] == pytest.approx(0.9, rel=0.01)
    assert header.config["training"]["coarse"]["steps"] == 2
    assert 0 <= header.metrics["full_iou"] <= 1
    assert prompter.config == TINY.prompter


def test_training_can_go_on_from_a_model(trained: Path) -> None:
    known, _ = load_prompter(trained, "urban")
    again = SegFormerPrompter(TINY.prompter)
    begin_from(again, trained, "urban", FakeFoundation())
    for name, tensor in known.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    elsewhere = SegFormerPrompter(TINY.prompter)
    drawn = elsewhere.get_parameter("mixer.hidden.weight").clone()
    stranger = FakeFoundation()
    stranger.sha256 = "0" * 64
    begin_from(elsewhere, trained, "urban", stranger)
    assert torch.equal(elsewhere.head.classify.weight, known.head.classify.weight)
    assert torch.equal(elsewhere.get_parameter("mixer.hidden.weight"), drawn)


def test_both_stages_are_logged(trained: Path) -> None:
    folder = trained.with_name("m.training")
    with (folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["stage"], row["step"]) for row in rows] == [("coarse", "2"), ("joint", "2")]
    assert rows[1]["full_iou"]
    assert (folder / "curves.png").stat().st_size > 1000
    assert not list(folder.glob("labels-*")), "staged labels are gone"


def test_a_finished_run_resumed_gives_the_same_model(trained: Path, scenes: Path) -> None:
    before = load(trained, "urban")
    options = TrainOptions(trained, resume=True, quiet=True, device="cpu")
    train_model([scenes], scenes, TINY, options)
    after = load(trained, "urban")
    assert after.header.metrics == before.header.metrics
    assert all(torch.equal(after.tensors[name], value) for name, value in before.tensors.items())
    other = replace(TINY, batch_size=3)
    with pytest.raises(CheckpointError, match="other options"):
        train_model([scenes], scenes, other, options)


def test_cached_features_are_used_by_the_joint_stage(scenes: Path, tmp_path: Path) -> None:
    config = replace(TINY, cache_gb=0.01, coarse=StageOptions(0))
    options = TrainOptions(tmp_path / "m.safetensors", quiet=True, device="cpu")
    result = train_model([scenes], scenes, config, options)
    assert list((result.folder / "features").iterdir())
    assert result.metrics["full_iou"] >= 0


def test_without_sam_only_the_coarse_stage_runs(scenes: Path, tmp_path: Path) -> None:
    parts = replace(TINY.prompter.parts, sam=False)
    config = replace(TINY, prompter=replace(TINY.prompter, parts=parts))
    options = TrainOptions(tmp_path / "m.safetensors", quiet=True, device="cpu")
    assert set(train_model([scenes], scenes, config, options).metrics) == {"coarse_iou"}


def test_a_scene_without_settlement_is_a_negative(scenes: Path, tmp_path: Path) -> None:
    for name, labels in (("a", None), ("b", '{"type": "FeatureCollection", "features": []}')):
        shutil.copy(scenes / f"{name}_image.tif", tmp_path)
        if labels is None:
            shutil.copy(scenes / f"{name}_mask.tif", tmp_path)
        else:
            (tmp_path / f"{name}.geojson").write_text(labels)
    options = TrainOptions(tmp_path / "m.safetensors", quiet=True, device="cpu")
    with ExitStack() as stack:
        found = find_scenes([tmp_path])
        (tmp_path / "staged").mkdir()
        material = gather_material(found, tmp_path, TINY, options, tmp_path / "staged", stack)
        settled, empty = (int((scene.truth == 1).sum()) for scene in material.training)
        assert settled > 0
        assert empty == 0
        assert (material.training[1].truth == 0).any()
        assert material.training[1].weight > 0
    with pytest.raises(InputError, match="no settlement on any of 1"):
        train_model([tmp_path / "b_image.tif"], tmp_path / "b.geojson", TINY, options)


def test_outputs_are_checked_before_any_work(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    out.write_text("precious")
    with pytest.raises(OutputError, match="--overwrite"):
        train_model([scenes], scenes, TINY, TrainOptions(out))
    with pytest.raises(ConfigError, match=r"\.safetensors"):
        train_model([scenes], scenes, TINY, TrainOptions(tmp_path / "m.pt"))
    with pytest.raises(ConfigError, match="fp16"):
        train_model([scenes], scenes, TINY, TrainOptions(tmp_path / "n.safetensors", precision="fp16"))
    assert out.read_text() == "precious"


def test_the_command_trains_and_prints_both_scores(scenes: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        "val_tile = 96\n[split]\nbuffer_m = 5.0\n[joint]\nwarmup = 1\neval_every = 1\n"
        "[coarse]\nwarmup = 1\neval_every = 2\nsteps = 9\n"
    )
    words = f"{scenes} --labels {scenes} -o {tmp_path}/m.safetensors --config {recipe} --foundation fake"
    words += " --block 40 --crop 64 --batch-size 2 --coarse-steps 2 --joint-steps 1 --device cpu --no-box"
    result = CliRunner().invoke(train, words.split(), catch_exceptions=False)
    assert result.exit_code == 0
    assert "coarse stage: 0." in result.output
    assert "full model: 0." in result.output
    prompter, _ = load_prompter(tmp_path / "m.safetensors", "urban", FakeFoundation())
    assert not prompter.config.parts.box
    assert prompter.config.parts.mask


def test_the_published_recipe() -> None:
    config = set_epochs(make_paper_recipe(TrainConfig()), tiles=344)
    assert config.coarse.steps == 0
    assert (config.joint.steps, config.joint.warmup, config.joint.eval_every) == (8600, 86, 86)
    assert (config.joint.lr, config.joint.weight_decay, config.joint_batch_size) == (5e-4, 1e-3, 4)
    assert (config.prompter.decode_head, config.prompter.proposals.rule) == ("released", "released")
    assert (config.loss.focal_of, config.foundation) == ("mean", "sam_vit_l")
    assert make_paper_recipe(TrainConfig(foundation="sam_vit_b")).foundation == "sam_vit_b"
    assert (config.loss.prompt_weight, config.loss.coarse_dice, config.prompter.fusion) == (0.1, 0.0, "sam")


def test_the_shipped_recipe_can_be_read() -> None:
    config = read_recipe(ROOT / "domains" / "domainsam_urban" / "recipes" / "joint.toml")
    assert config == read_recipe(Path("joint"))
    assert config.foundation == "embedded"
    assert config.resolution == pytest.approx(1.217, abs=0.001)
    assert (config.coarse.steps, config.prompter.fusion) == (0, "gate")


@pytest.mark.slow
def test_real_tiles_can_be_learnt_from(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "satellite" / "urban_villages"
    config = replace(TINY, resolution=3.66, val_tile=256)
    options = TrainOptions(tmp_path / "m.safetensors", val=folder / "val", quiet=True, device="cpu")
    result = train_model([folder / "train"], folder / "train", config, options)
    prompter, _ = load_prompter(result.out, "urban")
    assert judge(prompter, cut_judging_tiles((), 256), OneDevice(torch.device("cpu"), "float32")).keys() == {
        "coarse_iou"
    }
    assert result.metrics["coarse_iou"] > 0
