"""Everything that a trend writes."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import sqlite3
import subprocess
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely

from domainsam.errors import OutputError
from domainsam_urban.trend.generated import Errors, make_series, paint_series, simulate_map
from domainsam_urban.trend.settings import ProductOptions, UncertaintyOptions, ZoneOptions
from domainsam_urban.trend.stack import YearStack
from domainsam_urban.trend.write.products import TrendProducts, list_product_files, write_products
from tests.urban.trend.stacks import BEIJING, from_masks, year_stack

YEARS = (2016, 2018, 2020)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[YearStack, TrendProducts]:
    """A small series with pictures, zones and rings, one year with a gap and all of them smoothed too."""
    folder = tmp_path_factory.mktemp("products")
    series = make_series(3, 2, 3, seed=2)
    stored = simulate_map(series, Errors())
    stored[1, :20] = 255
    by_year = dict(zip(YEARS, stored, strict=True))
    stack = year_stack(folder, by_year, smoothed=by_year)
    rng = np.random.default_rng(0)
    textures = rng.integers(60, 200, (2, 64, 64, 3)).astype(np.uint8)
    for year, picture in zip(stack.years, paint_series(series, *textures), strict=True):
        with rasterio.open(
            folder / f"scene_{year.label}.tif", "w", driver="GTiff", count=3, dtype="uint8",
            height=stack.ground.height, width=stack.ground.width, crs=stack.ground.crs,
            transform=stack.ground.affine,
        ) as out:  # fmt: skip
            out.write(np.moveaxis(picture, -1, 0))
    stack = replace(
        stack,
        years=tuple(replace(year, scene=str(folder / f"scene_{year.label}.tif")) for year in stack.years),
        warnings=("years <may> differ",),
    )
    left, bottom, right, top = stack.ground.bounds
    halves = [shapely.box(left, bottom, 0, top), shapely.box(0, bottom, right, top)]
    gpd.GeoDataFrame({"name": ["west", "east"]}, geometry=halves, crs=stack.ground.wkt).to_file(
        folder / "zones.gpkg"
    )
    options = ProductOptions(
        ZoneOptions(folder / "zones.gpkg", centre=BEIJING), UncertaintyOptions(draws=200), title="A test"
    )
    return stack, write_products(stack, options, folder / "out")


def test_every_file_is_there_and_no_other(made: tuple[YearStack, TrendProducts]) -> None:
    _, products = made
    folder = products.report.parent
    found = {path for path in folder.rglob("*") if path.is_file()}
    assert found == set(products.files) == set(list_product_files(folder))
    for path in folder.glob("figures/*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_tables_tell_the_same_in_both_formats(made: tuple[YearStack, TrendProducts]) -> None:
    _, products = made
    folder = products.report.parent
    for name in ("areas", "changes"):
        # Labels of years are words, though a CSV cannot say so.
        words = dict.fromkeys(("year", "from", "to"), str)
        one = pd.read_csv(folder / f"{name}.csv", dtype=words)
        other = pd.read_parquet(folder / f"{name}.parquet")
        assert list(one.columns) == list(other.columns)
        np.testing.assert_allclose(one.select_dtypes("number"), other.select_dtypes("number"), atol=1e-5)
        texts = other.select_dtypes(exclude="number").columns
        assert (one[texts].fillna("") == other[texts]).all(axis=None)
    areas = pd.read_csv(folder / "areas.csv")
    for column in ("area_ha", "share"):
        known = areas[areas[column].notna()]
        assert (known[f"{column}_low"] <= known[column]).all()
        assert (known[column] <= known[f"{column}_high"]).all()
    assert set(areas["series"]) == {"year by year", "smoothed"}
    assert set(areas["extent"]) == {"common", "own"}
    main = areas[(areas["series"] == "year by year") & (areas["extent"] == "common")]
    zones = main[main["kind"] == "zones"].groupby("year")["area_ha"].sum()
    total = main[main["kind"] == "whole"].set_index("year")["area_ha"]
    np.testing.assert_allclose(zones, total, atol=1e-5)


def test_the_geopackage_agrees_with_the_tables(made: tuple[YearStack, TrendProducts]) -> None:
    stack, products = made
    package = products.report.with_name("settlements.gpkg")
    change = gpd.read_file(package, layer="change")
    assert change["id"].is_unique
    assert shapely.is_valid(np.asarray(change.geometry)).all()
    for label in stack.labels:
        layer = gpd.read_file(package, layer=f"year_{label}")
        np.testing.assert_allclose(layer.geometry.area, layer["area_m2"], rtol=1e-6)
        whole = change.set_index("id").loc[layer["id"], f"area_ha_{label}"]
        np.testing.assert_allclose(whole, layer["area_ha"])
        inside = shapely.covers(
            np.asarray(change.set_index("id").loc[layer["id"]].geometry),
            shapely.point_on_surface(np.asarray(layer.geometry)),
        )
        assert inside.all()
    with sqlite3.connect(package) as database:
        styled = {
            row[0] for row in database.execute("SELECT f_table_name FROM layer_styles WHERE useAsDefault = 1")
        }
    assert styled == {"change", *(f"year_{label}" for label in stack.labels)}


def test_the_report_asks_nothing_of_any_other_place(made: tuple[YearStack, TrendProducts]) -> None:
    _, products = made
    page = products.report.read_text(encoding="utf-8")
    outside = re.findall(r"""(?:src|href|action|data)\s*=\s*["'](?!data:|#)[^"']+""", page)
    assert outside == []
    assert "@import" not in page
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'" in page
    )
    assert "years &lt;may&gt; differ" in page


def test_the_report_opens_without_an_error(made: tuple[YearStack, TrendProducts], tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium to open the report with")
    _, products = made
    run = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
         f"--user-data-dir={tmp_path}", products.report.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in run.stderr
    # Only the script writes the place of the handle.
    assert "--split: 50%" in run.stdout.split("<body>")[1]


def test_nothing_found_in_any_year_is_a_result(tmp_path: Path) -> None:
    empty = np.zeros((64, 64), bool)
    stack = from_masks(tmp_path / "stack", {2016: empty, 2018: empty})
    products = write_products(stack, ProductOptions(), tmp_path / "out")
    assert [figure.area.central for figure in products.figures.of_years()] == [0, 0]
    assert "none was found" in products.report.read_text(encoding="utf-8")
    assert len(gpd.read_file(tmp_path / "out" / "settlements.gpkg", layer="change")) == 0


def test_existing_files_stay(tmp_path: Path) -> None:
    stack = from_masks(tmp_path / "stack", {year: np.eye(64) > 0 for year in YEARS})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "areas.csv").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        write_products(stack, ProductOptions(), tmp_path / "out")
    assert (tmp_path / "out" / "areas.csv").read_text() == "mine"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["areas.csv"]


def test_the_same_years_give_the_same_files(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), bool)
    mask[10:40, 10:50] = True
    stack = from_masks(tmp_path / "stack", {2016: mask, 2018: mask.T})
    for name in ("a", "b"):
        write_products(stack, ProductOptions(), tmp_path / name)
    for path in sorted((tmp_path / "a").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path
