"""Bounds from the map alone, and figures adjusted by reference data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from domainsam.errors import InputError, MissingInputError
from domainsam_urban.trend.generated import Errors, make_series, simulate_map
from domainsam_urban.trend.measure.adjusted import Adjustment, Rates, adjust
from domainsam_urban.trend.measure.areas import (
    NET_ONLY,
    POOLED,
    SAMPLE,
    compute_annual_rate,
    count_years,
    make_bounded_figures,
)
from domainsam_urban.trend.measure.bounds import Bounds, Estimate, subtract_estimates
from domainsam_urban.trend.measure.olofsson import assess, compute_z_value
from domainsam_urban.trend.measure.sweep import Thresholds
from domainsam_urban.trend.measure.tallies import Blocks, tally
from domainsam_urban.trend.read.reference import Reference, look_up, read_reference
from domainsam_urban.trend.read.zones import Zoning, make_whole
from domainsam_urban.trend.settings import UncertaintyOptions
from domainsam_urban.trend.stack import YearStack
from tests.urban.trend.stacks import LEVEL, from_masks, laea_ground, year_stack

OPTIONS = UncertaintyOptions(draws=400)
LABELS = ("2016", "2018")


def box_mask(rows: int, columns: int) -> np.ndarray:
    mask = np.zeros((100, 100), bool)
    mask[10 : 10 + rows, 10 : 10 + columns] = True
    return mask


def bounds_of(stack: YearStack, draws: int = 400) -> Bounds:
    (counted,) = tally(
        stack, [make_whole(stack.ground)], Thresholds.around(LEVEL, 0.2), Blocks.of(stack.ground, 40)
    )
    return Bounds.of(counted, 0, draws, 0.95, 0)


def test_a_sure_map_is_in_doubt_by_a_pixel_along_its_outline(tmp_path: Path) -> None:
    bounds = bounds_of(from_masks(tmp_path, {2016: box_mask(40, 40), 2018: box_mask(60, 40)}))
    pixel = 4e-4
    area = bounds.area(0)
    assert (area.low, area.central, area.high) == pytest.approx((38**2 * pixel, 40**2 * pixel, 42**2 * pixel))
    assert bounds.net(0, 1).central == pytest.approx(20 * 40 * pixel)
    gain = bounds.gain(0)
    assert gain.central == pytest.approx(20 * 40 * pixel)
    assert gain.low < gain.central < gain.high
    assert bounds.loss(0).central == 0


def test_instability_is_added_as_an_independent_error(tmp_path: Path) -> None:
    stack = from_masks(tmp_path, {2016: box_mask(40, 40), 2018: box_mask(40, 40)})
    (counted,) = tally(
        stack, [make_whole(stack.ground)], Thresholds.around(LEVEL, 0.2), Blocks.of(stack.ground, 40)
    )
    plain = Bounds.of(counted, 0, 400, 0.95, 0)
    shaky = Bounds.of(counted, 0, 400, 0.95, 0, instability=0.1)
    one, other = plain.area(0), shaky.area(0)
    assert other.central == one.central == pytest.approx(0.64)
    assert one.central - other.low == pytest.approx(np.hypot(one.central - one.low, 0.064))
    assert other.high - one.central == pytest.approx(np.hypot(one.high - one.central, 0.064))
    # Two years that differ by nothing: each of them may be off.
    width = np.hypot(one.central - other.low, other.high - one.central)
    net = shaky.net(0, 1)
    assert (net.low, net.central, net.high) == pytest.approx((-width, 0, width))
    assert net.high > plain.net(0, 1).high


def test_no_area_is_larger_than_what_was_seen(tmp_path: Path) -> None:
    everywhere = np.ones((100, 100), bool)
    stack = from_masks(tmp_path, {2016: everywhere, 2018: everywhere})
    (counted,) = tally(
        stack, [make_whole(stack.ground)], Thresholds.around(LEVEL, 0.2), Blocks.of(stack.ground, 40)
    )
    area = Bounds.of(counted, 0, 400, 0.95, 0, instability=0.2).area(0)
    assert area.high == area.central == pytest.approx(4.0)
    assert area.low == pytest.approx(4.0 * 0.8, rel=0.01)


def test_draws_of_a_calibrated_map_have_its_mean(tmp_path: Path) -> None:
    """An even grey of probability p stands for p of the ground, block by block."""
    grey = np.full((100, 100), round(0.3 * 254))
    bounds = bounds_of(year_stack(tmp_path, {2016: grey, 2018: grey}), draws=4000)
    assert bounds.draws[:, 0].mean() == pytest.approx(0.3 * 4.0, rel=0.05)
    # 25 blocks that are all or nothing: the spread of a binomial.
    assert bounds.draws[:, 0].std() == pytest.approx(4.0 * np.sqrt(0.3 * 0.7 / 25), rel=0.1)


def test_draws_repeat_with_their_seed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stack = year_stack(tmp_path, {year: rng.integers(0, 255, (100, 100)) for year in (2016, 2018)})
    one, other = bounds_of(stack), bounds_of(stack)
    np.testing.assert_array_equal(one.draws, other.draws)


def test_rates_and_differences() -> None:
    early, late = Estimate(8, 10, 12), Estimate(18, 20, 22)
    net = subtract_estimates(late, early)
    assert (net.low, net.central, net.high) == pytest.approx((10 - 8**0.5, 10, 10 + 8**0.5))
    rate = compute_annual_rate(early, net, 10)
    assert rate.central == pytest.approx(2**0.1 - 1)
    assert not compute_annual_rate(Estimate(0, 0, 1), net, 10).known
    assert not compute_annual_rate(early, net, count_years(None, None)).known


@pytest.mark.parametrize("years", [0.5, 2.0, 10.0])
@pytest.mark.parametrize("net", [(-30, -9, -1), (-12, -4, 3), (-10, -10, -2), (0, 5, 9), (1, 1, 1)])
def test_a_yearly_change_is_a_share_of_what_was_there(years: float, net: tuple[float, float, float]) -> None:
    """Never below -100 %, of the sign of the net change, and significant only where that is."""
    rate = compute_annual_rate(Estimate(8, 10, 12), Estimate(*net), years)
    assert -1 <= rate.low <= rate.central <= rate.high
    assert np.sign(rate.central) == np.sign(net[1])
    assert rate.holds(0) == (net[0] <= 0 <= net[2])
    # So much, year after year, leaves what the net change leaves.
    assert 10 * (1 + rate.central) ** years == pytest.approx(max(10 + net[1], 0))


def test_wilson_intervals() -> None:
    """Wilson's interval of 0 in 20 and 10 in 20, as statistics packages give them."""
    rates = Rates.of([0.0, 0.5], [20, 20], 0.95)
    np.testing.assert_allclose(rates.low, [0.0, 0.29930], atol=1e-4)
    np.testing.assert_allclose(rates.high, [0.16113, 0.70070], atol=1e-4)


