"""From maps to a sample, its form, the labels of a person, and an estimate that holds the truth."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from scipy import ndimage

from domainsam.infer.workroom import WorkRoom
from domainsam_cli import main
from domainsam_urban.model.settlement import load_model
from domainsam_urban.trend.measure.adjusted import adjust
from domainsam_urban.trend.measure.areas import SAMPLE, Figures, make_bounded_figures
from domainsam_urban.trend.measure.sweep import Thresholds
from domainsam_urban.trend.measure.tallies import Blocks, tally
from domainsam_urban.trend.read.reference import look_up, read_reference
from domainsam_urban.trend.read.years import read_years
from domainsam_urban.trend.read.zones import make_whole
from domainsam_urban.trend.settings import ProductOptions, TrendOptions, UncertaintyOptions
from domainsam_urban.trend.stack import YearStack
from domainsam_urban.trend.trend import compare
from tests.urban.tiny import write_scene
from tests.urban.trend.scenes import place, texture, write_mask

SHAPE = (240, 320)
PIXEL = 2.0
AT = place(pixel=PIXEL)
NODE = shutil.which("node")
SCRIPT = files("domainsam_urban").joinpath("templates", "sample.js")


def blobs(seed: int, share: float) -> np.ndarray:
    """Smooth regions that cover about so much of the ground."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 12)
    return noise > np.quantile(noise, 1 - share)


def make_truth() -> dict[str, np.ndarray]:
    grown = blobs(1, 0.2)
    return {"2016": grown & (blobs(2, 0.7)), "2020": grown}


def make_map(truth: np.ndarray, seed: int) -> np.ndarray:
    """The truth with its outlines moved and a settlement made up."""
    moved = ndimage.binary_dilation(np.roll(truth, 2, axis=1)) & blobs(seed + 10, 0.95)
    return (moved | blobs(seed + 20, 0.02)).astype(np.uint8)


@pytest.fixture(scope="module")
def truth() -> dict[str, np.ndarray]:
    return make_truth()


@pytest.fixture
def maps(tmp_path: Path, truth: dict[str, np.ndarray]) -> list[str]:
    folder = tmp_path / "maps"
    folder.mkdir()
    return [
        f"{year}={write_mask(folder / f'{year}.tif', make_map(mask, index), AT)}"
        for index, (year, mask) in enumerate(truth.items())
    ]


def run(*arguments: Any) -> int:
    return main(["urban", "sample", *map(str, arguments)])


def fill(path: Path, target: Path, truth: dict[str, np.ndarray]) -> Path:
    """What a person who never errs makes of the points."""
    table = geopandas.read_file(path) if path.suffix != ".csv" else pd.read_csv(path)
    if path.suffix == ".csv":
        table = geopandas.GeoDataFrame(
            table, geometry=geopandas.points_from_xy(table.lon, table.lat), crs="EPSG:4326"
        )
    at = table.geometry.to_crs("EPSG:32650")
    col, row = (np.floor(v).astype(int) for v in ~AT @ (at.x.to_numpy(), at.y.to_numpy()))
    inside = (row >= 0) & (row < SHAPE[0]) & (col >= 0) & (col < SHAPE[1])
    row, col = row.clip(0, SHAPE[0] - 1), col.clip(0, SHAPE[1] - 1)
    for year, mask in truth.items():
        table[year] = np.where(inside & mask[row, col], 1, 0)
    frame = pd.DataFrame(table.drop(columns="geometry"))
    if "lon" not in frame:
        frame["lon"], frame["lat"] = table.geometry.x, table.geometry.y
    frame.to_csv(target, index=False)
    return target


