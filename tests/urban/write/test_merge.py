"""Scenes that overlap or touch are one layer, the same as of one scene of their ground."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from domainsam.errors import ConfigError, DependencyError, InputError, OutputError
from domainsam_urban.job import ScenePlan
from domainsam_urban.write import merge
from domainsam_urban.write.merge import check_merge, write_merged
from tests.urban.write.merged import CORNER, PIXEL, SIDE, UTM, compare, cut_in_four, draw_ground, write_part

WHOLE = (slice(0, SIDE), slice(0, SIDE))


def merged(plans: list[ScenePlan], target: Path, **options: float) -> gpd.GeoDataFrame:
    write_merged(plans, [target], **options)
    return read(target)


def read(target: Path) -> gpd.GeoDataFrame:
    if target.suffix == ".parquet":
        return gpd.read_parquet(target)
    return gpd.read_file(target, layer="settlements" if target.suffix == ".gpkg" else None)


@pytest.fixture(scope="module")
def ground() -> np.ndarray:
    return draw_ground()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, ground: np.ndarray) -> gpd.GeoDataFrame:
    plan = write_part(tmp_path_factory.mktemp("whole"), "whole", ground, WHOLE)
    return gpd.read_file(plan.vectors[0], layer="settlements")


@pytest.mark.parametrize("overlap", [0, pytest.param(2, marks=pytest.mark.slow), 40])
def test_four_scenes_give_the_polygons_of_one(
    tmp_path: Path, ground: np.ndarray, whole: gpd.GeoDataFrame, overlap: int
) -> None:
    plans = [
        write_part(tmp_path, f"s{number}", ground, part) for number, part in enumerate(cut_in_four(overlap))
    ]
    found = merged(plans, tmp_path / "all.parquet")
    assert found.crs.to_epsg() == 32650
    assert len(found) == len(whole)
    assert compare(found.geometry, whole.geometry) > 0.9999
    assert found["area_m2"].sum() == pytest.approx(whole["area_m2"].sum(), rel=1e-4)
    assert sorted(found["area_m2"]) == pytest.approx(sorted(whole["area_m2"]), rel=1e-3)
    assert list(found["id"]) == list(range(1, len(whole) + 1))
    assert 1 < found["scenes"].max() <= 4
    joined = found[found["scenes"] > 1]
    assert all(row.source.count(".tif") == row.scenes for row in joined.itertuples())
    assert found["confidence"].tolist() == pytest.approx([0.5] * len(found))


def test_what_a_scene_says_at_its_edge_does_not_count_where_another_looks_deeper(
    tmp_path: Path, ground: np.ndarray, whole: gpd.GeoDataFrame
) -> None:
    """Within 15 pixels of every edge inside of the ground each scene is wrong: all is found, or nothing."""
    plans = []
    for number, (rows, cols) in enumerate(cut_in_four(40)):

        def spoil(
            mask: np.ndarray, rows: slice = rows, cols: slice = cols, wrong: int = number % 2
        ) -> np.ndarray:
            mask[(slice(0, 15) if rows.start else slice(-15, None)), :] = wrong
            mask[:, (slice(0, 15) if cols.start else slice(-15, None))] = wrong
            return mask

        plans.append(write_part(tmp_path, f"s{number}", ground, (rows, cols), spoil=spoil))
    found = merged(plans, tmp_path / "all.gpkg")
    assert compare(found.geometry, whole.geometry) > 0.995
    assert abs(len(found) - len(whole)) <= 1
    assert found["area_m2"].sum() == pytest.approx(whole["area_m2"].sum(), rel=5e-3)


@pytest.mark.parametrize("overlap", [pytest.param(0, marks=pytest.mark.slow), 40])
def test_scenes_of_different_zones_are_joined_in_degrees(
    tmp_path: Path, ground: np.ndarray, whole: gpd.GeoDataFrame, overlap: int
) -> None:
    zones = (UTM, "EPSG:32651", UTM, "EPSG:3857")
    plans = [
        write_part(tmp_path, f"s{number}", ground, part, crs=zones[number])
        for number, part in enumerate(cut_in_four(overlap))
    ]
    found = merged(plans, tmp_path / "all.parquet")
    assert found.crs.to_epsg() == 4326
    assert len(found) == len(whole)
    assert compare(found.to_crs(UTM).geometry, whole.geometry) > 0.98
    assert found["area_m2"].sum() == pytest.approx(whole["area_m2"].sum(), rel=0.01)


def test_scenes_whose_grids_do_not_meet_are_joined_over_a_gap_below_a_pixel(tmp_path: Path) -> None:
    ground = np.zeros((40, 80), dtype=np.uint8)
    ground[10:30, 20:60] = 1
    left = write_part(tmp_path, "left", ground, (slice(0, 40), slice(0, 40)))
    right = write_part(tmp_path, "right", ground, (slice(0, 40), slice(40, 80)))
    path = right.vectors[0]
    table = gpd.read_file(path, layer="settlements")
    table.geometry = table.translate(xoff=0.6 * PIXEL)
    path.unlink()
    table.to_file(path, layer="settlements", driver="GPKG")
    found = merged([left, right], tmp_path / "all.parquet")
    assert len(found) == 1
    assert found["area_m2"].iloc[0] == pytest.approx(20 * 40.6 * PIXEL**2, rel=5e-3)


def test_objects_that_meet_at_a_corner_stay_two(tmp_path: Path) -> None:
    ground = np.zeros((40, 80), dtype=np.uint8)
    ground[5:20, 20:40] = ground[20:35, 40:60] = 1
    plans = [
        write_part(tmp_path, name, ground, (slice(0, 40), slice(start, start + 40)))
        for name, start in (("left", 0), ("right", 40))
    ]
    assert len(merged(plans, tmp_path / "all.parquet")) == 2


def test_objects_where_the_deeper_scene_has_no_data_are_kept(tmp_path: Path) -> None:
    """The second scene reaches over all of the first by its grid, but has data on its right half alone."""
    ground = np.zeros((60, 120), dtype=np.uint8)
    ground[20:40, 10:30] = ground[20:40, 90:110] = 1
    first = write_part(tmp_path, "first", ground, (slice(10, 50), slice(0, 70)))
    x, y = CORNER
    data = shapely.box(x + 60 * PIXEL, y - 60 * PIXEL, x + 120 * PIXEL, y)

    def blank(mask: np.ndarray) -> np.ndarray:
        mask[:, :60] = 255
        return mask

    second = write_part(tmp_path, "second", ground, (slice(0, 60), slice(0, 120)), spoil=blank, seen=data)
    found = merged([first, second], tmp_path / "all.parquet")
    assert sorted(found["area_m2"]) == pytest.approx([400 * PIXEL**2] * 2, rel=5e-3)
    assert sorted(found["source"]) == ["first.tif", "second.tif"]


@pytest.mark.slow
def test_the_same_ground_twice_is_there_once_as_the_first_has_it(tmp_path: Path, ground: np.ndarray) -> None:
    part = (slice(0, 100), slice(0, 100))
    one = write_part(tmp_path, "one", ground, part)
    two = write_part(tmp_path, "two", np.roll(ground, 3, axis=1), part)
    found = merged([one, two], tmp_path / "all.parquet")
    alone = gpd.read_file(one.vectors[0], layer="settlements")
    assert compare(found.geometry, alone.geometry) > 0.99


@pytest.mark.slow
def test_every_format_holds_the_same(tmp_path: Path, ground: np.ndarray) -> None:
    plans = [write_part(tmp_path, f"s{number}", ground, part) for number, part in enumerate(cut_in_four(40))]
    targets = [tmp_path / f"all{suffix}" for suffix in (".parquet", ".gpkg", ".fgb", ".geojson")]
    paths = write_merged(plans, targets)
    assert list(paths) == ["merged parquet", "merged gpkg", "merged fgb", "merged geojson"]
    first = gpd.read_parquet(targets[0])
    for target in targets[1:]:
        table = read(target).to_crs(UTM).sort_values("id")
        assert table["area_m2"].tolist() == pytest.approx(first["area_m2"].tolist())
        assert compare(table.geometry, first.geometry) > 0.999
        assert set(first.columns) <= set(table.columns)
    box = first.iloc[[4]].total_bounds
    assert 1 <= len(gpd.read_parquet(targets[0], bbox=tuple(box))) < len(first)


@pytest.mark.slow
def test_few_scenes_are_held_at_a_time(
    tmp_path: Path, ground: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for two scenes and tables of ten rows the layer is the same."""
    monkeypatch.setattr(merge, "HELD", 2)
    monkeypatch.setattr("domainsam_urban.write.streamed.CHUNK", 10)
    edges = [0, 60, 120, 180]
    parts = [(slice(*rows), slice(*cols)) for rows in pairwise(edges) for cols in pairwise(edges)]
    plans = [write_part(tmp_path, f"s{number:02d}", ground, part) for number, part in enumerate(parts)]
    found = merged(plans, tmp_path / "all.parquet")
    alone = write_part(tmp_path, "whole", ground, (slice(0, 180), slice(0, 180)))
    whole = gpd.read_file(alone.vectors[0], layer="settlements")
    assert len(found) == len(whole)
    assert compare(found.geometry, whole.geometry) > 0.9999
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_tiles_hold_every_object(tmp_path: Path, ground: np.ndarray) -> None:
    plans = [
        write_part(tmp_path, f"s{number}", ground[:120, :120], (slice(0, 120), columns))
        for number, columns in enumerate((slice(0, 60), slice(60, 120)))
    ]
    targets = [tmp_path / "all.parquet", tmp_path / "all.pmtiles"]
    write_merged(plans, targets)
    table = gpd.read_parquet(targets[0])
    tiles = gpd.read_file(targets[1], layer="settlements")
    assert tiles.crs.to_epsg() == 3857
    assert sorted(tiles["id"].unique()) == list(table["id"])
    assert compare(tiles.to_crs(UTM).geometry, table.geometry) > 0.9
    (tmp_path / "none").mkdir()
    none = [tmp_path / "none" / target.name for target in targets]
    assert write_merged([], none) == {"merged parquet": none[0]}
    assert not none[1].exists()