def random_points(stack: YearStack, truth: np.ndarray, number: int, seed: int = 0) -> Reference:
    rng = np.random.default_rng(seed)
    row, col = rng.integers(0, stack.ground.height, number), rng.integers(0, stack.ground.width, number)
    x, y = stack.ground.affine @ (col + 0.5, row + 0.5)
    return Reference(shapely.points(x, y), truth[:, row, col].T.astype(np.int8), np.ones(number))


def adjusted(stack: YearStack, reference: Reference, *zonings: Zoning) -> Adjustment:
    zonings = (make_whole(stack.ground), *zonings)
    tallies = tally(stack, zonings, Thresholds.around(LEVEL, 0.2), Blocks.of(stack.ground, None))
    figures = make_bounded_figures(stack, tallies, OPTIONS, "map", {})
    return adjust(stack, figures, tallies, look_up(stack, reference), 0.95, "map")


def sampled_too_far_out(folder: Path, seed: int, *zonings: Zoning) -> tuple[Adjustment, dict[str, float]]:
    """Figures of a map whose outlines lie 4 pixels too far out, mended by 900 points, and the true areas."""
    series = make_series(3, 3, 3, seed)
    seen = simulate_map(series, Errors(bias=4.0), seed)
    stack = year_stack(folder, dict(zip((2016, 2018, 2020), seen, strict=True)))
    true = series.masks.sum(axis=(1, 2)) * stack.ground.pixel_ha
    result = adjusted(stack, random_points(stack, series.masks, 900, seed), *zonings)
    return result, dict(zip(stack.labels, true.tolist(), strict=True))


