"""Marks of a person on pictures and rasters become a map of their labels, from shell and Python alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray

import domainsam
from domainsam.io.rasters import silence_rasterio
from domainsam_cli import main
from tests.scene.trees import noise, write_png

SIZE = (160, 128)
BOXES = {"cat": (24, 20, 56, 44), "bowl": (70, 110, 110, 140)}
"""Left, top, right, bottom in pixels, by label; far enough apart for two rows of crops."""
UTM = "EPSG:32650"
PLACE = Affine.translation(443_200, 4_412_300) @ Affine.scale(2, -2)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return write_png(tmp_path / "a.png", noise(3, *SIZE))


@pytest.fixture
def raster(tmp_path: Path) -> Path:
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", "GTiff", SIZE[1], SIZE[0], 3, UTM, PLACE, "uint8") as made:
        made.write(noise(3, *SIZE))
    return path


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    path = tmp_path / "boxes.csv"
    rows = [f"{label},{','.join(map(str, box))}" for label, box in BOXES.items()]
    path.write_text("\n".join(["label,left,top,right,bottom", *rows]))
    return path


def segment(*arguments: object) -> int:
    """``domainsam scene segment`` with the fake foundation, whose answer to a box is about the box."""
    return main(["scene", "segment", *map(str, arguments), "--foundation", "fake"])


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def read(path: Path) -> NDArray[np.uint8]:
    with silence_rasterio(), rasterio.open(path) as dataset:
        values: NDArray[np.uint8] = dataset.read(1)
    return values


def check_map(values: NDArray[np.uint8]) -> None:
    """Class numbers about the boxes, 255 elsewhere."""
    assert set(np.unique(values)) == {0, 1, 255}
    for number, (left, top, right, bottom) in enumerate(BOXES.values()):
        wanted = np.zeros(values.shape, bool)
        wanted[top:bottom, left:right] = True
        found = values == number
        assert (found & wanted).sum() / (found | wanted).sum() > 0.8


def test_boxes_become_a_map_of_their_labels(tmp_path: Path, picture: Path, boxes: Path) -> None:
    summary = tmp_path / "s.json"
    assert segment("--rgb", picture, "--boxes", boxes, "-o", tmp_path / "m.png", "--summary", summary) == 0
    check_map(read(tmp_path / "m.png"))
    assert set(json.loads(summary.read_text())["shares"]) == set(BOXES)


def test_python_gives_the_map_of_the_command(tmp_path: Path, picture: Path, boxes: Path) -> None:
    assert segment("--rgb", picture, "--boxes", boxes, "-o", tmp_path / "c.png") == 0
    with domainsam.open({"rgb": picture}, pack="scene") as scene:
        found = scene.find(boxes=list(BOXES.values()), labels=list(BOXES), foundation="fake")
        found.save(tmp_path / "b.png", preview=tmp_path / "p.png")
        assert set(found.masks) == set(BOXES)
        assert found.mask.shape == SIZE
    assert (tmp_path / "c.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "p.png").is_file()


def test_rasters_take_marks_in_another_crs(tmp_path: Path, raster: Path) -> None:
    shapes = []
    for left, top, right, bottom in BOXES.values():
        (west, north), (east, south) = PLACE @ (left, top), PLACE @ (right, bottom)
        shapes.append(shapely.box(west, south, east, north))
    table = geopandas.GeoDataFrame({"label": list(BOXES)}, geometry=shapes, crs=UTM)
    table.to_crs("EPSG:4326").to_file(tmp_path / "b.gpkg")
    assert (
        segment("--geotiff", f"rgb={raster}", "--boxes", tmp_path / "b.gpkg", "-o", tmp_path / "m.tif") == 0
    )
    check_map(read(tmp_path / "m.tif"))
    with domainsam.open(raster, pack="scene", geotiff=True) as scene:
        found = scene.find(boxes=[shape.bounds for shape in shapes], labels=list(BOXES), foundation="fake")
        found.save(tmp_path / "n.tif")
    check_map(read(tmp_path / "n.tif"))
    with rasterio.open(tmp_path / "n.tif") as made:
        assert made.crs == rasterio.crs.CRS.from_string(UTM)
        assert made.transform == PLACE


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--model", "m.safetensors"), "--model is of no use beside --points or --boxes"),
        (("--probability", "p.npz"), "--probability tells of a trained model"),
        (("--marks-frame", "world"), "'world' cannot be used here: the scene has no CRS; expected pixel"),
    ],
)
def test_what_does_not_go_with_marks_is_refused(
    tmp_path: Path,
    picture: Path,
    boxes: Path,
    more: tuple[str, ...],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert segment("--rgb", picture, "--boxes", boxes, "-o", "m.png", *more) == 2
    assert words in one_line(capsys)
    assert not (tmp_path / "m.png").exists()


def test_marks_and_a_folder_of_scenes_are_refused(
    tmp_path: Path, samples: Path, boxes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment("--layout", "plain", samples, "--boxes", boxes, "-o", tmp_path / "out") == 2
    assert "marks belong to one scene" in one_line(capsys)


def test_interrupted_run_resumes_to_the_same_bytes(
    tmp_path: Path, raster: Path, boxes: Path, interrupt_decoding: Callable[[], None]
) -> None:
    command = ("--geotiff", f"rgb={raster}", "--boxes", boxes, "-o")
    assert segment(*command, tmp_path / "whole.tif") == 0
    interrupt_decoding()
    assert segment(*command, tmp_path / "broken.tif") == 130
    assert not (tmp_path / "broken.tif").exists()
    assert segment(*command, tmp_path / "broken.tif", "--resume") == 0
    assert (read(tmp_path / "whole.tif") == read(tmp_path / "broken.tif")).all()


def test_a_real_photograph_from_a_box(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "general/feral_cat/valid"
    photograph = next(path for path in sorted((folder / "images").iterdir()) if "group0006" in path.name)
    outline = (folder / "labels" / f"{photograph.stem}.txt").read_text().split()[1:]
    with domainsam.open(photograph, pack="scene") as scene:
        rows, cols = scene.shape
        corners = np.array(outline[: len(outline) // 2 * 2], float).reshape(-1, 2) * (cols, rows)
        corners = corners.clip(0, (cols, rows))
        box = (*corners.min(axis=0), *corners.max(axis=0))
        found = scene.find(boxes=[box], labels="cat")
        found.save(tmp_path / "m.png")
        (one,) = found.objects
    assert one.bounds is not None
    assert one.bounds.height * one.bounds.width > 0.3 * (box[2] - box[0]) * (box[3] - box[1])
    assert set(np.unique(read(tmp_path / "m.png"))) <= {0, 255}
