"""Years from their files to one stack: what is compared, in steps that are done once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import rasterio
from affine import Affine

from domainsam.checkpoint import CheckpointHeader, save
from domainsam.errors import InputError, OutputError
from domainsam.infer.workroom import WorkRoom
from domainsam_urban.commands.trend import gather, trend
from domainsam_urban.model.settlement import SettlementModel
from domainsam_urban.settings import MapOptions
from domainsam_urban.trend import trend as pipeline
from domainsam_urban.trend.read.years import read_years
from domainsam_urban.trend.settings import GroundOptions, SmoothingOptions
from domainsam_urban.trend.stack import Registration, YearStack
from domainsam_urban.trend.trend import compare
from domainsam_urban.trend.write.products import list_product_files
from tests.urban.tiny import write_scene
from tests.urban.trend.scenes import (
    RUN,
    options,
    place,
    square,
    texture,
    write_mask,
    write_masks,
    write_years,
)


class Kept:
    """Takes the stack in place of the products, with the values of all its layers."""

    def __call__(self, stack: YearStack, room: WorkRoom) -> None:
        self.stack = stack
        self.layers = {year.label: read(year.probability) for year in stack.years}
        self.smoothed = {year.label: read(year.smoothed) for year in stack.years if year.smoothed}
        self.valid = read(stack.common_valid)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def run(
    tmp_path: Path, inputs: Sequence[str | Path], model: SettlementModel | None = None, **changes: Any
) -> Kept:
    kept = Kept()
    chosen = options(tmp_path / "out", masks=model is None, **changes)
    years = read_years([str(item) for item in inputs], chosen.masks)
    compare(years, chosen, tmp_path / "work", kept, lambda _: cast("SettlementModel", model))
    assert not (tmp_path / "work").exists()
    return kept


def test_masks_keep_their_area(tmp_path: Path) -> None:
    kept = run(tmp_path, write_masks(tmp_path))
    assert kept.stack.labels == ("2016", "2018", "2020")
    ground = kept.stack.ground
    assert ground.pixel_m == pytest.approx(2.0, rel=1e-3)
    for label, side in zip(kept.stack.labels, (20, 26, 32), strict=True):
        values = kept.layers[label]
        soft = values[values != 255].astype(float).sum() / 254 * ground.pixel_ha
        assert soft == pytest.approx((side * 2) ** 2 / 1e4, rel=0.01)
    assert set(np.unique(kept.valid)) <= {0, 1}
    assert kept.valid.sum() == np.logical_and.reduce([v != 255 for v in kept.layers.values()]).sum()


def test_scenes_are_predicted(tmp_path: Path, model: SettlementModel) -> None:
    kept = run(tmp_path, write_years(tmp_path), model)
    for values in kept.layers.values():
        known = values[values != 255]
        assert known.size > 0.9 * 128 * 160
        assert known.min() < 127 < known.max()
    first, last = kept.stack.years[0], kept.stack.years[-1]
    assert last.registration is None
    assert first.registration is not None
    assert first.scene == str(tmp_path / "city_2016.tif")


def test_coarsest_pixel_and_common_area(tmp_path: Path) -> None:
    fine = write_mask(tmp_path / "m2016.tif", square(40, (160, 200)), place(pixel=1.0))
    coarse = write_mask(tmp_path / "m2018.tif", square(10, (40, 50), (5, 5)), place(60, -40, pixel=4.0))
    kept = run(tmp_path, [fine, coarse])
    assert kept.stack.ground.pixel_m == pytest.approx(4.0, rel=1e-3)
    # 200 x 160 m against one moved by 60 and 40 m: 140 x 120 m are shared.
    assert kept.valid.sum() * kept.stack.ground.pixel_ha == pytest.approx(1.68, rel=0.06)
    own = kept.layers["2016"]
    assert (own != 255).sum() > kept.valid.sum()


def test_the_ground_may_be_chosen(tmp_path: Path) -> None:
    ground = GroundOptions("EPSG:3857", 5.0, None)
    kept = run(tmp_path, write_masks(tmp_path), ground=ground)
    assert kept.stack.ground.crs.to_epsg() == 3857
    assert any("not equal-area" in warning for warning in kept.stack.warnings)
    values = kept.layers["2020"]
    hectares = values[values != 255].astype(float).sum() / 254 * kept.stack.ground.pixel_ha
    assert hectares == pytest.approx(64 * 64 / 1e4, rel=0.02)


def test_the_extent_may_be_chosen(tmp_path: Path) -> None:
    left, top = place().c, place().f
    ground = GroundOptions("EPSG:32650", 2.0, (left + 20, top - 100, left + 120, top - 40))
    kept = run(tmp_path, write_masks(tmp_path), ground=ground)
    assert kept.stack.ground.shape == (30, 50)
    assert kept.stack.ground.bounds == pytest.approx((left + 20, top - 100, left + 120, top - 40))


def test_polygons_beside_rasters(tmp_path: Path) -> None:
    import geopandas as gpd
    import shapely

    left, top = place().c, place().f
    box = shapely.box(left + 60, top - 104, left + 124, top - 40)
    gpd.GeoDataFrame(geometry=[box], crs="EPSG:32650").to_file(tmp_path / "m2020.gpkg")
    raster, *_ = write_masks(tmp_path)
    kept = run(tmp_path, [raster, f"2020={tmp_path / 'm2020.gpkg'}"])
    values = kept.layers["2020"]
    assert (values == 254).sum() * kept.stack.ground.pixel_ha == pytest.approx(0.4096, rel=0.03)
    assert any("all of the ground counts as seen" in warning for warning in kept.stack.warnings)


def test_smoothing_stands_beside_the_years(tmp_path: Path) -> None:
    sides = {2016: 20, 2017: 1, 2018: 20}
    kept = run(tmp_path, write_masks(tmp_path, sides), smoothing=SmoothingOptions())
    assert kept.stack.has_smoothed
    blinking = (kept.layers["2016"] > 200) & (kept.layers["2017"] < 50)
    assert (kept.smoothed["2017"][blinking] > 127).mean() > 0.9
    assert (kept.layers["2017"][blinking] < 50).all()


@pytest.mark.parametrize("align", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_year_that_lies_off(tmp_path: Path, model: SettlementModel, align: bool) -> None:
    """The picture is cut 2 pixels lower and 3 further right: its content lies off by -2.7 m and +1.8 m."""
    whole = texture(300, 340)
    first = write_scene(tmp_path / "city_2016.tif", whole[22:278, 33:329], transform=place())
    second = write_scene(tmp_path / "city_2018.tif", whole[20:276, 30:326], transform=place())
    kept = run(tmp_path, [first, second], model, align=align)
    found = kept.stack.years[0].registration
    assert found is not None
    assert found.corrected == align
    assert (found.east_m, found.north_m) == pytest.approx((-2.7, 1.8), abs=0.1)
    assert found.spread_m < 0.3
    word = "was moved back" if align else "--align corrects it"
    assert any(word in warning for warning in kept.stack.warnings)


def test_finished_years_outlive_a_bad_one(
    tmp_path: Path, model: SettlementModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second scene is damaged in its middle; once it is mended the first is not predicted again."""
    tiles = {"compress": "deflate", "tiled": True, "blockxsize": 64, "blockysize": 64}
    paths = write_years(tmp_path, (2016, 2018), **tiles)
    # A look at the places would find the damage before anything is predicted.
    monkeypatch.setattr("domainsam_urban.trend.comparison.place.measure", lambda *_: Registration())
    whole = paths[1].read_bytes()
    damaged = bytearray(whole)
    damaged[-9000:-3000] = bytes(6000)
    paths[1].write_bytes(damaged)
    chosen = options(tmp_path / "out")
    kept, work = Kept(), tmp_path / "work"
    inputs = [str(path) for path in paths]
    years = read_years(inputs)
    with pytest.raises(InputError, match="damaged"):
        compare(years, chosen, work, kept, lambda _: model)
    done = {path.name: path.stat().st_mtime_ns for path in (work / "ground").iterdir()}
    assert len(done) == 1
    paths[1].write_bytes(whole)
    fresh = run_kept(tmp_path / "again", inputs, model)
    again = options(tmp_path / "out", resume=True)
    seen: dict[str, int] = {}

    def finish(stack: YearStack, room: WorkRoom) -> None:
        seen.update({path.name: path.stat().st_mtime_ns for path in (work / "ground").iterdir()})
        kept(stack, room)

    assert compare(years, again, work, finish, lambda _: model).resumed
    assert done.items() <= seen.items()
    for label, values in fresh.layers.items():
        np.testing.assert_array_equal(kept.layers[label], values)


