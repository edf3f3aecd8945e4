"""Existing results of any tool."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from domainsam.errors import InputError
from domainsam_urban.trend.read.maps import choose_mask_rule, stage_mask
from tests.urban.trend.scenes import square, write_mask


def staged(
    tmp_path: Path, values: np.ndarray, classes: tuple[int, ...] | None = None, **kwargs: object
) -> np.ndarray:
    path = write_mask(tmp_path / "m.tif", values, **kwargs)  # type: ignore[arg-type]
    stage_mask(str(path), choose_mask_rule(str(path), classes), tmp_path / "staged.tif")
    with rasterio.open(tmp_path / "staged.tif") as dataset:
        return dataset.read(1)


def test_plain_masks(tmp_path: Path) -> None:
    mask = square(10)
    np.testing.assert_array_equal(staged(tmp_path, mask), mask * 254)
    np.testing.assert_array_equal(staged(tmp_path, mask * 255), mask * 254)
    np.testing.assert_array_equal(staged(tmp_path, mask, nodata=0), mask * 254)


def test_nodata_is_kept(tmp_path: Path) -> None:
    mask = square(10)
    mask[:5] = 255
    answer = staged(tmp_path, mask, nodata=255)
    assert (answer[:5] == 255).all()
    assert (answer[5:] != 255).all()


def test_named_classes(tmp_path: Path) -> None:
    cover = np.random.default_rng(0).integers(10, 60, (80, 100)).astype(np.int16)
    answer = staged(tmp_path, cover, classes=(50, 51))
    np.testing.assert_array_equal(answer == 254, np.isin(cover, (50, 51)))


def test_floats_are_probabilities(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 8000, dtype=np.float32).reshape(80, 100)
    values[0, 0] = np.nan
    answer = staged(tmp_path, values)
    assert answer[0, 0] == 255
    np.testing.assert_array_equal(answer.ravel()[1:], np.rint(values.ravel()[1:] * 254))


def test_probabilities_of_urban_map(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (80, 100)).astype(np.uint8)
    path = write_mask(tmp_path / "p.tif", values, nodata=255)
    with rasterio.open(path, "r+") as dataset:
        dataset.set_band_description(1, "probability")
    rule = choose_mask_rule(str(path))
    assert rule.classes is None
    np.testing.assert_array_equal(rule.stored(values), values)


def test_other_classes_are_refused(tmp_path: Path) -> None:
    path = write_mask(tmp_path / "m.tif", square(10) * 3 + 2)
    with pytest.raises(InputError, match=r"holds the values 2, 5, expected 0 and 1; .*--mask-class"):
        choose_mask_rule(str(path))
    path = write_mask(tmp_path / "f.tif", square(10).astype(np.float32) * 7)
    with pytest.raises(InputError, match="values 0 to 7, expected probabilities"):
        choose_mask_rule(str(path))
