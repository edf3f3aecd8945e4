"""Training on labelled files: pairing, checks, split, caching, resuming, the model file, the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from domainsam.checkpoint import read_header
from domainsam.config import to_table
from domainsam.errors import CheckpointError, ConfigError, InputError, MissingInputError, OutputError
from domainsam.foundation.embedded import EmbeddedFoundation
from domainsam.side.ladder import LadderConfig
from domainsam.train.devices import OneDevice
from domainsam.train.loop import Run, StageOptions
from domainsam_ct.commands.train import train
from domainsam_ct.labels import load_label_map
from domainsam_ct.model.network import NetworkConfig, OrganNetwork, SpecialistNetwork
from domainsam_ct.model.organs import ModelConfig, load_model, save_model
from domainsam_ct.train.case import Material
from domainsam_ct.train.cases import Pair, choose_judged, find_pairs, gather
from domainsam_ct.train.further import begin_from
from domainsam_ct.train.organs import build_network, learn
from domainsam_ct.train.recipe import SplitOptions, TrainConfig, make_paper_recipe, read_recipe
from tests.ct.organs import LABELS, body, tiny_config, tiny_foundation, tiny_network

LABEL_MAP = "[labels]\nkidney_right = 5\nkidney_left = 6\nliver = 9\n"


def tiny_recipe(steps: int = 6, **changes: object) -> TrainConfig:
    optimisation = StageOptions(steps, lr=1e-3, warmup=2, schedule="poly", eval_every=3, ema=0.9)
    config = TrainConfig(
        model=tiny_config(), crop=64, batch_size=2, variants=1, cache_gb=1.0, optimisation=optimisation
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def run(folder: Path, resume: bool = False, stop: int | None = None) -> Run:
    def progress(stage: str, done: int, total: int) -> None:
        if stop is not None and done == stop:
            raise KeyboardInterrupt

    folder.mkdir(exist_ok=True)
    return Run(folder, "same", OneDevice(torch.device("cpu"), "float32"), 0, resume, 1, progress)


def material() -> Material:
    return Material(LABELS, [body("one")], [body("two", seed=1)])


def test_resumed_training_is_the_unbroken_one(tmp_path: Path) -> None:
    whole, scores = learn(tiny_recipe(), material(), tiny_foundation(), run(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        learn(tiny_recipe(), material(), tiny_foundation(), run(tmp_path / "broken", stop=5))
    again, other = learn(tiny_recipe(), material(), tiny_foundation(), run(tmp_path / "broken", resume=True))
    assert scores == other
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.slow
def test_cached_embeddings_change_nothing_but_time(tmp_path: Path) -> None:
    cached = tiny_recipe()
    first, _ = learn(cached, material(), tiny_foundation(), run(tmp_path / "one"))
    entries = list((tmp_path / "one" / "features").iterdir())
    # Six slices in one version each; a step of two slices asks for each of them twice.
    assert len(entries) == 6
    again, _ = learn(cached, material(), tiny_foundation(), run(tmp_path / "one"))
    assert len(list((tmp_path / "one" / "features").iterdir())) == 6
    for one, two in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)


def test_training_lowers_the_loss_and_moves_what_it_should(tmp_path: Path) -> None:
    config = tiny_recipe(24)
    network, scores = learn(config, material(), tiny_foundation(), run(tmp_path))
    rows = (tmp_path / "log.csv").read_text().splitlines()
    column = rows[0].split(",").index("loss")
    losses = [float(row.split(",")[column]) for row in rows[1:]]
    assert losses[-1] < 0.9 * losses[0]
    assert set(scores) == {"dice", *(f"dice_{name}" for name in LABELS[1:])}
    assert isinstance(network, OrganNetwork)
    assert network.ladder.gates.detach().abs().max() > 0


def write_nifti(path: Path, values: np.ndarray, size: float = 5.0, shift: float = 0.0) -> Path:
    """Axial images as a RAS NIfTI file."""
    canonical = np.ascontiguousarray(values.transpose(2, 1, 0)[::-1, ::-1])
    affine = np.diag([size, size, 5.0, 1.0])
    affine[0, 3] = shift
    nibabel.save(nibabel.Nifti1Image(canonical, affine), path)
    return path


def write_cases(folder: Path, count: int = 3) -> tuple[Path, Path, Path]:
    """Folders of images and labels, and a label map whose numbers are not the model's."""
    images, labels, label_map = folder / "cases", folder / "labels", folder / "map.toml"
    images.mkdir()
    labels.mkdir()
    label_map.write_text(LABEL_MAP)
    for number in range(count):
        case = body(seed=number)
        write_nifti(images / f"case{number}.nii.gz", case.slices)
        write_nifti(labels / f"case{number}.nii.gz", np.array([0, 5, 6, 9], np.uint8)[case.labels])
    return images, labels, label_map


