"""One table and one STAC collection about many scenes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow.dataset
import pystac
import pytest
import shapely
from pyarrow import parquet

from domainsam.errors import InputError
from domainsam_urban.job import ScenePlan
from domainsam_urban.write.collection import name_cells, write_collection


def make_scene(folder: Path, name: str, crs: str, corner: tuple[float, float], when: str | None) -> ScenePlan:
    """A scene with nine squares of 10 m, written in the order of rows, and its item."""
    x, y = corner
    squares = [
        shapely.box(x + 100 * i, y + 100 * j, x + 100 * i + 10, y + 100 * j + 10)
        for j in range(3)
        for i in range(3)
    ]
    path, item = folder / f"{name}.gpkg", folder / f"{name}.stac.json"
    moment = [when] * 9
    table = gpd.GeoDataFrame({"id": range(1, 10), "datetime": moment}, geometry=squares, crs=crs)
    table.to_file(path, layer="settlements", driver="GPKG")
    west, south, east, north = table.to_crs("EPSG:4326").total_bounds
    properties = {
        "datetime": when,
        "start_datetime": "1900-01-01T00:00:00Z",
        "end_datetime": "2021-06-01T00:00:00Z",
    }
    document = {"type": "Feature", "bbox": [west, south, east, north], "properties": properties}
    item.write_text(json.dumps(document))
    return ScenePlan(f"{name}.tif", (path,), stac=item)


@pytest.fixture
def plans(tmp_path: Path) -> list[ScenePlan]:
    (tmp_path / "out").mkdir()
    return [
        make_scene(tmp_path / "out", "east", "EPSG:32650", (450_000, 4_430_000), "2021-05-30T00:00:00Z"),
        make_scene(tmp_path / "out", "next", "EPSG:32650", (452_000, 4_430_000), None),
        make_scene(tmp_path / "out", "south", "EPSG:32723", (450_000, 8_000_000), "2019-01-01T00:00:00Z"),
    ]


def test_the_table_is_partitioned_in_order_and_whole(tmp_path: Path, plans: list[ScenePlan]) -> None:
    folder = tmp_path / "all"
    paths = write_collection(plans, folder)
    assert sorted(path.parent.name for path in paths["table"].rglob("*.parquet")) == [
        "cell=E116_N40",
        "cell=W046_S19",
    ]
    read = pyarrow.dataset.dataset(paths["table"], partitioning="hive").to_table()
    assert read.num_rows == 27
    part = paths["table"] / "cell=E116_N40" / "part-0.parquet"
    rows = gpd.read_parquet(part)
    assert rows.crs.to_epsg() == 4326
    assert rows.groupby("scene").size().to_dict() == {"east": 9, "next": 9}
    order = rows.geometry.hilbert_distance(total_bounds=(-180, -90, 180, 90)).to_numpy()
    assert (np.diff(order.astype(np.int64)) >= 0).all()
    geo = json.loads(parquet.read_schema(part).metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    box = rows.iloc[[4]].total_bounds
    assert len(gpd.read_parquet(part, bbox=tuple(box))) == 1


def test_the_collection_holds_the_items(tmp_path: Path, plans: list[ScenePlan]) -> None:
    paths = write_collection(plans, tmp_path / "all")
    collection = pystac.Collection.from_file(str(paths["collection"]))
    (box,) = collection.extent.spatial.bboxes
    assert box[:2] == pytest.approx([-45.47254, -18.08814], abs=1e-4)
    assert box[2:] == pytest.approx([116.43998, 40.02075], abs=1e-4)
    (interval,) = collection.extent.temporal.to_dict()["interval"]
    assert interval == ["1900-01-01T00:00:00Z", "2021-06-01T00:00:00Z"]
    document = json.loads(paths["collection"].read_text())
    assert [link["href"] for link in document["links"]] == [
        "../out/east.stac.json",
        "../out/next.stac.json",
        "../out/south.stac.json",
    ]


def test_it_is_made_anew_with_the_same_bytes(tmp_path: Path, plans: list[ScenePlan]) -> None:
    def read() -> dict[str, bytes]:
        paths = write_collection(plans, tmp_path / "all")
        assert not list((tmp_path / "all").glob(".*"))
        return {str(path): path.read_bytes() for path in paths["table"].rglob("*.parquet")}

    assert read() == read()
    # A scene that is not complete is not in it.
    plans[2].vectors[0].unlink()
    write_collection(plans, tmp_path / "all")
    assert [path.name for path in (tmp_path / "all" / "settlements").iterdir()] == ["cell=E116_N40"]


def test_polygons_without_a_place_are_refused(tmp_path: Path) -> None:
    plan = make_scene(tmp_path, "a", "EPSG:32650", (450_000, 4_430_000), None)
    path = plan.vectors[0]
    path.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        table = gpd.GeoDataFrame({"id": [1]}, geometry=[shapely.box(0, 0, 1, 1)])
        table.to_file(path, layer="settlements", driver="GPKG")
    with pytest.raises(InputError, match=r"a\.gpkg: has no CRS"):
        write_collection([ScenePlan("a.tif", (path,), grid=None, stac=None)], tmp_path / "all")


def test_cells_are_called_by_their_corner() -> None:
    boxes = np.array([[116.2, 39.9, 116.4, 40.3], [-0.2, -0.2, -0.1, -0.1], [179.9, 89.9, 180.3, 90.3]])
    assert list(name_cells(boxes)) == ["cell=E116_N40", "cell=W001_S01", "cell=E179_N89"]
