"""The outline of a scene's data, as its STAC item states it."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine

from domainsam.infer.store import RawRaster
from domainsam.protocols import Window
from domainsam_urban.write.footprint import outline_data
from domainsam_urban.write.stac import compute_footprint

SHAPE = (1100, 900)
PLACE = Affine.translation(443_200, 4_412_300) @ Affine.scale(0.9, -0.9)
UTM = "EPSG:32650"


def outline(folder: Path, values: np.ndarray) -> tuple[float, bool]:
    """Share of a raster's area that its outline of data has, and whether it is the raster's own."""
    path = folder / "probability.u8"
    with RawRaster.create(path, SHAPE) as raster:
        raster.write(Window(0, 0, *SHAPE), values)
    whole = compute_footprint(SHAPE, PLACE, UTM)
    found = outline_data(path, SHAPE, PLACE, UTM, whole)
    assert shapely.is_valid(found)
    metres = gpd.GeoSeries([found], crs="EPSG:4326").to_crs(UTM).area.iloc[0]
    return metres / (SHAPE[0] * SHAPE[1] * 0.81), found is whole


def test_a_wedge_without_data_is_left_out(tmp_path: Path) -> None:
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    wedge = cols > 2 * rows
    share, whole = outline(tmp_path, np.where(wedge, 255, 7).astype(np.uint8))
    assert share == pytest.approx(1 - wedge.mean(), abs=0.01)
    assert not whole


@pytest.mark.parametrize("value", [0, 255])
def test_data_everywhere_or_nowhere_is_the_raster_itself(tmp_path: Path, value: int) -> None:
    share, whole = outline(tmp_path, np.full(SHAPE, value, dtype=np.uint8))
    assert share == pytest.approx(1, abs=1e-3)
    assert whole


def test_a_row_of_padding_is_no_lack_of_data(tmp_path: Path) -> None:
    values = np.zeros(SHAPE, dtype=np.uint8)
    values[-1] = 255
    assert outline(tmp_path, values)[1]


def test_two_places_with_data_are_two_polygons(tmp_path: Path) -> None:
    values = np.full(SHAPE, 255, dtype=np.uint8)
    values[:300, :300] = values[800:, 600:] = 0
    share, _ = outline(tmp_path, values)
    assert share == pytest.approx(180_000 / (SHAPE[0] * SHAPE[1]), rel=0.02)