def test_a_sample_puts_right_what_the_map_has_wrong(tmp_path: Path) -> None:
    west = Zoning("zones", ("west",), np.array([shapely.box(-1e4, -1e4, 0, 1e4)], dtype=object))
    result, _ = sampled_too_far_out(tmp_path, 4, west)
    for figure, accuracy in zip(result.figures.of_years(), result.accuracies, strict=True):
        assert figure.method == SAMPLE
        assert accuracy.mapped_ha > figure.area.high
        # Olofsson's own interval is much the same where the sample holds errors of both kinds.
        half = compute_z_value(0.95) * accuracy.standard_error_ha
        assert (figure.area.high - figure.area.low) / 2 == pytest.approx(half, rel=0.25)
    assert {figure.method for figure in result.figures.of_years("zones")} == {POOLED}
    assert {change.method for change in result.figures.of_changes()} <= {SAMPLE, NET_ONLY}


@pytest.mark.slow
def test_intervals_of_many_samples_hold_the_truth_as_often_as_they_say(tmp_path: Path) -> None:
    """One interval in twenty may miss; of twenty series more than nine in ten have to hold."""
    areas, changes, off = [], [], []
    for seed in range(20):
        result, true = sampled_too_far_out(tmp_path / str(seed), seed)
        for figure, accuracy in zip(result.figures.of_years(), result.accuracies, strict=True):
            areas.append(figure.area.holds(true[figure.year]))
            off.append((figure.area.central - true[figure.year]) / accuracy.standard_error_ha)
        changes += [f.net.holds(true[f.late] - true[f.early]) for f in result.figures.of_changes()]
    assert np.mean(areas) > 0.9
    assert np.mean(changes) > 0.9
    # Without bias the mean of 60 errors, three of a series alike, lies within a few standard errors of 0.
    assert abs(np.mean(off)) < 3 / np.sqrt(20)


def test_the_estimate_is_olofssons(tmp_path: Path) -> None:
    series = make_series(2, 2, 2, seed=1)
    stack = year_stack(tmp_path, dict(zip((2016, 2018), simulate_map(series, Errors(bias=2.0)), strict=True)))
    reference = random_points(stack, series.masks, 400)
    result = adjusted(stack, reference)
    units = look_up(stack, reference)
    mapped = units.size[:, 0].argmax(axis=1)
    counts = np.zeros((2, 2))
    np.add.at(counts, (mapped, reference.truth[:, 0]), 1)
    own = result.accuracies[0]
    theirs = assess(counts, [own.total_ha - own.mapped_ha, own.mapped_ha])
    assert result.figures.of_years()[0].area.central == pytest.approx(theirs.proportion[1] * own.total_ha)
    assert own.standard_error_ha == pytest.approx(theirs.proportion_error[1] * own.total_ha)


def drawn_by_change(stack: YearStack, masks: np.ndarray, truth: np.ndarray, seed: int) -> Reference:
    """Sixty places in each of the map's four strata of change."""
    rng = np.random.default_rng(seed)
    change = 2 * masks[0].astype(int) + masks[1]
    places = [rng.choice(np.argwhere(change == stratum), 60, replace=False) for stratum in range(4)]
    row, col = np.concatenate(places).T
    x, y = stack.ground.affine @ (col + 0.5, row + 0.5)
    return Reference(shapely.points(x, y), truth[:, row, col].T.astype(np.int8), np.ones(len(row)))


def change_maps() -> tuple[np.ndarray, np.ndarray]:
    """A map of two years that changes in small parts, and a truth that lies four pixels beside it."""
    masks = np.zeros((2, 200, 200), bool)
    masks[:, 20:80, 20:120] = True
    masks[1, 80:95, 20:120] = True
    masks[0, 120:140, 40:90] = True
    return masks, np.roll(masks, 4, axis=2)


