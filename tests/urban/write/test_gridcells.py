from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine

from domainsam.errors import ConfigError, InputError
from domainsam_urban.write import outlines as tracing
from domainsam_urban.write.gridcells import COLUMNS, choose_grid_crs, compute_grid_shares
from domainsam_urban.write.polygons import polygonise
from tests.urban.mask_files import METRE, UTM, blobs, write_raster


def test_shares_of_aligned_cells_are_counted_pixels(tmp_path: Path) -> None:
    mask = blobs((100, 150), seed=1)
    mask[:40, :30] = 255
    table = compute_grid_shares(write_raster(tmp_path / "m.tif", mask), 50)
    assert tuple(table.columns) == (*COLUMNS, "geometry")
    assert table.crs == UTM
    tiles = mask.reshape(2, 50, 3, 50).swapaxes(1, 2).reshape(6, -1)
    valid, inside = (tiles != 255).sum(axis=1), (tiles == 1).sum(axis=1)
    assert table.share.to_numpy() == pytest.approx(inside / valid)
    assert table.valid_share.to_numpy() == pytest.approx(valid / 2500)
    assert table.settlement_m2.to_numpy() == pytest.approx(inside, rel=0.002)
    assert table.cell_id[0] == "CRS32650RES50mN4429950E450000"
    assert shapely.bounds(table.geometry[0]).tolist() == [450000, 4429950, 450050, 4430000]


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (Affine(1.2, 0, 12974115.4, 0, -1.2, 4886466.3), "EPSG:3857"),
        (Affine(1e-5, 0, 85.52, 0, -1e-5, 27.63), "EPSG:4326"),
        (METRE @ Affine.rotation(37) @ Affine.scale(1.1), UTM),
        (Affine(30, 0, 450000, 0, -30, 4430000), UTM),
        (Affine(2, 0, -30000, 0, -2, 40000), "EPSG:3413"),
        (Affine(1e-5, 0, 179.999, 0, -1e-5, -17), "EPSG:4326"),
    ],
)
def test_cells_hold_all_the_settlement(tmp_path: Path, transform: Affine, crs: str) -> None:
    """Whatever the CRS, cells add up to the polygons' area on the ellipsoid."""
    path = write_raster(tmp_path / "m.tif", blobs((210, 160), seed=2), transform, crs)
    table = compute_grid_shares(path, 100)
    assert table.settlement_m2.sum() == pytest.approx(polygonise(path).area_m2.sum(), rel=1e-4)
    assert table.share.between(0, 1).all()
    assert table.valid_share.between(0, 1).all()
    assert table.cell_id.is_unique
    corner = shapely.bounds(table.geometry.to_numpy())[:, :2]
    assert np.abs(corner / 100 - np.round(corner / 100)).max() < 1e-6


def test_windows_and_position_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = blobs((130, 170), seed=3)
    path = write_raster(tmp_path / "m.tif", mask)
    whole = compute_grid_shares(path, 20)
    monkeypatch.setattr(tracing.list_windows, "__defaults__", (33,))
    pieces = compute_grid_shares(path, 20)
    assert pieces.cell_id.tolist() == whole.cell_id.tolist()
    assert pieces.share.to_numpy() == pytest.approx(whole.share.to_numpy())
    part = compute_grid_shares(
        write_raster(tmp_path / "p.tif", mask[7:, 13:], METRE @ Affine.translation(13, 7)), 20
    )
    both = whole.merge(part, on="cell_id")
    both = both[both.valid_share_y == 1]
    assert len(both) > 20
    assert both.share_x.to_numpy() == pytest.approx(both.share_y.to_numpy())


def test_coarse_pixels_are_divided_between_cells(tmp_path: Path) -> None:
    """Pixels of 30 m on cells of 100 m: a pixel on a border counts for both sides."""
    mask = np.zeros((20, 20), np.uint8)
    mask[:, :10] = 1
    table = compute_grid_shares(
        write_raster(tmp_path / "m.tif", mask, Affine(30, 0, 450010, 0, -30, 4430000)), 100
    )
    column = np.round(shapely.bounds(table.geometry.to_numpy())[:, 0] / 100) - 4500
    assert table.share[column == 3].to_numpy() == pytest.approx(0.1, abs=0.02)


def test_cells_without_ground_are_left_out(tmp_path: Path) -> None:
    mask = np.full((100, 100), 255, np.uint8)
    assert len(compute_grid_shares(write_raster(tmp_path / "none.tif", mask), 50)) == 0
    mask[0, 0] = 0
    table = compute_grid_shares(write_raster(tmp_path / "one.tif", mask), 50)
    assert table.share.tolist() == [0.0]
    assert table.valid_share.tolist() == pytest.approx([1 / 2500])


def test_grids_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "m.tif", np.ones((9, 9), np.uint8))
    with pytest.raises(ConfigError, match=r"1\.5 m are finer than two pixels of 1 m: use --grid 2 or more"):
        compute_grid_shares(path, 1.5)
    bare = write_raster(tmp_path / "bare.tif", np.ones((9, 9), np.uint8), Affine.identity(), None)
    with pytest.raises(InputError, match="leave out --grid"):
        compute_grid_shares(bare, 100)


@pytest.mark.parametrize(
    ("lon", "lat", "code"),
    [(116, 40, 32650), (-43, -22, 32723), (179.9, 1, 32660), (-180, 1, 32601), (0, 0, 32631)],
)
def test_grid_is_in_the_utm_zone_of_the_middle(lon: float, lat: float, code: int) -> None:
    affine = Affine(1e-5, 0, lon - 5e-4, 0, -1e-5, lat + 5e-4)
    assert choose_grid_crs((100, 100), affine @ Affine.translation(10, 0), "EPSG:4326").to_epsg() == code


def test_beyond_utm_an_equal_area_frame_stands_in() -> None:
    polar = choose_grid_crs((100, 100), Affine(100, 0, -5000, 0, -100, 5000), "EPSG:3413")
    wide = choose_grid_crs((100, 200), Affine(0.1, 0, 10, 0, -0.1, 50), "EPSG:4326")
    assert all("Azimuthal Equal Area" in crs.coordinate_operation.method_name for crs in (polar, wide))
