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
from domainsam_urban.read.layers import PolygonLayer, read_polygons
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
