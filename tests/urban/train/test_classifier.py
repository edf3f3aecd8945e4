"""The classifier of cells: learning, its file, and mapping with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from affine import Affine
from torch import Tensor

from domainsam import checkpoint
from domainsam.errors import CheckpointError, ConfigError, InputError, OutputError
from domainsam.train.loop import StageOptions
from domainsam.train.split import BlockOptions
from domainsam_cli import main
from domainsam_urban import map as pipeline
from domainsam_urban.model.classifier import (
    CERTAIN,
    CellClassifier,
    ClassifierConfig,
    ScreenedPrompter,
    load_classifier,
    place_cells,
    save_classifier,
)
from domainsam_urban.model.settlement import SettlementModel
from domainsam_urban.settings import MapOptions, OutputOptions
from domainsam_urban.train.classifier import ClassifierRecipe, compute_scores, train_classifier
from domainsam_urban.train.recipe import TrainOptions
from tests.urban.tiny import PLACE, tiny_prompter, write_scene
from tests.urban.trend.scenes import options, texture, write_years

SIDE = 32
SMALL = ClassifierConfig(width=4, side=SIDE, resolution=0.9)
RECIPE = ClassifierRecipe(
    SMALL,
    batch_size=8,
    split=BlockOptions(size_m=40, buffer_m=2),
    learning=StageOptions(60, lr=5e-3, warmup=5, eval_every=20),
)


class Bright(CellClassifier):
    """Takes cells for settled that are bright on the whole."""

    def __init__(self, config: ClassifierConfig = SMALL) -> None:
        super().__init__(config)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        return 100 * (images.mean(dim=(1, 2, 3)) - 0.5)


def lit(rows: slice, columns: slice) -> Tensor:
    """A dark tile of 64 x 96 pixels with a bright part."""
    tile = torch.full((3, 64, 96), 0.1)
    tile[:, rows, columns] = 0.9
    return tile


def write_lit(folder: Path, corners: tuple[tuple[int, int], ...], seed: int, east: float = 0.0) -> Path:
    """A dull scene of 192 x 256 pixels with bright settlements of 64 x 96, and a mask beside it."""
    folder.mkdir()
    image = texture(192, 256, seed) // 4
    truth = np.zeros((192, 256, 1), np.uint8)
    for row, col in corners:
        truth[row : row + 64, col : col + 96] = 1
    place = PLACE @ Affine.translation(east, 0)
    write_scene(folder / "a_image.tif", np.where(truth, image + 120, image).astype(np.uint8), transform=place)
    write_scene(folder / "a_mask.tif", truth, transform=place)
    return folder


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene to learn from."""
    return write_lit(tmp_path_factory.mktemp("scenes") / "train", ((20, 20), (100, 140)), seed=3)


@pytest.fixture(scope="module")
def trained(scenes: Path) -> Path:
    """A classifier that was judged on another scene."""
    out = scenes.parent / "c.safetensors"
    val = write_lit(scenes.parent / "val", ((32, 32), (96, 160)), seed=4, east=1000)
    run = TrainOptions(out, val=val, device="cpu", quiet=True)
    metrics = train_classifier([scenes], scenes, RECIPE, run).metrics
    assert metrics["auc"] > 0.95
    assert metrics["area_kept"] >= 0.99
    assert metrics["empty_found"] > 0.5
    return out


