"""Bad input from the command line: one line, the fitting exit code, nothing left behind."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine

from domainsam_cli import main
from domainsam_urban import finders
from domainsam_urban.model.settlement import SettlementModel
from tests.urban.tiny import UTM, write_scene

SMALL = ["--tile", "64", "--overlap", "16", "--no-stac"]


@pytest.fixture
def urban_map(monkeypatch: pytest.MonkeyPatch, model: SettlementModel) -> Callable[..., int]:
    """``domainsam urban map`` with the tiny model, small tiles and no STAC item."""
    monkeypatch.setattr(finders, "load_model", lambda options: model)
    return lambda *arguments: main(["urban", "map", *map(str, arguments), *SMALL])


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed on stderr, which is one line."""
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("domainsam: ")
    return line


def noise(*shape: int, dtype: str = "uint8", low: int = 1, high: int = 255) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, shape).astype(dtype)


def make_missing(path: Path) -> None:
    """No file at all."""


def make_empty(path: Path) -> None:
    path.touch()


def make_text(path: Path) -> None:
    path.write_text("no raster\n")


def make_header_cut(path: Path) -> None:
    write_scene(path)
    path.write_bytes(path.read_bytes()[:100])


def make_body_cut(path: Path) -> None:
    write_scene(path, noise(400, 300, 3), compress="deflate", tiled=True, blockxsize=64, blockysize=64)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])


def make_folder(path: Path) -> None:
    path.mkdir()


def make_without_crs(path: Path) -> None:
    write_scene(path, crs=None)


def make_without_place(path: Path) -> None:
    write_scene(path, transform=Affine.identity())


def make_nodata(path: Path) -> None:
    write_scene(path, np.zeros((100, 100, 3), "uint8"), nodata=0)


def make_all_nan(path: Path) -> None:
    write_scene(path, np.full((100, 100, 3), np.nan, "float32"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_missing, ["no such file", "check the path"]),
        (make_empty, ["empty (0 bytes)", "copy or download it again"]),
        (make_text, ["not a raster", "GeoTIFF"]),
        (make_header_cut, ["damaged or truncated"]),
        (make_body_cut, ["damaged or truncated", "copy or download it again"]),
        (make_folder, ["is a folder", "expected a raster file"]),
        (make_without_crs, ["coordinate reference system", "--allow-no-crs"]),
        (make_without_place, ["no geotransform", "--allow-no-crs"]),
        (make_nodata, ["holds no data", "--nodata"]),
        (make_all_nan, ["holds no data"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_bad_scene(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    urban_map: Callable[..., int],
    make: Callable[[Path], Any],
    words: Any,
) -> None:
    scene, out = tmp_path / "scene.tif", tmp_path / "new" / "s.gpkg"
    make(scene)
    before = {path.name for path in tmp_path.iterdir()}
    assert urban_map(scene, "-o", out) == 2
    line = one_line(capsys)
    assert "scene.tif" in line
    for word in words:
        assert word in line
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("bands", "words"), [("1,2,9", "9"), ("0,1,2", "0"), ("1,2", "bands 1,2")])
def test_wrong_bands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], urban_map: Callable[..., int], bands: str, words: str
) -> None:
    scene = write_scene(tmp_path / "scene.tif")
    assert urban_map(scene, "-o", tmp_path / "s.gpkg", "--bands", bands) == 2
    line = one_line(capsys)
    assert "band" in line
    assert words in line
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_bands_that_are_no_numbers_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], urban_map: Callable[..., int]
) -> None:
    assert urban_map(tmp_path / "scene.tif", "-o", tmp_path / "s.gpkg", "--bands", "red,green") == 2
    assert "whole numbers such as 3,2,1" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_scene_without_crs_is_mapped_in_pixels_when_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], urban_map: Callable[..., int]
) -> None:
    scene = write_scene(tmp_path / "scene.tif", crs=None)
    assert urban_map(scene, "-o", tmp_path / "s.gpkg", "--allow-no-crs", "--json") == 0
    captured = capsys.readouterr()
    (result,) = json.loads(captured.out)["scenes"]
    assert result["hectares"] is None
    assert "no CRS" in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("shape", [(20, 30), (1, 300), (300, 1), (1, 1)])
def test_scenes_smaller_than_a_tile_work(
    tmp_path: Path, urban_map: Callable[..., int], shape: tuple[int, int]
) -> None:
    scene = write_scene(tmp_path / "scene.tif", noise(*shape, 3))
    assert urban_map(scene, "-o", tmp_path / "s.gpkg", "--mask", tmp_path / "m.tif", "-q") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"scene.tif", "s.gpkg", "m.tif"}


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_other_types_and_one_band_work(tmp_path: Path, urban_map: Callable[..., int], dtype: str) -> None:
    scene = write_scene(tmp_path / "scene.tif", noise(80, 80, 1, dtype=dtype, high=3000), nodata=0)
    assert urban_map(scene, "-o", tmp_path / "s.gpkg", "--bands", "1", "-q") == 0


