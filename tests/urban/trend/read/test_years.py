"""Which inputs are compared, and when each was taken."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import rasterio

from domainsam.errors import ConfigError, InputError, MissingInputError
from domainsam_urban.trend.read.years import choose_labels, parse_span, read_years
from tests.urban.trend.scenes import square, write_mask, write_masks, write_years


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2016", datetime(2016, 1, 1, tzinfo=UTC), datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2016-02", datetime(2016, 2, 1, tzinfo=UTC), datetime(2016, 2, 29, 23, 59, 59, tzinfo=UTC)),
        ("2016-05-30", datetime(2016, 5, 30, tzinfo=UTC), datetime(2016, 5, 30, 23, 59, 59, tzinfo=UTC)),
        ("20160530", datetime(2016, 5, 30, tzinfo=UTC), datetime(2016, 5, 30, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_a_date_is_as_precise_as_it_is_written(text: str, first: datetime, last: datetime) -> None:
    span = parse_span(text)
    assert span is not None
    assert (span.start, span.end) == (first, last)
    assert first < span.middle < last


def test_an_instant_keeps_its_zone() -> None:
    span = parse_span("2016-05-30T10:15:00+08:00")
    assert span is not None
    assert span.start == span.end == datetime(2016, 5, 30, 2, 15, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "spring", "2016-13", "16", "2016-02-30", "12345"])
def test_what_is_no_date(text: str) -> None:
    assert parse_span(text) is None


def test_labels_are_as_short_as_can_be() -> None:
    days = [datetime(2016, 5, 1, tzinfo=UTC), datetime(2016, 5, 2, tzinfo=UTC)]
    assert choose_labels(days) == ("2016-05-01", "2016-05-02")
    assert choose_labels([days[0], datetime(2018, 5, 1, tzinfo=UTC)]) == ("2016", "2018")


def test_years_come_in_order_of_time(tmp_path: Path) -> None:
    first, second, third = write_years(tmp_path)
    years = read_years([f"2020={third}", f"2016-05={first}", str(second)])
    assert [year.label for year in years] == ["2016-05", "2018", "2020"]
    assert [year.path for year in years] == [str(first), str(second), str(third)]
    assert [year.stated for year in years] == ["the command line", "the file", "the command line"]
    assert {year.kind for year in years} == {"scene"}


def test_a_date_in_the_metadata(tmp_path: Path) -> None:
    first, second = write_years(tmp_path, (2016, 2018))
    plain = first.rename(tmp_path / "a.tif")
    with rasterio.open(plain, "r+") as dataset:
        dataset.update_tags(ns="IMAGERY", ACQUISITIONDATETIME="2015-03-04 10:00:00")
    years = read_years([str(plain), str(second)])
    assert years[0].moment == datetime(2015, 3, 4, 10, tzinfo=UTC)


def test_a_path_may_hold_an_equals_sign(tmp_path: Path) -> None:
    odd = write_mask(tmp_path / "run=2016.tif", square(10))
    years = read_years([str(odd), f"2018={odd}"], masks=True)
    assert [year.label for year in years] == ["2016", "2018"]


def test_masks_are_rasters_or_polygons(tmp_path: Path) -> None:
    raster, *_ = write_masks(tmp_path)
    years = read_years([raster, "2019=m.gpkg"], masks=True)
    assert [year.kind for year in years] == ["mask-raster", "mask-vector"]


def test_a_table(tmp_path: Path) -> None:
    write_years(tmp_path, (2016, 2018))
    table = tmp_path / "scenes.csv"
    table.write_text("datetime,Path\n2018-07-01,city_2018.tif\n2016,city_2016.tif\n")
    years = read_years([str(table)])
    assert [(year.label, Path(year.path).name) for year in years] == [
        ("2016", "city_2016.tif"),
        ("2018", "city_2018.tif"),
    ]
    assert years[0].stated == "line 3"


def stac_item(name: str, when: str | None, **assets: str) -> dict[str, object]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "properties": {"datetime": when},
        "assets": {
            key: {"href": href, "type": "image/tiff; application=geotiff"} for key, href in assets.items()
        },
    }


def test_a_stac_catalogue(tmp_path: Path) -> None:
    inner = tmp_path / "items"
    inner.mkdir()
    for year in (2016, 2018):
        item = stac_item(f"s{year}", f"{year}-06-01T00:00:00Z", B4="other.tif", visual=f"../{year}.tif")
        (inner / f"{year}.json").write_text(json.dumps(item))
    child = {"type": "Collection", "links": [{"rel": "item", "href": f"./{y}.json"} for y in (2018, 2016)]}
    (inner / "collection.json").write_text(json.dumps(child))
    root = {
        "type": "Catalog",
        "links": [{"rel": "child", "href": "items/collection.json"}, {"rel": "self", "href": "x"}],
    }
    (tmp_path / "catalog.json").write_text(json.dumps(root))
    years = read_years([str(tmp_path / "catalog.json")])
    assert [year.label for year in years] == ["2016", "2018"]
    assert Path(years[0].path).resolve() == tmp_path / "2016.tif"
    assert years[0].stated == "STAC item s2016"
    named = read_years([str(tmp_path / "catalog.json")], asset="B4")
    assert {Path(year.path).name for year in named} == {"other.tif"}


def test_stac_items_in_one_file(tmp_path: Path) -> None:
    items = [stac_item("a", "2016-06-01T00:00:00Z", scene="a.tif"), stac_item("b", None, scene="b.tif")]
    items[1]["properties"] = {
        "start_datetime": "2018-01-01T00:00:00Z",
        "end_datetime": "2018-12-31T00:00:00Z",
    }
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    assert [year.label for year in read_years([str(path)])] == ["2016", "2018"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no JSON"),
        ("[]", "expected an object, a STAC file"),
        ('{"type": "Polygon"}', "no STAC item"),
        ('{"type": "Catalog", "links": []}', "leads to no item"),
        (
            '{"type": "Catalog", "links": [{"rel": "item", "href": "https://x/i.json"}]}',
            "not on this machine",
        ),
        ('{"type": "Feature", "id": "a", "properties": {}}', "no datetime"),
        ('{"type": "Feature", "id": "a", "properties": {"datetime": "2016-01-01"}, "assets": {}}', "--asset"),
        ('{"type": "Catalog", "links": [{"rel": "child", "href": "list.json"}]}', "leads to no item"),
    ],
)
def test_bad_stac(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_years([str(path), "2020=b.tif"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected columns"),
        ("name,when\na.tif,2016\n", "expected columns 'path' and 'datetime'"),
        ("path,datetime\na.tif,\n", "line 2 lacks"),
        ("path,datetime\na.tif,spring\nb.tif,2018\n", "'spring' in line 2 is no date"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_years([str(path)])


def test_missing_lists(tmp_path: Path) -> None:
    for name in ("list.csv", "list.json"):
        with pytest.raises(MissingInputError, match="no such file"):
            read_years([str(tmp_path / name), "2018=b.tif"])


def test_one_year_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least two years"):
        read_years(["2016=a.tif"])


@pytest.mark.parametrize("pair", [("2016=a.tif", "2016=b.tif"), ("2016=a.tif", "2016-05-30=b.tif")])
def test_the_same_time_twice(pair: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="are both of"):
        read_years(pair)


def test_unreadable_dates(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'spring' is no date"):
        read_years(["spring=a.tif", "2018=b.tif"])
    nameless = write_mask(tmp_path / "a.tif", square(10))
    with pytest.raises(InputError, match="no date in its metadata or name"):
        read_years([str(nameless), "2018=b.tif"])
