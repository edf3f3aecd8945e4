"""Scenes that cannot be read: one line each, with what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyproj import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC

from domainsam.errors import InputError, MissingInputError
from domainsam.protocols import Window
from domainsam_urban.read.scene import RasterSource
from tests.urban.read.scene_files import PLACE, mosaic, ramp, save, whole


class TestBadInput:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(MissingInputError, match="no such file"):
            RasterSource(tmp_path / "none.tif")

    def test_missing_vsi(self, tmp_path: Path) -> None:
        with pytest.raises(MissingInputError, match="cannot be opened"):
            RasterSource(f"/vsizip/{tmp_path}/none.zip/a.tif")

    def test_empty(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        path.touch()
        with pytest.raises(InputError, match="is empty"):
            RasterSource(path)

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is a folder"):
            RasterSource(tmp_path)

    def test_not_a_raster(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        path.write_text("hello")
        with pytest.raises(InputError, match="not a raster"):
            RasterSource(path)

    def test_header_cut_off(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.tif", ramp(3))
        path.write_bytes(path.read_bytes()[:60])
        with pytest.raises(InputError, match="damaged or truncated TIFF"):
            RasterSource(path)

    @pytest.mark.parametrize("compress", ["none", "deflate"])
    def test_truncated_in_the_middle(self, tmp_path: Path, compress: str) -> None:
        values = np.random.default_rng(0).integers(0, 255, (3, 512, 512)).astype(np.uint8)
        path = save(tmp_path / "a.tif", values, tiled=True, blockxsize=128, blockysize=128, compress=compress)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with RasterSource(path) as source:
            source.read(Window(0, 0, 64, 64))
            with pytest.raises(InputError, match=r"cannot read rows 448 to 512.*truncated"):
                source.read(Window(448, 448, 64, 64))

    def test_mosaic_with_a_missing_part(self, tmp_path: Path) -> None:
        part = save(tmp_path / "part.tif", ramp(3))
        vrt = tmp_path / "all.vrt"
        vrt.write_text(mosaic([part]))
        part.unlink()
        with pytest.raises(InputError, match="is not there; copy it along"), RasterSource(vrt) as source:
            source.read(Window(0, 0, 10, 10))

    def test_no_crs(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.tif", ramp(3), crs=None)
        with pytest.raises(InputError, match=r"no coordinate reference system.*--allow-no-crs"):
            RasterSource(path)
        with RasterSource(path, allow_no_crs=True, resolution=50) as source:
            assert source.grid.frame == "pixel"
            assert source.grid.shape == (60, 80)
            assert source.crs is None

    def test_no_geotransform(self, tmp_path: Path) -> None:
        with pytest.warns(NotGeoreferencedWarning):
            path = save(tmp_path / "a.tif", ramp(3), None)
        with pytest.raises(InputError, match="no geotransform"):
            RasterSource(path)
        with RasterSource(path, allow_no_crs=True) as source:
            assert source.grid.frame == "pixel"

    def test_all_nodata(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.tif", np.zeros((3, 30, 40), dtype=np.uint8), nodata=0)
        with pytest.raises(InputError, match=r"holds no data, all 30 x 40 pixels are nodata \(0\)"):
            RasterSource(path)

    def test_one_valid_pixel_is_enough(self, tmp_path: Path) -> None:
        values = np.zeros((3, 3000, 40), dtype=np.uint16)
        values[:, 1501, 17] = 9
        with RasterSource(save(tmp_path / "a.tif", values, nodata=0)) as source:
            assert whole(source)[1].sum() == 1

    def test_complex(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.tif", ramp(1).astype(np.complex64))
        with pytest.raises(InputError, match="complex numbers"):
            RasterSource(path)

    def test_messages_are_one_line(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.tif", ramp(3))
        path.write_bytes(path.read_bytes()[:60])
        with pytest.raises(InputError) as caught:
            RasterSource(path)
        assert "\n" not in str(caught.value)


def test_a_place_by_polynomials_alone_names_the_way_out(tmp_path: Path) -> None:
    rpc = RPC(
        height_off=40.0,
        height_scale=40.0,
        lat_off=40.0,
        lat_scale=0.1,
        line_den_coeff=[1.0, *[0.0] * 19],
        line_num_coeff=[0.0, 0.0, 1.0, *[0.0] * 17],
        line_off=30.0,
        line_scale=30.0,
        long_off=116.0,
        long_scale=0.1,
        samp_den_coeff=[1.0, *[0.0] * 19],
        samp_num_coeff=[0.0, 1.0, *[0.0] * 18],
        samp_off=40.0,
        samp_scale=40.0,
    )
    path = save(tmp_path / "a.tif", ramp(3), transform=None, crs=None, rpcs=rpc)
    with pytest.raises(InputError, match=r"RPCs\) only: run gdalwarp -rpc"):
        RasterSource(path)


def test_the_crs_of_a_picture_may_lie_beside_it(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", ramp(3), driver="PNG", crs=None)
    (tmp_path / "a.png.aux.xml").unlink(missing_ok=True)
    (tmp_path / "a.pgw").write_text("2.0\n0.0\n0.0\n-2.0\n500001.0\n5399999.0\n")
    with pytest.raises(InputError, match="has no coordinate reference system"):
        RasterSource(path)
    (tmp_path / "a.prj").write_text(CRS.from_epsg(32633).to_wkt("WKT1_ESRI"))
    source = RasterSource(path)
    assert source.crs.to_epsg() == 32633
    assert source.transform == PLACE
    assert source.notes == (f"{path}: its CRS is that of a.prj beside it",)
    (tmp_path / "a.prj").write_text("nonsense")
    with pytest.raises(InputError, match=r"a\.prj beside it holds none"):
        RasterSource(path)