def test_a_sample_drawn_by_strata_of_change_is_weighed_by_them(tmp_path: Path) -> None:
    masks, truth = change_maps()
    stack = from_masks(tmp_path, {2016: masks[0], 2018: masks[1]})
    held, centres = [], []
    for seed in range(25):
        result = adjusted(stack, drawn_by_change(stack, masks, truth, seed))
        assert len(result.notes) == 1
        assert "strata of change from 2016 to 2018" in result.notes[0]
        areas = [figure.area for figure in result.figures.of_years()]
        true = truth.sum(axis=(1, 2)) * stack.ground.pixel_ha
        held += [area.holds(one) for area, one in zip(areas, true, strict=True)]
        centres.append([area.central / one for area, one in zip(areas, true, strict=True)])
    assert np.mean(held) > 0.9
    assert np.mean(centres, axis=0) == pytest.approx([1, 1], abs=0.05)


def test_weights_that_the_file_says_are_kept(tmp_path: Path) -> None:
    masks, truth = change_maps()
    stack = from_masks(tmp_path, {2016: masks[0], 2018: masks[1]})
    plain = drawn_by_change(stack, masks, truth, 0)
    weight = np.bincount((2 * masks[0].astype(int) + masks[1]).ravel(), minlength=4) / 60
    given = replace(plain, weight=np.repeat(weight / weight.mean(), 60), weighted=True)
    one, other = adjusted(stack, plain), adjusted(stack, given)
    assert not other.notes
    for mine, theirs in zip(one.figures.years, other.figures.years, strict=True):
        assert mine.area.central == pytest.approx(theirs.area.central)


@pytest.mark.slow
def test_an_even_sample_stays_unweighed_and_strata_of_other_kinds_are_refused(tmp_path: Path) -> None:
    masks, truth = change_maps()
    stack = from_masks(tmp_path, {2016: masks[0], 2018: masks[1]})
    for seed in range(10):
        assert not adjusted(stack, random_points(stack, truth, 600, seed)).notes
    even = random_points(stack, truth, 600)
    strange = replace(even, stratum=np.array(["north", "south"] * 300))
    result = adjusted(stack, strange)
    assert not result.accuracies
    assert "add a column weight" in result.notes[0]
    assert all(figure.method != SAMPLE for figure in result.figures.years)


@pytest.mark.parametrize("form", ["long", "wide"])
def test_a_reference_that_contradicts_itself_is_refused_with_a_count(tmp_path: Path, form: str) -> None:
    places = {"lon": [0.0, 0.0, 0.0001], "lat": [0.0, 0.0, 0.0]}
    if form == "long":
        table = pd.DataFrame({**places, "year": [2016, 2016, 2016], "class": [1, 0, 1]})
    else:
        table = pd.DataFrame({**places, "2016": [1, 0, 1], "2018": [1, 1, None]})
    table.to_csv(tmp_path / "r.csv", index=False)
    with pytest.raises(InputError, match=r"contradicts itself: 1 rows .*\(2016\)"):
        read_reference(tmp_path / "r.csv", laea_ground(100, 100), LABELS, OPTIONS)


def test_weights_undo_an_uneven_sample(tmp_path: Path) -> None:
    """Nine in ten places taken from a quarter of the ground, weighed by what they stand for."""
    truth = np.zeros((2, 100, 100), bool)
    truth[:, :, :25] = True
    truth[:, :30, 25:] = True
    stack = from_masks(tmp_path, {2016: np.eye(100) > 0, 2018: np.eye(100) > 0})
    rng = np.random.default_rng(0)
    col = np.r_[rng.integers(0, 25, 900), rng.integers(25, 100, 100)]
    row = rng.integers(0, 100, 1000)
    x, y = stack.ground.affine @ (col + 0.5, row + 0.5)
    weight = np.r_[np.full(900, 25 / 900), np.full(100, 75 / 100)]
    reference = Reference(shapely.points(x, y), truth[:, row, col].T.astype(np.int8), weight)
    area = adjusted(stack, reference).figures.of_years()[0].area
    assert area.holds(truth[0].sum() * stack.ground.pixel_ha)
    even = Reference(reference.shapes, reference.truth, np.ones(1000))
    assert not adjusted(stack, even).figures.of_years()[0].area.holds(truth[0].sum() * stack.ground.pixel_ha)