def run_kept(folder: Path, inputs: Sequence[str], model: SettlementModel) -> Kept:
    kept = Kept()
    compare(read_years(inputs), options(folder / "out"), folder / "work", kept, lambda _: model)
    return kept


def test_another_run_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = read_years(write_masks(tmp_path), masks=True)

    def interrupt(stack: YearStack, room: WorkRoom) -> None:
        raise KeyboardInterrupt

    chosen = options(tmp_path / "out", masks=True)
    with pytest.raises(KeyboardInterrupt):
        compare(masks, chosen, tmp_path / "work", interrupt, None)  # type: ignore[arg-type]
    assert (tmp_path / "work").is_dir()
    other = options(tmp_path / "out", masks=True, resume=True, threshold=0.4)
    with pytest.raises(InputError, match=r"cannot resume .*threshold was"):
        compare(masks, other, tmp_path / "work", interrupt, None)  # type: ignore[arg-type]


def test_no_pixel_in_all_years(tmp_path: Path) -> None:
    left, right = np.zeros((80, 100), np.uint8), np.zeros((80, 100), np.uint8)
    left[:, 50:], right[:, :50] = 255, 255
    pair = [
        write_mask(tmp_path / "m2016.tif", left, nodata=255),
        write_mask(tmp_path / "m2018.tif", right, nodata=255),
    ]
    with pytest.raises(InputError, match="no pixel has data in all years"):
        compare(
            read_years([str(p) for p in pair], masks=True),
            options(tmp_path / "o", masks=True),
            tmp_path / "work",
            Kept(),
            cast("Callable[[MapOptions], SettlementModel]", None),
        )


