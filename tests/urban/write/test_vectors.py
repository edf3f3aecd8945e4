from __future__ import annotations

import json
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

import geopandas
import numpy as np
import pyarrow.parquet
import pyogrio
import pytest
import shapely
from affine import Affine

from domainsam.errors import ConfigError, InputError, OutputError
from domainsam_urban.settings import FORMATS, find_vector_format
from domainsam_urban.write import vectors
from domainsam_urban.write.gridcells import compute_grid_shares
from domainsam_urban.write.polygons import COLUMNS, PolygonOptions, polygonise
from domainsam_urban.write.provenance import Provenance, find_acquisition
from domainsam_urban.write.vectors import write_vectors
from tests.urban.mask_files import METRE, blobs, write_raster

SUFFIXES = tuple(FORMATS)


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raster(tmp_path_factory.mktemp("mask") / "m.tif", blobs((150, 150), seed=7))


@pytest.fixture(scope="module")
def table(mask: Path) -> Any:
    made = Provenance("scène.tif", find_acquisition("x", given="2020-05-06T07:08:09Z"), "m", "two-pass")
    return polygonise(mask, PolygonOptions(min_area=5), provenance=made)


def read(path: Path, layer: str = "settlements") -> Any:
    if path.suffix == ".parquet":
        return geopandas.read_parquet(path)
    return geopandas.read_file(path, layer=layer).sort_values("id", ignore_index=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_comes_back(tmp_path: Path, table: Any, suffix: str) -> None:
    path = tmp_path / f"s{suffix}"
    write_vectors([path], table)
    back = read(path)
    assert tuple(back.columns) == (*COLUMNS, "geometry")
    for name in ("id", "class", "area_m2", "area_ha", "perimeter_m", "source", "model", "method"):
        assert back[name].tolist() == pytest.approx(table[name].tolist())
    assert back.confidence.isna().all()
    times = back.datetime.dt.tz_localize("UTC") if back.datetime.dt.tz is None else back.datetime
    assert (times == table.datetime).all()
    if suffix == ".geojson":
        assert back.crs == "EPSG:4326"
        assert back.to_crs(table.crs).area.to_numpy() == pytest.approx(table.area.to_numpy(), rel=0.02)
    else:
        assert back.crs == table.crs
        assert back.geometry.geom_equals(table.geometry).all()


def test_all_formats_at_once(tmp_path: Path, table: Any) -> None:
    paths = [tmp_path / f"s{suffix}" for suffix in SUFFIXES]
    written = write_vectors(paths, table)
    assert {path.name for path in written} == {path.name for path in tmp_path.iterdir()}
    assert {path.name for path in written} == {"s.gpkg", "s.parquet", "s.fgb", "s.geojson", "s.qml"}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_result_is_a_valid_layer(tmp_path: Path, table: Any, suffix: str) -> None:
    path = tmp_path / f"none{suffix}"
    write_vectors([path], table.iloc[:0])
    if suffix == ".parquet":
        assert tuple(geopandas.read_parquet(path).columns) == (*COLUMNS, "geometry")
        return
    info = pyogrio.read_info(path, layer="settlements", force_feature_count=True)
    assert info["features"] == 0
    if suffix != ".geojson":  # which has nowhere to say what its features would look like
        assert tuple(info["fields"]) == COLUMNS
        assert info["geometry_type"] == "Polygon"


def test_geojson_follows_rfc_7946(tmp_path: Path) -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:18, 2:18] = 1
    mask[5:9, 5:9] = 0
    south_up = Affine(1e-4, 0, 116.5, 0, 1e-4, 40.0)
    table = polygonise(write_raster(tmp_path / "m.tif", mask, south_up, "EPSG:4490"))
    write_vectors([tmp_path / "s.geojson"], table)
    text = (tmp_path / "s.geojson").read_text(encoding="utf-8")
    content = json.loads(text)
    assert "crs" not in content
    outer, inner = (np.array(ring) for ring in content["features"][0]["geometry"]["coordinates"])
    assert shapely.is_ccw(shapely.LinearRing(outer))
    assert not shapely.is_ccw(shapely.LinearRing(inner))
    assert outer.min(axis=0) == pytest.approx([116.5002, 40.0002], abs=1e-5)
    assert np.array_equal(outer, np.round(outer, 7))


