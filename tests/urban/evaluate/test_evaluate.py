from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from click.testing import CliRunner
from rasterio import features
from scipy import ndimage

from domainsam.errors import CheckpointError, InputError, MissingInputError
from domainsam.io.pairing import answer_of, find_scenes, labels_of
from domainsam.metrics.boundary import boundary_counts
from domainsam.metrics.calibration import calibration_counts
from domainsam.metrics.objects import match_any, match_one_to_one
from domainsam.metrics.overlap import Confusion
from domainsam.protocols import Window
from domainsam_urban.commands.evaluate import evaluate
from domainsam_urban.evaluate.evaluate import ABLATION, evaluate_scenes, existing_answers, model_answers
from domainsam_urban.evaluate.pictures import draw_case, worst_windows
from domainsam_urban.evaluate.report import ReportText, render_report
from domainsam_urban.evaluate.scores import ScoringOptions, score_scene
from domainsam_urban.evaluate.summary import Evaluation, EvaluationOptions
from domainsam_urban.read.layers import PolygonLayer, raster_layer, read_polygons
from domainsam_urban.read.place import Place
from domainsam_urban.settings import MapOptions, OutputOptions, ShapeOptions
from tests.core.label_images import detection_counts, label_overlaps
from tests.urban.mask_files import METRE, UTM, write_raster

SHAPE = (150, 180)


