"""Polygon layers: reading, mending and burning onto a grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine

from domainsam.errors import InputError, MissingInputError
from domainsam.io.pairing import find_scenes
from domainsam.protocols import Window
from domainsam_urban.read.layers import Choice, PolygonLayer, read_polygons
from domainsam_urban.read.place import Place
from tests.urban.evaluate.two_scenes import SHAPE, polygons_of, truth_mask
from tests.urban.mask_files import METRE, UTM


@pytest.mark.parametrize("affine", [METRE, METRE @ Affine.rotation(25), Affine(2, 0.3, 4e5, 0.5, -1.5, 44e5)])
def test_burning_polygons_does_not_depend_on_windows(affine: Affine) -> None:
    place = Place(SHAPE, affine, UTM)
    layer = PolygonLayer(polygons_of(truth_mask(), affine).geometry, place, "labels")
    whole = layer.labels(Window(0, 0, *SHAPE))
    assert np.array_equal(whole, truth_mask())
    for window in (
        Window(0, 0, 70, 50),
        Window(61, 33, 60, 101),
        Window(149, 179, 1, 1),
        Window(0, 170, 5, 10),
    ):
        assert np.array_equal(layer.labels(window), whole[window.slices])


def test_empty_and_invalid_geometries_are_mended_and_counted(tmp_path: Path) -> None:
    bow_tie = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    square, point = shapely.box(20, 0, 30, 10), shapely.Point(1, 1)
    table = gpd.GeoDataFrame(geometry=[bow_tie, square, shapely.Polygon(), None, point], crs=UTM)
    table.to_parquet(tmp_path / "labels.parquet")
    polygons, notes = read_polygons(tmp_path / "labels.parquet")
    assert polygons.is_valid.all()
    assert polygons.area.sum() == pytest.approx(150)
    assert [note.split(":")[1].strip() for note in notes] == [
        "empty, left out",
        "invalid, mended",
        "no area, left out",
    ]
    assert notes[0].startswith("2 of 5 geometries")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            gpd.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs=UTM),
            "1 geometries and no polygon with an area",
        ),
        (gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)]), "have no CRS"),
    ],
)
def test_useless_polygons_are_refused(tmp_path: Path, table: Any, message: str) -> None:
    table.to_parquet(tmp_path / "labels.parquet")
    with pytest.raises(InputError, match=message):
        read_polygons(tmp_path / "labels.parquet")


def test_files_that_are_not_there_or_no_polygons_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gpkg").write_text("not a package")
    with pytest.raises(InputError, match="cannot be read as polygons"):
        read_polygons(tmp_path / "x.gpkg")
    with pytest.raises(MissingInputError, match="does not exist"):
        read_polygons(tmp_path / "y.gpkg")
    with pytest.raises(MissingInputError, match="holds no scene"):
        find_scenes([tmp_path])
    with pytest.raises(MissingInputError, match="does not exist"):
        find_scenes([tmp_path / "no.tif"])


def write_classes(path: Path) -> Path:
    """Two squares of 100 m² and 400 m², of different class."""
    table = {
        "Class": ["Village", "school"],
        "geometry": [shapely.box(0, 0, 10, 10), shapely.box(20, 0, 40, 20)],
    }
    gpd.GeoDataFrame(table, crs=UTM).to_file(path, layer="buildings")
    return path


def test_a_file_without_features_says_that_there_is_no_settlement(tmp_path: Path) -> None:
    (tmp_path / "empty.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    gpd.GeoDataFrame(geometry=[], crs=UTM).to_file(tmp_path / "empty.gpkg", layer="a")
    for name in ("empty.geojson", "empty.gpkg"):
        polygons, notes = read_polygons(tmp_path / name)
        assert notes == (f"{name}: holds no feature, read as no settlement",)
        layer = PolygonLayer(polygons, Place(SHAPE, METRE, UTM), name)
        assert not layer.labels(Window(0, 0, *SHAPE)).any()


def test_the_layer_that_is_read_is_named_and_can_be_chosen(tmp_path: Path) -> None:
    path = write_classes(tmp_path / "labels.gpkg")
    gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 30, 30)], crs=UTM).to_file(path, layer="blocks", mode="a")
    polygons, notes = read_polygons(path)
    assert polygons.area.sum() == pytest.approx(500)
    assert notes[0] == "labels.gpkg: has layers buildings, blocks; buildings is read (choose with --layer)"
    polygons, notes = read_polygons(path, Choice(layer="blocks"))
    assert (polygons.area.sum(), notes) == (pytest.approx(900), ())
    with pytest.raises(InputError, match="no layer 'roads': it has buildings, blocks"):
        read_polygons(path, Choice(layer="roads"))


def test_our_own_files_need_no_choice(tmp_path: Path) -> None:
    path = tmp_path / "own.gpkg"
    gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 30, 30)], crs=UTM).to_file(path, layer="grid")
    gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 10, 10)], crs=UTM).to_file(
        path, layer="settlements", mode="a"
    )
    polygons, notes = read_polygons(path)
    assert (polygons.area.sum(), notes) == (pytest.approx(100), ())


def test_classes_can_be_chosen_and_are_told_where_they_are_not(tmp_path: Path) -> None:
    path = write_classes(tmp_path / "labels.gpkg")
    polygons, notes = read_polygons(path)
    assert polygons.area.sum() == pytest.approx(500)
    told = (
        "labels.gpkg: column Class holds school, village; all count as settlement (choose with --class-value)"
    )
    assert notes == (told,)
    for choice in (Choice(values=("village",)), Choice(field="Class", values=("VILLAGE ",))):
        polygons, notes = read_polygons(path, choice)
        assert polygons.area.sum() == pytest.approx(100)
        assert notes == ("labels.gpkg: 1 of 2 features have Class village",)
    with pytest.raises(InputError, match="no column 'kind'"):
        read_polygons(path, Choice(field="kind"))


def test_metres_in_a_file_of_degrees_are_refused(tmp_path: Path) -> None:
    table = gpd.GeoDataFrame(geometry=[shapely.box(443_200, 4_412_200, 443_300, 4_412_300)], crs="EPSG:4326")
    table.to_file(tmp_path / "labels.geojson")
    with pytest.raises(InputError, match=r"GeoJSON always means degrees.*metres of another CRS"):
        read_polygons(tmp_path / "labels.geojson")
