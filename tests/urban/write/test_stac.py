from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import shapely
from affine import Affine
from pyproj import Transformer

from domainsam.errors import OutputError
from domainsam_urban.settings import FORMATS
from domainsam_urban.write.provenance import Acquisition, Provenance, find_acquisition
from domainsam_urban.write.stac import (
    CLASSIFICATION,
    EXTENSIONS,
    Output,
    compute_footprint,
    describe_mask,
    describe_preview,
    describe_probability,
    describe_summary,
    describe_vector,
    make_item,
    write_item,
)
from tests.urban.mask_files import METRE, UTM, write_raster

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def outputs(folder: Path) -> list[Output]:
    return [
        describe_vector(folder / "s.gpkg", FORMATS[".gpkg"].media_type),
        describe_mask(folder / "rasters" / "m.tif", {1: "settlement"}),
        describe_probability(folder / "p.tif"),
        describe_preview(folder / "p.png"),
        describe_summary(folder / "s.json"),
    ]


def written(folder: Path, acquired: Acquisition, crs: Any = UTM) -> dict[str, Any]:
    transform = METRE if crs else Affine.identity()
    raster = write_raster(folder / "scene.tif", np.ones((30, 40), np.uint8), transform, crs)
    (folder / "out").mkdir()
    path = folder / "out" / "s.stac.json"
    item = make_item(
        path,
        raster,
        outputs(folder / "out"),
        scene=str(raster),
        provenance=Provenance("scene.tif", acquired, "model.safetensors", "two-pass"),
        created=CREATED,
    )
    write_item(item, path)
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_the_item_is_whole(tmp_path: Path) -> None:
    content = written(tmp_path, find_acquisition("x", given="2020-05-06"))
    assert content["stac_version"] == "1.1.0"
    assert content["type"] == "Feature"
    assert content["id"] == "s"
    assert content["stac_extensions"] == [*EXTENSIONS, CLASSIFICATION]
    properties = content["properties"]
    assert properties["datetime"] == "2020-05-06T00:00:00Z"
    assert properties["created"] == "2026-01-02T03:04:05Z"
    assert properties["proj:code"] == UTM
    assert properties["proj:shape"] == [30, 40]
    assert properties["proj:transform"] == list(METRE)[:6]
    assert properties["domainsam:model"] == "model.safetensors"
    assert not [key for key in properties if key.startswith("mlm:")]
    back = pystac.Item.from_dict(content)
    assert back.datetime == datetime(2020, 5, 6, tzinfo=UTC)


def test_hrefs_are_relative_and_assets_typed(tmp_path: Path) -> None:
    content = written(tmp_path, Acquisition())
    assets = content["assets"]
    assert {key: asset["href"] for key, asset in assets.items()} == {
        "polygons": "./s.gpkg",
        "mask": "./rasters/m.tif",
        "probability": "./p.tif",
        "preview": "./p.png",
        "summary": "./s.json",
    }
    assert all(asset["type"] and asset["roles"] and asset["title"] for asset in assets.values())
    assert [(link["rel"], link["href"]) for link in content["links"]] == [("derived_from", "../scene.tif")]


def test_bands_say_what_values_mean(tmp_path: Path) -> None:
    assets = written(tmp_path, Acquisition())["assets"]
    (mask,), (probability,) = assets["mask"]["bands"], assets["probability"]["bands"]
    meanings = {entry["value"]: entry["name"] for entry in mask["classification:classes"]}
    assert meanings == {0: "background", 1: "settlement", 255: "nodata"}
    assert mask["nodata"] == probability["nodata"] == 255
    assert 254 * probability["raster:scale"] + probability["raster:offset"] == pytest.approx(1)


