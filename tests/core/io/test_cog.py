"""Cloud-Optimised GeoTIFFs made from staged bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rio_cogeo.cogeo import cog_validate
from scipy import ndimage

from domainsam.errors import InputError, OutputError
from domainsam.infer.store import RawRaster
from domainsam.io.cog import CogLayout, CogWriter, Kind, write_cog
from domainsam.protocols import Window, Writer

SHAPE = (1100, 1300)
PLACE = Affine(2.0, 0.5, 500_000.0, 0.5, -2.0, 5_400_000.0)


def staged(folder: Path, values: NDArray[np.uint8]) -> RawRaster:
    store = RawRaster.create(folder / "staged.u8", (values.shape[0], values.shape[1]))
    store.write(Window(0, 0, *values.shape), values)
    return store


def smooth(shape: tuple[int, int] = SHAPE) -> NDArray[np.uint8]:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(shape), 12)
    values = np.clip(127 + 90 * noise / noise.std(), 0, 254).astype(np.uint8)
    values[:200, :300] = 255
    return values


def layout(kind: Kind, **changes: Any) -> CogLayout:
    values = {"transform": PLACE, "crs": CRS.from_epsg(32633), "tags": {"MODEL": "a <b> & c", "VERSION": "1"}}
    return CogLayout(kind, **{**values, **changes})


def test_probability(tmp_path: Path) -> None:
    values = smooth()
    path = tmp_path / "p.tif"
    with staged(tmp_path, values) as store:
        write_cog(store, path, layout("probability", bands=("probability of settlement",)))
    assert cog_validate(path, quiet=True)[0]
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), values)
        assert dataset.nodata == 255
        assert dataset.transform == PLACE
        assert dataset.crs.to_epsg() == 32633
        assert dataset.descriptions == ("probability of settlement",)
        assert dataset.tags()["MODEL"] == "a <b> & c"
        assert "254" in dataset.tags()["VALUES"]
        assert dataset.scales == (pytest.approx(1 / 254),)
        assert dataset.block_shapes == [(512, 512)]
        assert dataset.compression.name == "deflate"
        half = dataset.read(1, out_shape=(SHAPE[0] // 2, SHAPE[1] // 2)).astype(float)
    means = values.reshape(SHAPE[0] // 2, 2, SHAPE[1] // 2, 2).astype(float).mean(axis=(1, 3))
    inside = slice(110, None), slice(160, None)
    assert np.abs(half - means)[inside].max() <= 1
    assert (half[:100, :150] == 255).all()
    assert [item.name for item in tmp_path.iterdir() if item.name not in ("p.tif", "staged.u8")] == []


def test_mask(tmp_path: Path) -> None:
    values = smooth()
    path = tmp_path / "m.tif"
    with staged(tmp_path, values) as store:
        write_cog(store, path, layout("mask", threshold=0.6))
    assert cog_validate(path, quiet=True)[0]
    expected = np.where(values == 255, 255, values >= 153).astype(np.uint8)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), expected)
        assert dataset.nodata == 255
        assert dataset.colormap(1)[1][:3] != dataset.colormap(1)[0][:3]
        assert dataset.colormap(1)[0][3] == 0 or dataset.colormap(1)[0] == (0, 0, 0, 255)
        assert set(np.unique(dataset.read(1, out_shape=(137, 162)))) == {0, 1, 255}
        assert "0.6" in dataset.tags()["VALUES"]


def test_scene_without_a_place(tmp_path: Path) -> None:
    values = smooth((40, 50))
    path = tmp_path / "p.tif"
    with staged(tmp_path, values) as store:
        write_cog(store, path, layout("probability", crs=None, transform=Affine.identity()))
    with pytest.warns(NotGeoreferencedWarning):
        dataset = rasterio.open(path)
    with dataset:
        np.testing.assert_array_equal(dataset.read(1), values)
        assert dataset.crs is None


def test_writer_takes_windows_and_fills_the_rest_with_nodata(tmp_path: Path) -> None:
    values = smooth()
    path = tmp_path / "p.tif"
    writer = CogWriter(path, SHAPE, layout("probability"))
    assert isinstance(writer, Writer)
    with writer:
        writer.write(Window(300, 400, 500, 600), values[300:800, 400:1000])
        assert not path.exists()
    expected = np.full(SHAPE, 255, dtype=np.uint8)
    expected[300:800, 400:1000] = values[300:800, 400:1000]
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), expected)
    assert list(tmp_path.iterdir()) == [path]


def write_half(writer: CogWriter) -> None:
    writer.write(Window(0, 0, 2, 2), np.zeros((2, 2), dtype=np.uint8))
    raise InputError("the scene is damaged")


def test_failed_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "p.tif"
    path.write_text("old")
    with pytest.raises(InputError), CogWriter(path, SHAPE, layout("probability")) as writer:
        write_half(writer)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_classes_have_names_and_colours(tmp_path: Path) -> None:
    values = smooth()
    values[values < 255] //= 64
    path = tmp_path / "c.tif"
    colours = {0: (1, 2, 3, 255), 1: (200, 100, 7, 255), 255: (0, 0, 0, 0)}
    with staged(tmp_path, values) as store:
        write_cog(store, path, layout("classes", bands=("land cover",), colours=colours))
    assert cog_validate(path, quiet=True)[0]
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), values)
        assert dataset.descriptions == ("land cover",)
        assert dataset.colormap(1)[1] == (200, 100, 7, 255)
        assert dataset.colormap(1)[255][3] == 0
        assert set(np.unique(dataset.read(1, out_shape=(137, 162)))) <= {0, 1, 2, 3, 255}
        assert "VALUES" not in dataset.tags()


@pytest.mark.parametrize("count", [1, 3, 4, 5])
def test_bands_are_written_together_or_window_by_window(tmp_path: Path, count: int) -> None:
    names = tuple(f"sensor {number}" for number in range(count))
    values = np.stack([np.roll(smooth(), number * 40, axis=1) for number in range(count)])
    stores = []
    for number, band in enumerate(values):
        (tmp_path / str(number)).mkdir()
        stores.append(staged(tmp_path / str(number), band))
    whole, parts = tmp_path / "whole.tif", tmp_path / "parts.tif"
    write_cog(stores, whole, layout("shares", bands=names))
    for store in stores:
        store.close()
    with CogWriter(parts, SHAPE, layout("shares", bands=names)) as writer:
        for row in range(0, SHAPE[0], 500):
            strip = values[:, row : row + 500]
            writer.write(Window(row, 0, strip.shape[1], SHAPE[1]), strip)
    assert whole.read_bytes() == parts.read_bytes()
    with rasterio.open(whole) as dataset:
        np.testing.assert_array_equal(dataset.read(), values)
        assert dataset.descriptions == names
        assert dataset.nodata == 255


def test_missing_folder(tmp_path: Path) -> None:
    with (
        staged(tmp_path, smooth((40, 50))) as store,
        pytest.raises(OutputError, match="cannot write to folder"),
    ):
        write_cog(store, tmp_path / "none" / "p.tif", layout("probability"))


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from affine import Affine
from domainsam.errors import OutputError
from domainsam.infer.store import RawRaster
from domainsam.protocols import Window
from domainsam.io.cog import CogLayout, write_cog

folder, kind = Path(sys.argv[1]), sys.argv[2]
store = RawRaster.open(folder / "staged.u8", (1100, 1300))
for limit in (0, 700_000, 1_600_000):
    # The kernel refuses to let any file grow past this size, as a full disk would.
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_cog(store, folder / "p.tif", CogLayout(kind, Affine.scale(2, -2)))
    except OutputError as error:
        print(limit, error.exit_code, error)
"""


def test_full_disk(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    staged(tmp_path, noise).close()
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), "probability"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stdout
    assert all(line.split(maxsplit=2)[1] == "4" and "cannot write" in line for line in lines)
    assert [item.name for item in tmp_path.iterdir()] == ["staged.u8"]
