"""What looks like an example in a scene becomes ranked polygons, and what cannot be is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from shapely.geometry import Point, box

import domainsam
from domainsam.errors import ConfigError, DomainSamError
from domainsam.keywords import keyword_names
from domainsam_cli import main
from domainsam_cli.options import job_options
from domainsam_urban.commands.find import find_command
from domainsam_urban.run import map_options
from domainsam_urban.run_alike import NO_PART, find_options, run_find
from tests.urban.tiny import PLACE, UTM, write_scene

ROWS, COLS, RADIUS = 256, 320, 18
RED, BLUE, GROUND = (200, 50, 40), (40, 60, 190), (120, 140, 110)
REDS, BLUES = ((60, 60), (60, 220), (190, 140)), ((190, 250),)
PIXEL = 0.9


def draw(nodata: bool = False) -> np.ndarray:
    """Three red discs and a blue one on noise; where ``nodata`` the left margin is black."""
    noise = np.random.default_rng(0).normal(0, 6, (ROWS, COLS, 3))
    picture = np.clip(np.array(GROUND) + noise, 1, 255).astype(np.uint8)
    rows, cols = np.mgrid[:ROWS, :COLS]
    for colour, places in ((RED, REDS), (BLUE, BLUES)):
        for row, col in places:
            picture[(rows - row) ** 2 + (cols - col) ** 2 <= RADIUS**2] = colour
    if nodata:
        picture[:, :24] = 0
    return picture


def outline(row: float, col: float, radius: float = RADIUS) -> Any:
    return Point(*(PLACE @ (col + 0.5, row + 0.5))).buffer(radius * PIXEL)


def write(path: Path, *shapes: Any, crs: str = UTM, **columns: Any) -> Path:
    geopandas.GeoDataFrame(columns, geometry=list(shapes), crs=UTM).to_crs(crs).to_file(path)
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("alike") / "scene_2021.tif", draw(nodata=True), nodata=0)


def find(scene: Path, out: Path, like: Path, **more: Any) -> Any:
    return run_find(scene, out, like=like, device="cpu", quiet=True, **more)


def test_red_discs_are_found_ranked_and_measured(scene: Path, tmp_path: Path) -> None:
    """From an example in longitude and latitude; areas are square metres."""
    like = write(tmp_path / "one.gpkg", outline(*REDS[0]), crs="EPSG:4326", label=["roof"])
    out = tmp_path / "found.gpkg"
    result = find(scene, out, like, mask=tmp_path / "m.tif", summary=tmp_path / "s.json")
    table = geopandas.read_file(out, layer="settlements")
    assert len(table) == 3
    assert table["rank"].tolist() == [1, 2, 3]
    assert table["confidence"].is_monotonic_decreasing
    assert set(table["class"]) == {"roof"}
    assert set(table["method"]) == {"like"}
    disc = np.pi * (RADIUS * PIXEL) ** 2
    assert table["area_m2"].to_numpy() == pytest.approx(disc, rel=0.15)
    assert table.crs == UTM
    for place in REDS:
        truth = outline(*place)
        shared = table.geometry.intersection(truth).area / table.geometry.union(truth).area
        assert shared.max() > 0.8
    assert "3 objects" in result.sentence()
    told = json.loads((tmp_path / "s.json").read_text())["like"]
    assert told["found"] == 3
    assert told["examples_found_again"] == 1
    with rasterio.open(tmp_path / "m.tif") as mask:
        values = mask.read(1)
        assert mask.shape == (ROWS, COLS)
    assert values[REDS[1]] == 1
    assert values[BLUES[0]] == 0
    assert (values[:, :20] == 255).all()


def test_a_second_run_has_the_same_bytes_and_resume_passes_over(scene: Path, tmp_path: Path) -> None:
    like = write(tmp_path / "one.gpkg", outline(*REDS[0]))
    outs = [tmp_path / "a.gpkg", tmp_path / "b.gpkg"]
    for out in outs:
        find(scene, out, like, stac=False)
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert find(scene, outs[0], like, stac=False, resume=True).complete == (str(scene),)


def test_nothing_found_is_an_answer(scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    like = write(tmp_path / "one.gpkg", outline(*BLUES[0]))
    out = tmp_path / "none.gpkg"
    code = main(
        [
            *("urban", "find", str(scene), "--like", str(like), "-o", str(out)),
            *("--device", "cpu", "--least-score", "1.0"),
        ]
    )
    assert code == 0
    assert "0 objects" in capsys.readouterr().out
    assert len(geopandas.read_file(out, layer="settlements")) == 0


def test_only_a_part_of_the_scene_is_searched(scene: Path, tmp_path: Path) -> None:
    """The example lies beside the part, and is seen all the same."""
    like = write(tmp_path / "one.gpkg", outline(*REDS[0]))
    left, top = PLACE @ (180, 0)
    right, bottom = PLACE @ (COLS, 120)
    out = tmp_path / "part.gpkg"
    find(scene, out, like, bbox=(left, bottom, right, top))
    table = geopandas.read_file(out, layer="settlements")
    assert len(table) == 1
    assert table.geometry.iloc[0].intersects(outline(*REDS[1]))


def test_an_opened_scene_is_searched_from_python(scene: Path, tmp_path: Path) -> None:
    like = write(tmp_path / "one.gpkg", outline(*REDS[0]))
    with domainsam.open(scene, "urban") as opened:
        found = opened.find(like=like, device="cpu")
        assert len(found.objects) == 3
        assert found.told["way"] == "like"
        assert found.mask[REDS[1]]
        found.save(tmp_path / "python.gpkg")
        with pytest.raises(ConfigError, match="did you mean"):
            opened.find(like=like, finetuned=True)
        with pytest.raises(ConfigError, match="no option is named 'track'"):
            opened.find(track=like)
    saved = geopandas.read_file(tmp_path / "python.gpkg", layer="settlements")
    assert saved["rank"].tolist() == [1, 2, 3]


@pytest.mark.slow
def test_persam_finds_too(scene: Path, tmp_path: Path) -> None:
    like = write(tmp_path / "one.gpkg", outline(*REDS[0]))
    result = find(scene, tmp_path / "p.gpkg", like, method="persam", least_score=0.3)
    assert result.told["method"] == "persam"
    assert result.told["similarity"]["surroundings"] < result.told["similarity"]["example"]


FAR = box(500_000, 4_500_000, 500_050, 4_500_050)
ALL = box(*(PLACE @ (-10, ROWS + 10)), *(PLACE @ (COLS + 10, -10)))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (FAR, "lies outside the scene"),
        (ALL, "covers everything"),
        (outline(100, 10, 6), "no data"),
        (Point(*(PLACE @ (60.5, 60.5))), "without its outline"),
    ],
)
@pytest.mark.parametrize("method", ["texture", "persam"])
def test_a_bad_example_is_one_line(scene: Path, tmp_path: Path, shape: Any, words: str, method: str) -> None:
    like = write(tmp_path / "bad.gpkg", shape)
    with pytest.raises(DomainSamError, match=words) as caught:
        find(scene, tmp_path / "x.gpkg", like, method=method)
    assert "\n" not in str(caught.value)
    assert "bad.gpkg" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.gpkg"]


def test_an_empty_file_and_none_are_one_line(scene: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.geojson"
    empty.write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(DomainSamError, match=r"empty\.geojson"):
        find(scene, tmp_path / "x.gpkg", empty)
    with pytest.raises(DomainSamError, match="no such file"):
        find(scene, tmp_path / "x.gpkg", tmp_path / "none.gpkg")
    with pytest.raises(ConfigError, match="goes with --method persam"):
        find(scene, tmp_path / "x.gpkg", empty, finetune=True)


def test_keywords_and_defaults_are_those_of_the_command() -> None:
    given = {item.name for item in find_command.params if item.expose_value} - {
        *("inputs", "as_json", "verbose")
    }
    known = set(keyword_names(find_options)) | (set(keyword_names(map_options)) - {*NO_PART, "made_by"})
    assert given == known
    chosen = find_command.make_context("find", ["s.tif", "--like", "e.gpkg", "-o", "f.gpkg"]).params
    del chosen["inputs"]
    assert find_options(**job_options(chosen)) == find_options(out="f.gpkg", like="e.gpkg")
