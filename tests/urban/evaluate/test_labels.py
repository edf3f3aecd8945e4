"""Labels and answers of any kind, grid and CRS beside scenes: what is compared, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine

from domainsam.errors import InputError
from domainsam.io.pairing import find_scenes
from domainsam_urban.evaluate import evaluate
from domainsam_urban.evaluate.evaluate import evaluate_scenes, look_up_answers
from domainsam_urban.evaluate.scores import score_scene
from domainsam_urban.evaluate.summary import EvaluationOptions
from tests.urban.evaluate.test_scores import _metric
from tests.urban.evaluate.two_scenes import SHAPE, polygons_of, probability_of, run, truth_mask
from tests.urban.mask_files import METRE, UTM, write_raster


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


def test_scene_without_labels_is_skipped_and_the_rest_goes_on(folder: Path) -> None:
    (folder / "a_mask.tif").unlink()
    result = run(folder)
    assert [scene.scene.name for scene in result.scenes] == ["b_image"]
    ((name, reason),) = result.skipped
    assert name == "a_image"
    assert "expected a file such as a_mask.tif, a.tif or a.gpkg" in reason


def test_a_label_file_without_features_is_truth_without_settlement(folder: Path) -> None:
    empty = folder / "labels"
    empty.mkdir()
    (empty / "a.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    shutil.copy(folder / "b_mask.tif", empty / "b_mask.tif")
    result = run(folder, empty)
    assert not result.skipped
    rows = {row["scene"]: row for row in result.document()["scenes"]}
    assert rows["a_image"]["true_positive_px"] == rows["a_image"]["false_negative_px"] == 0
    assert rows["a_image"]["false_positive_px"] > 0
    assert rows["b_image"]["true_positive_px"] > 0
    assert "a.geojson: holds no feature, read as no settlement" in result.notes()


def test_scenes_that_labels_of_all_do_not_reach_have_no_settlement(folder: Path) -> None:
    with rasterio.open(folder / "a_image.tif") as dataset:
        here = dataset.transform
    polygons_of(truth_mask(), here).to_file(folder / "city.gpkg")
    result = run(folder, folder / "city.gpkg")
    assert not result.skipped
    rows = {row["scene"]: row for row in result.document()["scenes"]}
    assert rows["a_image"]["true_positive_px"] > 0
    assert rows["b_image"]["true_positive_px"] == 0
    assert "city.gpkg: none of its polygons lies on this scene, read as no settlement" in result.notes()


def test_an_unforeseen_error_of_one_scene_costs_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = score_scene

    def fail(truth: Any, answer: Any, place: Any, *more: Any) -> Any:
        if place.affine == first:
            raise RuntimeError("a fault")
        return score(truth, answer, place, *more)

    with rasterio.open(folder / "a_image.tif") as dataset:
        first = dataset.transform
    monkeypatch.setattr(evaluate, "score_scene", fail)
    result = run(folder)
    assert result.skipped == (("a_image", "unforeseen RuntimeError: a fault"),)
    assert [scene.scene.name for scene in result.scenes] == ["b_image"]


def test_labels_elsewhere_are_refused(folder: Path) -> None:
    far = METRE @ Affine.translation(90_000, 0)
    polygons_of(truth_mask(), far).to_file(folder / "far.gpkg")
    with pytest.raises(InputError, match=r"'far\.gpkg' do not overlap any of 2 scenes"):
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
            look_up_answers(folder / "answers"),
            folder / "answers",
        )


def test_a_missing_crs_is_bridged_where_sizes_agree(folder: Path) -> None:
    write_raster(folder / "a_mask.tif", truth_mask(), Affine.identity(), None, nodata=None)
    result = run(folder)
    assert any("same size is taken for the same place" in note for note in result.notes())
    assert result.scenes[0].value("prediction", _metric("iou")) > 0.6


def test_floats_that_are_no_probabilities_are_refused(folder: Path) -> None:
    write_raster(folder / "answers" / "a_probability.tif", truth_mask().astype(np.float32) * 7, nodata=None)
    reasons = dict(run(folder).skipped)
    assert "holds values 0 to 7: expected probabilities from 0 to 1" in reasons["a_image"]


def test_labels_that_know_nothing_are_refused(folder: Path) -> None:
    write_raster(folder / "a_mask.tif", np.full(SHAPE, 255, np.uint8))
    assert "share no pixel that both know" in dict(run(folder).skipped)["a_image"]


def test_real_masks_against_themselves_score_one(shared_data: Path, tmp_path: Path) -> None:
    tiles = shared_data / "satellite" / "urban_villages" / "val"
    predict = look_up_answers(tiles)
    result = evaluate_scenes(find_scenes([tiles]), tiles, predict, tmp_path, EvaluationOptions(resamples=50))
    table = result.table["prediction"]
    assert table["iou"].value == table["boundary_f"].value == table["half_f1"].value == 1
    assert result.pooled("prediction").found_half[0].tolist() == [3, 0, 0]
    assert result.scenes[0].tolerance_px == 12
