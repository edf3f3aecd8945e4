"""One scene, many scenes, interrupted scenes: files appear complete, together, and only when allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import torch

from domainsam.errors import ConfigError, InputError, OutputError
from domainsam.progress import Progress, show_progress
from domainsam_urban import finders
from domainsam_urban.finders import make_engine_options
from domainsam_urban.map import map_scenes
from domainsam_urban.model.settlement import SettlementModel
from domainsam_urban.settings import MapOptions, OutputOptions, RunOptions, ShapeOptions
from domainsam_urban.write import products
from tests.urban.tiny import UTM, write_scene

RUN = RunOptions(tile=64, overlap=16)


def wanted(folder: Path, **more: Any) -> MapOptions:
    """Every kind of output, in one folder."""
    outputs = OutputOptions(
        vectors=(folder / "s.gpkg", folder / "s.parquet", folder / "s.geojson"),
        probability=folder / "p.tif",
        mask=folder / "m.tif",
        preview=folder / "p.png",
        summary=folder / "s.json",
        grid=20.0,
    )
    return MapOptions(replace(outputs, **more), run=RUN, quiet=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model: SettlementModel) -> Path:
    """A folder with a scene and everything that was made of it."""
    folder = tmp_path_factory.mktemp("finished")
    map_scenes([str(write_scene(folder / "scene_2021-05-30.tif"))], wanted(folder), model)
    return folder


def test_everything_asked_for_is_there_and_nothing_else(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "scene_2021-05-30.tif",
        *("s.gpkg", "s.parquet", "s.geojson", "s.qml"),
        *("s_grid.parquet", "s_grid.geojson", "s_grid.qml"),
        *("p.tif", "m.tif", "p.png", "s.json", "s.stac.json"),
    }


def test_polygons_agree_in_all_formats_and_with_the_summary(finished: Path) -> None:
    table = geopandas.read_file(finished / "s.gpkg", layer="settlements")
    summary = json.loads((finished / "s.json").read_text())
    assert len(table) > 0
    assert table.crs.to_epsg() == 32650
    assert table.geometry.is_valid.all()
    assert summary["polygons"] == len(table)
    assert summary["hectares"] == pytest.approx(table["area_ha"].sum())
    assert set(table["source"]) == {"scene_2021-05-30.tif"}
    assert set(table["model"]) == {"tiny"}
    assert set(table["method"]) == {"full"}
    assert str(table["datetime"].iloc[0]).startswith("2021-05-30")
    assert len(geopandas.read_parquet(finished / "s.parquet")) == len(table)
    assert geopandas.read_file(finished / "s.geojson").crs.to_epsg() == 4326


def test_mask_is_the_probability_cut_at_a_half(finished: Path) -> None:
    with rasterio.open(finished / "p.tif") as one, rasterio.open(finished / "m.tif") as other:
        probability, mask = one.read(1), other.read(1)
        assert one.crs == other.crs == rasterio.crs.CRS.from_string(UTM)
        assert one.nodata == other.nodata == 255
        assert other.tags()["MODEL"] == "tiny"
        assert "domainsam" in other.tags()["SOFTWARE"]
    np.testing.assert_array_equal(mask == 1, (probability >= 127) & (probability != 255))


def test_area_of_polygons_is_that_of_the_mask(finished: Path) -> None:
    with rasterio.open(finished / "m.tif") as dataset:
        pixels = int((dataset.read(1) == 1).sum())
    table = geopandas.read_file(finished / "s.gpkg", layer="settlements")
    assert table["area_m2"].sum() == pytest.approx(pixels * 0.81, rel=2e-3)


def test_stac_item_points_at_files_that_exist(finished: Path) -> None:
    item = json.loads((finished / "s.stac.json").read_text())
    hrefs = [asset["href"] for asset in item["assets"].values()]
    assert len(hrefs) >= 7
    for href in [*hrefs, *(link["href"] for link in item["links"])]:
        assert (finished / href).is_file(), href


def test_existing_output_is_refused_before_any_work(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finders, "load_model", lambda options: pytest.fail("work began"))
    before = (finished / "s.gpkg").read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        map_scenes([str(finished / "scene_2021-05-30.tif")], wanted(finished))
    assert (finished / "s.gpkg").read_bytes() == before


def test_overwrite_replaces(tmp_path: Path, model: SettlementModel) -> None:
    scene = write_scene(tmp_path / "a.tif")
    (tmp_path / "s.gpkg").write_text("old")
    outputs = OutputOptions(vectors=(tmp_path / "s.gpkg",), stac=False, overwrite=True)
    map_scenes([str(scene)], MapOptions(outputs, run=RUN, quiet=True), model)
    assert len(geopandas.read_file(tmp_path / "s.gpkg", layer="settlements")) > 0
    assert {path.name for path in tmp_path.iterdir()} == {"a.tif", "s.gpkg"}


def test_bad_scene_among_several_is_reported_and_the_rest_go_on(
    tmp_path: Path, model: SettlementModel
) -> None:
    scenes = [write_scene(tmp_path / f"{name}.tif") for name in "abc"]
    scenes[1].write_bytes(b"")
    options = MapOptions(OutputOptions((tmp_path / "out",), stac=False), run=RUN, quiet=True)
    batch = map_scenes([str(path) for path in scenes], options, model)
    assert batch.exit_code == 1
    assert [result.source for result in batch.results] == [str(scenes[0]), str(scenes[2])]
    ((source, reason),) = batch.failures
    assert source == str(scenes[1])
    assert "empty" in reason
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.gpkg", "c.gpkg"}


@pytest.fixture
def interrupted() -> Iterator[list[int]]:
    """Ctrl-C at the n-th report of progress; set the list's one number."""
    left = [0]

    @contextmanager
    def progress(title: str, quiet: bool = False, /) -> Iterator[Progress]:
        def advance(stage: str, done: int, total: int) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

        yield advance

    with show_progress(progress):
        yield left


