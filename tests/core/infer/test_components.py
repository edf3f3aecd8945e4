"""Objects of a scene, found band by band."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from domainsam.infer import components as module
from domainsam.infer.components import Components, find_components, label_bands
from domainsam.infer.store import RawRaster
from domainsam.infer.tiling import Lattice
from domainsam.protocols import Window

LEVEL = 127


def staged(folder: Path, values: NDArray[np.uint8]) -> RawRaster:
    store = RawRaster.create(folder / "scene.u8", (values.shape[0], values.shape[1]))
    store.write(Window(0, 0, *values.shape), values)
    return store


def found(folder: Path, values: NDArray[np.uint8], min_pixels: int = 1, field: int = 64) -> Components:
    with staged(folder, values) as store:
        return find_components(store, LEVEL, Lattice.cover(store.shape, field), min_pixels)


def blobs(shape: tuple[int, int], seed: int, sigma: float = 2.0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma)
    values = np.clip(110 + 60 * noise / noise.std(), 0, 254).astype(np.uint8)
    values[rng.random(shape) < 0.02] = 255
    return values


@pytest.fixture
def small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BAND_PIXELS", 1)


@pytest.mark.usefixtures("small_bands")
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("sigma", [0.5, 2.0, 9.0])
def test_equals_labelling_the_whole_scene(tmp_path: Path, seed: int, sigma: float) -> None:
    values = blobs((150, 210), seed, sigma)
    inside = (values >= LEVEL) & (values != 255)
    labels, count = ndimage.label(inside, structure=np.ones((3, 3)))
    result = found(tmp_path, values)
    assert result.found == len(result.items) == count
    firsts = [item.first for item in result.items]
    assert firsts == sorted(firsts)
    for item in result.items:
        own = labels == labels[item.first]
        rows, cols = np.nonzero(own)
        assert item.first == (rows[0], cols[0])
        assert item.area == own.sum()
        assert item.bounds == Window(rows.min(), cols.min(), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1)
        assert item.mean_probability == pytest.approx(values[own].mean() / 254)
        edge = rows.min() == 0 or cols.min() == 0 or rows.max() == 149 or cols.max() == 209
        assert item.touches_border == edge


def test_bands_do_not_change_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = blobs((150, 210), 3)
    whole = found(tmp_path, values, min_pixels=20)
    monkeypatch.setattr(module, "BAND_PIXELS", 210 * 37)
    banded = found(tmp_path, values, min_pixels=20)
    assert whole.items == banded.items
    assert whole.found == banded.found > len(whole.items)
    np.testing.assert_array_equal(whole.pieces, banded.pieces)


@pytest.mark.usefixtures("small_bands")
def test_pieces_cut_objects_along_the_lattice(tmp_path: Path) -> None:
    values = blobs((150, 210), 4, 6.0)
    labels, _ = ndimage.label((values >= LEVEL) & (values != 255), structure=np.ones((3, 3)))
    result = found(tmp_path, values, field=64)
    assert len(result.pieces) > len(result.items)
    for piece in result.pieces:
        own = labels == labels[result.items[piece["id"] - 1].first]
        quarter = np.zeros_like(own)
        row, col = 16 * piece["quarter_row"], 16 * piece["quarter_col"]
        quarter[row : row + 16, col : col + 16] = True
        rows, cols = np.nonzero(own & quarter)
        assert piece["area"] == rows.size
        assert piece["total"] == values[own & quarter].sum()
        box = [piece[name] for name in ("top", "left", "bottom", "right")]
        assert box == [rows.min(), cols.min(), rows.max() + 1, cols.max() + 1]


@pytest.mark.usefixtures("small_bands")
def test_lookup_names_the_object_of_every_label(tmp_path: Path) -> None:
    values = blobs((150, 210), 5)
    with staged(tmp_path, values) as store:
        result = find_components(store, LEVEL, Lattice.cover(store.shape, 64), 30)
        numbers = np.concatenate([result.lookup[labels] for _, _, labels in label_bands(store, LEVEL)])
    for item in result.items:
        assert numbers[item.first] == item.id
        assert (numbers == item.id).sum() == item.area >= 30


@pytest.mark.usefixtures("small_bands")
def test_teeth_that_meet_in_the_last_row_are_one_object(tmp_path: Path) -> None:
    values = np.zeros((65, 101), dtype=np.uint8)
    values[5:, ::3] = 200
    values[-1] = 200
    values[:2, 7:9] = 200
    result = found(tmp_path, values)
    assert [item.area for item in result.items] == [4, 60 * 34 + 67]
    assert [item.first for item in result.items] == [(0, 7), (5, 0)]


def test_nothing_and_everything(tmp_path: Path) -> None:
    assert found(tmp_path, np.full((40, 50), 255, dtype=np.uint8)).items == ()
    assert found(tmp_path, np.zeros((40, 50), dtype=np.uint8)).found == 0
    whole = found(tmp_path, np.full((40, 50), 254, dtype=np.uint8))
    assert [(item.area, item.mean_probability) for item in whole.items] == [(2000, 1.0)]


def test_corners_join(tmp_path: Path) -> None:
    values = (np.eye(40) * 200).astype(np.uint8)
    assert [item.area for item in found(tmp_path, values).items] == [40]
