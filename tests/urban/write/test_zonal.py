from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from scipy import ndimage

from domainsam.errors import InputError
from domainsam_urban.write import outlines as tracing
from domainsam_urban.write.polygons import average_probability
from tests.urban.mask_files import blobs, write_raster


def test_means_do_not_depend_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = blobs((100, 130), seed=4)
    probability = np.random.default_rng(0).integers(0, 256, mask.shape).astype(np.uint8)
    mask_path = write_raster(tmp_path / "m.tif", mask)
    path = write_raster(tmp_path / "p.tif", probability)
    polygons = tracing.trace(mask_path).polygons
    labels = ndimage.label(mask)[0]
    inside = shapely.get_coordinates(shapely.point_on_surface(polygons)).astype(int)
    label = labels[inside[:, 1], inside[:, 0]]
    expected = np.full(len(polygons), np.nan)
    for index, number in enumerate(label):
        values = probability[(labels == number) & (probability != 255)]
        if len(values):
            expected[index] = values.mean() / 254
    assert average_probability(polygons, path, mask.shape) == pytest.approx(expected, nan_ok=True)
    monkeypatch.setattr(tracing.list_windows, "__defaults__", (7,))
    assert average_probability(polygons, path, mask.shape) == pytest.approx(expected, nan_ok=True)


def test_floats_and_their_nodata(tmp_path: Path) -> None:
    values = np.array([[0.2, 0.6, np.nan, -9999]], dtype=np.float32)
    path = write_raster(tmp_path / "p.tif", values, nodata=-9999)
    boxes = np.array([shapely.box(0, 0, 3, 1), shapely.box(3, 0, 4, 1)])
    assert average_probability(boxes, path, (1, 4)) == pytest.approx([0.4, np.nan], nan_ok=True)


def test_another_grid_is_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "p.tif", np.zeros((3, 4), np.uint8))
    with pytest.raises(InputError, match=r"p\.tif.*\(3, 4\).*\(4, 4\)"):
        average_probability(np.array([shapely.box(0, 0, 1, 1)]), path, (4, 4))


def test_no_polygons_have_no_means(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "p.tif", np.zeros((3, 4), np.uint8))
    assert average_probability(np.empty(0, dtype=object), path, (3, 4)).shape == (0,)
