from __future__ import annotations

from xml.etree import ElementTree as xml

import pytest

from domainsam_urban.write.styles import RAMP, make_grid_qml, make_settlement_qml


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