def test_existing_products_are_refused_before_any_work(tmp_path: Path) -> None:
    chosen = options(tmp_path)
    existing = list_product_files(tmp_path)[0]
    existing.write_text("mine")
    with pytest.raises(OutputError, match="--overwrite"):
        pipeline.run_trend(["2016=a.tif", "2018=b.tif"], chosen)
    with pytest.raises(OutputError, match="is a file"):
        pipeline.run_trend(["2016=a.tif", "2018=b.tif"], options(existing))
    assert existing.read_text() == "mine"


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_scenes_in_several_crs(tmp_path: Path) -> None:
    """The same square, once in UTM and once in degrees."""
    from rasterio.warp import Resampling, calculate_default_transform, reproject

    mask = square(40, (120, 120))
    one = write_mask(tmp_path / "m2016.tif", mask)
    with rasterio.open(one) as dataset:
        affine, width, height = calculate_default_transform(
            dataset.crs, "EPSG:4326", 120, 120, *dataset.bounds
        )
        turned = np.full((height, width), 255, np.uint8)
        reproject(mask, turned, src_transform=dataset.transform, src_crs=dataset.crs, dst_transform=affine,
                  dst_crs="EPSG:4326", resampling=Resampling.nearest, dst_nodata=255)  # fmt: skip
    other = write_mask(tmp_path / "m2018.tif", turned, Affine(*affine[:6]), "EPSG:4326", nodata=255)
    kept = run(tmp_path, [one, other])
    areas = [(v[v != 255] >= 127).sum() * kept.stack.ground.pixel_ha for v in kept.layers.values()]
    assert areas[0] == pytest.approx(0.64, rel=0.03)
    assert areas[1] == pytest.approx(areas[0], rel=0.04)


@pytest.mark.slow
def test_a_run_anew_takes_nothing_from_an_interrupted_one(tmp_path: Path, model: SettlementModel) -> None:
    """The first run stops with another method's predictions in the work room."""
    years = read_years([str(path) for path in write_years(tmp_path)])

    def interrupt(stack: YearStack, room: WorkRoom) -> None:
        raise KeyboardInterrupt

    coarse = options(tmp_path / "out", run=replace(RUN, method="coarse"))
    with pytest.raises(KeyboardInterrupt):
        compare(years, coarse, tmp_path / "work", interrupt, lambda _: model)
    assert (tmp_path / "work").is_dir()
    anew, fresh = Kept(), Kept()
    compare(years, options(tmp_path / "out"), tmp_path / "work", anew, lambda _: model)
    compare(years, options(tmp_path / "out"), tmp_path / "elsewhere", fresh, lambda _: model)
    for label, values in fresh.layers.items():
        np.testing.assert_array_equal(anew.layers[label], values)


@pytest.mark.slow
def test_layers_may_be_kept_and_compared_again(tmp_path: Path) -> None:
    chosen = options(tmp_path / "out", masks=True, layers=True)
    first = pipeline.run_trend(write_masks(tmp_path), chosen)
    layers = [path for path in first.products.files if path.parent.name == "layers"]
    assert [path.name for path in layers] == ["2016.tif", "2018.tif", "2020.tif"]
    again = run(tmp_path, [str(path) for path in layers])
    for path in layers:
        values = again.layers[path.stem]
        np.testing.assert_array_equal(values, read(path))


def test_the_threshold_is_the_models_unless_told(tmp_path: Path) -> None:
    header = CheckpointHeader("urban", "fake", "", ("a", "b"), {"shape": {"threshold": 0.3}})
    save(tmp_path / "m.safetensors", {}, header)

    def threshold(*words: str) -> float:
        arguments = ["a.tif", "-o", str(tmp_path / "out"), "--model", str(tmp_path / "m.safetensors"), *words]
        return gather(trend.make_context("trend", arguments).params).threshold

    assert threshold() == 0.3
    assert threshold("--threshold", "0.7") == 0.7
    assert threshold("--masks") == 0.5
