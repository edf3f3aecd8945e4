"""Training on several cities: shares of inputs, trunks, and what the model's file says of its method."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from domainsam.checkpoint import load, save
from domainsam.errors import ConfigError
from domainsam.io.pairing import find_scenes
from domainsam.testing.synthetic import make_settlement_scene
from domainsam_urban.commands.train import train
from domainsam_urban.evaluate.evaluate import order_stages
from domainsam_urban.model.settlement import get_method
from domainsam_urban.run import map_options
from domainsam_urban.train.recipe import TrainConfig, TrainOptions, read_recipe
from domainsam_urban.train.scenes import find_owners, gather_material
from domainsam_urban.train.settlement import choose_method, train_model
from tests.urban.model.test_settlement import model_file
from tests.urban.tiny import write_scene
from tests.urban.train.test_settlement import ROOT, STAGE, TINY, scenes

__all__ = ["model_file", "scenes"]
LITE = "efficientnet_lite0"


@pytest.fixture(scope="module")
def cities(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two cities: one with two scenes, one with one, labels in a third folder."""
    folder = tmp_path_factory.mktemp("cities")
    for city, names in {"one": ("a", "b"), "two": ("c",)}.items():
        (folder / city).mkdir()
        for name in names:
            shutil.copy(scenes / f"{'a' if name == 'c' else name}_image.tif", folder / city / f"{name}.tif")
    (folder / "labels").mkdir()
    for name in ("a", "b", "c"):
        source = scenes / f"{'a' if name == 'c' else name}_mask.tif"
        shutil.copy(source, folder / "labels" / f"{name}_mask.tif")
    return folder


def test_each_input_gets_its_share_of_crops(cities: Path, tmp_path: Path) -> None:
    inputs = [cities / "one", cities / "two"]
    found = find_scenes(inputs)
    owners = find_owners(found, inputs)
    assert owners == (0, 0, 1)
    with ExitStack() as stack:
        options = TrainOptions(tmp_path / "m.safetensors", quiet=True)
        material = gather_material(found, cities / "labels", TINY, options, tmp_path, stack)
        assert material.chances((), owners) is None
        chances = material.chances((1.0, 3.0), owners)
        assert chances is not None
        assert chances[2] == pytest.approx(3.0)
        assert chances[0] + chances[1] == pytest.approx(1.0)
        with pytest.raises(ConfigError, match=r"3 shares for 2 input"):
            material.chances((1.0, 1.0, 1.0), owners)
        for scene in material.training[2:]:
            scene.weight = 0.0
        with pytest.raises(ConfigError, match="input 2 has a share"):
            material.chances((1.0, 1.0), owners)


def test_shares_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="shares are"):
        TrainConfig(shares=(0.0, 0.0))
    with pytest.raises(ConfigError, match="shares are"):
        TrainConfig(shares=(1.0, -1.0))


def test_a_trunk_learns_from_its_pretrained_weights(scenes: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    tensors = timm.create_model(LITE).state_dict()
    save_file(tensors, tmp_path / "trunk.safetensors")
    # Nothing is learnt at a rate of next to nothing, so what is kept is what was given.
    still = replace(STAGE, lr=1e-12, weight_decay=0.0)
    config = replace(
        TINY,
        trunk_weights=str(tmp_path / "trunk.safetensors"),
        prompter=replace(TINY.prompter, encoder=LITE, head_width=16),
        coarse=still,
        joint=replace(still, steps=0),
    )
    options = TrainOptions(tmp_path / "m.safetensors", quiet=True, device="cpu")
    train_model([scenes], scenes, config, options)
    kept = load(tmp_path / "m.safetensors", "urban")
    torch.testing.assert_close(
        kept.tensors["prompter.encoder.model.conv_stem.weight"].float(), tensors["conv_stem.weight"]
    )
    assert kept.header.config["method"] == "coarse", "its joint stage never ran"
    assert kept.header.config["prompter"]["mean"] == [0.485, 0.456, 0.406]
    wrong = replace(config, prompter=TINY.prompter)
    with pytest.raises(ConfigError, match="name a trunk with --encoder"):
        train_model([scenes], scenes, wrong, replace(options, out=tmp_path / "n.safetensors"))


def test_an_unknown_encoder_is_one_line(scenes: Path, tmp_path: Path) -> None:
    given = [str(scenes), "--labels", str(scenes), "-o", str(tmp_path / "m.safetensors")]
    result = CliRunner().invoke(train, [*given, "--foundation", "fake", "--encoder", "nothing_such"])
    assert isinstance(result.exception, ConfigError)
    assert "no trunk is called 'nothing_such'" in str(result.exception)


@pytest.mark.parametrize(
    ("coarse", "full", "method"), [(0.6, 0.5, "coarse"), (0.5, 0.6, "full"), (0.5, 0.5, "coarse")]
)
def test_the_better_stage_is_what_a_model_maps_with(coarse: float, full: float, method: str) -> None:
    assert choose_method(TINY, {"coarse_iou": coarse, "full_iou": full}) == method
    assert choose_method(TINY, {}) == "full"
    assert choose_method(replace(TINY, joint=replace(STAGE, steps=0)), {"full_iou": 1.0}) == "coarse"


def with_method(source: Path, target: Path, method: str | None) -> Path:
    checkpoint = load(source, "urban")
    config = {key: value for key, value in checkpoint.header.config.items() if key != "method"}
    config |= {} if method is None else {"method": method}
    save(target, checkpoint.tensors, replace(checkpoint.header, config=config))
    return target


def test_mapping_takes_the_method_of_the_model_s_file(model_file: Path, tmp_path: Path) -> None:
    coarse = with_method(model_file, tmp_path / "coarse.safetensors", "coarse")
    older = with_method(model_file, tmp_path / "older.safetensors", None)
    assert (get_method(coarse), get_method(older), get_method(coarse, "full")) == ("coarse", "full", "full")
    assert map_options(out="s.gpkg", model=coarse).run.method == "coarse"
    assert map_options(out="s.gpkg", model=coarse, method="full").run.method == "full"
    assert map_options(out="s.gpkg", model=coarse, no_mask=True).run.method == "full", "a prompt's part"
    assert map_options(out="s.gpkg", boxes="b.geojson").run.method == "full"
    wrong = with_method(model_file, tmp_path / "wrong.safetensors", "slow")
    with pytest.raises(ConfigError, match="has method 'slow'"):
        get_method(wrong)


def test_the_model_in_the_package_maps_without_the_foundation() -> None:
    assert get_method(None) == "coarse"
    assert [stage.name for stage in order_stages("coarse")] == ["coarse", "full"]
    assert [stage.name for stage in order_stages("full")] == ["full", "coarse"]


def test_the_shipped_recipe_says_all_that_it_needs() -> None:
    recipe = read_recipe(Path("cities"))
    assert recipe.prompter.encoder == LITE
    assert (recipe.coarse.steps, recipe.joint.steps, recipe.coarse.keep) == (140, 0, "last")
    assert recipe.trunk_weights is None, "where the file lies, the user says"
    assert sum(recipe.shares) == pytest.approx(1)
    assert (ROOT / "recipes" / "urban" / "cities.py").is_file()


def test_a_drawn_scene_is_a_city(tmp_path: Path) -> None:
    write_scene(tmp_path / "c.tif", make_settlement_scene(64, 64, seed=1).image)
    assert find_owners(find_scenes([tmp_path]), [tmp_path]) == (0,)
