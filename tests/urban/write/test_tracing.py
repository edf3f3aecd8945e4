from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio import features
from scipy import ndimage

from domainsam.errors import InputError, MissingInputError
from domainsam_urban.read.geodesy import keep_polygons
from domainsam_urban.write.outlines import BATCH, trace
from tests.urban.mask_files import METRE, UTM, blobs, write_raster

ROTATED = Affine.translation(450000, 4.4e6) @ Affine.rotation(33) @ Affine.scale(0.31, -0.77)


@pytest.mark.parametrize("transform", [METRE, ROTATED, Affine(1e-6, 0, 85.5, 0, -1e-6, 27.6)])
def test_traced_polygons_are_the_mask(tmp_path: Path, transform: Affine) -> None:
    mask = blobs((90, 70), seed=1)
    traced = trace(write_raster(tmp_path / "m.tif", mask, transform))
    drawn = features.rasterize(traced.polygons, out_shape=mask.shape)
    assert np.array_equal(drawn, mask)
    assert len(traced) == ndimage.label(mask)[1]
    assert shapely.is_valid(traced.polygons).all()
    assert shapely.area(traced.polygons).sum() == mask.sum()


def test_diagonal_contacts_give_separate_valid_polygons(tmp_path: Path) -> None:
    checkers = np.indices((12, 12)).sum(axis=0) % 2
    ring = np.ones((12, 12), dtype=int)
    ring[3, 3] = ring[4, 4] = ring[5, 5] = ring[0, 7] = ring[1, 8] = 0
    mask = np.hstack((checkers, ring)).astype(np.uint8)
    traced = trace(write_raster(tmp_path / "m.tif", mask))
    assert shapely.is_valid(traced.polygons).all()
    assert len(traced) == ndimage.label(mask)[1]
    assert shapely.area(traced.polygons).sum() == mask.sum()


def test_order_is_row_major_and_repeatable(tmp_path: Path) -> None:
    mask = blobs((64, 64), seed=2)
    first = trace(write_raster(tmp_path / "a.tif", mask))
    tiled = trace(write_raster(tmp_path / "b.tif", mask, tiled=True, blockxsize=16, blockysize=16))
    assert shapely.equals_exact(first.polygons, tiled.polygons).all()
    labels, _ = ndimage.label(mask)
    seen = labels[labels > 0]
    by_first_pixel = seen[np.sort(np.unique(seen, return_index=True)[1])]
    inside = shapely.get_coordinates(shapely.point_on_surface(first.polygons)).astype(int)
    assert labels[inside[:, 1], inside[:, 0]].tolist() == by_first_pixel.tolist()


def test_only_the_values_asked_for(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 2], [255, 255, 2], [7, 0, 0]], dtype=np.uint8)
    path = write_raster(tmp_path / "m.tif", mask)
    assert trace(path).values.tolist() == [1]
    assert trace(path, (1, 2)).values.tolist() == [1, 2]


def test_unwanted_specks_are_passed_over(tmp_path: Path) -> None:
    mask = np.zeros((200, 200), dtype=np.uint8)
    mask[::2, ::2] = 1
    mask[48:62, 48:62] = 0
    mask[50:60, 50:60] = 1
    traced = trace(write_raster(tmp_path / "m.tif", mask), wanted=lambda polygons: shapely.area(polygons) > 4)
    assert (mask == 1).sum() > 2 * BATCH
    assert shapely.area(traced.polygons).tolist() == [100.0]


def test_an_empty_mask_has_no_polygons(tmp_path: Path) -> None:
    for value in (0, 255):
        assert len(trace(write_raster(tmp_path / f"{value}.tif", np.full((5, 5), value, np.uint8)))) == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
def test_thin_rasters(tmp_path: Path, shape: tuple[int, int]) -> None:
    traced = trace(write_raster(tmp_path / "m.tif", np.ones(shape, np.uint8)))
    assert shapely.area(traced.polygons).tolist() == [shape[0] * shape[1]]


def test_bad_masks_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"absent\.tif"):
        trace(tmp_path / "absent.tif")
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(InputError, match=r"text\.tif"):
        trace(tmp_path / "text.tif")
    colour = write_raster(tmp_path / "rgb.tif", np.zeros((3, 4, 4), np.uint8), METRE, UTM)
    with pytest.raises(InputError, match="expected one band of integers"):
        trace(colour)
    whole = write_raster(tmp_path / "whole.tif", blobs((300, 300), seed=3), compress="deflate")
    (tmp_path / "cut.tif").write_bytes(whole.read_bytes()[:1500])
    with pytest.raises(InputError, match=r"cut\.tif"):
        trace(tmp_path / "cut.tif")


def test_polygons_only_mends_bow_ties_and_drops_flat_ones() -> None:
    bow = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    flat = shapely.Polygon([(0, 0), (1, 1), (2, 2)])
    parts, owner = keep_polygons(np.array([flat, bow, shapely.box(5, 5, 6, 6)], dtype=object))
    assert owner.tolist() == [1, 1, 2]
    assert shapely.is_valid(parts).all()
    assert shapely.area(parts).tolist() == [1.0, 1.0, 1.0]