def test_times_that_are_not_known(tmp_path: Path) -> None:
    (tmp_path / "year").mkdir()
    year = written(tmp_path / "year", find_acquisition("x_1999.tif"))["properties"]
    assert year["datetime"] is None
    assert (year["start_datetime"], year["end_datetime"]) == ("1999-01-01T00:00:00Z", "1999-12-31T23:59:59Z")
    assert year["domainsam:time"] == "acquisition"
    never = written(tmp_path, Acquisition())["properties"]
    assert never["datetime"] is None
    assert (never["start_datetime"], never["end_datetime"]) == (
        "1900-01-01T00:00:00Z",
        "2026-01-02T03:04:05Z",
    )
    assert never["domainsam:time"] == "unknown"


def test_without_a_crs_there_is_no_place(tmp_path: Path) -> None:
    content = written(tmp_path, Acquisition(), crs=None)
    assert content["geometry"] is None
    assert "bbox" not in content or content["bbox"] is None
    assert content["properties"]["proj:code"] is None


def test_addresses_stay_addresses(tmp_path: Path) -> None:
    raster = write_raster(tmp_path / "m.tif", np.ones((3, 3), np.uint8))
    for scene in ("/vsicurl/https://example.org/scene.tif", "https://example.org/scene.tif"):
        item = make_item(tmp_path / "s.json", raster, [], scene=scene, provenance=Provenance())
        assert item.get_single_link("derived_from").get_href() == scene
        assert item.id == "s"


def test_an_existing_item_is_kept(tmp_path: Path) -> None:
    raster = write_raster(tmp_path / "m.tif", np.ones((3, 3), np.uint8))
    path = tmp_path / "s.json"
    item = make_item(path, raster, [], scene="m.tif", provenance=Provenance())
    path.write_text("precious")
    with pytest.raises(OutputError, match="--overwrite"):
        write_item(item, path)
    assert path.read_text() == "precious"


def test_footprint_is_the_outline_in_degrees() -> None:
    square = compute_footprint((100, 200), Affine(1e-3, 0, 10, 0, -1e-3, 50), "EPSG:4326")
    assert shapely.equals(square, shapely.box(10, 49.9, 10.2, 50))
    assert shapely.get_num_coordinates(square) == 5
    assert shapely.is_ccw(square.exterior)
    curved = compute_footprint((1000, 1000), Affine(300, 0, 300000, 0, -300, 7e6), "EPSG:32633")
    assert shapely.get_num_coordinates(curved) > 20


@pytest.mark.parametrize(
    ("affine", "crs"),
    [
        (Affine(0.1, 0, 175, 0, -0.1, 5), "EPSG:4326"),
        (Affine(1000, 0, 19990000, 0, -1000, 500000), "EPSG:3857"),
    ],
)
def test_footprint_is_cut_at_the_antimeridian(tmp_path: Path, affine: Affine, crs: str) -> None:
    outline = compute_footprint((100, 100), affine, crs)
    assert outline.geom_type == "MultiPolygon"
    west, _, east, _ = outline.bounds
    assert (west, east) == (-180, 180)
    raster = write_raster(tmp_path / "m.tif", np.ones((100, 100), np.uint8), affine, crs)
    item = make_item(tmp_path / "s.json", raster, [], scene="m.tif", provenance=Provenance())
    assert item.bbox[0] > item.bbox[2]


@pytest.mark.parametrize(
    ("crs", "latitude"), [("EPSG:3031", -90.0), ("EPSG:3413", 90.0)], ids=["south", "north"]
)
@pytest.mark.parametrize("angle", [0, 33])
def test_footprint_round_a_pole_is_closed_along_it(crs: str, latitude: float, angle: float) -> None:
    affine = Affine.rotation(angle) @ Affine.translation(-700, 900) @ Affine.scale(10, -10)
    outline = compute_footprint((160, 150), affine, crs)
    assert outline.is_valid
    assert outline.bounds[::2] == pytest.approx((-180, 180))
    assert latitude in (outline.bounds[1], outline.bounds[3])
    to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    rows, cols = np.mgrid[-15:175:10, -15:165:10]
    x, y = affine @ (cols, rows)
    inside = (rows > 0) & (rows < 160) & (cols > 0) & (cols < 150)
    np.testing.assert_array_equal(shapely.intersects_xy(outline, *to_degrees.transform(x, y)), inside)
