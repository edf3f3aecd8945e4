"""Marks of a person on a scene become polygons of their class in their place, from shell and Python alike."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

import domainsam
from domainsam.errors import ConfigError
from domainsam_cli import main
from tests.urban.tiny import PLACE, UTM, write_scene

BOXES = {"pond": (24, 20, 56, 44), "roof": (70, 110, 110, 140)}
"""Left, top, right, bottom in pixels of the scene, by label; far enough apart for two rows of crops."""


def on_ground(box: Sequence[float]) -> shapely.Polygon:
    """A box of pixels in the scene's CRS."""
    (left, top), (right, bottom) = PLACE @ (box[0], box[1]), PLACE @ (box[2], box[3])
    return shapely.box(left, bottom, right, top)


def write_boxes(path: Path, crs: str = "EPSG:4326") -> Path:
    """The boxes in another CRS than the scene's."""
    shapes = [on_ground(box) for box in BOXES.values()]
    table = geopandas.GeoDataFrame({"label": list(BOXES)}, geometry=shapes, crs=UTM)
    table.to_crs(crs).to_file(path)
    return path


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "scene.tif")


def urban_map(*arguments: object) -> int:
    """``domainsam urban map`` with the fake foundation, whose answer to a box is about the box."""
    return main(["urban", "map", *map(str, arguments), "--foundation", "fake"])


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def check_polygons(table: Any) -> None:
    """One polygon a box, of its class, about as large and in its place."""
    table = table.to_crs(UTM)
    assert sorted(table["class"]) == sorted(BOXES)
    for label, box in BOXES.items():
        (shape,) = table.geometry[table["class"] == label]
        wanted = on_ground(box)
        assert shape.intersection(wanted).area / shape.union(wanted).area > 0.8
        assert abs(table["area_m2"][table["class"] == label].iloc[0] - shape.area) < 0.01 * shape.area


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", UTM])
def test_boxes_in_any_crs_become_polygons_of_their_class(
    tmp_path: Path, scene: Path, crs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = write_boxes(tmp_path / "boxes.gpkg", crs)
    assert urban_map(scene, "--boxes", boxes, "-o", tmp_path / "s.gpkg", "--mask", tmp_path / "m.tif") == 0
    assert "2 objects" in capsys.readouterr().out
    check_polygons(geopandas.read_file(tmp_path / "s.gpkg", layer="settlements"))
    with rasterio.open(tmp_path / "m.tif") as mask:
        assert set(np.unique(mask.read(1))) == {0, 1, 2}
    item = json.loads((tmp_path / "s.stac.json").read_text())
    (band,) = item["assets"]["mask"]["bands"]
    assert [entry["name"] for entry in band["classification:classes"]] == ["background", *BOXES, "nodata"]
    assert "ettlement" not in item["assets"]["mask"]["title"] + item["properties"]["processing:lineage"]


def test_python_gives_the_polygons_of_the_command(tmp_path: Path, scene: Path) -> None:
    assert (
        urban_map(scene, "--boxes", write_boxes(tmp_path / "b.gpkg", UTM), "-o", tmp_path / "a.geojson") == 0
    )
    bounds = [on_ground(box).bounds for box in BOXES.values()]
    with domainsam.open(scene) as opened:
        assert opened.pack.name == "urban"
        found = opened.find(boxes=bounds, labels=list(BOXES), foundation="fake")
        result = found.save(tmp_path / "b.geojson", preview=tmp_path / "p.png")
        with pytest.raises(ConfigError, match="did you mean overwrite"):
            found.save(tmp_path / "c.geojson", overwrit=True)
        masks = found.masks
    assert (result.polygons, result.method) == (2, "marked")
    assert (tmp_path / "p.png").is_file()
    check_polygons(geopandas.read_file(tmp_path / "b.geojson"))
    one, other = (
        json.loads((tmp_path / name).read_text())["features"] for name in ("a.geojson", "b.geojson")
    )
    assert [part["geometry"] for part in one] == [part["geometry"] for part in other]
    for label, mask in masks.items():
        left, top, right, bottom = BOXES[label]
        inside = np.zeros(mask.shape, bool)
        inside[top:bottom, left:right] = True
        assert (mask & inside).sum() / (mask | inside).sum() > 0.8


def test_points_beside_an_object_belong_to_it(tmp_path: Path, scene: Path) -> None:
    (tmp_path / "p.csv").write_text("x,y,positive,object\n40,32,1,a\n40,40,0,a\n")
    assert urban_map(scene, "--points", tmp_path / "p.csv", "-o", tmp_path / "s.gpkg") == 0
    (shape,) = geopandas.read_file(tmp_path / "s.gpkg", layer="settlements").geometry
    assert shape.distance(shapely.Point(PLACE @ (40, 32))) == 0
    assert shape.distance(shapely.Point(PLACE @ (40, 40))) > 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--model", "m.safetensors"), "--model is of no use beside --points or --boxes"),
        (("--method", "coarse"), "--method is of no use"),
        (("--marks-frame", "voxel"), "'voxel' cannot be used here; expected pixel or world"),
    ],
)
def test_what_does_not_go_with_marks_is_refused(
    tmp_path: Path, scene: Path, more: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.csv").write_text("x,y\n40,32\n")
    assert urban_map(scene, "--points", tmp_path / "p.csv", "-o", tmp_path / "s.gpkg", *more) == 2
    assert words in one_line(capsys)
    assert not (tmp_path / "s.gpkg").exists()


def test_marks_outside_and_missing_files_are_named(
    tmp_path: Path, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.csv").write_text("x,y\n4000,32\n")
    assert urban_map(scene, "--points", tmp_path / "p.csv", "-o", tmp_path / "s.gpkg") == 2
    assert "p.csv: object 1: point (4000, 32) lies outside" in one_line(capsys)
    assert urban_map(scene, "--points", tmp_path / "q.csv", "-o", tmp_path / "s.gpkg") != 0
    assert "q.csv: no such file" in one_line(capsys)
    assert not list(tmp_path.glob("s.*"))


def test_interrupted_run_resumes_to_the_same_bytes(
    tmp_path: Path, scene: Path, interrupt_decoding: Callable[[], None]
) -> None:
    boxes = write_boxes(tmp_path / "boxes.gpkg")
    command = (scene, "--boxes", boxes, "--no-stac", "--batch-size", "1", "-o")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert urban_map(*command, whole / "s.gpkg", "--probability", whole / "p.tif") == 0
    interrupt_decoding()
    assert urban_map(*command, broken / "s.gpkg", "--probability", broken / "p.tif") == 130
    assert not (broken / "s.gpkg").exists()
    assert urban_map(*command, broken / "s.gpkg", "--probability", broken / "p.tif", "--resume") == 0
    tables = [geopandas.read_file(folder / "s.gpkg", layer="settlements") for folder in (whole, broken)]
    assert tables[0].equals(tables[1])
    with rasterio.open(whole / "p.tif") as one, rasterio.open(broken / "p.tif") as other:
        assert (one.read() == other.read()).all()


def test_real_ground_from_a_click(shared_data: Path, tmp_path: Path) -> None:
    naip = sorted((shared_data / "satellite/opengeos/naip").glob("*.tif"))[-1]
    with domainsam.open(naip, pack="urban") as scene:
        x, y = scene.grid.to_world([size / 2 for size in scene.shape])
        found = scene.find(points=[(x, y)], labels="field")
        assert found.names == ("field",)
        found.save(tmp_path / "one.gpkg")
    with sqlite3.connect(tmp_path / "one.gpkg") as table:
        assert {row[0] for row in table.execute("select class from settlements")} <= {"field"}
    table.close()
    (one,) = found.objects
    assert one.bounds is not None
    row, col = (size / 2 for size in scene.shape)
    assert one.bounds.row <= row + 2 <= one.bounds.row + one.bounds.height + 4
    assert one.bounds.col <= col + 2 <= one.bounds.col + one.bounds.width + 4