def truth_mask(shift: int = 0) -> np.ndarray:
    """Two settlements; the smaller one has a hole."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[20 + shift : 80 + shift, 30:90] = 1
    mask[100:130, 120:165] = 1
    mask[110:115, 135:145] = 0
    return mask


def probability_of(mask: np.ndarray, seed: int = 0) -> np.ndarray:
    """A blurred, noisy 8-bit probability; one corner is nodata."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=mask.shape), 4)
    chance = np.clip(ndimage.gaussian_filter(mask.astype(float), 5) + 1.5 * noise, 0, 1)
    stored = np.round(chance * 254).astype(np.uint8)
    stored[:8, :15] = 255
    return stored


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two scenes, their masks beside them, and predictions in a folder of their own."""
    (tmp_path / "answers").mkdir()
    for number, name in enumerate(("a", "b")):
        affine = METRE @ Affine.translation(number * 500, 0)
        image = np.random.default_rng(number).integers(0, 255, (3, *SHAPE)).astype(np.uint8)
        write_raster(tmp_path / f"{name}_image.tif", image, affine, nodata=None)
        write_raster(tmp_path / f"{name}_mask.tif", truth_mask(), affine, nodata=None)
        answer = probability_of(truth_mask(shift=6 * number), number)
        write_raster(tmp_path / "answers" / f"{name}_probability.tif", answer, affine)
    return tmp_path


def run(folder: Path, labels: Path | None = None, answers: Path | None = None, **options: Any) -> Evaluation:
    work = folder / "work"
    work.mkdir()
    chosen = EvaluationOptions(**{"resamples": 200, "scoring": ScoringOptions(block_m=40), **options})
    predict = existing_answers(answers or folder / "answers")
    return evaluate_scenes(find_scenes([folder]), labels or folder, predict, work, chosen)


def polygons_of(mask: np.ndarray, affine: Affine, crs: str = UTM) -> gpd.GeoDataFrame:
    shapes = [shapely.geometry.shape(s) for s, v in features.shapes(mask, mask > 0, transform=affine) if v]
    return gpd.GeoDataFrame(geometry=shapes, crs=crs)


@pytest.mark.parametrize("block_m", [17.0, 64.0, 1000.0])
def test_blocks_add_up_to_the_whole_scene(folder: Path, block_m: float) -> None:
    place = Place(SHAPE, METRE, UTM)
    options = ScoringOptions(block_m=block_m, tolerance_m=3)
    with (
        raster_layer(folder / "a_mask.tif", place, "mask") as truth,
        raster_layer(folder / "answers" / "a_probability.tif", place) as answer,
    ):
        pooled = score_scene(truth, answer, place, options).pooled()
    stored = probability_of(truth_mask())
    valid = stored != 255
    true, predicted = (truth_mask() == 1) & valid, (stored >= 127) & valid
    assert np.array_equal(pooled.confusion[0], Confusion().add(np.where(valid, true, 255), predicted).matrix)
    side = place.pixel_metres()
    assert np.array_equal(pooled.boundary[0], boundary_counts(true, predicted, 3 / side, valid))
    np.testing.assert_allclose(
        pooled.calibration[0], calibration_counts(stored / np.float32(254), true, valid), atol=1e-3
    )
    table = label_overlaps(*(ndimage.label(mask, np.ones((3, 3)))[0] for mask in (true, predicted)))
    assert pooled.found_any[0].tolist() == detection_counts(table, match_any(table))
    assert pooled.found_half[0].tolist() == detection_counts(table, match_one_to_one(table))


def test_scores_of_two_scenes_are_pooled(folder: Path) -> None:
    result = run(folder)
    table = result.table["prediction"]
    shared, joint = 0, 0
    for number in range(2):
        stored = probability_of(truth_mask(6 * number), number)
        valid, predicted, true = stored != 255, stored >= 127, truth_mask() == 1
        shared += int((predicted & true & valid).sum())
        joint += int(((predicted | true) & valid).sum())
    assert table["iou"].value == pytest.approx(shared / joint)
    assert table["iou"].low < table["iou"].value < table["iou"].high
    assert [scene.scene.name for scene in result.scenes] == ["a_image", "b_image"]
    assert "blocks of 40 m in 2 scenes" in result.units


def test_a_perfect_answer_scores_one(folder: Path) -> None:
    table = run(folder, answers=folder).table["prediction"]
    for key in ("iou", "precision", "recall", "any_f1", "half_f1", "boundary_f"):
        assert table[key].value == table[key].low == table[key].high == 1
    assert np.isnan(table["ece"].value), "a mask states no probabilities"


def test_scenes_are_the_units_when_there_are_enough(folder: Path) -> None:
    assert "2 scenes, drawn whole" in run(folder, units="scenes").units


def test_polygons_in_another_crs_score_like_the_mask(folder: Path) -> None:
    polygons = [polygons_of(truth_mask(), METRE @ Affine.translation(500 * n, 0)) for n in range(2)]
    table = gpd.GeoDataFrame(geometry=np.concatenate([p.geometry.values for p in polygons]), crs=UTM)
    table.to_file(folder / "same.gpkg")
    table.to_crs(4326).to_parquet(folder / "degrees.parquet")
    mask = run(folder).document()["scores"]
    for name in ("same.gpkg", "degrees.parquet"):
        (folder / "work").rename(folder / f"before_{name}")
        result = run(folder, labels=folder / name).document()["scores"]
        assert result["prediction"]["iou"]["value"] == pytest.approx(
            mask["prediction"]["iou"]["value"], abs=2e-3
        )
        assert result["prediction"]["half_f1"] == mask["prediction"]["half_f1"]


@pytest.mark.parametrize("affine", [METRE, METRE @ Affine.rotation(25), Affine(2, 0.3, 4e5, 0.5, -1.5, 44e5)])
def test_burning_polygons_does_not_depend_on_windows(affine: Affine) -> None:
    place = Place(SHAPE, affine, UTM)
    layer = PolygonLayer(polygons_of(truth_mask(), affine).geometry, place, "labels")
    whole = layer.labels(Window(0, 0, *SHAPE))
    assert np.array_equal(whole, truth_mask())
    for window in (
        Window(0, 0, 70, 50),
        Window(61, 33, 60, 101),
        Window(149, 179, 1, 1),
        Window(0, 170, 5, 10),
    ):
        assert np.array_equal(layer.labels(window), whole[window.slices])


def test_a_label_raster_on_another_grid_is_warped_and_said_so(folder: Path) -> None:
    coarse = truth_mask()[::2, ::2]
    write_raster(folder / "a_mask.tif", coarse, METRE @ Affine.scale(2), nodata=None)
    result = run(folder)
    assert any("a_mask.tif: on another grid" in note for note in result.notes())
    scene = result.scenes[0]
    assert scene.place.shape == SHAPE
    # The decimated mask keeps every other pixel, so its edges move by a pixel at most.
    true_pixels = scene.counts["prediction"].pooled().confusion[0, 1].sum()
    assert true_pixels == pytest.approx(truth_mask().sum(), rel=0.04)


def test_ground_outside_a_smaller_label_raster_is_left_out(folder: Path) -> None:
    write_raster(folder / "a_mask.tif", truth_mask()[:90], nodata=None)
    matrix = run(folder).scenes[0].counts["prediction"].pooled().confusion[0]
    assert matrix.sum() == 90 * SHAPE[1] - 8 * 15


def test_nodata_in_labels_is_left_out_unless_it_is_the_background(folder: Path) -> None:
    labels = truth_mask()
    labels[:, 100:] = 9
    write_raster(folder / "a_mask.tif", labels, nodata=9)
    write_raster(folder / "b_mask.tif", truth_mask(), METRE @ Affine.translation(500, 0), nodata=0)
    result = run(folder)
    pixels = [scene.counts["prediction"].confusion.sum() for scene in result.scenes]
    assert pixels == [SHAPE[0] * 100 - 8 * 15, SHAPE[0] * SHAPE[1] - 8 * 15]
    assert any("nodata value 0 is read as 'no settlement'" in note for note in result.notes())


def test_predicted_polygons_are_burnt_and_state_no_probability(folder: Path) -> None:
    for number, name in enumerate("ab"):
        affine = METRE @ Affine.translation(500 * number, 0)
        polygons_of(truth_mask(), affine).to_file(folder / "answers" / f"{name}_image.geojson")
        (folder / "answers" / f"{name}_probability.tif").unlink()
    table = run(folder).table["prediction"]
    assert table["iou"].value > 0.99
    assert np.isnan(table["brier"].value)


def test_a_prediction_on_a_coarser_grid_is_compared_there(folder: Path) -> None:
    answer = probability_of(truth_mask())[::3, ::3]
    write_raster(folder / "answers" / "a_probability.tif", answer, METRE @ Affine.scale(3))
    scene = run(folder).scenes[0]
    assert scene.place.shape == (50, 60)
    assert scene.value("prediction", _metric("iou")) > 0.6


def test_small_predictions_take_no_part_in_object_scores(folder: Path) -> None:
    speckled = truth_mask()
    speckled[2:140:9, 100] = 1
    stored = np.where(speckled == 1, 254, 0).astype(np.uint8)
    write_raster(folder / "answers" / "a_probability.tif", stored)
    noisy = run(folder).scenes[0]
    (folder / "work").rename(folder / "before")
    quiet = run(folder, scoring=ScoringOptions(min_area_m2=50, block_m=40)).scenes[0]
    assert noisy.value("prediction", _metric("half_precision")) < 0.3
    assert quiet.value("prediction", _metric("half_precision")) == 1
    assert quiet.value("prediction", _metric("iou")) == noisy.value("prediction", _metric("iou"))


def test_a_scene_without_settlement_counts_only_false_alarms(folder: Path) -> None:
    write_raster(folder / "a_mask.tif", np.zeros(SHAPE, np.uint8), nodata=None)
    result = run(folder)
    scene = result.scenes[0]
    assert scene.value("prediction", _metric("iou")) == 0
    assert np.isnan(scene.value("prediction", _metric("any_recall")))
    assert result.document()["scenes"][0]["any_recall"] is None


def _metric(key: str) -> Any:
    from domainsam_urban.evaluate.scores import METRICS

    return next(metric for metric in METRICS if metric.key == key)


# Bad input: one clear line each.


def test_scene_without_labels_is_skipped_and_the_rest_goes_on(folder: Path) -> None:
    (folder / "a_mask.tif").unlink()
    result = run(folder)
    assert [scene.scene.name for scene in result.scenes] == ["b_image"]
    ((name, reason),) = result.skipped
    assert name == "a_image"
    assert "expected a file such as a_mask.tif, a.tif or a.gpkg" in reason


def test_labels_elsewhere_are_refused(folder: Path) -> None:
    far = METRE @ Affine.translation(90_000, 0)
    polygons_of(truth_mask(), far).to_file(folder / "far.gpkg")
    with pytest.raises(InputError, match=r"'far\.gpkg' do not overlap the scene"):
        run(folder, labels=folder / "far.gpkg")
    (folder / "work").rename(folder / "before")
    for name in "ab":
        write_raster(folder / f"{name}_mask.tif", truth_mask(), far)
    with pytest.raises(InputError, match=r"none of 2 scene\(s\).*'a_mask.tif' does not overlap the scene"):
        run(folder)


def test_predictions_elsewhere_or_of_another_size_are_refused(folder: Path) -> None:
    answer = probability_of(truth_mask())
    write_raster(folder / "answers" / "a_probability.tif", answer, METRE @ Affine.translation(9000, 0))
    write_raster(folder / "answers" / "b_probability.tif", answer[:-1], Affine.identity(), None)
    with pytest.raises(InputError, match=r"'a_probability\.tif' does not overlap"):
        run(folder)
    with pytest.raises(InputError, match=r"is 180 x 149 pixels, the scene 180 x 150, and a CRS is missing"):
        evaluate_scenes(
            find_scenes([folder / "b_image.tif"]),
            folder,
            existing_answers(folder / "answers"),
            folder / "answers",
        )


def test_a_missing_crs_is_bridged_where_sizes_agree(folder: Path) -> None:
    write_raster(folder / "a_mask.tif", truth_mask(), Affine.identity(), None, nodata=None)
    result = run(folder)
    assert any("same size is taken for the same place" in note for note in result.notes())
    assert result.scenes[0].value("prediction", _metric("iou")) > 0.6


def test_empty_and_invalid_geometries_are_mended_and_counted(tmp_path: Path) -> None:
    bow_tie = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    square, point = shapely.box(20, 0, 30, 10), shapely.Point(1, 1)
    table = gpd.GeoDataFrame(geometry=[bow_tie, square, shapely.Polygon(), None, point], crs=UTM)
    table.to_parquet(tmp_path / "labels.parquet")
    polygons, notes = read_polygons(tmp_path / "labels.parquet")
    assert polygons.is_valid.all()
    assert polygons.area.sum() == pytest.approx(150)
    assert [note.split(":")[1].strip() for note in notes] == [
        "empty, left out",
        "invalid, mended",
        "no area, left out",
    ]
    assert notes[0].startswith("2 of 5 geometries")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            gpd.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs=UTM),
            "1 geometries and no polygon with an area",
        ),
        (gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)]), "have no CRS"),
    ],
)
def test_useless_polygons_are_refused(tmp_path: Path, table: Any, message: str) -> None:
    table.to_parquet(tmp_path / "labels.parquet")
    with pytest.raises(InputError, match=message):
        read_polygons(tmp_path / "labels.parquet")


def test_files_that_are_not_there_or_no_polygons_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gpkg").write_text("not a package")
    with pytest.raises(InputError, match="cannot be read as polygons"):
        read_polygons(tmp_path / "x.gpkg")
    with pytest.raises(MissingInputError, match="does not exist"):
        read_polygons(tmp_path / "y.gpkg")
    with pytest.raises(MissingInputError, match="holds no scene"):
        find_scenes([tmp_path])
    with pytest.raises(MissingInputError, match="does not exist"):
        find_scenes([tmp_path / "no.tif"])


def test_floats_that_are_no_probabilities_are_refused(folder: Path) -> None:
    write_raster(folder / "answers" / "a_probability.tif", truth_mask().astype(np.float32) * 7, nodata=None)
    reasons = dict(run(folder).skipped)
    assert "holds values 0 to 7: expected probabilities from 0 to 1" in reasons["a_image"]


def test_labels_that_know_nothing_are_refused(folder: Path) -> None:
    write_raster(folder / "a_mask.tif", np.full(SHAPE, 255, np.uint8))
    assert "share no pixel that both know" in dict(run(folder).skipped)["a_image"]


# Finding files.


def test_pairing_knows_the_usual_names(tmp_path: Path) -> None:
    for name in ("x_image.tif", "x_mask.tif", "y.tif", "y.gpkg"):
        (tmp_path / name).touch()
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "y.tif").touch()
    x, y = find_scenes([tmp_path, tmp_path / "y.tif"])
    assert (x.name, y.name) == ("x_image", "y")
    assert labels_of(x, tmp_path).name == "x_mask.tif"
    assert labels_of(y, tmp_path).name == "y.gpkg", "a scene is not its own label"
    assert labels_of(y, tmp_path / "labels") == tmp_path / "labels" / "y.tif"
    assert answer_of(x, tmp_path / "y.gpkg").name == "y.gpkg"
    with pytest.raises(InputError, match=r"no prediction for scene 'x_image\.tif'"):
        answer_of(x, tmp_path / "labels")


def test_scenes_of_one_stem_keep_their_folders_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "s.tif").touch()
    names = [scene.name for scene in find_scenes([tmp_path / "one", tmp_path / "two"])]
    assert names == ["one/s", "two/s"]


def test_pixel_metres_are_true_ground_metres() -> None:
    mercator = Place((10, 10), Affine(1, 0, 12_970_000, 0, -1, 4_886_000), "EPSG:3857")
    assert mercator.pixel_metres() == pytest.approx(np.cos(np.radians(40.13)), rel=3e-3)
    degrees = Place((10, 10), Affine(1e-5, 0, 116, 0, -1e-5, 40), "EPSG:4326")
    assert degrees.pixel_metres() == pytest.approx(np.sqrt(1.1104 * 0.8538), rel=1e-3)
    assert Place((10, 10), METRE, UTM).pixel_metres() == pytest.approx(1, abs=1e-3)
    assert Place((10, 10), Affine.identity(), None).pixel_metres() == 1


# Pictures and the report.


def test_worst_windows_lie_where_the_errors_are(folder: Path) -> None:
    wide = np.zeros((200, 3000), np.uint8)
    wrong = wide.copy()
    wrong[50:150, 2500:2600] = 1
    wrong[50:100, 40:80] = 1
    write_raster(folder / "a_image.tif", wide, nodata=None)
    write_raster(folder / "a_mask.tif", wide, nodata=None)
    write_raster(folder / "answers" / "a_probability.tif", wrong)
    result = run(folder)
    first, *others = [w for s, w in worst_windows(result, "prediction", 5) if s.scene.name == "a_image"]
    assert first.col <= 2500
    assert first.col + first.width >= 2600
    assert [other.col for other in others] == [0]
    case = draw_case(result.scenes[0], "prediction", first, 0.5)
    assert case.iou == 0
    assert case.false_ha == pytest.approx(1, rel=1e-3)
    assert case.missed_ha == 0


def test_report_is_one_page_that_asks_for_nothing(folder: Path) -> None:
    for kind in ("image", "mask"):
        (folder / f"a_{kind}.tif").rename(folder / f"<i>a&_{kind}.tif")
    (folder / "answers" / "a_probability.tif").rename(folder / "answers" / "<i>a&_probability.tif")
    result = run(folder)
    page = render_report(result, ReportText("m.safetensors", "labels.gpkg", "domainsam <b>"))
    assert f"{result.table['prediction']['iou'].value:.3f}" in page
    assert page.count("data:image/jpeg;base64,") == 4
    assert page.count("data:image/svg+xml;base64,") == 2
    assert set(re.findall(r'(?:src|href)="(.{5})', page)) == {"data:"}
    assert "<script" not in page
    assert "http:" not in page
    assert "https:" not in page
    assert "<i>a" not in page
    assert "&lt;i&gt;a&amp;_image" in page
    assert page == render_report(result, ReportText("m.safetensors", "labels.gpkg", "domainsam <b>"))


def test_report_of_nothing_true_and_nothing_found(folder: Path) -> None:
    empty = np.zeros(SHAPE, np.uint8)
    for number, name in enumerate("ab"):
        affine = METRE @ Affine.translation(500 * number, 0)
        write_raster(folder / f"{name}_mask.tif", empty, affine, nodata=None)
        write_raster(folder / "answers" / f"{name}_probability.tif", empty, affine)
    page = render_report(run(folder), ReportText("m", "l", "c"))
    assert "The labels hold no settlement here" in page
    assert "Not one compared pixel is wrong" in page


def test_report_reads_two_byte_scenes_of_one_band(folder: Path) -> None:
    image = np.random.default_rng(0).normal(4000, 500, SHAPE).astype(np.uint16)
    write_raster(folder / "a_image.tif", image, nodata=None)
    assert "data:image/jpeg" in render_report(run(folder), ReportText("m", "l", "c"))


# The command, and the model's variants.


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(evaluate, [str(argument) for argument in arguments])


def test_command_prints_a_table_and_writes_its_files(folder: Path) -> None:
    files = (folder / "out.csv", folder / "out.html")
    arguments = (folder, "--labels", folder, "--predictions", folder / "answers", "--block", 40)
    result = call(*arguments, "--csv", files[0], "--report", files[1])
    assert result.exit_code == 0, result.output
    assert re.search(r"IoU +0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", result.stdout)
    assert "[95% intervals; resampled: " in result.stdout
    rows = list(csv.DictReader(files[0].read_text().splitlines()))
    assert [row["scene"] for row in rows] == ["a_image", "b_image"]
    assert files[1].read_text().startswith("<!doctype html>")
    again = call(*arguments, "--csv", files[0])
    assert again.exit_code != 0
    assert "--overwrite" in str(again.exception)
    document = json.loads(call(*arguments, "--json").stdout)
    assert document["scores"]["prediction"]["iou"]["low"] < float(rows[0]["iou"])
    assert call(*arguments, "--quiet").output == ""


def test_command_ends_with_one_when_a_scene_was_skipped(folder: Path) -> None:
    (folder / "a_mask.tif").unlink()
    result = call(folder, "--labels", folder, "--predictions", folder / "answers")
    assert result.exit_code == 1
    assert "domainsam: skipped a_image: no labels for scene" in result.stderr


def test_command_refuses_a_model_beside_predictions(folder: Path) -> None:
    result = call(folder, "--labels", folder, "--predictions", folder, "--ablation")
    assert result.exit_code == 2
    assert "leave out --ablation" in result.output


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    """Stand-ins for the modules that load torch: what is tested is how they are called."""
    pipeline, model = ModuleType("domainsam_urban.map"), ModuleType("domainsam_urban.model.settlement")
    model.load_model = lambda options: options.model  # type: ignore[attr-defined]
    model.shape_settings = lambda path, given: ShapeOptions(given["threshold"] or 0.5)  # type: ignore[attr-defined]
    for module in (pipeline, model):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return pipeline, model


def test_model_runs_once_for_every_variant(folder: Path, networks: tuple[ModuleType, ModuleType]) -> None:
    seen: list[tuple[str, frozenset[str], Any, float]] = []
    kept: list[Path] = []

    def map_scenes(inputs: tuple[str, ...], options: MapOptions, model: Any, first_pass: Path) -> Any:
        kept.append(first_pass)
        seen.append((options.run.method, options.run.disabled, model, options.shape.threshold))
        mask = truth_mask(shift=0 if options.run.method == "full" else 9)
        affine = METRE @ Affine.translation(0 if "a_image" in inputs[0] else 500, 0)
        assert options.outputs.probability is not None
        write_raster(options.outputs.probability, mask * np.uint8(254), affine)
        return SimpleNamespace(failures=())

    networks[0].map_scenes = map_scenes  # type: ignore[attr-defined]
    arguments = ("--model", "m.safetensors", "--threshold", 0.4, "--block", 40)
    result = call(folder, "--labels", folder, "--ablation", "--json", *arguments)
    assert result.exit_code == 0, result.output
    # Pass one of a scene is shared by its variants, and by nothing else.
    assert [kept.count(path) for path in dict.fromkeys(kept)] == [len(ABLATION)] * 2
    assert seen == 2 * [(v.method, v.disabled, Path("m.safetensors"), 0.4) for v in ABLATION]
    document = json.loads(result.stdout)
    assert list(document["scores"]) == [variant.name for variant in ABLATION]
    assert document["iou_lead"]["coarse"]["low"] > 0
    assert document["iou_lead"]["no box"]["value"] == 0

    printed = call(folder, "--labels", folder, "--ablation", "--report", folder / "r.html", *arguments)
    assert re.search(r"^no box +1\.000 \[1\.000, 1\.000\]", printed.stdout, re.MULTILINE)
    assert re.search(r"^Lead in IoU +\+0\.", printed.stdout, re.MULTILINE)
    page = (folder / "r.html").read_text()
    assert "What each part of the prompt is worth" in page
    assert "no SegFormer embedding" in page


def test_a_scene_that_cannot_be_mapped_is_skipped_but_a_model_that_cannot_be_used_stops(
    folder: Path, networks: tuple[ModuleType, ModuleType]
) -> None:
    pipeline, model = networks
    pipeline.map_scenes = lambda *given: SimpleNamespace(failures=(("a", "scene is empty"),))  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="scene is empty"):
        model_answers(MapOptions(OutputOptions(vectors=())))(folder / "a_image.tif", folder)

    def refuse(options: MapOptions) -> None:
        raise CheckpointError("model 'm' is a pickle")

    model.load_model = refuse  # type: ignore[attr-defined]
    result = call(folder, "--labels", folder)
    assert isinstance(result.exception, CheckpointError)


def test_real_masks_against_themselves_score_one(shared_data: Path, tmp_path: Path) -> None:
    tiles = shared_data / "satellite" / "urban_villages" / "val"
    predict = existing_answers(tiles)
    result = evaluate_scenes(find_scenes([tiles]), tiles, predict, tmp_path, EvaluationOptions(resamples=50))
    table = result.table["prediction"]
    assert table["iou"].value == table["boundary_f"].value == table["half_f1"].value == 1
    assert result.pooled("prediction").found_half[0].tolist() == [3, 0, 0]
    assert result.scenes[0].tolerance_px == 12