def test_without_the_driver_tiles_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyogrio.list_drivers", lambda: {"GPKG": "raw"})
    with pytest.raises(DependencyError, match=r"all\.pmtiles'.* does not write PMTiles"):
        check_merge([], [Path("all.pmtiles")], False)


def test_nothing_found_is_an_empty_layer(tmp_path: Path) -> None:
    empty = np.zeros((40, 40), dtype=np.uint8)
    plan = write_part(tmp_path, "s", empty, (slice(0, 40), slice(0, 40)))
    found = merged([plan], tmp_path / "all.parquet")
    assert len(found) == 0
    assert found.crs.to_epsg() == 32650


def test_what_cannot_be_merged_is_refused_before_any_work(tmp_path: Path, ground: np.ndarray) -> None:
    plan = write_part(tmp_path, "s", ground, (slice(0, 40), slice(0, 40)))
    with pytest.raises(ConfigError, match=r"ends in '\.shp': use one of \.gpkg"):
        check_merge([plan], [tmp_path / "all.shp"], False)
    with pytest.raises(ConfigError, match="leave out --no-stac"):
        check_merge([ScenePlan("s.tif", plan.vectors)], [tmp_path / "all.gpkg"], False)
    with pytest.raises(ConfigError, match="is an output of a scene"):
        check_merge([plan], [plan.vectors[0]], True)
    (tmp_path / "all.gpkg").touch()
    with pytest.raises(OutputError, match="exists"):
        check_merge([plan], [tmp_path / "all.gpkg"], False)
    text = plan.stac.read_text().replace('"proj:code": "EPSG:32650"', '"proj:code": null')
    plan.stac.write_text(text)
    with pytest.raises(InputError, match=r"s\.tif: has no CRS"):
        write_merged([plan], [tmp_path / "all.parquet"])
