"""QGIS styles of the outputs: settlement outlines and shares in five steps."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as xml

OUTLINE = "#d7301f"
RAMP = ("#fef0d9", "#fdcc8a", "#fc8d59", "#e34a33", "#b30000")
"""ColorBrewer's OrRd in five classes (Brewer, Hatchard and Harrower 2003): safe for colour-blind readers."""

CHANGE_COUNTERS = (24, 92)
"""Offsets of a SQLite file's change counter, and of the counter that its version is valid for."""
MOMENT = "1970-01-01T00:00:00.000Z"
"""Time of the last change in every GeoPackage: with the clock's, no run would repeat another's bytes."""

_HEADER = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"


@dataclass(frozen=True)
class Fill:
    """One polygon symbol: colours as ``#rrggbb``, opacity 0..1 of the fill, outline width in millimetres."""

    colour: str
    opacity: float
    outline: str
    width_mm: float


SETTLEMENT = Fill(OUTLINE, 0.25, OUTLINE, 0.5)


def make_settlement_qml() -> str:
    """QGIS layer style of settlement polygons: light fill, strong outline."""
    root = _root()
    renderer = xml.SubElement(root, "renderer-v2", type="singleSymbol", enableorderby="0", forceraster="0")
    _symbols(renderer, [SETTLEMENT])
    return _text(root)


def make_grid_qml() -> str:
    """QGIS layer style of grid cells: the share of settlement in five equal steps."""
    root = _root()
    renderer = xml.SubElement(
        root, "renderer-v2", type="graduatedSymbol", attr="share", graduatedMethod="GraduatedColor"
    )
    ranges = xml.SubElement(renderer, "ranges")
    for step in range(len(RAMP)):
        lower, upper = step / len(RAMP), (step + 1) / len(RAMP)
        xml.SubElement(
            ranges,
            "range",
            lower=f"{lower:.6f}",
            upper=f"{upper:.6f}",
            symbol=str(step),
            label=f"{lower * 100:.0f} to {upper * 100:.0f} %",
            render="true",
        )
    _symbols(renderer, [Fill(colour, 0.7, "#ffffff", 0.1) for colour in RAMP])
    return _text(root)


def make_category_qml(attribute: str, fills: Mapping[str, Fill]) -> str:
    """QGIS layer style of polygons with one symbol for each value of an attribute."""
    root = _root()
    renderer = xml.SubElement(root, "renderer-v2", type="categorizedSymbol", attr=attribute)
    categories = xml.SubElement(renderer, "categories")
    for number, value in enumerate(fills):
        xml.SubElement(
            categories, "category", value=value, label=value, symbol=str(number), type="string", render="true"
        )
    _symbols(renderer, list(fills.values()))
    return _text(root)


def store_default_styles(geopackage: Path, styles: dict[str, str]) -> None:
    """Put QGIS styles into a GeoPackage, so that its layers open styled.

    The table is the one QGIS itself makes, listed as non-spatial in
    ``gpkg_contents`` so that other readers know what it is. All times of change
    become :data:`MOMENT`, so that the same content is the same bytes.

    Parameters
    ----------
    styles
        QML of each layer name.
    """
    with closing(sqlite3.connect(geopackage)) as database, database:
        database.execute(
            "CREATE TABLE layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "
            "f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256), "
            "f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT, "
            "useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), "
            "update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')))"
        )
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, srs_id) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles', 0)"
        )
        for layer, qml in styles.items():
            found = database.execute(
                "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (layer,)
            ).fetchone()
            if found is None:
                raise sqlite3.DatabaseError(f"layer {layer} is not in the file")
            (column,) = found
            database.execute(
                "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, "
                "styleName, styleQML, styleSLD, useAsDefault, description, owner, update_time) "
                "VALUES ('', '', ?, ?, ?, ?, '', 1, 'domainsam', '', ?)",
                (layer, column, layer, qml, MOMENT),
            )
        database.execute("UPDATE gpkg_contents SET last_change = ?", (MOMENT,))
    _settle_counter(geopackage)


def _settle_counter(database: Path) -> None:
    """Let a closed SQLite file say that it was changed once.

    GDAL changes it once more or less often by the clock, and only the counter tells. It stands in the file's
    header, and again beside the library's version, where an equal number says that the header holds
    (SQLite's file format, sections 1.3.7 and 1.3.16).
    """
    with database.open("r+b") as file:
        for offset in CHANGE_COUNTERS:
            file.seek(offset)
            file.write((1).to_bytes(4, "big"))


def _root() -> xml.Element:
    return xml.Element("qgis", version="3.28.0", styleCategories="Symbology")


def _symbols(renderer: xml.Element, fills: Sequence[Fill]) -> None:
    symbols = xml.SubElement(renderer, "symbols")
    for name, fill in enumerate(fills):
        symbol = xml.SubElement(
            symbols, "symbol", type="fill", name=str(name), alpha="1", clip_to_extent="1", force_rhr="0"
        )
        layer = xml.SubElement(
            symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"}
        )
        options = xml.SubElement(layer, "Option", type="Map")
        for key, value in {
            "color": _rgba(fill.colour, fill.opacity),
            "style": "solid",
            "outline_color": _rgba(fill.outline, 1.0),
            "outline_style": "solid",
            "outline_width": f"{fill.width_mm}",
            "outline_width_unit": "MM",
            "joinstyle": "round",
        }.items():
            xml.SubElement(options, "Option", type="QString", name=key, value=value)


def _rgba(colour: str, opacity: float) -> str:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return f"{red},{green},{blue},{round(opacity * 255)}"


def _text(root: xml.Element) -> str:
    xml.indent(root)
    return _HEADER + xml.tostring(root, encoding="unicode") + "\n"
