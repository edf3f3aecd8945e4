"""Scores of scenes: blocks, pooling, units, small objects, empty scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from domainsam.metrics.boundary import count_boundary
from domainsam.metrics.calibration import count_calibration
from domainsam.metrics.objects import match_any, match_one_to_one
from domainsam.metrics.overlap import Confusion
from domainsam_urban.evaluate.scores import ScoringOptions, score_scene
from domainsam_urban.read.layers import open_raster_layer
from domainsam_urban.read.place import Place
from tests.core.label_images import detection_counts, label_overlaps
from tests.urban.evaluate.two_scenes import SHAPE, probability_of, run, truth_mask
from tests.urban.mask_files import METRE, UTM, write_raster


@pytest.mark.parametrize("block_m", [17.0, 64.0, 1000.0])
def test_blocks_add_up_to_the_whole_scene(folder: Path, block_m: float) -> None:
    place = Place(SHAPE, METRE, UTM)
    options = ScoringOptions(block_m=block_m, tolerance_m=3)
    with (
        open_raster_layer(folder / "a_mask.tif", place, "mask") as truth,
        open_raster_layer(folder / "answers" / "a_probability.tif", place) as answer,
    ):
        pooled = score_scene(truth, answer, place, options).pooled()
    stored = probability_of(truth_mask())
    valid = stored != 255
    true, predicted = (truth_mask() == 1) & valid, (stored >= 127) & valid
    assert np.array_equal(pooled.confusion[0], Confusion().add(np.where(valid, true, 255), predicted).matrix)
    side = place.pixel_metres()
    assert np.array_equal(pooled.boundary[0], count_boundary(true, predicted, 3 / side, valid))
    np.testing.assert_allclose(
        pooled.calibration[0], count_calibration(stored / np.float32(254), true, valid), atol=1e-3
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
        assert table[key].value == table[key].high == 1
        # Four objects in two scenes: of four found, Wilson's interval begins at 4 / (4 + 1.96²).
        assert table[key].low == pytest.approx(4 / (4 + 1.96**2), abs=1e-4)
    assert np.isnan(table["ece"].value), "a mask states no probabilities"


def test_scenes_are_the_units_when_there_are_enough(folder: Path) -> None:
    assert "2 scenes, drawn whole" in run(folder, units="scenes").units


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