def test_cases_are_paired_and_renumbered(tmp_path: Path) -> None:
    images, labels, label_map = write_cases(tmp_path)
    (labels / "case1.nii.gz").rename(labels / "renamed.nii.gz")
    with pytest.raises(MissingInputError, match=r"1 of 3 cases: case1\.nii\.gz"):
        find_pairs([images], labels)
    (images / "case1.nii.gz").rename(images / "renamed_0000.nii.gz")
    (labels / "case2.nii.gz").rename(labels / "case2_seg.nii.gz")
    pairs = find_pairs([images], labels)
    assert [pair.name for pair in pairs] == ["case0", "case2", "renamed_0000"]
    found = gather(pairs, load_label_map(label_map), SplitOptions(share=0.3), 10.0, tmp_path / "laid", 0)
    assert found.labels == LABELS
    assert len(found.training) == 2
    (judged,) = found.judged
    whole = body(seed=[0, 2, 1][[pair.name for pair in pairs].index(judged.name)])
    assert np.array_equal(judged.slices, np.maximum(whole.slices, -1024))
    assert np.array_equal(judged.labels, whole.labels)
    assert found.training[0].spacing_mm == (5.0, 10.0, 10.0)
    assert found.signature == found.signature


def test_faults_of_all_cases_are_told_at_once(tmp_path: Path) -> None:
    images, labels, label_map = write_cases(tmp_path, 4)
    write_nifti(labels / "case0.nii.gz", body().labels[:, :-1])
    write_nifti(labels / "case1.nii.gz", body().labels * 0, shift=3.0)
    write_nifti(labels / "case2.nii.gz", body().labels)
    pairs, organs = find_pairs([images], labels), load_label_map(label_map)
    with pytest.raises(InputError, match="3 of 4 cases cannot be used") as caught:
        gather(pairs, organs, SplitOptions(share=0.0), 1.5, tmp_path / "laid", 0)
    message = str(caught.value)
    assert "labels have shape" in message
    assert "3 mm beside the image" in message
    assert "label values 1, 2, 3 are not in the label map" in message
    assert "\n" not in message


def test_unknown_labels_may_be_background_and_empty_cases_are_noted(tmp_path: Path) -> None:
    images, labels, label_map = write_cases(tmp_path, 2)
    write_nifti(labels / "case1.nii.gz", body().labels)
    found = gather(
        find_pairs([images], labels),
        load_label_map(label_map),
        SplitOptions(share=0.0),
        1.5,
        tmp_path / "laid",
        0,
        ignore_unknown=True,
    )
    assert found.notes == ("case1.nii.gz shows no organ of the label map",)


def test_folds_share_out_whole_cases_once() -> None:
    names = [f"case{number}" for number in range(7)]
    folds = [choose_judged(names, SplitOptions(3, fold), 5) for fold in range(3)]
    assert sorted(name for fold in folds for name in fold) == names
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    assert choose_judged(names[::-1], SplitOptions(3, 0), 5) == folds[0]
    assert choose_judged(names, SplitOptions(3, 0), 6) != folds[0]
    assert len(choose_judged(names, SplitOptions(share=0.2), 0)) == 1
    assert not choose_judged(names, SplitOptions(share=0.0), 0)


@pytest.mark.parametrize("split", [SplitOptions(3), SplitOptions(share=0.9)])
def test_too_few_cases_for_the_split(split: SplitOptions) -> None:
    with pytest.raises(InputError, match="case"):
        choose_judged(["one"], split, 0)


def test_model_files_give_the_same_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domainsam_ct.model.organs.load_foundation", lambda *_, **more: tiny_foundation())
    network, config = tiny_network(), tiny_config()
    path = tmp_path / "model.safetensors"
    save_model(path, network, LABELS, config, {"note": "test"}, {"dice": 0.5, "dice_liver": 0.5})
    model = load_model(path, device="cpu", precision="fp32")
    assert model.validated == {"liver": 0.5}
    assert (model.labels, model.config, model.name) == (LABELS, config, "model")
    slices = body().slices.astype(np.float32)
    own = replace(model, network=network)
    found, expected = model.predict_slices(slices, (5.0, 5.0)), own.predict_slices(slices, (5.0, 5.0))
    assert np.array_equal(found.labels, expected.labels)
    assert np.array_equal(found.confidence, expected.confidence)