def test_output_that_exists_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], urban_map: Callable[..., int]
) -> None:
    scene, out = write_scene(tmp_path / "scene.tif"), tmp_path / "s.gpkg"
    out.write_text("precious")
    assert urban_map(scene, "-o", out) == 4
    assert "--overwrite" in one_line(capsys)
    assert out.read_text() == "precious"


def test_output_folder_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], urban_map: Callable[..., int]
) -> None:
    scene = write_scene(tmp_path / "scene.tif")
    (tmp_path / "file").touch()
    assert urban_map(scene, "-o", tmp_path / "file" / "s.gpkg") == 4
    assert "cannot write to folder" in one_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "s.shp"], [".shp", ".gpkg"]),
        (["-o", "s.gpkg", "--preview", "p.jpg"], ["p.jpg", ".png"]),
        (["-o", "s.gpkg", "--datetime", "yesterday"], ["yesterday", "2021-05-30"]),
        (["-o", "s.gpkg", "--grid", "1.2"], ["--grid", "two pixels"]),
        (["-o", "s.gpkg", "--overlap", "64"], ["overlap", "63"]),
        (["-o", "s.gpkg", "--tile", "100"], ["tile", "multiple of 32"]),
    ],
)
def test_impossible_options(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    urban_map: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: Any,
) -> None:
    write_scene(tmp_path / "scene.tif")
    monkeypatch.chdir(tmp_path)
    full = ["urban", "map", "scene.tif", "--no-stac", "--tile", "64", "--overlap", "16", *arguments]
    assert main(full) == 2
    line = one_line(capsys)
    for word in words:
        assert word in line
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_bad_scene_among_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], urban_map: Callable[..., int]
) -> None:
    good, bad = write_scene(tmp_path / "good.tif"), tmp_path / "bad.tif"
    assert urban_map(bad, good, "-o", tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert "good.tif" in captured.out
    assert "1 of 2 scenes failed" in captured.err
    assert "bad.tif" in captured.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.gpkg"]


def full_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let some writes of staged bytes pass, then answer as a full disk does."""
    left = [after]

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os_pwrite(descriptor, data, offset)

    os_pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", pwrite)


def test_disk_full_in_mid_run_then_resume(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    urban_map: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene, out = write_scene(tmp_path / "scene.tif"), tmp_path / "out" / "s.gpkg"
    with monkeypatch.context() as limited:
        full_disk(limited, after=2)
        assert urban_map(scene, "-o", out) == 4
    line = one_line(capsys).lower()
    assert "space" in line
    assert [path.name for path in out.parent.iterdir()] == [".s.domainsam"]
    assert urban_map(scene, "-o", out, "--resume", "--json") == 0
    assert json.loads(capsys.readouterr().out)["scenes"][0]["resumed"]
    assert [path.name for path in out.parent.iterdir()] == ["s.gpkg"]


def test_interrupt_says_how_to_go_on(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    urban_map: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(finders, "run_engine", interrupted)
    scene = write_scene(tmp_path / "scene.tif")
    assert urban_map(scene, "-o", tmp_path / "out" / "s.gpkg") == 130
    assert "--resume" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_absent_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_scene(tmp_path / "scene.tif")
    assert main(["urban", "map", str(scene), "-o", str(tmp_path / "s.gpkg"), "--device", "warp"]) == 2
    assert "'warp' is unknown: use auto, cpu" in one_line(capsys)


@pytest.mark.parametrize(("make", "words"), [(make_missing, "no such file"), (make_text, "not a raster")])
def test_info_of_what_is_no_raster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], Any], words: Any
) -> None:
    make(tmp_path / "x.tif")
    assert main(["info", str(tmp_path / "x.tif")]) == 2
    assert words in one_line(capsys)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("crs", "words"), [(UTM, "EPSG:32650"), (None, "not without a CRS")])
def test_info_says_what_would_be_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], crs: str | None, words: str
) -> None:
    scene = write_scene(tmp_path / "s_2021.tif", noise(50, 40, 4, dtype="uint16"), crs=crs, nodata=0)
    assert main(["info", str(scene)]) == 0
    printed = capsys.readouterr().out
    for fact in (words, "40 x 50 pixels", "4, uint16", "in 2021", "bands 1, 2, 3", "percentiles"):
        assert fact in printed
    assert main(["info", str(scene), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["urban"]["format"] == "GTiff"