@pytest.mark.parametrize(("length", "side"), [(512, 192), (64, 192), (192, 192), (768, 192), (193, 192)])
def test_cells_cover_a_tile(length: int, side: int) -> None:
    begun = place_cells(length, side)
    covered = np.zeros(length, bool)
    for start in begun:
        covered[start : start + side] = True
    assert covered.all()
    assert len(begun) == -(-length // side)
    assert begun[-1] == max(0, length - side)


def test_only_settled_tiles_reach_the_prompter(monkeypatch: pytest.MonkeyPatch) -> None:
    prompter = tiny_prompter()
    asked: list[int] = []
    own = prompter.coarse_logits

    def counted(images: Tensor) -> Tensor:
        asked.append(len(images))
        return own(images)

    monkeypatch.setattr(prompter, "coarse_logits", counted)
    images = torch.stack([lit(slice(0, 0), slice(0, 0)), lit(slice(0, 32), slice(32, 64))])
    screened = ScreenedPrompter(prompter, Bright())
    with torch.inference_mode():
        logits = screened.coarse_logits(images)
        assert asked == [1]
        kept = own(images[1:])[0, :, :8, 8:16]
    empty = torch.tensor([CERTAIN, -CERTAIN])[:, None, None]
    assert torch.equal(logits[0], empty.expand(2, 16, 24))
    assert torch.equal(logits[1, :, :8, 8:16], kept)
    assert torch.equal(logits[1, :, 8:], empty.expand(2, 8, 24))


def test_cells_are_cut_to_the_ground_that_was_learnt() -> None:
    """Images of twice the resolution: cells of twice the pixels, brought to the side of training."""
    classifier = Bright()
    screened = ScreenedPrompter(tiny_prompter(), classifier, resolution=0.45)
    assert screened.side == 2 * SIDE
    with torch.inference_mode():
        screened.settled(lit(slice(0, 64), slice(0, 96))[None])
    assert {shape[-2:] for shape in classifier.seen} == {(SIDE, SIDE)}


def test_the_threshold_keeps_the_settlement() -> None:
    probability, share = np.array([0.9, 0.6, 0.2, 0.1, 0.05]), np.array([0.8, 0.0, 0.5, 0.0, 0.0])
    found = compute_scores(probability, share)
    assert found["threshold"] == pytest.approx(0.15)
    assert found["area_kept"] == 1
    assert found["empty_found"] == pytest.approx(2 / 3)
    assert found["auc"] == pytest.approx(5 / 6)
    assert np.isnan(compute_scores(probability, np.zeros(5))["auc"])
    assert compute_scores(probability, np.zeros(5))["threshold"] == 0.5
    assert compute_scores(np.array([0.9, 0.8]), np.array([1.0, 1.0]))["threshold"] == pytest.approx(0.4)


def test_the_file_says_what_it_is(trained: Path) -> None:
    classifier = load_classifier(trained)
    assert not classifier.training
    assert classifier.config.side == SIDE
    assert classifier.config.resolution == pytest.approx(0.9, rel=0.01)
    header = checkpoint.read_header(trained)
    assert classifier.config.threshold == header.metrics["threshold"]
    assert header.labels == ("empty", "settlement")


def test_a_finished_run_resumed_gives_the_same_file(trained: Path, scenes: Path) -> None:
    before = checkpoint.load(trained, "urban classifier")
    run = TrainOptions(trained, val=scenes.parent / "val", device="cpu", quiet=True, resume=True)
    train_classifier([scenes], scenes, RECIPE, run)
    after = checkpoint.load(trained, "urban classifier")
    assert all(torch.equal(after.tensors[name], value) for name, value in before.tensors.items())
    with pytest.raises(CheckpointError, match="other options"):
        train_classifier([scenes], scenes, replace(RECIPE, batch_size=4), run)


def test_training_refuses_what_it_cannot_use(scenes: Path, tmp_path: Path) -> None:
    def run(name: str = "c.safetensors") -> TrainOptions:
        return TrainOptions(tmp_path / name, device="cpu", quiet=True)

    with pytest.raises(ConfigError, match=r"\.safetensors"):
        train_classifier([scenes], scenes, RECIPE, run("c.pt"))
    (tmp_path / "there.safetensors").write_text("precious")
    with pytest.raises(OutputError, match="--overwrite"):
        train_classifier([scenes], scenes, RECIPE, run("there.safetensors"))
    with pytest.raises(ConfigError, match="multiple of 32"):
        ClassifierConfig(side=100)
    for value, missing in ((0, "no settlement"), (1, "no ground without")):
        folder = tmp_path / str(value)
        folder.mkdir()
        write_scene(folder / "b_image.tif", texture(128, 160), transform=PLACE)
        write_scene(folder / "b_mask.tif", np.full((128, 160, 1), value, np.uint8), transform=PLACE)
        with pytest.raises(InputError, match=missing):
            train_classifier([folder], folder, RECIPE, run())


def test_the_command_trains_and_tells(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c.safetensors"
    words = f"{scenes} --labels {scenes} -o {out} --steps 2 --batch-size 2 --cell 32 --width 4 --block 40"
    assert main(["urban", "train-classifier", *words.split(), "--device", "cpu", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"] == str(out)
    assert document["metrics"]["cells"] > 0
    assert load_classifier(out).config.width == 4


def saved(path: Path, odds: float) -> Path:
    """A classifier file that gives every cell the same log-odds."""
    classifier = CellClassifier(SMALL)
    with torch.no_grad():
        classifier.network.fc.weight.zero_()
        classifier.network.fc.bias.fill_(odds)
    save_classifier(path, classifier, {})
    return path


def screening(model: SettlementModel, path: Path) -> SettlementModel:
    return replace(model, classifier=load_classifier(path))


def probability(scene: Path, model: SettlementModel, out: Path) -> bytes:
    outputs = OutputOptions((), probability=out, stac=False)
    run = options(out).run
    pipeline.map_scenes([str(scene)], MapOptions(outputs, run=run, quiet=True), model)
    import rasterio

    with rasterio.open(out) as dataset:
        return dataset.read(1).tobytes()


def test_mapping_with_a_classifier(model: SettlementModel, tmp_path: Path) -> None:
    """One that keeps everything changes nothing; one that keeps nothing leaves nothing."""
    scene = write_scene(tmp_path / "scene.tif", texture(), transform=PLACE @ Affine.identity())
    plain = probability(scene, model, tmp_path / "plain.tif")
    everything = screening(model, saved(tmp_path / "all.safetensors", 9.0))
    nothing = screening(model, saved(tmp_path / "none.safetensors", -9.0))
    assert probability(scene, everything, tmp_path / "all.tif") == plain
    assert set(probability(scene, nothing, tmp_path / "none.tif")) == {0}
    assert len(set(plain)) > 2


@pytest.mark.parametrize("what", ["missing", "text", "model"])
def test_a_file_that_is_no_classifier_is_refused(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from domainsam_urban.model.settlement import SHIPPED

    path = SHIPPED if what == "model" else tmp_path / "c.safetensors"
    if what == "text":
        path.write_text("hello, this is no model file")
    scenes = [str(path) for path in write_years(tmp_path, (2016, 2018))]
    words = ["--classifier", str(path), "--device", "cpu"]
    out = tmp_path / "out"
    assert main(["urban", "trend", *scenes, "-o", str(out), *words]) == CheckpointError.exit_code
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("domainsam: ")
    assert path.name in line
    assert main(["urban", "map", scenes[0], "-o", str(tmp_path / "m.gpkg"), *words]) != 0
    assert not out.exists()
