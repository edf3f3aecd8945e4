"""Scenes of several years, small and generated, for runs from file to file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from scipy import ndimage

from domainsam_cli import main
from domainsam_urban.model.settlement import SettlementModel
from domainsam_urban.settings import RunOptions
from domainsam_urban.trend import trend as pipeline
from domainsam_urban.trend.settings import TrendOptions
from tests.urban.tiny import UTM, write_scene

ORIGIN = (443_200.0, 4_412_300.0)
PIXEL = 0.9
RUN = RunOptions(device="cpu", tile=64, overlap=16)
SMALL = ["--tile", "64", "--overlap", "16", "--device", "cpu"]


def place(east: float = 0.0, north: float = 0.0, pixel: float = PIXEL) -> Affine:
    """Where a scene lies: metres from the common corner."""
    return Affine.translation(ORIGIN[0] + east, ORIGIN[1] + north) @ Affine.scale(pixel, -pixel)


def texture(height: int = 128, width: int = 160, seed: int = 0, dtype: str = "uint8") -> np.ndarray:
    """Grey and coloured structure ``(H, W, 3)`` at several scales, never 0."""
    rng = np.random.default_rng(seed)
    layers = [ndimage.gaussian_filter(rng.normal(size=(height, width, 3)), (s, s, 0)) * s for s in (1, 4, 12)]
    picture = sum(layers)
    scaled = (picture - picture.min()) / np.ptp(picture)
    return (scaled * 200 + 30).astype(dtype)


def write_years(folder: Path, years: tuple[int, ...] = (2016, 2018, 2020), **profile: Any) -> list[Path]:
    """A scene a year of the same place: the same structure, a little different each time."""
    base = texture().astype(int)
    paths = []
    for year in years:
        noise = np.random.default_rng(year).integers(-12, 13, base.shape)
        image = np.clip(base + noise, 1, 255).astype(np.uint8)
        paths.append(write_scene(folder / f"city_{year}.tif", image, transform=place(), **profile))
    return paths


def write_mask(
    path: Path,
    mask: np.ndarray,
    transform: Affine | None = None,
    crs: str | None = UTM,
    nodata: float | None = None,
    **tags: str,
) -> Path:
    """A mask ``(H, W)`` as a GeoTIFF; 2 m pixels unless told otherwise."""
    array = np.asarray(mask)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=1,
        dtype=array.dtype,
        height=array.shape[0],
        width=array.shape[1],
        crs=crs,
        transform=place(pixel=2.0) if transform is None else transform,
        nodata=nodata,
    ) as dataset:
        dataset.write(array, 1)
        dataset.update_tags(**tags)
    return path


def square(side: int, shape: tuple[int, int] = (80, 100), corner: tuple[int, int] = (20, 30)) -> np.ndarray:
    """A mask with one square settlement."""
    mask = np.zeros(shape, np.uint8)
    mask[corner[0] : corner[0] + side, corner[1] : corner[1] + side] = 1
    return mask


def write_masks(folder: Path, sides: dict[int, int] | None = None) -> list[str]:
    """``YEAR=FILE`` for masks of a square that grows."""
    sides = sides or {2016: 20, 2018: 26, 2020: 32}
    return [f"{year}={write_mask(folder / f'm{year}.tif', square(side))}" for year, side in sides.items()]


def options(out: Path, **changes: Any) -> TrendOptions:
    """Options for small scenes on the CPU, quiet."""
    return TrendOptions(**{"out": out, "run": RUN, "quiet": True, **changes})


def use_model(monkeypatch: pytest.MonkeyPatch, model: SettlementModel) -> None:
    """Let the commands take this model in place of the one inside the package."""
    monkeypatch.setattr(pipeline, "load_model", lambda _: model)


def run(*arguments: Any) -> int:
    """``domainsam urban trend`` with these arguments."""
    return main(["urban", "trend", *map(str, arguments)])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