def test_interrupted_run_resumes_to_the_same_bytes(
    tmp_path: Path, model: SettlementModel, interrupted: list[int]
) -> None:
    scene = str(write_scene(tmp_path / "a.tif"))
    whole, broken = tmp_path / "whole", tmp_path / "broken"

    def options(folder: Path, resume: bool) -> MapOptions:
        outputs = OutputOptions((folder / "s.gpkg",), probability=folder / "p.tif", stac=False)
        return MapOptions(outputs, run=RUN, resume=resume, quiet=True)

    map_scenes([scene], options(whole, resume=False), model)
    interrupted[0] = 4
    with pytest.raises(KeyboardInterrupt):
        map_scenes([scene], options(broken, resume=False), model)
    assert [path.name for path in broken.iterdir()] == [".s.domainsam"]
    (result,) = map_scenes([scene], options(broken, resume=True), model).results
    assert result.resumed
    assert {path.name for path in broken.iterdir()} == {"s.gpkg", "p.tif"}
    for name in ("s.gpkg", "p.tif"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes(), name


def test_an_interrupted_run_s_specks_are_not_left_out_of_the_next(
    tmp_path: Path, model: SettlementModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least area is no part of what is resumed: what an earlier one left out comes back."""
    scene = str(write_scene(tmp_path / "a.tif"))
    run = replace(RUN, method="coarse")

    def options(folder: Path, least: float, resume: bool) -> MapOptions:
        outputs = OutputOptions((), mask=folder / "m.tif", stac=False)
        shape = ShapeOptions(min_area=least)
        return MapOptions(outputs, run=run, shape=shape, resume=resume, quiet=True)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    map_scenes([scene], options(whole, 0, resume=False), model)
    with monkeypatch.context() as patch:
        patch.setattr(products, "write_cog", interrupt)
        with pytest.raises(KeyboardInterrupt):
            map_scenes([scene], options(broken, 150, resume=False), model)
    map_scenes([scene], options(broken, 0, resume=True), model)
    assert (whole / "m.tif").read_bytes() == (broken / "m.tif").read_bytes()


def test_resume_with_other_options_is_refused_and_keeps_the_work(
    tmp_path: Path, model: SettlementModel, interrupted: list[int]
) -> None:
    scene = str(write_scene(tmp_path / "a.tif"))
    outputs = OutputOptions((tmp_path / "s.gpkg",), stac=False)
    interrupted[0] = 4
    with pytest.raises(KeyboardInterrupt):
        map_scenes([scene], MapOptions(outputs, run=RUN, quiet=True), model)
    other = MapOptions(outputs, run=replace(RUN, tile=96), resume=True, quiet=True)
    with pytest.raises(InputError, match="tile"):
        map_scenes([scene], other, model)
    assert (tmp_path / ".s.domainsam" / "journal").is_file()


def test_resume_passes_over_complete_scenes(
    tmp_path: Path, model: SettlementModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = str(write_scene(tmp_path / "a.tif"))
    options = MapOptions(OutputOptions((tmp_path / "out",), stac=False), run=RUN, resume=True, quiet=True)
    map_scenes([scene], options, model)
    monkeypatch.setattr(finders, "load_model", lambda options: pytest.fail("work began"))
    batch = map_scenes([scene], options)
    assert batch.complete == (scene,)
    assert batch.results == ()
    assert batch.exit_code == 0


def test_coarse_needs_no_foundation(tmp_path: Path, model: SettlementModel) -> None:
    scene = str(write_scene(tmp_path / "a.tif"))
    options = MapOptions(
        OutputOptions((), probability=tmp_path / "p.tif", stac=False),
        run=replace(RUN, method="coarse"),
        quiet=True,
    )
    (result,) = map_scenes([scene], options, model).results
    assert result.foundation == "none"
    assert result.crops == 0
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".tif"] == []


def test_switched_off_parts_change_the_answer_and_not_the_model(
    tmp_path: Path, model: SettlementModel
) -> None:
    scene = str(write_scene(tmp_path / "a.tif"))
    answers = {}
    for name, disabled in {"full": frozenset(), "no_mask": frozenset({"mask"})}.items():
        outputs = OutputOptions(
            (tmp_path / f"{name}.gpkg",), probability=tmp_path / f"{name}.tif", stac=False
        )
        options = MapOptions(outputs, run=replace(RUN, disabled=disabled), quiet=True)
        (result,) = map_scenes([scene], options, model).results
        with rasterio.open(tmp_path / f"{name}.tif") as dataset:
            answers[name] = dataset.read(1)
    assert result.method == "full without mask"
    assert (answers["full"] != answers["no_mask"]).any()
    assert model.prompter.config.parts.mask


def test_model_without_parts_shares_its_tensors(model: SettlementModel) -> None:
    other = model.without({"box", "sam_embedding"})
    assert not other.prompter.config.parts.box
    pairs = zip(model.prompter.parameters(), other.prompter.parameters(), strict=True)
    assert all(one is two for one, two in pairs)
    with pytest.raises(ConfigError, match=r"'colour'.*segformer_embedding"):
        model.without({"colour"})


def test_min_area_thins_prompts_by_half_of_it(model: SettlementModel) -> None:
    options = MapOptions(OutputOptions(()), run=RUN, shape=ShapeOptions(min_area=820.0))
    assert make_engine_options(options, model, (0.9, 0.9)).min_pixels == 506
    assert make_engine_options(options, model, None).min_pixels == 410
    small = replace(options, shape=ShapeOptions())
    assert make_engine_options(small, model, (0.9, 0.9)).min_pixels == model.speck_pixels


def test_random_state_is_left_alone(tmp_path: Path, model: SettlementModel) -> None:
    before = torch.random.get_rng_state()
    outputs = OutputOptions((tmp_path / "s.fgb",), stac=False)
    map_scenes([str(write_scene(tmp_path / "a.tif"))], MapOptions(outputs, run=RUN, quiet=True), model)
    assert torch.equal(before, torch.random.get_rng_state())


def test_tile_is_the_models_unless_told(model: SettlementModel) -> None:
    trained = replace(model, tile=256, overlap=96)
    sizes = []
    for run in (RunOptions(), RunOptions(tile=128), RunOptions(overlap=64), RunOptions(tile=128, overlap=0)):
        options = make_engine_options(MapOptions(OutputOptions(()), run=run), trained, None)
        sizes.append((options.tile, options.overlap))
    assert sizes == [(256, 128), (128, 64), (256, 64), (128, 0)]


def test_no_tile_is_smaller_than_the_network_looks(model: SettlementModel) -> None:
    trained = replace(model, tile=512, least_tile=512)
    made = []
    for run in (RunOptions(batch_size=4), RunOptions(tile=256, batch_size=4), RunOptions(tile=64)):
        options = make_engine_options(MapOptions(OutputOptions(()), run=run), trained, None)
        made.append((options.tile, options.overlap, options.batch_size))
    assert made == [(512, 256, 4), (512, 256, 1), (512, 256, 1)]
