from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree as xml

import geopandas
import pytest
import shapely

from domainsam_urban.write.styles import RAMP, make_grid_qml, make_settlement_qml, store_default_styles


def test_settlements_are_one_light_symbol() -> None:
    root = xml.fromstring(make_settlement_qml())
    assert root.tag == "qgis"
    (symbol,) = root.findall("renderer-v2/symbols/symbol")
    options = {entry.get("name"): entry.get("value") for entry in symbol.findall("layer/Option/Option")}
    assert options["color"] == "215,48,31,64"
    assert options["outline_color"] == "215,48,31,255"


def test_shares_are_classed_without_gaps() -> None:
    root = xml.fromstring(make_grid_qml())
    renderer = root.find("renderer-v2")
    assert renderer is not None
    assert renderer.get("attr") == "share"
    edges = [
        (float(r.get("lower", "nan")), float(r.get("upper", "nan"))) for r in renderer.findall("ranges/range")
    ]
    assert edges[0][0] == 0
    assert edges[-1][1] == 1
    assert [low for low, _ in edges[1:]] == pytest.approx([high for _, high in edges[:-1]])
    symbols = {symbol.get("name") for symbol in renderer.findall("symbols/symbol")}
    assert symbols == {r.get("symbol") for r in renderer.findall("ranges/range")}
    assert len(symbols) == len(RAMP)


def test_a_geopackage_is_the_same_bytes_however_often_it_was_opened(tmp_path: Path) -> None:
    table = geopandas.GeoDataFrame({"a": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32650")
    written = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.gpkg"
        table.to_file(path, layer="a", driver="GPKG", engine="pyogrio")
        if name == "two":  # One change more, which leaves nothing but its count.
            with closing(sqlite3.connect(path)) as database, database:
                database.execute("UPDATE gpkg_contents SET last_change = '2026-01-01T00:00:00.000Z'")
        store_default_styles(path, {"a": "<qgis/>"})
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert len(geopandas.read_file(path, layer="a")) == 1
        written.append(path.read_bytes())
    assert written[0] == written[1]
