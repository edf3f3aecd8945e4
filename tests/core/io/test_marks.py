"""Marks on rasters: known places in a known CRS become known pixels, and bad files are named in one line."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from pyproj import Transformer

from domainsam.errors import InputError, MissingInputError
from domainsam.grid import Grid
from domainsam.io.marks import read_marks
from domainsam.protocols import Click, Window

UTM = "EPSG:32650"
GRID = Grid((60, 80), np.array([[0.0, 2.0, 500_001.0], [-2.0, 0.0, 2_999_999.0], [0, 0, 1]]), UTM)
"""60 rows and 80 columns of 2 m; the upper left corner is at 500 000 E, 3 000 000 N."""
PLAIN = Grid((60, 80), np.array([[0.0, 1.0, 0.5], [1.0, 0.0, 0.5], [0, 0, 1]]), "pixel")


def at(x: float, y: float) -> tuple[float, float]:
    """World position of a point of the pixel frame."""
    return 500_000 + 2 * x, 3_000_000 - 2 * y


def write(path: Path, shapes: list[shapely.Geometry], crs: str | None = UTM, **columns: object) -> Path:
    table = gpd.GeoDataFrame(columns, geometry=shapes, crs=crs)
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")
            table.to_file(path)
    return path


@pytest.mark.parametrize("ending", ["gpkg", "fgb", "parquet"])
def test_points_of_a_vector_file_become_pixels(tmp_path: Path, ending: str) -> None:
    points = [shapely.Point(*at(10.25, 20.5)), shapely.Point(*at(79.5, 0.0))]
    path = write(tmp_path / f"p.{ending}", points, label=["village", None])
    # FlatGeobuf stores features in an order of its own.
    first, second = sorted(read_marks(path, GRID), key=lambda one: one.bounds.col)
    assert first.points == (Click(10.25, 20.5),)
    assert (first.label, second.label) == ("village", None)
    assert first.bounds == Window(20, 10, 1, 1)
    assert second.points == (Click(79.5, 0.0),)


def test_longitude_and_latitude_are_reprojected(tmp_path: Path) -> None:
    to_degrees = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    place = shapely.Point(*to_degrees.transform(*at(30.5, 40.5)))
    for name in ("p.geojson", "p.json"):
        written = write(tmp_path / "p.geojson", [place], "EPSG:4326")
        path = written.rename(tmp_path / name)
        (one,) = read_marks(path, GRID)
        # GeoJSON keeps seven decimals of a degree, a hundredth of a metre.
        assert one.points[0].x == pytest.approx(30.5, abs=0.02)
        assert one.points[0].y == pytest.approx(40.5, abs=0.02)


def test_points_of_one_object_stay_together(tmp_path: Path) -> None:
    shapes = [shapely.Point(*at(x, 9)) for x in (5, 6, 40)]
    path = write(tmp_path / "p.gpkg", shapes, object=[7, 7, 8], positive=[True, False, True])
    first, second = read_marks(path, GRID)
    assert first.points == (Click(5, 9), Click(6, 9, inside=False))
    assert second.points == (Click(40, 9),)
    alone = write(tmp_path / "q.gpkg", shapes, inside=[1, 0, 1])
    with pytest.raises(InputError, match=r"feature 2: only points beside an object"):
        read_marks(alone, GRID)


def test_polygon_is_a_mask_of_pixel_centres_or_a_box(tmp_path: Path) -> None:
    corners = [at(10, 20), at(14.4, 20), at(14.4, 23.6), at(10, 23.6)]
    path = write(tmp_path / "a.gpkg", [shapely.Polygon(corners)], label=["roof"])
    (rough,) = read_marks(path, GRID)
    assert rough.bounds == Window(20, 10, 4, 5)
    expected = np.ones((4, 5), bool)
    expected[:, 4] = False  # Its centre, 14.5, lies outside.
    assert rough.mask is not None
    assert np.array_equal(rough.mask, expected)
    (box,) = read_marks(path, GRID, kind="boxes")
    assert box.box == (10.0, 20.0, 14.4, 23.6)
    assert box.mask is None
    assert box.label == "roof"


def test_polygons_are_cut_at_the_edge_and_tiny_ones_stand_as_boxes(tmp_path: Path) -> None:
    over = shapely.box(*at(-5, 5), *at(3, -4))
    tiny = shapely.box(*at(8.1, 8.4), *at(8.3, 8.2))
    (cut, small) = read_marks(write(tmp_path / "a.gpkg", [over, tiny]), GRID)
    assert cut.bounds == Window(0, 0, 5, 3)
    assert small.mask is None
    assert small.box == pytest.approx((8.1, 8.2, 8.3, 8.4))
    outside = write(tmp_path / "b.gpkg", [shapely.box(*at(-9, 5), *at(-3, 1))])
    with pytest.raises(InputError, match=r"feature 1: lies outside the scene, at x -9 to -3 and y 1 to 5"):
        read_marks(outside, GRID)


def test_mask_and_clicks_of_one_object(tmp_path: Path) -> None:
    shapes = [shapely.box(*at(10, 14), *at(14, 10)), shapely.Point(*at(16.5, 12.5))]
    (one,) = read_marks(write(tmp_path / "a.gpkg", shapes, object=["a", "a"]), GRID)
    assert one.bounds == Window(10, 10, 4, 7)
    assert one.mask is not None
    assert one.mask[:, :4].all()
    assert not one.mask[:, 4:].any()


def test_a_missing_crs_is_said_on_either_side(tmp_path: Path) -> None:
    path = write(tmp_path / "p.gpkg", [shapely.Point(1, 2)], None)
    with pytest.raises(InputError, match="has no CRS, so its place is unknown"):
        read_marks(path, GRID)
    placed = write(tmp_path / "q.gpkg", [shapely.Point(1, 2)])
    with pytest.raises(InputError, match=r"the scene has no CRS; expected pixel"):
        read_marks(placed, PLAIN)
    (one,) = read_marks(path, PLAIN, frame="pixel")
    assert one.points == (Click(1, 2),)


def test_layers_are_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "two.gpkg"
    for name, x in (("old", 1.0), ("new", 2.0)):
        gpd.GeoDataFrame(geometry=[shapely.Point(*at(x, 1))], crs=UTM).to_file(path, layer=name)
    with pytest.raises(InputError, match=r"has 2 layers \(old, new\)"):
        read_marks(path, GRID)
    assert read_marks(path, GRID, layer="new")[0].points == (Click(2, 1),)
    with pytest.raises(InputError, match="no layer 'newer'"):
        read_marks(path, GRID, layer="newer")


def test_tables_of_pixels_and_of_world_positions(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("X;Y;label;positive;object\n10.5;20;roof;yes;1\n12;20;;0;1\n\n30;4;;;\n")
    first, second = read_marks(path, GRID)
    assert first.points == (Click(10.5, 20), Click(12, 20, inside=False))
    assert (first.label, second.points) == ("roof", (Click(30, 4),))
    x, y = at(10.5, 20)
    path.write_text(f"x,y\n{x},{y}\n")
    assert read_marks(path, GRID, frame="world")[0].points == (Click(10.5, 20),)
    path.write_text("left,top,right,bottom,slice\n1,2,3,4,2\n")
    (box,) = read_marks(path, PLAIN, kind="boxes", frames=3)
    assert repr(box.box) == repr((1.0, 2.0, 3.0, 4.0))
    assert box.bounds == Window(2, 1, 2, 2, 2)


def test_json_says_its_frame(tmp_path: Path) -> None:
    corner, other = at(10, 20), at(14, 26)
    content = {
        "frame": "world",
        "objects": [
            {"label": "a", "points": [at(3, 4), at(5, 6)], "positive": [True, False]},
            {"box": [*corner, *other], "text": "the tall one"},
        ],
    }
    path = tmp_path / "p.json"
    path.write_text(json.dumps(content))
    first, second = read_marks(path, GRID)
    assert first.points == (Click(3, 4), Click(5, 6, inside=False))
    assert second.box == pytest.approx((10, 20, 14, 26))
    assert second.text == "the tall one"
    with pytest.raises(InputError, match="'world', but 'pixel' was asked for"):
        read_marks(path, GRID, frame="pixel")
    with pytest.raises(InputError, match="the scene has no CRS; expected pixel"):
        read_marks(path, PLAIN)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.csv", "", "columns are none; expected x, y or left"),
        ("p.csv", "lon,lat\n1,2\n", "columns are lon, lat; expected x, y"),
        ("p.csv", "x,y\n1,north\n", r"line 2: the point is \['1', 'north'\]; expected numbers"),
        ("p.csv", "x,y\n1,nan\n", "line 2: a coordinate is not finite"),
        ("p.csv", "x,y,positive\n1,2,maybe\n", "positive is 'maybe'; expected true or false"),
        ("p.csv", "x,y,slice\n1,2,1.5\n", "slice is '1.5'; expected a whole number"),
        ("p.csv", "x,y\n", "marks nothing"),
        ("p.csv", "x,y,object,label\n1,2,1,a\n1,3,1,b\n", "labels a, b; expected one label"),
        ("p.csv", "left,top,right,bottom\n3,2,3,9\n", "no width or no height"),
        ("p.json", "{", "is no JSON"),
        ("p.json", "[]", "marks nothing"),
        ("p.json", "7", r'holds 7; expected \{"objects"'),
        ("p.json", '{"frame": "pixel"}', "has \\['frame'\\]; expected"),
        ("p.json", '{"objects": 3}', "'objects' is 3, expected a list"),
        ("p.json", "[[1, 2, 3, 4, 5]]", r"entry 1: is \[1, 2, 3, 4, 5\]; expected .* a list of points"),
        (
            "p.json",
            '{"boxes": [[1, 2, 3, 4]], "labels": []}',
            "1 boxes, but labels are .*; expected one each",
        ),
        ("p.json", '{"annotations": [{"bbox": [1, 2]}]}', "annotation 1: has no bbox"),
        (
            "p.json",
            '{"annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}, {"image_id": 2}]}',
            "annotations of 2 images",
        ),
        (
            "p.json",
            '{"frame": "RAS", "objects": []}',
            "frame 'RAS' cannot be used here; expected pixel or wor",
        ),
        ("p.json", '{"objects": [{"lable": "a"}]}', "object 1: unknown key 'lable'; expected label, points"),
        ("p.json", '{"objects": [{"points": [[1, 2], [1, 2, 3]]}]}', "some points have z and some have not"),
        ("p.json", '{"objects": [{"points": [[1, 2, 3]]}]}', "3 coordinates; expected x and y"),
        ("p.json", '{"objects": [{"points": [[1, 2]], "positive": true}]}', "expected one each"),
        ("p.json", '{"objects": [{"label": "a"}]}', "neither points nor a box"),
        ("p.json", '{"objects": [{"box": [1, 2, 3]}]}', "a box has 3 numbers; expected 4"),
        ("p.json", "[[10, 10, 5, 5]]", "object 1: the box is 10, 10, 5, 5, expected left, top, right.*COCO"),
        ("p.gpkg", "hello", "cannot be read as points or polygons"),
        ("p.txt", "1 2", r"no file of marks by its ending; expected \.csv"),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path: Path, name: str, text: str, words: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        read_marks(path, GRID)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


POINT = Click(5, 9)
LATER = Click(40, 9)
LEFT, RIGHT = (1.0, 2.0, 11.0, 22.0), (30.0, 2.0, 40.0, 22.0)


@pytest.mark.parametrize(
    ("content", "points", "boxes"),
    [
        ([[5, 9], [40, 9]], [(POINT,), (LATER,)], [None, None]),
        ([5, 9], [(POINT,)], [None]),
        ([[1, 2, 11, 22], [30, 2, 40, 22]], [(), ()], [LEFT, RIGHT]),
        ([1, 2, 11, 22], [()], [LEFT]),
        ([{"points": [[5, 9]]}, {"box": [1, 2, 11, 22]}], [(POINT,), ()], [None, LEFT]),
        ({"point": [5, 9]}, [(POINT,)], [None]),
        ({"points": [[5, 9], [40, 9]], "labels": [1, 0]}, [(POINT, Click(40, 9, inside=False))], [None]),
        ({"point_coords": [[5, 9]], "point_labels": [1], "box": [1, 2, 11, 22]}, [(POINT,)], [LEFT]),
        ({"boxes": [[1, 2, 11, 22], [30, 2, 40, 22]]}, [(), ()], [LEFT, RIGHT]),
        ({"frame": "pixel", "boxes": [{"box": [1, 2, 11, 22]}]}, [()], [LEFT]),
        ({"annotations": [{"bbox": [1, 2, 10, 20]}]}, [()], [LEFT]),
    ],
)
def test_json_is_read_as_people_and_other_tools_write_it(
    tmp_path: Path, content: object, points: list[tuple[Click, ...]], boxes: list[object]
) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(content))
    found = read_marks(path, PLAIN)
    assert [one.points for one in found] == points
    assert [one.box for one in found] == boxes


def test_names_of_boxes_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"boxes": [[1, 2, 11, 22], [30, 2, 40, 22]], "labels": ["cat", 7]}))
    assert [one.label for one in read_marks(path, PLAIN)] == ["cat", "7"]
    annotations = [{"bbox": [1, 2, 10, 20], "category_id": 3, "image_id": 9}]
    path.write_text(json.dumps({"annotations": annotations, "categories": [{"id": 3, "name": "roof"}]}))
    (one,) = read_marks(path, PLAIN, kind="boxes")
    assert (one.label, one.box) == ("roof", LEFT)


def test_lines_and_absent_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such file"):
        read_marks(tmp_path / "p.gpkg", GRID)
    line = write(tmp_path / "l.gpkg", [shapely.LineString([at(1, 1), at(2, 2)])])
    with pytest.raises(InputError, match="feature 1: is a LineString; expected points or polygons"):
        read_marks(line, GRID)
    point = write(tmp_path / "p.gpkg", [shapely.Point(*at(1, 1))])
    with pytest.raises(InputError, match="feature 1: has no box"):
        read_marks(point, GRID, kind="boxes")
