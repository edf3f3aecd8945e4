"""Everything that a scene shows becomes ranked polygons that do not overlap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio

import domainsam
from domainsam.errors import ConfigError
from domainsam.infer.journal import JOURNAL_FILE
from domainsam.keywords import keyword_names
from domainsam.prompter.everything import EverythingSource
from domainsam.protocols import SceneObject, Window
from domainsam_cli import main
from domainsam_cli.options import job_options
from domainsam_urban.commands.everything import everything_command
from domainsam_urban.run import map_options
from domainsam_urban.run_alike import NO_PART
from domainsam_urban.run_everything import everything_options, run_everything
from domainsam_urban.write.ranked import Layers
from tests.urban.tiny import write_scene

LOOSE: dict[str, Any] = {"per_side": 4, "least_iou": 0.0, "least_stability": 0.0}
PIXEL_M2 = 0.81


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 160 x 128 pixels, three windows of the fake foundation down and four across."""
    return write_scene(tmp_path_factory.mktemp("everything") / "scene_2021.tif")


def segment(scene: Path, out: Path, **more: Any) -> Any:
    return run_everything(scene, out, foundation="fake", device="cpu", quiet=True, **{**LOOSE, **more})


def test_polygons_are_ranked_apart_and_not_slivers(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "things.gpkg"
    result = segment(scene, out, mask=tmp_path / "m.tif", summary=tmp_path / "s.json")
    table = geopandas.read_file(out, layer="settlements")
    assert len(table) > 3
    assert table["rank"].is_monotonic_increasing
    assert table["confidence"].is_monotonic_decreasing
    assert set(table["method"]) == {"everything"}
    assert set(table["class"]) == {"object"}
    assert table["area_m2"].min() >= 64 * PIXEL_M2 * 0.98
    assert table.geometry.union_all().area == pytest.approx(table.geometry.area.sum(), rel=1e-6)
    told = json.loads((tmp_path / "s.json").read_text())
    assert told["everything"]["found"] == result.objects_found
    assert told["everything"]["least_m2"] == pytest.approx(64 * PIXEL_M2, rel=0.02)
    assert told["options"]["everything"]["per_side"] == 4
    with rasterio.open(tmp_path / "m.tif") as mask:
        assert (mask.read(1) == 1).any()
    assert "objects" in result.sentence()


def test_a_least_area_counts_for_objects_and_polygons(scene: Path, tmp_path: Path) -> None:
    segment(scene, tmp_path / "all.gpkg")
    segment(scene, tmp_path / "large.gpkg", min_area=120)
    every, large = (
        geopandas.read_file(tmp_path / f"{name}.gpkg", layer="settlements") for name in ("all", "large")
    )
    assert 0 < len(large) < len(every)
    assert large["area_m2"].min() >= 120


def test_a_killed_run_goes_on_with_the_next_window(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment(scene, tmp_path / "whole.gpkg", stac=False)
    asked: list[Window] = []
    looking = EverythingSource._look_at

    def look(self: Any, view: Any, window: Window, area: Any) -> list[SceneObject]:
        asked.append(window)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return looking(self, view, window, area)

    monkeypatch.setattr(EverythingSource, "_look_at", look)
    with pytest.raises(KeyboardInterrupt):
        segment(scene, tmp_path / "broken.gpkg", stac=False)
    (journal,) = tmp_path.glob(f".*/{JOURNAL_FILE}")
    assert journal.read_bytes().count(b"\n") == 4
    before = len(asked)
    result = segment(scene, tmp_path / "broken.gpkg", stac=False, resume=True)
    assert result.resumed
    windows = set(asked)
    assert len(asked) - before == len(windows) - 3
    assert (tmp_path / "broken.gpkg").read_bytes() == (tmp_path / "whole.gpkg").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"whole.gpkg", "broken.gpkg"}


def test_the_command_and_python_find_the_same(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "command.gpkg"
    code = main(
        [
            *("urban", "segment-everything", str(scene), "-o", str(out), "--foundation", "fake"),
            *("--per-side", "4", "--least-iou", "0", "--least-stability", "0", "--device", "cpu", "-q"),
        ]
    )
    assert code == 0
    with domainsam.open(scene, "urban") as opened:
        found = opened.find(everything=True, foundation="fake", device="cpu", **LOOSE)
        assert found.told["way"] == "everything"
        assert found.mask.any()
        found.save(tmp_path / "python.gpkg")
        with pytest.raises(ConfigError, match="in one way"):
            opened.find(everything=True, like="a.gpkg")
    for name in ("command", "python"):
        assert len(geopandas.read_file(tmp_path / f"{name}.gpkg", layer="settlements")) > 3


def test_a_folder_of_one_name_answers_for_all_its_scenes(tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    for year in (2020, 2021):
        write_scene(tmp_path / "scenes" / f"scene_{year}.tif")
    batch = segment(tmp_path / "scenes", tmp_path / "out")
    assert len(batch.results) == 2


def test_nothing_is_an_answer(scene: Path, tmp_path: Path) -> None:
    result = segment(scene, tmp_path / "none.gpkg", least_stability=1.0)
    assert result.objects_found == 0
    assert len(geopandas.read_file(tmp_path / "none.gpkg", layer="settlements")) == 0


def test_the_smaller_of_two_objects_has_what_they_share() -> None:
    large, small = np.ones((20, 20), bool), np.ones((4, 4), bool)
    ranked = [
        SceneObject(Window(0, 0, 20, 20), score=0.9, mask=large),
        SceneObject(Window(5, 5, 4, 4), score=0.5, mask=small),
    ]
    window = Window(0, 0, 24, 24)
    best = Layers(ranked).paint(window)
    assert (best[:20, :20] == 1).all()
    least = Layers(ranked, smaller_first=True).paint(window)
    assert (least == 2).sum() == 16
    assert least[6, 6] == 2
    assert (least[20:] == 0).all()
    # A part of the scene shows the same; ranks may be more than 16 bits hold.
    assert np.array_equal(Layers(ranked, True).paint(Window(4, 4, 8, 8)), least[4:12, 4:12])
    assert least.dtype == np.int32


def test_keywords_and_defaults_are_those_of_the_command() -> None:
    given = {item.name for item in everything_command.params if item.expose_value} - {
        *("inputs", "as_json", "verbose")
    }
    known = set(keyword_names(everything_options)) | (set(keyword_names(map_options)) - {*NO_PART, "made_by"})
    assert given == known
    chosen = everything_command.make_context("segment-everything", ["s.tif", "-o", "f.gpkg"]).params
    del chosen["inputs"]
    assert everything_options(**job_options(chosen)) == everything_options(out="f.gpkg")
