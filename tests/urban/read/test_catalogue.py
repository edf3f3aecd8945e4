"""Scenes by catalogue: which there are, what they are called, and which are left out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from domainsam.errors import ConfigError, InputError, MissingInputError
from domainsam.infer.many import Entry
from domainsam_urban.read.catalogue import is_catalogue, list_scenes, parse_interval, parse_span, settle_area
from domainsam_urban.settings import ReadOptions
from tests.urban.tiny import write_scene

Box = tuple[float, float, float, float]
BEIJING: Box = (116.33, 39.85, 116.34, 39.86)
ELSEWHERE: Box = (10.0, 50.0, 10.1, 50.1)


def item(name: str, href: str, when: str | None = None, box: Any = None) -> dict[str, Any]:
    return {
        "type": "Feature",
        "id": name,
        "bbox": box,
        "properties": {} if when is None else {"datetime": when},
        "assets": {"thumbnail": {"href": "t.png", "type": "image/png"}, "visual": {"href": href}},
    }


def write_items(path: Path, *items: dict[str, Any]) -> str:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    return str(path)


def names(entries: tuple[Entry, ...]) -> list[str | None]:
    return [entry.name for entry in entries]


def test_an_item_collection_names_scenes_times_and_boxes(tmp_path: Path) -> None:
    given = write_items(
        tmp_path / "catalog.json",
        item("a", "one/visual.tif", "2021-05-30T10:15:00Z", BEIJING),
        item("b/c", "two/visual.tif"),
    )
    first, second = list_scenes([given], ReadOptions())
    assert first == Entry(str(tmp_path / "one/visual.tif"), "a", "2021-05-30T10:15:00Z", BEIJING)
    assert (second.name, second.when, second.box) == ("b_c", None, None)


def test_the_asset_can_be_named(tmp_path: Path) -> None:
    given = write_items(tmp_path / "c.json", item("a", "v.tif"))
    assert list_scenes([given], ReadOptions(asset="thumbnail"))[0].source.endswith("t.png")
    with pytest.raises(InputError, match="no asset 'b04'; it has: thumbnail, visual"):
        list_scenes([given], ReadOptions(asset="b04"))


def test_a_table_names_scenes(tmp_path: Path) -> None:
    table = tmp_path / "scenes.csv"
    table.write_text("id,path,datetime\nnorth,a.tif,2021\n,sub/b.tif,\n")
    first, second = list_scenes([str(table)], ReadOptions())
    assert first == Entry(str(tmp_path / "a.tif"), "north", "2021")
    assert second == Entry(str(tmp_path / "sub/b.tif"))


@pytest.mark.parametrize("as_map", [False, True])
def test_a_stac_geoparquet_table_names_scenes(tmp_path: Path, as_map: bool) -> None:
    path = tmp_path / "items.parquet"
    assets: Any = [{"visual": {"href": f"/data/{name}.tif", "type": None}, "other": None} for name in "ab"]
    kind = None
    if as_map:
        assets = [list({"visual": row["visual"]}.items()) for row in assets]
        kind = pa.map_(pa.string(), pa.struct([("href", pa.string()), ("type", pa.string())]))
    boxes = [dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)) for box in (BEIJING, ELSEWHERE)]
    times = [datetime(2021, 5, 30, 10, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)]
    table = {"id": ["a", "b"], "assets": pa.array(assets, kind), "bbox": boxes, "datetime": times}
    parquet.write_table(pa.table(table), path)
    first, second = list_scenes([str(path)], ReadOptions())
    assert first == Entry("/data/a.tif", "a", "2021-05-30T10:00:00+00:00", BEIJING)
    assert second.source == "/data/b.tif"
    near = ReadOptions(date="2021", bbox=BEIJING)
    assert names(list_scenes([str(path)], near)) == ["a"]


def test_a_folder_is_its_rasters_and_no_others(tmp_path: Path) -> None:
    for name in ("b.tif", "a.TIF", "a.txt", ".hidden.tif"):
        (tmp_path / name).touch()
    (tmp_path / "inner.tif").mkdir()
    assert [Path(entry.source).name for entry in list_scenes([str(tmp_path)], ReadOptions())] == [
        "a.TIF",
        "b.tif",
    ]


def test_what_is_no_catalogue_is_a_scene(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for given in ("a.tif", "/vsizip/a.zip/b.csv", "https://host/a.json", str(tmp_path / "empty")):
        assert not is_catalogue(given)
        assert list_scenes([given], ReadOptions()) == (Entry(given),)


def test_dates_choose(tmp_path: Path) -> None:
    table = tmp_path / "s.csv"
    rows = ("a,2019", "b,2020-06", "c,2020-06-15", "d,2020-07-01T00:00:00+02:00", "e,2021")
    table.write_text("\n".join(("path,datetime", *(f"{row[0]}.tif{row[1:]}" for row in rows))))

    def chosen(date: str) -> str:
        return "".join(Path(entry.source).stem for entry in list_scenes([str(table)], ReadOptions(date=date)))

    assert chosen("2020") == "bcd"
    assert chosen("2020-06") == "bcd"  # the first of July at midnight in UTC+2 is June in UTC
    assert chosen("2020-06-16/2020-06-20") == "b"
    assert chosen("2020-07/..") == "e"
    assert chosen("../2019-12-31") == "a"
    with pytest.raises(InputError, match=r"none of the 5 scenes .* fits --date 1999"):
        chosen("1999")


def test_a_scene_without_a_date_is_neither_taken_nor_left_out(tmp_path: Path) -> None:
    table = tmp_path / "s.csv"
    table.write_text("path,datetime\na.tif,2020\nb.tif,\n")
    with pytest.raises(InputError, match=r"b\.tif: --date was given and this scene has no date"):
        list_scenes([str(table)], ReadOptions(date="2020"))


@pytest.mark.parametrize("date", ["soon", "2021/2020", "2021/2022/2023", "2021-13", "2021-02-30"])
def test_impossible_dates(date: str) -> None:
    with pytest.raises(ConfigError, match="--date"):
        parse_interval(date)


def test_a_span_ends_with_its_last_moment() -> None:
    assert parse_span("2020-02") == (
        datetime(2020, 2, 1, tzinfo=UTC),
        datetime(2020, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
    )


def test_places_choose_by_the_catalogue_and_else_by_the_scene(tmp_path: Path) -> None:
    write_scene(tmp_path / "here.tif")  # near 116.33 E, 39.85 N
    given = write_items(
        tmp_path / "c.json",
        item("stated", "absent.tif", box=BEIJING),
        item("far", "far.tif", box=ELSEWHERE),
        item("looked_at", "here.tif"),
        item("unknown", "gone.tif"),
        item("across", "x.tif", box=[179.0, -20.0, -179.0, -10.0]),
    )
    read = ReadOptions(bbox=(116.3, 39.8, 116.4, 39.9))
    # What cannot be looked at stays: its own run says what is wrong with it.
    assert names(list_scenes([given], read)) == ["stated", "looked_at", "unknown"]
    pacific = ReadOptions(bbox=(-179.9, -15.0, -179.5, -14.0))
    assert names(list_scenes([given], pacific)) == ["unknown", "across"]


def test_a_box_of_a_catalogue_is_in_degrees(tmp_path: Path) -> None:
    given = write_items(tmp_path / "c.json", item("a", "a.tif", box=BEIJING))
    read = ReadOptions(bbox=(116.0, 39.0, 117.0, 40.0))
    assert settle_area([given], read).bbox_crs == "EPSG:4326"
    assert settle_area(["a.tif"], read).bbox_crs is None
    metres = ReadOptions(bbox=(443_000.0, 4_411_000.0, 444_000.0, 4_412_000.0))
    with pytest.raises(ConfigError, match="not in degrees, as it is with a catalogue"):
        settle_area([given], metres)
    utm = ReadOptions(bbox=metres.bbox, bbox_crs="EPSG:32650")
    assert names(list_scenes([given], settle_area([given], utm))) == ["a"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("c.csv", "id\n1\n", "expected a column 'path'"),
        ("c.csv", "path\n", "names no scene|expected a column 'path'"),
        ("c.csv", "path,id\n,a\n", "line 2 lacks its path"),
        ("c.csv", "path,datetime\na.tif,yesterday\n", "line 2: 'yesterday' is no date"),
        ("c.csv", "path\ns3://bucket/a.tif\n", "not on this machine"),
        ("c.json", '{"type": "Topology"}', "is no STAC item"),
        ("c.json", "{", "is no JSON"),
        ("c.json", '{"type": "FeatureCollection", "features": []}', "names no scene"),
        ("c.json", '{"type": "FeatureCollection", "features": [{"id": "a", "assets": {}}]}', "0 fitting"),
        ("c.parquet", "PAR1", "cannot be read as a stac-geoparquet table"),
    ],
)
def test_bad_catalogues(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        list_scenes([str(tmp_path / name)], ReadOptions())


@pytest.mark.parametrize("box", [[1, 2, 3], "here", [1, 2, 3, None], [float("nan"), 0, 1, 1]])
def test_bad_boxes(tmp_path: Path, box: Any) -> None:
    given = write_items(tmp_path / "c.json", item("a", "a.tif", box=box))
    with pytest.raises(InputError, match="bbox"):
        list_scenes([given], ReadOptions())


def test_another_table_is_no_catalogue(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": [1]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="no stac-geoparquet table; expected the columns 'id' and 'assets'"):
        list_scenes([str(tmp_path / "t.parquet")], ReadOptions())
    with pytest.raises(MissingInputError):
        list_scenes([str(tmp_path / "absent.csv")], ReadOptions())