def test_too_small_a_sample_is_said_and_left_alone(tmp_path: Path) -> None:
    stack = from_masks(tmp_path, {2016: box_mask(40, 40), 2018: box_mask(40, 40)})
    reference = Reference(shapely.points([0.0], [0.0]), np.array([[1, 0]], np.int8), np.ones(1))
    result = adjusted(stack, reference)
    assert not result.accuracies
    assert len(result.notes) == 2
    assert "too few" in result.notes[0]
    assert all(figure.method != SAMPLE for figure in result.figures.years)


def test_polygons_count_pixels_but_are_one_unit(tmp_path: Path) -> None:
    stack = from_masks(tmp_path, {2016: box_mask(40, 40), 2018: box_mask(40, 40)})
    inside = shapely.box(-70, 50, -50, 70)
    across = shapely.box(-90, 50, -70, 70)
    reference = Reference(np.array([inside, across], dtype=object), np.ones((2, 2), np.int8), np.ones(2))
    sizes = look_up(stack, reference).size[:, 0]
    np.testing.assert_allclose(sizes, [[0, 100], [50, 50]])


def test_reference_files_of_every_form_say_the_same(tmp_path: Path) -> None:
    ground = laea_ground(100, 100)
    points = shapely.points([[0.0, 0.0], [20.0, 20.0], [40.0, -20.0]])
    truth = [[1, 0], [0, 1], [1, -1]]
    wide = {"2016": [1, 0, 1], "class_2018": ["other", "settlement", None]}
    tables = {"wide": gpd.GeoDataFrame(wide, geometry=points, crs=ground.wkt).to_crs(4326)}
    rows = [(point, label, value) for point, values in zip(points, truth, strict=True)
            for label, value in zip(LABELS, values, strict=True) if value >= 0]  # fmt: skip
    long = {"year": [int(row[1]) for row in rows], "truth": ["yes" if row[2] else "no" for row in rows]}
    tables["long"] = gpd.GeoDataFrame(long, geometry=[row[0] for row in rows], crs=ground.wkt)
    for name, table in tables.items():
        table.to_file(tmp_path / f"{name}.gpkg")
    degrees = tables["wide"].geometry
    pd.DataFrame({"lon": degrees.x, "lat": degrees.y, "2016": [1, 0, 1], "2018": [0, 1, None]}).to_csv(
        tmp_path / "wide.csv", index=False
    )
    for name in ("wide.gpkg", "long.gpkg", "wide.csv"):
        reference = read_reference(tmp_path / name, ground, LABELS, OPTIONS)
        np.testing.assert_array_equal(reference.truth, truth)
        np.testing.assert_allclose(
            shapely.get_coordinates(reference.shapes), shapely.get_coordinates(points), atol=1e-3
        )


def test_reference_that_says_nothing_is_refused(tmp_path: Path) -> None:
    ground = laea_ground(100, 100)
    points = shapely.points([[0.0, 0.0], [20.0, 20.0]])

    def written(**columns: list[object]) -> Path:
        path = tmp_path / "reference.gpkg"
        gpd.GeoDataFrame(columns, geometry=points, crs=ground.wkt).to_file(path)
        return path

    with pytest.raises(InputError, match="neither year nor truth"):
        read_reference(written(height=[1, 2]), ground, LABELS, OPTIONS)
    with pytest.raises(InputError, match="neither settlement nor other"):
        read_reference(written(year=[2016, 2018], truth=["maybe", "1"]), ground, LABELS, OPTIONS)
    with pytest.raises(InputError, match="of no place"):
        read_reference(written(year=[1999, 1999], truth=[1, 0]), ground, LABELS, OPTIONS)
    with pytest.raises(InputError, match="weight has to be"):
        read_reference(written(year=[2016, 2018], truth=[1, 0], weight=[1, -1]), ground, LABELS, OPTIONS)
    with pytest.raises(MissingInputError):
        read_reference(tmp_path / "none.gpkg", ground, LABELS, OPTIONS)