def test_parquet_has_covering_boxes_and_zstd(tmp_path: Path, table: Any) -> None:
    write_vectors([tmp_path / "s.parquet"], table)
    file = pyarrow.parquet.ParquetFile(tmp_path / "s.parquet")
    geo = json.loads(file.schema_arrow.metadata[b"geo"])
    assert geo["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    assert geo["version"] == "1.1.0"
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    file.close()


def test_grid_is_a_layer_or_a_file_of_its_own(tmp_path: Path, mask: Path, table: Any) -> None:
    grid = compute_grid_shares(mask, 50)
    written = write_vectors([tmp_path / "s.gpkg", tmp_path / "s.fgb"], table, grid)
    assert {path.name for path in written} == {"s.gpkg", "s.fgb", "s.qml", "s_grid.fgb", "s_grid.qml"}
    for back in (
        geopandas.read_file(tmp_path / "s.gpkg", layer="grid"),
        geopandas.read_file(tmp_path / "s_grid.fgb"),
    ):
        assert sorted(back.cell_id) == sorted(grid.cell_id)
        assert back.settlement_m2.sum() == pytest.approx(grid.settlement_m2.sum())


def test_geopackage_opens_styled_in_qgis(tmp_path: Path, mask: Path, table: Any) -> None:
    write_vectors([tmp_path / "s.gpkg"], table, compute_grid_shares(mask, 50))
    with closing(sqlite3.connect(tmp_path / "s.gpkg")) as database:
        rows = database.execute(
            "SELECT f_table_name, f_geometry_column, useAsDefault, styleQML FROM layer_styles ORDER BY id"
        ).fetchall()
        columns = dict(database.execute("SELECT table_name, column_name FROM gpkg_geometry_columns"))
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        listed = dict(database.execute("SELECT table_name, data_type FROM gpkg_contents"))
    assert [row[0] for row in rows] == ["settlements", "grid"]
    assert all(row[1] == columns[row[0]] and row[2] == 1 for row in rows)
    assert [xml.fromstring(row[3]).find("renderer-v2").get("type") for row in rows] == [
        "singleSymbol",
        "graduatedSymbol",
    ]
    assert listed == {"settlements": "features", "grid": "features", "layer_styles": "attributes"}


def test_unknown_extensions_list_the_known(tmp_path: Path, table: Any) -> None:
    with pytest.raises(ConfigError, match=r"s\.shp.*\.gpkg, \.parquet, \.fgb, \.geojson"):
        write_vectors([tmp_path / "s.gpkg", tmp_path / "s.shp"], table)
    assert not any(tmp_path.iterdir())
    assert find_vector_format("UPPER.GPKG").many_layers


def test_two_outputs_may_not_share_a_file(tmp_path: Path, mask: Path, table: Any) -> None:
    with pytest.raises(ConfigError, match=r"s_grid\.fgb' would be written twice"):
        write_vectors([tmp_path / "s.fgb", tmp_path / "s_grid.fgb"], table, compute_grid_shares(mask, 50))


def test_existing_outputs_are_kept_unless_allowed(tmp_path: Path, table: Any) -> None:
    (tmp_path / "s.gpkg").write_text("precious")
    with pytest.raises(OutputError, match="--overwrite"):
        write_vectors([tmp_path / "new.fgb", tmp_path / "s.gpkg"], table)
    assert [path.name for path in tmp_path.iterdir()] == ["s.gpkg"]
    assert (tmp_path / "s.gpkg").read_text() == "precious"
    write_vectors([tmp_path / "s.gpkg"], table, overwrite=True)
    assert len(read(tmp_path / "s.gpkg")) == len(table)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_loses_nothing(tmp_path: Path, table: Any, suffix: str) -> None:
    """A limit on file size makes writes fail as a full disk does."""
    old = tmp_path / f"s{suffix}"
    old.write_text("precious")
    many = geopandas.GeoDataFrame(
        np.repeat(table.to_numpy(), 40, axis=0), columns=table.columns, crs=table.crs
    )
    many = many.astype({name: table.dtypes[name] for name in COLUMNS}).set_geometry("geometry", crs=table.crs)
    with (
        file_size_limit(150_000 if suffix == ".gpkg" else 8_000),
        pytest.raises(OutputError, match=rf"s\{suffix}"),
    ):
        write_vectors([old], many, overwrite=True)
    assert old.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == [old.name]


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_short_file_is_noticed(tmp_path: Path, table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every driver reports a failed write."""

    def forgetful(whole: Any, path: Path, layer: str) -> None:
        write(whole.iloc[:-1], path, layer)

    write = vectors.WRITERS[".fgb"]
    monkeypatch.setattr(vectors, "WRITERS", {".fgb": forgetful})
    with pytest.raises(OutputError, match=f"{len(table) - 1} of {len(table)} rows"):
        write_vectors([tmp_path / "s.fgb"], table)
    assert not any(tmp_path.iterdir())


def test_pixel_tables_go_anywhere_but_into_geojson(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "m.tif", np.ones((4, 4), np.uint8), Affine.identity(), None)
    table = polygonise(path, PolygonOptions(allow_no_crs=True))
    paths = [tmp_path / f"s{suffix}" for suffix in (".gpkg", ".parquet", ".fgb")]
    write_vectors(paths, table)
    for written in paths:
        assert read(written).area_px.tolist() == [16.0]
    with pytest.raises(InputError, match=r"t\.geojson.*no CRS"):
        write_vectors([tmp_path / "t.geojson"], table)


def test_outputs_are_the_same_again(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "m.tif", blobs((60, 60), seed=9), METRE)
    tables = [polygonise(path, PolygonOptions(simplify=2, close_holes=4)) for _ in range(2)]
    assert tables[0].equals(tables[1])
