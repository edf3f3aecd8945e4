"""``domainsam.run("urban", ...)``: keywords as the command's, arrays in and out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

import domainsam
import domainsam_urban
from domainsam.errors import ConfigError, InputError, MissingInputError
from domainsam.keywords import keyword_names
from domainsam_urban.commands.map import map_command
from domainsam_urban.generated import write_sample
from domainsam_urban.job import Batch, SceneResult
from domainsam_urban.run import map_options

PRINTING = {"as_json", "verbose"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    write_sample(folder / "scene.tif", folder / "truth.tif", 512, seed=3)
    return folder / "scene.tif"


def test_keywords_are_the_options_of_the_command() -> None:
    options = {item.name for item in map_command.params if item.expose_value} - {"inputs"} - PRINTING
    assert options == set(keyword_names(map_options)) - {"made_by"}


def test_defaults_are_those_of_the_command(scene: Path) -> None:
    from domainsam_cli.options import job_options

    given = dict(map_command.make_context("map", [str(scene), "-o", "a.gpkg"]).params)
    del given["inputs"]
    assert map_options(**job_options(given)) == map_options(out="a.gpkg")


def test_one_scene(scene: Path, tmp_path: Path) -> None:
    result = domainsam.run(
        "urban", scene, tmp_path / "s.gpkg", min_area=1000, mask=tmp_path / "m.tif", device="cpu"
    )
    assert isinstance(result, SceneResult)
    assert set(result.paths) >= {"polygons", "mask"}
    assert result.options.shape.min_area == 1000


def test_several_scenes_are_a_batch_and_a_bad_one_is_named(scene: Path, tmp_path: Path) -> None:
    batch = domainsam.run("urban", [scene, tmp_path / "absent.tif"], tmp_path, method="coarse")
    assert isinstance(batch, Batch)
    assert len(batch.results) == 1
    assert batch.failures[0][0].endswith("absent.tif")


def test_one_bad_scene_raises_its_error(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"absent\.tif"):
        domainsam.run("urban", tmp_path / "absent.tif", tmp_path / "s.gpkg", method="coarse")


def test_a_wrong_keyword_names_the_nearest(scene: Path) -> None:
    with pytest.raises(ConfigError, match="urban map: no option is named 'minarea'; did you mean min_area"):
        domainsam.run("urban", scene, "s.gpkg", minarea=1)


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("precision", "fp8", "expected one of: auto"),
        ("tile", 8, "tile is 8, expected 64 or more"),
        ("bbox", (1, 2), "expected four: west"),
    ],
)
def test_impossible_values(scene: Path, keyword: str, value: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        domainsam.run("urban", scene, "s.gpkg", **{keyword: value})


def test_an_output_must_be_named(scene: Path) -> None:
    with pytest.raises(ConfigError, match="name an output"):
        domainsam.run("urban", scene)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # rioxarray multiplies transforms
def test_an_array_is_answered_as_its_file_is(scene: Path, tmp_path: Path) -> None:
    rioxarray = pytest.importorskip("rioxarray")
    with rioxarray.open_rasterio(scene) as stored:
        array = stored.load()
    answer = domainsam.run("urban", array, method="coarse")
    domainsam.run(
        "urban", scene, method="coarse", stac=False, mask=tmp_path / "m.tif", probability=tmp_path / "p.tif"
    )
    with rasterio.open(tmp_path / "m.tif") as mask, rasterio.open(tmp_path / "p.tif") as probability:
        assert np.array_equal(answer["mask"].values, mask.read(1))
        assert answer.rio.crs == mask.crs
        assert answer.rio.transform().almost_equals(mask.transform, 1e-9)
        stored = probability.read(1)
    seen = stored != 255
    assert np.allclose(answer["probability"].values[seen], stored[seen] / 254, atol=1e-6)
    assert np.isnan(answer["probability"].values[~seen]).all()


def test_an_array_without_place_is_refused() -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("rioxarray")
    with pytest.raises(InputError, match="no CRS"):
        domainsam.run("urban", xarray.DataArray(np.zeros((3, 64, 64), np.uint8), dims=("band", "y", "x")))


def test_load_model_is_at_the_root() -> None:
    model = domainsam_urban.load_model(device="cpu")
    assert model.name == "urban_villages"
    with pytest.raises(ConfigError, match="precision"):
        domainsam_urban.load_model(precision="fp8")