def test_models_for_another_foundation_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, tiny_network(), LABELS, tiny_config(), {}, {})
    with pytest.raises(CheckpointError, match="was trained on"):
        load_model(path, "embedded", "cpu")


def test_stretched_models_survive_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domainsam_ct.model.organs.load_foundation", lambda *_, **more: tiny_foundation())
    config = ModelConfig(pixel_mm=0.0, side=64, network=NetworkConfig(0, "random", LadderConfig()))
    save_model(tmp_path / "m.safetensors", tiny_network(config), LABELS, config, {}, {})
    assert load_model(tmp_path / "m.safetensors", device="cpu").config == config


def test_paper_recipe_is_the_published_one() -> None:
    config = make_paper_recipe(TrainConfig(foundation="sam_vit_b"))
    assert config.foundation == "sam_vit_b"
    assert config.model.window == (-125.0, 275.0)
    assert (config.model.network.tokens, config.model.network.ladder.depths) == ("random", (16,))
    assert (config.loss.cross_entropy, config.loss.dice, config.loss.stride) == (0.2, 0.8, 4)
    rates = config.optimisation
    assert (rates.lr, rates.weight_decay, rates.warmup, rates.schedule) == (1e-3, 0.1, 250, "poly")
    assert (config.epochs, config.batch_size, config.crop, config.augment.kind) == (200, 24, 512, "paper")


def test_recipes_may_say_less_than_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("epochs = 3\n[augment]\ntilt = 2.0\n")
    config = read_recipe(tmp_path / "recipe.toml")
    assert (config.epochs, config.augment.tilt, config.optimisation.schedule) == (3, 2.0, "poly")
    (tmp_path / "recipe.toml").write_text("epoch = 3\n")
    with pytest.raises(ConfigError, match="did you mean epochs"):
        read_recipe(tmp_path / "recipe.toml")


def test_a_shipped_recipe_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = read_recipe(Path("abdomen"))
    assert (shipped.batch_size, shipped.model.network.method) == (8, "specialist")
    assert read_recipe(Path("abdomen_open")).model.network.method == "ladder"
    with pytest.raises(MissingInputError, match=r"no configuration file abdomens, .*shipped: abdomen"):
        read_recipe(Path("abdomens"))
    Path("abdomen").write_text("epochs = 3\n")
    assert read_recipe(Path("abdomen")).epochs == 3


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> EmbeddedFoundation:
    """The command runs on the tiny foundation."""
    for module in ("domainsam.train.start", "domainsam_ct.model.organs"):
        monkeypatch.setattr(f"{module}.load_foundation", lambda *_, **more: tiny_foundation())
    return tiny_foundation()  # type: ignore[return-value]


