"""From a real scene through the engine to Cloud-Optimised GeoTIFFs, with untrained networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from domainsam.errors import InputError
from domainsam.foundation.fake import FakeFoundation
from domainsam.infer.engine import map_scene
from domainsam.infer.objects import EngineResult
from domainsam.infer.options import EngineOptions
from domainsam.infer.store import RawRaster
from domainsam.io.cog import CogLayout, write_cog
from domainsam_urban.read.scene import RasterSource
from tests.core.engine_fakes import BrightPrompter, one_thread
from tests.urban.read.scene_files import mosaic, ramp, save

OPTIONS = EngineOptions(tile=256, overlap=64, field=256, min_pixels=50)


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


def run(source: RasterSource, folder: Path, resume: bool = False) -> EngineResult:
    networks = BrightPrompter(0.5), FakeFoundation()
    return map_scene(source, *networks, folder, OPTIONS, identity=source.fingerprint, resume=resume)


def check_outputs(source: RasterSource, result: EngineResult, folder: Path) -> None:
    layouts = [CogLayout(kind, source.transform, source.crs) for kind in ("probability", "mask")]
    with RawRaster.open(result.probability, result.shape) as staged:
        for layout in layouts:
            write_cog(staged, folder / f"{layout.kind}.tif", layout)
    with rasterio.open(folder / "probability.tif") as one, rasterio.open(folder / "mask.tif") as other:
        probability, mask = one.read(1), other.read(1)
        assert one.transform == other.transform == source.transform
        assert one.crs == other.crs == source.crs
    np.testing.assert_array_equal((mask == 255), (probability == 255))
    assert (mask == 1).sum() == result.object_pixels > 0
    assert (mask != 255).sum() == result.valid_pixels
    for layout in layouts:
        assert cog_validate(folder / f"{layout.kind}.tif", quiet=True) == (True, [], [])


@pytest.mark.parametrize("resolution", [None, 1.1])
def test_spacenet_16_bit_in_degrees(shared_data: Path, tmp_path: Path, resolution: float | None) -> None:
    path = next((shared_data / "satellite/spacenet_rio/8band").glob("*img1.tif"))
    with RasterSource(path, bands=(5, 3, 2), nodata=0, resolution=resolution) as source:
        check_outputs(source, run(source, tmp_path / "work"), tmp_path)


def test_landsat_with_nodata(shared_data: Path, tmp_path: Path) -> None:
    with RasterSource(shared_data / "satellite/opengeos/landsat/2020.tif", normalize="scene") as source:
        check_outputs(source, run(source, tmp_path / "work"), tmp_path)


def test_mosaic_of_urban_villages(shared_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "all.vrt"
    path.write_text(mosaic(sorted((shared_data / "satellite/urban_villages/train").glob("*_image.tif"))))
    with RasterSource(path, resolution=4.0) as source:
        check_outputs(source, run(source, tmp_path / "work"), tmp_path)


def test_another_reading_of_the_scene_is_another_run(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", ramp(3))
    with RasterSource(path) as source:
        run(source, tmp_path / "work")
    with (
        RasterSource(path, bands=(3, 2, 1)) as source,
        pytest.raises(InputError, match="cannot resume"),
    ):
        run(source, tmp_path / "work", resume=True)


def test_damage_found_in_mid_run_stops_it_with_one_line(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (3, 600, 600)).astype(np.uint8)
    path = save(tmp_path / "a.tif", values, tiled=True, blockxsize=128, blockysize=128)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with (
        RasterSource(path) as source,
        pytest.raises(InputError, match=r"a\.tif: cannot read rows .*truncated"),
    ):
        run(source, tmp_path / "work")
