"""Scenes of real sensors: aerial, satellite and radar."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from domainsam.errors import InputError
from domainsam.protocols import Window
from domainsam_urban.read.scene import RasterSource
from tests.urban.read.scene_files import mosaic, whole


class TestRealScenes:
    def test_mosaic_of_urban_villages(self, shared_data: Path, tmp_path: Path) -> None:
        tiles = sorted((shared_data / "satellite/urban_villages/train").glob("*_image.tif"))
        path = tmp_path / "all.vrt"
        path.write_text(mosaic(tiles))
        with RasterSource(path) as source:
            rows, cols = source.grid.shape
            assert min(rows, cols) > 1024
            # Web Mercator's 1.19 m are 0.91 m on the ground in Beijing.
            assert source.profile_info.ground_pixel == pytest.approx((0.91, 0.91), abs=0.02)
            valid = np.concatenate(
                [source.read(Window(row, 0, 512, cols)).valid for row in range(0, rows, 512)]
            )
            assert 0.3 < valid[:rows].mean() < 1
        with rasterio.open(tiles[0]) as tile, RasterSource(path) as source:
            row, col = (round(float(index)) for index in source.grid.to_index(tile.transform @ (0.5, 0.5)))
            image = source.read(Window(row, col, 64, 64)).image
            assert image.shape == (3, 64, 64)
            assert image.max() > 0

    def test_spacenet_in_degrees(self, shared_data: Path) -> None:
        path = next((shared_data / "satellite/spacenet_rio/8band").glob("*img1.tif"))
        with RasterSource(path, bands=(5, 3, 2), nodata=0) as source:
            image, valid = whole(source)
            assert source.profile_info.dtype == "uint16"
            assert source.profile_info.ground_pixel == pytest.approx((1.98, 1.83), abs=0.05)
            assert 0.2 < image[:, valid].mean() < 0.7
        with RasterSource(path, bands=(5, 3, 2), nodata=0, resolution=0.9) as source:
            assert source.profile_info.resampled
            assert source.profile_info.work_pixel == pytest.approx((0.9, 0.9), rel=0.02)

    def test_naip_and_landsat(self, shared_data: Path) -> None:
        folder = shared_data / "satellite/opengeos"
        for path in (next((folder / "naip").glob("*.tif")), folder / "landsat/1990.tif"):
            with RasterSource(path) as source:
                image, valid = whole(source)
                assert source.bands == (1, 2, 3)
                assert valid.mean() > 0.5
                assert 0 < image[:, valid].mean() < 1

    def test_rotated_radar_is_refused_as_complex(self, shared_data: Path) -> None:
        with pytest.raises(InputError, match="complex"):
            RasterSource(shared_data / "satellite/solaris_sample/preproc_tutorial/sar_vv.tif")