@pytest.mark.usefixtures("small")
def test_command_trains_and_the_model_runs(tmp_path: Path) -> None:
    images, labels, label_map = write_cases(tmp_path)
    out = tmp_path / "model.safetensors"
    words = [images, "--labels", labels, "--label-map", label_map, "-o", out, "--device", "cpu", "--steps", 2]
    words += ["--crop", 64, "--batch-size", 2, "--depths", "16,8", "--variants", 1, "--json"]
    words += ["--method", "ladder"]
    done = CliRunner().invoke(train, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert set(told["gates"]) == {"16", "8"}
    assert "dice_liver" in told["metrics"]
    model = load_model(out, device="cpu")
    assert model.labels == LABELS
    assert model.config.network.ladder.depths == (16, 8)
    assert model.predict_slices(body().slices.astype(np.float32), (5.0, 5.0)).labels.shape == (6, 40, 40)
    left = {path.name for path in (tmp_path / "model.training").iterdir()}
    assert {"state.pt", "log.csv", "curves.png"} <= left
    assert not any(name.startswith("scratch-") for name in left)
    with pytest.raises(OutputError, match="exists"):
        CliRunner().invoke(train, [str(word) for word in words], catch_exceptions=False)


@pytest.mark.slow
def test_command_trains_a_specialist_without_a_foundation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domainsam.train.start.load_foundation", lambda *_: pytest.fail("no foundation"))
    images, labels, label_map = write_cases(tmp_path)
    out = tmp_path / "model.safetensors"
    words = [images, "--labels", labels, "--label-map", label_map, "-o", out, "--device", "cpu", "--steps", 2]
    words += ["--crop", 64, "--batch-size", 2, "--trunk", "resnet18", "--json"]
    done = CliRunner().invoke(train, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told["gates"] == {}
    assert "dice_liver" in told["metrics"]
    assert "ImageNet weights (--trunk-weights FILE)" in told["notes"][0]
    model = load_model(out, device="cpu")
    assert (model.method, model.config.network.trunk) == ("specialist", "resnet18")
    assert read_header(out).config["training"]["crop_rows"] == 64
    assert model.predict_slices(body().slices.astype(np.float32), (5.0, 5.0)).labels.shape == (6, 40, 40)


def test_trunk_weights_are_what_training_begins_with(tmp_path: Path) -> None:
    network = NetworkConfig(1, method="specialist", trunk="resnet18", width=16)
    config = tiny_recipe(1, model=ModelConfig(pixel_mm=4.0, network=network))
    first = build_network(config, None, len(LABELS), 0)
    assert isinstance(first, SpecialistNetwork)
    torch.save(first.specialist.trunk.model.state_dict(), tmp_path / "trunk.pt")
    again = build_network(replace(config, trunk_weights=str(tmp_path / "trunk.pt")), None, len(LABELS), 1)
    one, two = (part.state_dict() for part in (first, again))
    assert torch.equal(one["specialist.trunk.model.conv1.weight"], two["specialist.trunk.model.conv1.weight"])
    assert not torch.equal(one["specialist.out.weight"], two["specialist.out.weight"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--depths", "16"], "--depths is of no use to a specialist: leave it out, or add --method ladder"),
        (["--foundation", "embedded"], "--foundation is of no use to a specialist"),
        (["--method", "ladder", "--trunk", "resnet18"], "--trunk is of no use to a ladder"),
        (["--method", "specialist", "--paper"], "--paper is SAM-LST's recipe, of a ladder"),
        (["--config", "abdomen", "--paper"], "--paper is SAM-LST's recipe, of a ladder"),
        (["--config", "abdomen_open", "--method", "specialist"], "the recipe abdomen_open is of a ladder"),
    ],
)
def test_options_that_do_not_belong_together(words: list[str], message: str) -> None:
    call = ["cases", "--labels", "labels", "-o", "model.safetensors", *words]
    with pytest.raises(ConfigError, match=message):
        CliRunner().invoke(train, call, catch_exceptions=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --labels"),
        (["--labels", "nowhere"], "no labels in"),
        (["--out", "model.pt", "--labels", "x"], "should end in"),
        (["--precision", "fp16", "--labels", "x"], "fp16"),
    ],
)
def test_bad_calls_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    images, *_ = write_cases(tmp_path, 1)
    out = [] if "--out" in words else ["-o", "model.safetensors"]
    with pytest.raises((ConfigError, InputError), match=message):
        CliRunner().invoke(train, [str(images), *out, *words, "--device", "cpu"], catch_exceptions=False)


def test_a_single_label_file_fits_a_single_case(tmp_path: Path) -> None:
    images, labels, _ = write_cases(tmp_path, 2)
    one = find_pairs([images / "case0.nii.gz"], labels / "case0.nii.gz")
    assert one == [Pair("case0", images / "case0.nii.gz", labels / "case0.nii.gz")]
    with pytest.raises(InputError, match="one label file for 2 cases"):
        find_pairs([images], labels / "case0.nii.gz")


def test_training_goes_on_from_a_model(tmp_path: Path) -> None:
    network = NetworkConfig(1, method="specialist", trunk="resnet18", width=16)
    config = tiny_recipe(1, model=ModelConfig(pixel_mm=4.0, network=network))
    first = build_network(config, None, len(LABELS), 0)
    path = tmp_path / "first.safetensors"
    save_model(path, first, LABELS, config.model, to_table(config), {})
    same, fewer = (build_network(config, None, count, 1) for count in (len(LABELS), len(LABELS) - 1))
    assert begin_from(same, path, LABELS)
    for name, value in first.state_dict().items():
        assert torch.equal(same.state_dict()[name], value)
    before = {name: value.clone() for name, value in fewer.state_dict().items()}
    assert not begin_from(fewer, path, LABELS[:-1])
    kept = [name for name, value in before.items() if value.shape != first.state_dict()[name].shape]
    assert kept
    for name, value in fewer.state_dict().items():
        assert torch.equal(value, before[name] if name in kept else first.state_dict()[name])
    other = replace(config, model=replace(config.model, network=replace(config.model.network, width=24)))
    with pytest.raises(CheckpointError, match="shape"):
        begin_from(build_network(other, None, len(LABELS), 1), path, LABELS)
