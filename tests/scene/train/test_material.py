"""Before training: what is missing is absent, what makes no sense is told or refused, a pass sees all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from domainsam.checkpoint import read_header
from domainsam.errors import ConfigError
from domainsam.foundation import load_foundation
from domainsam.train.loop import StageOptions, group_parameters, learning_rate
from domainsam_cli import main
from domainsam_scene.model.network import NetworkConfig, SceneNetwork
from domainsam_scene.model.scene import load_model
from domainsam_scene.read.modalities import Sample
from domainsam_scene.settings import ReadOptions
from domainsam_scene.train.crops import SceneCropOptions, SceneCrops, change_light
from domainsam_scene.train.objective import LearningOptions, SceneBatch, SceneObjective
from domainsam_scene.train.recipe import TrainConfig, TrainOptions, set_steps
from domainsam_scene.train.scene import find_material
from domainsam_scene.train.scenes import DrawnScenes
from domainsam_scene.train.survey import survey_scenes
from tests.scene.test_segment_stack import field, write
from tests.scene.trees import noise, write_png

SMALL = ("--image-size", "64", "--crop", "32", "--batch-size", "2", "--rank", "2", "--quiet")


def scene(*arguments: object) -> int:
    return main(["scene", *map(str, arguments)])


def scenes_of(count: int, lacking: int | None = None) -> DrawnScenes:
    """Scenes of 40 x 40 pixels whose number is their labels; one may lack depth."""

    def make(number: int) -> tuple[Sample, NDArray[np.uint8]]:
        images = {name: np.full((3, 40, 40), 0.5, np.float32) for name in ("rgb", "depth")}
        if number == lacking:
            del images["depth"]
        valid = {name: np.ones((40, 40), bool) for name in images}
        return Sample(str(number), images, valid), np.full((40, 40), number, np.uint8)

    return DrawnScenes(make, count, [str(number) for number in range(count)], ("rgb", "depth"))


def test_an_epoch_sees_every_scene_once() -> None:
    crops = [
        SceneCrops(scenes_of(7), SceneCropOptions(32), 40, 3, (0,), rank=rank, ranks=2) for rank in (0, 1)
    ]
    config = set_steps(TrainConfig(batch_size=3, epochs=6), 7, devices=2)
    assert config.stage.steps == 7
    seen = [number for step in range(config.stage.steps) for each in crops for number in each.numbers(step)]
    assert [sorted(seen[start : start + 7]) for start in range(0, 42, 7)] == [list(range(7))] * 6
    assert len({tuple(seen[start : start + 7]) for start in range(0, 42, 7)}) > 1


def test_a_sensor_that_a_scene_lacks_is_absent_and_no_black_picture() -> None:
    crops = SceneCrops(scenes_of(2, lacking=1), SceneCropOptions(32, colour=0.0), 40, 2, (0,))
    batch = crops.batch(0)
    without = crops.numbers(0).index(1)
    assert batch.present["rgb"].tolist() == [True, True]
    assert batch.present["depth"].tolist() == [number != without for number in range(2)]
    assert sorted(batch.groups(("rgb", "depth"))) == [
        (("rgb",), [without]),
        (("rgb", "depth"), [1 - without]),
    ]
    assert sorted(batch.groups(("depth",))) == [(("depth",), [1 - without]), (("rgb",), [without])]


def test_a_sensor_without_data_in_a_crop_is_absent_there() -> None:
    def make(number: int) -> tuple[Sample, NDArray[np.uint8]]:
        images = {name: np.full((3, 40, 40), 0.5, np.float32) for name in ("rgb", "depth")}
        valid = {"rgb": np.ones((40, 40), bool), "depth": np.zeros((40, 40), bool)}
        return Sample("a", images, valid), np.zeros((40, 40), np.uint8)

    crops = SceneCrops(DrawnScenes(make, 1, ("a", "b"), ("rgb", "depth")), SceneCropOptions(32), 40, 1, (0,))
    assert crops.batch(0).groups(("rgb", "depth")) == [(("rgb",), [0])]


@pytest.mark.parametrize("method", ["both", "mlesam"])
def test_the_expert_of_an_absent_sensor_learns_nothing_from_that_scene(method: Any) -> None:
    config = NetworkConfig(
        labels=("a", "b", "c"), modalities=("rgb", "depth"), method=method, image_size=64, rank=2
    )
    torch.manual_seed(0)
    network = SceneNetwork(config, load_foundation("embedded_sam2"))
    for part in network.updates.parameters():
        torch.nn.init.normal_(part, std=0.01)
    objective = SceneObjective(network, LearningOptions(drop=0.0)).train()
    images = {name: torch.rand(2, 3, 64, 64) for name in ("rgb", "depth")}
    labels = torch.randint(0, 3, (2, 64, 64))

    def gradients(batch: SceneBatch) -> list[torch.Tensor]:
        network.zero_grad()
        torch.manual_seed(1)
        if objective.prototypes is not None:
            objective.prototypes.running.zero_()
        objective(batch)["loss"].backward()
        return [part.grad[1].clone() for part in network.updates.parameters() if part.grad is not None]

    absent = {"rgb": torch.tensor([True, True]), "depth": torch.tensor([True, False])}
    first = gradients(SceneBatch(images, labels, absent))
    # Whatever stands in the place of the absent picture does not matter ...
    images["depth"][1] = 0
    assert all(map(torch.equal, first, gradients(SceneBatch(images, labels, absent))))
    # ... and where no scene has the sensor its expert gets nothing at all.
    nowhere = {**absent, "depth": torch.tensor([False, False])}
    assert all(not part.any() for part in gradients(SceneBatch(images, labels, nowhere)))


def folder(root: Path, depth: Callable[[int], Any], labels: Callable[[int], Any], count: int = 4) -> Path:
    for number in range(count):
        name = f"s{number}"
        write_png(root / "rgb" / f"{name}.png", noise(3, 40, 40, seed=number))
        if (values := depth(number)) is not None:
            (root / "depth").mkdir(exist_ok=True)
            np.save(root / "depth" / f"{name}.npy", values)
        if (values := labels(number)) is not None:
            write_png(root / "labels" / f"{name}.png", values)
    (root / "labels.txt").write_text("ground\nhouse\n")
    return root


def halves(number: int) -> NDArray[np.uint8]:
    return (np.arange(1600).reshape(40, 40) > 800).astype(np.uint8)


def metres(number: int) -> NDArray[np.float32]:
    return field(40, 40, number) * 60


def mask(number: int) -> NDArray[np.uint8]:
    return halves(number) * 255


REFUSED = [
    (metres, mask, (), "0 and 255 only"),
    (metres, lambda number: np.zeros((40, 40), np.uint8), (), "ground occurs in the labels, expected two"),
    (metres, halves, ("--modality", "rgb", "--modality", "thermal"), "has thermal, asked for by --modality"),
    (lambda number: None, halves, ("--modality", "rgb", "--modality", "depth"), "has depth"),
]


@pytest.mark.parametrize(("depth", "labels", "options", "words"), REFUSED)
def test_material_that_makes_no_sense_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    depth: Any,
    labels: Any,
    options: tuple[str, ...],
    words: str,
) -> None:
    root = folder(tmp_path / "data", depth, labels)
    assert scene("train", root, "-o", tmp_path / "m.safetensors", "--steps", 1, *SMALL, *options) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "m.safetensors").exists()


def test_values_outside_of_a_sensors_range_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder(tmp_path / "data", metres, halves)
    (root / "depth").rename(root / "thermal")
    words = ("train", root, "-o", tmp_path / "m.safetensors", "--steps", 1, *SMALL)
    assert scene(*words) == 2
    line = capsys.readouterr().err
    assert "thermal cannot be read in any" in line
    assert "--range thermal=LOW,HIGH" in line


def test_files_that_do_not_pair_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder(tmp_path / "data", metres, halves)
    for path in (root / "depth").iterdir():
        path.rename(path.with_name(f"{path.stem}_depth.npy"))
    assert scene("train", root, "-o", tmp_path / "m.safetensors", "--steps", 1, *SMALL) == 2
    line = capsys.readouterr().err
    assert "no file of depth has the name of a labelled sample (rgb: s0.png; depth: s0_depth.npy)" in line


def surveyed(root: Path, **reading: Any) -> tuple[str, ...]:
    """Notes on a folder before it is learnt from."""
    options = TrainOptions(root / "m.safetensors", read=ReadOptions(**reading))
    scenes, _, _ = find_material(root, TrainConfig(), options)
    return survey_scenes(scenes, root, ())


def test_what_is_missing_is_told_before_training(tmp_path: Path) -> None:
    """Two scenes lack depth, one is not labelled, a label is of none, and depth is in centimetres."""
    root = folder(
        tmp_path / "data",
        lambda number: None if number < 2 else metres(number) * 100,
        lambda number: None if number == 5 else halves(number),
        6,
    )
    shutil.copy(root / "labels" / "s0.png", root / "labels" / "other.png")
    told = "\n".join(surveyed(root))
    assert "1 sample without labels left out" in told
    assert "depth is missing in 2 of 4 samples (s0, s1)" in told
    assert "labels of other belong to no sensor's file" in told
    assert "of depth lies beyond 80 m" in told
    assert "beyond" not in "\n".join(surveyed(root, ranges={"depth": (0.0, 8000.0)}))


@pytest.mark.slow
def test_georeferenced_rasters_are_learnt_from_and_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "data", tmp_path / "m.safetensors"
    for name in ("optical", "sar", "labels"):
        (root / name).mkdir(parents=True)
    for number, corner in enumerate(((500_000.0, 5_000_000.0), (600_000.0, 5_000_000.0))):
        ground = np.stack([field(100, 140, seed) for seed in range(3)])
        write(root / "optical" / f"t{number}.tif", (ground * 255).astype(np.uint8), corner=corner)
        write(
            root / "sar" / f"t{number}.tif", np.stack([ground[0], ground[1]])[:, ::2, ::2] - 20, 20.0, corner
        )
        labels = (ground[0, ::4, ::4] > 0.5).astype(np.uint8)
        write(root / "labels" / f"t{number}.tif", labels, 40.0, corner)
    words = (
        "--geotiff",
        "--labels",
        "ground,house",
        "--bands",
        "sar=2",
        "--range",
        "sar=-20,-19",
        "--steps",
        1,
    )
    assert scene("train", root, "-o", out, *words, *SMALL) == 0
    assert read_header(out).config["reading"]["ranges"] == {"sar": [-20.0, -19.0]}
    reading = load_model(out).reading
    assert (reading.ranges, reading.bands) == ({"sar": (-20.0, -19.0)}, {"sar": (2,)})
    assert reading.rasters
    (root / "labels.txt").write_text("ground\nhouse\n")
    assert scene("evaluate", root, "--geotiff", "--model", out, "--json") == 0
    captured = capsys.readouterr()
    assert "learnt from pictures" not in captured.err
    assert '"samples": 12' in captured.out
    assert scene("train", root, "-o", out, "--geotiff", "--layout", "deliver", "--overwrite") == 2
    assert scene("evaluate", root, "--geotiff", "--layout", "plain", "--model", out) == 2


def test_what_was_not_published_is_no_paper_recipe(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train", samples, "-o", tmp_path / "m.safetensors", "--paper")
    assert scene(*words, "--method", "both") == 2
    assert "method 'both' was not published" in capsys.readouterr().err
    assert scene(*words, "--foundation", "embedded_sam2", "--quiet") == 2
    line = capsys.readouterr().err
    assert "every class would be blank" in line
    assert "sam2_hiera_base_plus" in line


def test_memorysams_schedule_ends_as_published() -> None:
    """Formula of DELIVER's ``WarmupPolyLR`` with an epoch more than there are, 10 of 200 rising."""
    epoch = 25
    stage = StageOptions(
        200 * epoch, 6e-4, warmup=10 * epoch, warmup_start=0.1, schedule="poly_rest", rise="exponential"
    )
    stage = StageOptions(**{**vars(stage), "beyond": epoch})
    assert learning_rate(0, stage) == pytest.approx(6e-5)
    assert learning_rate(5 * epoch, stage) == pytest.approx(6e-4 * 0.1**0.5)
    assert learning_rate(10 * epoch, stage) == pytest.approx(6e-4)
    last = 200 * epoch - 1
    expected = 6e-4 * (1 - (last - 10 * epoch) / (201 * epoch - 10 * epoch)) ** 0.9
    assert learning_rate(last, stage) == pytest.approx(expected)
    before = StageOptions(200 * epoch, 6e-4, warmup=10 * epoch, schedule="poly")
    assert learning_rate(last, before) / expected == pytest.approx(7.4, abs=0.1)


def test_vectors_do_not_decay_where_that_is_published() -> None:
    layer = torch.nn.Linear(3, 2)
    parameters = list(layer.parameters())
    groups = group_parameters(parameters, StageOptions(1, weight_decay=0.01, decay_vectors=False))
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(1, 0.01), (1, 0.0)]
    (one,) = group_parameters(parameters, StageOptions(1, weight_decay=0.01))
    assert (len(one["params"]), one["weight_decay"]) == (2, 0.01)


def test_published_light_changes_a_fifth_of_the_pictures() -> None:
    options = SceneCropOptions(32, colour=0.0, jitter=0.2, blur=0.2)
    picture = np.random.default_rng(0).random((3, 12, 12)).astype(np.float32)
    rng = np.random.default_rng(1)
    changed = np.mean([not np.array_equal(change_light(picture, rng, options), picture) for _ in range(800)])
    assert changed == pytest.approx(1 - 0.8**2, abs=0.05)
    only_blur = change_light(picture, np.random.default_rng(0), SceneCropOptions(32, blur=1.0))
    assert only_blur.std() < picture.std()
    with pytest.raises(ConfigError, match="chances"):
        SceneCropOptions(32, jitter=1.5)