def estimate(folder: Path, maps: list[str], reference: Path) -> Figures:
    """What a trend estimates from a filled sample, without its charts and pages."""
    uncertainty = UncertaintyOptions(reference, draws=20)
    options = TrendOptions(folder, masks=True, quiet=True, products=ProductOptions(uncertainty=uncertainty))

    def finish(stack: YearStack, _: WorkRoom) -> Figures:
        whole = [make_whole(stack.ground)]
        tallies = tally(stack, whole, Thresholds.around(stack.threshold, 0.2), Blocks.of(stack.ground, 100))
        figures = make_bounded_figures(stack, tallies, uncertainty, "map", {})
        units = look_up(stack, read_reference(reference, stack.ground, stack.labels, uncertainty))
        return adjust(stack, figures, tallies, units, 0.95, "map").figures

    return compare(read_years(maps, masks=True), options, folder, finish, load_model).products


def test_from_maps_to_an_estimate_that_holds_the_truth(
    tmp_path: Path, maps: list[str], truth: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sample.gpkg"
    assert run(*maps, "-o", out, "--target-error", "10%", "--buffer", "12m", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in told["strata"]} >= {"other", "buffer", "settlement", "gain"}
    table = geopandas.read_file(out)
    assert len(table) == told["points"]
    assert table[["2016", "2020"]].isna().all().all()
    # A stratum's weights are its area; the chance of a pixel is its share of the stratum.
    for row in told["strata"]:
        of_it = table[table.stratum == row["name"]]
        assert of_it.weight.sum() == pytest.approx(row["area_ha"])
        assert of_it.probability.iloc[0] == pytest.approx(PIXEL**2 / 1e4 / row["weight_ha"], rel=0.01)
    filled = fill(out, tmp_path / "filled.csv", truth)
    trend = tmp_path / "trend"
    given = ["urban", "trend", "--masks", *maps, "-o", str(trend), "--reference", str(filled), "-q"]
    assert main(given) == 0
    areas = pd.read_csv(trend / "areas.csv")
    for year, mask in truth.items():
        (row,) = areas[(areas.year == int(year)) & (areas.extent == "common")].to_dict("records")
        true = mask.sum() * PIXEL**2 / 1e4
        assert row["area_ha_low"] <= true <= row["area_ha_high"], (year, true, row)
        # As narrow as was asked for, or nearly: the maps are not as good as was supposed.
        assert (row["area_ha_high"] - row["area_ha_low"]) / 2 < 0.15 * true
    change = pd.read_csv(trend / "changes.csv").iloc[-1]
    assert change.net_ha_low <= (truth["2020"].sum() - truth["2016"].sum()) * 4e-4 <= change.net_ha_high


def test_half_of_the_labels_are_enough_for_an_estimate(
    tmp_path: Path, maps: list[str], truth: dict[str, np.ndarray]
) -> None:
    """Points are mixed, and the strata keep their areas, so the first half is a sample as well."""
    out = tmp_path / "sample.csv"
    assert run(*maps, "-o", out, "--points", 800, "-q") == 0
    table = pd.read_csv(fill(out, tmp_path / "filled.csv", truth))
    table.loc[400:, ["2016", "2020"]] = np.nan
    found = []
    for name, kept in {"all_rows": table, "answered_rows": table[:400]}.items():
        kept.to_csv(tmp_path / f"{name}.csv", index=False)
        found.append(estimate(tmp_path / name, maps, tmp_path / f"{name}.csv"))
    areas = [[figure.area.central for figure in figures.of_years()] for figures in found]
    np.testing.assert_allclose(areas[0], areas[1])
    assert found[0].of_years()[-1].area.holds(truth["2020"].sum() * 4e-4)


def test_a_folder_of_layers_and_one_map(tmp_path: Path, maps: list[str]) -> None:
    layers = tmp_path / "trend" / "layers"
    layers.mkdir(parents=True)
    for given in maps:
        year, path = given.split("=")
        shutil.copy(path, layers / f"{year}.tif")
    assert run(tmp_path / "trend", "-o", tmp_path / "two.geojson", "--points", 400, "-q") == 0
    two = geopandas.read_file(tmp_path / "two.geojson")
    assert {"2016", "2020", "weight", "stratum_ha"} <= set(two.columns)
    assert run(tmp_path / "trend", "-o", tmp_path / "one.csv", "--years", "2020", "--points", 300, "-q") == 0
    one = pd.read_csv(tmp_path / "one.csv")
    assert set(one.stratum) == {"other", "buffer", "settlement"}
    assert "2016" not in one.columns


def test_maps_of_other_grids_are_brought_together(tmp_path: Path, maps: list[str]) -> None:
    coarse = write_mask(
        tmp_path / "coarse.tif", make_map(blobs(1, 0.2), 5)[::2, ::2], AT @ Affine.scale(2, 2)
    )
    assert run(maps[0], f"2020={coarse}", "-o", tmp_path / "s.csv", "--points", 400, "-q") == 0
    table = pd.read_csv(tmp_path / "s.csv")
    areas = table.groupby("stratum").stratum_ha.first().sum()
    assert areas == pytest.approx(SHAPE[0] * SHAPE[1] * 4e-4, rel=0.02)


def test_the_form_holds_pictures_and_nothing_that_names_could_break(tmp_path: Path, maps: list[str]) -> None:
    picture = texture(*SHAPE)
    scenes = [write_scene(tmp_path / f"s_{year}.tif", picture, transform=AT) for year in (2016, 2020)]
    given = [f"--scene={year}={path}" for year, path in zip((2016, 2020), scenes, strict=True)]
    given += ["--points", "60", "--min-per-stratum", "5", "-q"]
    assert run(*maps, "-o", tmp_path / "<b>x&y.csv", *given) == 0
    page = (tmp_path / "<b>x&y.html").read_text(encoding="utf-8")
    assert "<b>x" not in page
    assert "<title>Sample &lt;b&gt;x&amp;y</title>" in page
    assert "://" not in page
    assert "default-src 'none'" in page
    data = json.loads(re.search(r'id="sample"[^>]*>(.*?)</script>', page, re.DOTALL)[1])
    assert data["name"] == "<b>x&y"
    assert len(data["points"]) == len(pd.read_csv(tmp_path / "<b>x&y.csv"))
    detail, context = data["points"][0]["chips"]["2016"]
    assert detail.startswith("data:image/png;base64,iVBOR")
    assert context != detail
    assert data["unit"] == pytest.approx(PIXEL / data["detail_m"], rel=1e-3)


def test_chips_show_the_place(tmp_path: Path, maps: list[str]) -> None:
    """A scene whose colour tells where it is: the chip's middle has the colour of its point."""
    import base64
    import io

    from PIL import Image

    # The scene reaches beyond the map, so that chips of its rim are whole.
    rows, cols = np.mgrid[: SHAPE[0] + 100, : SHAPE[1] + 100]
    picture = np.stack([rows * 255 / len(rows), cols * 255 / cols.shape[1], np.zeros(rows.shape)], axis=-1)
    around = AT @ Affine.translation(-50, -50)
    scene = write_scene(tmp_path / "s.tif", picture.astype(np.uint8), transform=around)
    out = tmp_path / "p.csv"
    assert run(maps[1], "-o", out, "--points", 60, "--min-per-stratum", 10, "--scene", scene, "-q") == 0
    page = out.with_suffix(".html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="sample"[^>]*>(.*?)</script>', page, re.DOTALL)[1])
    shown = []
    for point in data["points"][:40]:
        chip = base64.b64decode(point["chips"]["2020"][0].split(",")[1])
        image = np.asarray(Image.open(io.BytesIO(chip)).convert("RGB")).astype(float)
        assert image.shape == (128, 128, 3)
        # Rows grow southwards: red grows downwards in the chip, green to the right.
        south, north = image[68:84, 56:72, 0].mean(), image[44:60, 56:72, 0].mean()
        east, west = image[56:72, 68:84, 1].mean(), image[56:72, 44:60, 1].mean()
        shown.append(south > north and east > west)
    assert np.mean(shown) > 0.9


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_keys_label_points_and_what_is_saved_is_read(tmp_path: Path, maps: list[str]) -> None:
    scene = write_scene(tmp_path / "s.tif", texture(*SHAPE), transform=AT)
    out = tmp_path / "sample.gpkg"
    given = ["--points", 100, "--min-per-stratum", 10, "--scene", f"2020={scene}", "-q"]
    assert run(*maps, "-o", out, *given) == 0
    page = out.with_suffix(".html").read_text(encoding="utf-8")
    (tmp_path / "form.js").write_text(re.findall(r"<script>(.*?)</script>", page, re.DOTALL)[0])
    data = re.search(r'id="sample"[^>]*>(.*?)</script>', page, re.DOTALL)[1]
    (tmp_path / "data.json").write_text(data)
    program = """
      const fs = require("fs"), form = require("./form.js");
      const sample = JSON.parse(fs.readFileSync("data.json"));
      const labels = form.emptyLabels(sample);
      let state = { point: 0, year: 0 };
      // Even points: 1 then 0; odd points: u then 1; the last two stay open.
      for (let i = 0; i < sample.points.length - 2; i += 1) {
        for (const key of i % 2 ? ["U", "1"] : ["1", "0"]) { state = form.press(sample, labels, state, key); }
      }
      const open = form.nextOpen(labels, 0), done = form.count(labels);
      const back = form.press(sample, labels, { point: 3, year: 1 }, "ArrowLeft");
      const none = form.press(sample, labels, state, "x");
      const kept = form.restore(sample, JSON.stringify(labels));
      const broken = [null, "{", "[]", '{"a":1}'].map((text) => form.count(form.restore(sample, text)));
      fs.writeFileSync("l.csv", form.toCsv(sample, labels));
      fs.writeFileSync("l.geojson", form.toGeoJson(sample, labels));
      const odd = { years: ["2020"], fields: ["id"], points: [{ id: '=1,"a"' }] };
      console.log(JSON.stringify({ open, done, back, none, broken, state,
        same: JSON.stringify(kept) === JSON.stringify(labels), odd: form.toCsv(odd, [["1"]]) }));
    """
    assert NODE is not None
    done = subprocess.run([NODE, "-e", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    number = len(json.loads(data)["points"])
    assert told["open"] == number - 2
    assert told["done"] == number - 2
    assert told["state"] == {"point": number - 2, "year": 0}
    assert told["back"] == {"point": 2, "year": 0}
    assert told["none"] is None
    assert told["broken"] == [0, 0, 0, 0]
    assert told["same"] is True
    assert told["odd"] == 'id,2020,unsure\r\n"\'=1,""a""",1,\r\n'
    rows = list(csv.DictReader((tmp_path / "l.csv").read_text().splitlines()))
    assert [rows[0]["2016"], rows[0]["2020"], rows[1]["2016"], rows[1]["unsure"]] == ["1", "0", "", "2016"]
    for name in ("l.csv", "l.geojson"):
        figures = estimate(tmp_path / f"work_{name}", maps, tmp_path / name)
        assert {figure.method for figure in figures.of_years()} == {SAMPLE}


def test_the_page_has_every_element_that_its_script_asks_for() -> None:
    """By what both say, without a browser; and the script makes no markup of text."""
    script = SCRIPT.read_text(encoding="utf-8")
    template = files("domainsam_urban").joinpath("templates", "sample.html.j2").read_text(encoding="utf-8")
    asked = set(re.findall(r'byId\("(\w+)"\)|getElementById\("(\w+)"\)', script))
    names = {one or other for one, other in asked}
    assert names <= set(re.findall(r'\bid="(\w+)"', template))
    assert names
    assert "innerHTML" not in script
    assert "eval(" not in script


def bad_inputs(folder: Path, maps: list[str]) -> dict[str, tuple[list[Any], str]]:
    empty = folder / "empty"
    empty.mkdir()
    trend = folder / "trend_only"
    trend.mkdir()
    (trend / "areas.csv").write_text("year\n")
    nothing = write_mask(folder / "nothing.tif", np.zeros(SHAPE, np.uint8), AT)
    far = write_mask(folder / "far.tif", make_map(blobs(1, 0.2), 1), place(east=50_000, pixel=2.0))
    undated = write_mask(folder / "undated.tif", make_map(blobs(1, 0.2), 1), AT)
    out = ["-o", folder / "s.gpkg"]
    return {
        "no maps": ([empty, *out], "holds no map"),
        "trend without layers": ([trend, *out], "run domainsam urban trend with --layers"),
        "absent": ([f"2016={folder / 'absent.tif'}", *out], "absent.tif"),
        "no settlement": ([f"2016={nothing}", *out], "no pixel of 2016 is settlement"),
        "no common ground": ([maps[0], f"2020={far}", *out], "do not overlap"),
        "no date": ([undated, *out], "no date in its metadata or name"),
        "impossible": ([*maps, *out, "--target-error", "0.1%"], "needs more than 20000 points"),
        "no share": ([*maps, *out, "--target-error", "5"], "write 5%"),
        "no length": ([*maps, *out, "--buffer", "wide"], "is no length such as 30m"),
        "unknown year": ([*maps, *out, "--years", "2018"], "--years 2018 is none of the maps"),
        "scene of another year": ([*maps, *out, "--scene", f"2018={nothing}"], "none of the maps' years"),
        "change of one": ([maps[0], *out, "--of", "change"], "a change needs two maps"),
        "wrong ending": ([*maps, "-o", folder / "s.shp"], ".gpkg, .geojson, .csv"),
    }


@pytest.mark.parametrize(
    "case",
    [
        *("no maps", "trend without layers", "absent", "no settlement", "no common ground", "no date"),
        *("impossible", "no share", "no length", "unknown year", "scene of another year", "change of one"),
        "wrong ending",
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path: Path, maps: list[str], case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, said = bad_inputs(tmp_path, maps)[case]
    before = {path.name for path in tmp_path.iterdir()}
    assert run(*arguments) in (2, 4)
    *usage, line = capsys.readouterr().err.strip().splitlines()
    assert said in line
    # What an option cannot take click tells, below two lines on the command's use.
    assert not usage or usage[0].startswith("Usage: ")
    assert {path.name for path in tmp_path.iterdir()} == before


def test_an_existing_sample_is_kept(
    tmp_path: Path, maps: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels take days: neither the points nor a form are replaced without being told to."""
    out = tmp_path / "s.csv"
    out.write_text("labels of weeks")
    assert run(*maps, "-o", out, "--points", 400) == 4
    assert "exists" in capsys.readouterr().err
    assert out.read_text() == "labels of weeks"
    assert run(*maps, "-o", out, "--points", 400, "--overwrite", "-q") == 0
    assert out.read_text().startswith("id,lon,lat,stratum,weight")


def test_a_scene_that_cannot_be_read_leaves_nothing(tmp_path: Path, maps: list[str]) -> None:
    scene = tmp_path / "broken.tif"
    scene.write_bytes(b"II*\0 no picture")
    assert run(*maps, "-o", tmp_path / "s.csv", "--scene", f"2016={scene}") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"maps", "broken.tif"}


def test_a_seed_repeats_the_sample(tmp_path: Path, maps: list[str]) -> None:
    for name, seed in {"a": 3, "b": 3, "c": 4}.items():
        assert run(*maps, "-o", tmp_path / f"{name}.csv", "--points", 400, "--seed", seed, "-q") == 0
    first, second, other = ((tmp_path / f"{name}.csv").read_bytes() for name in "abc")
    assert first == second
    assert first != other


def test_rasters_in_a_folder_keep_their_pixels(tmp_path: Path, maps: list[str]) -> None:
    """Every point lies in the middle of a pixel of the ground that the trend compares on."""
    out = tmp_path / "s.csv"
    assert run(tmp_path / "maps", "-o", out, "--points", 400, "-q") == 0
    table = pd.read_csv(out)
    with rasterio.open(tmp_path / "maps" / "2020.tif") as dataset:
        left, bottom, right, top = dataset.bounds
    points = geopandas.GeoSeries(geopandas.points_from_xy(table.lon, table.lat), crs="EPSG:4326").to_crs(
        "EPSG:32650"
    )
    assert points.x.between(left, right).all()
    assert points.y.between(bottom, top).all()
