"""Scores, protocols of missing sensors, and the report."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from domainsam.errors import ConfigError, InputError
from domainsam_scene.evaluate.evaluate import EvaluateOptions, count_confusion, evaluate_layout, match_labels
from domainsam_scene.evaluate.missing import PROTOCOLS, Variant, apply_variant, plan_variants
from domainsam_scene.evaluate.summary import compute_mean_iou
from domainsam_scene.generated.scenes import CLASSES, SENSORS
from domainsam_scene.read.modalities import Sample
from tests.scene.tiny import tiny_scene_model


def sample(name: str = "a") -> Sample:
    rng = np.random.default_rng(0)
    images = {sensor: rng.random((3, 6, 7)).astype(np.float32) for sensor in SENSORS}
    return Sample(name, images, {sensor: np.ones((6, 7), bool) for sensor in SENSORS})


def test_four_sensors_have_fifteen_subsets() -> None:
    found = plan_variants(SENSORS, PROTOCOLS)
    subsets = [variant.sensors for variant in found if variant.kind in ("all", "subsets")]
    assert len(subsets) == len(set(subsets)) == 15
    assert found[0].sensors == SENSORS
    assert [variant.kind for variant in found].count("drops") == 3
    assert plan_variants(("rgb",), ("subsets", "drops")) == (Variant("all sensors", "all", ("rgb",)),)
    with pytest.raises(ConfigError, match="127 subsets"):
        plan_variants(tuple("abcdefg"), ("subsets",))


def test_drops_leave_one_sensor_and_follow_their_rate() -> None:
    for rate in (0.25, 0.75):
        variant = Variant("drops", "drops", SENSORS, rate)
        counts = [len(apply_variant(variant, sample(str(index)))[0]) for index in range(300)]
        assert min(counts) >= 1
        # One always stays, so the mean lies a little above 4 (1 - rate).
        lonely = rate**4
        assert np.mean(counts) == pytest.approx(4 * (1 - rate) + lonely, abs=0.25)


def test_chance_is_fixed_by_name_and_seed() -> None:
    variant = Variant("noise", "noise", SENSORS, 0.2)
    first, second = (apply_variant(variant, sample())[0]["rgb"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, apply_variant(variant, sample("b"))[0]["rgb"])
    assert not np.array_equal(first, apply_variant(variant, sample(), seed=1)[0]["rgb"])
    assert 0 <= first.min() <= first.max() <= 1


def test_mean_iou_as_published_and_as_it_should_be() -> None:
    matrix = np.zeros((1, 4, 4))
    matrix[0, 0, 0], matrix[0, 1, 1], matrix[0, 1, 0] = 6, 2, 2
    # Class 0: 6 of 8, class 1: 2 of 4, classes 2 and 3 do not occur.
    assert compute_mean_iou(matrix, None)[0] == pytest.approx((0.75 + 0.5) / 2)
    assert compute_mean_iou(matrix, 0.0)[0] == pytest.approx((0.75 + 0.5) / 4)
    matrix[0, 0, 3] = 1
    # Once class 3 is predicted it counts 0 either way.
    assert compute_mean_iou(matrix, None)[0] == pytest.approx((6 / 9 + 0.5 + 0) / 3)
    assert np.isnan(compute_mean_iou(np.zeros((1, 2, 2)), None)[0])


def test_mean_iou_agrees_with_sets_of_pixels() -> None:
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 5, (2, 40, 40)).astype(np.uint8)
    guess[guess == 3] = 0
    truth[:5] = 255
    kept = truth != 255
    parts = [(kept & (truth == label), kept & (guess == label)) for label in range(5)]
    expected = np.mean([(one & other).sum() / (one | other).sum() for one, other in parts])
    matrix = count_confusion(truth, guess, 5)[None].astype(float)
    assert compute_mean_iou(matrix, 0.0)[0] == pytest.approx(expected)


def test_pixels_that_no_sensor_saw_are_not_left_out() -> None:
    truth = np.ones((4, 4), np.uint8)
    guess = np.full((4, 4), 255, np.uint8)
    assert count_confusion(truth, guess, 3).tolist() == [[0, 0, 0], [16, 0, 0], [0, 0, 0]]


def test_classes_in_another_order_are_renumbered() -> None:
    table = match_labels(("a", "b", "c"), ("c", "a", "b"), Path("x"))
    assert table[:3].tolist() == [1, 2, 0]
    assert (table[3:] == 255).all()
    with pytest.raises(InputError, match="only the data has d"):
        match_labels(("a", "d"), ("a", "b"), Path("x"))


def test_one_matrix_over_all_samples(samples: Path) -> None:
    model = tiny_scene_model(labels=CLASSES, reach=1)
    whole = evaluate_layout("plain", samples, None, model, EvaluateOptions())
    parts = [evaluate_layout("plain", samples, None, model, EvaluateOptions(limit=1))]
    assert len(whole.samples) == 3
    assert sum(sample.matrices["all sensors"].sum() for sample in whole.samples) == 3 * 64 * 64
    np.testing.assert_array_equal(
        whole.samples[0].matrices["all sensors"], parts[0].samples[0].matrices["all sensors"]
    )
    assert whole.by_condition("all sensors")["weather"]["night"][1] == 1
    interval = whole.interval("all sensors")
    assert interval.low <= interval.high


def test_subset_equals_data_that_lack_the_sensor(samples: Path, tmp_path: Path) -> None:
    model = tiny_scene_model(labels=CLASSES)
    whole = evaluate_layout("plain", samples, None, model, EvaluateOptions(protocols=("subsets",)))
    root = tmp_path / "scenes"
    shutil.copytree(samples, root)
    shutil.rmtree(root / "event")
    less = evaluate_layout("plain", root, None, model, EvaluateOptions())
    (name,) = (
        variant.name for variant in whole.variants if set(variant.sensors) == {"rgb", "depth", "lidar"}
    )
    np.testing.assert_array_equal(whole.matrix(name), less.matrix("all sensors"))
    assert whole.sensor_value()["event"] == pytest.approx(
        whole.interval("all sensors").value - less.interval("all sensors").value
    )


def test_command_with_report(
    samples: Path, tmp_path: Path, scene: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", samples, "--layout", "plain", "--missing", "all"]
    report, table = tmp_path / "r.html", tmp_path / "s.csv"
    assert scene(*words, "--report", report, "--csv", table) == 0
    printed = capsys.readouterr().out
    for fact in ("3 samples, 10 classes", "all sensors", "each fails at 50%", "noise 0.2", "weather: day"):
        assert fact in printed
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == (15 + 3 + 2) * (1 + 3 + 1)
    assert {"variant", "miou", "miou_published", "ground"} <= set(rows[0])
    page = report.read_text()
    for fact in ("How well is the scene understood?", "depth + event", "moving vehicle", "fog", "bootstrap"):
        assert fact in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page
    assert "None" not in page
    assert scene(*words, "--json", "--limit", "1") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["samples"] == 1
    assert document["variants"][0]["miou_low"] is None
    assert set(document["fall_without_sensor"]) == set(SENSORS)


def test_sensor_that_no_sample_has_spoils_no_mean(
    samples: Path, tmp_path: Path, scene: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    root, report = tmp_path / "scenes", tmp_path / "r.html"
    shutil.copytree(samples, root)
    min((root / "lidar").iterdir()).unlink()
    words = ["evaluate", root, "--layout", "plain", "--missing", "all", "--limit", "1"]
    assert scene(*words, "--report", report) == 0
    printed = capsys.readouterr().out
    assert "left out of the mean, as no sample has these sensors: lidar" in printed
    assert "mean over subsets: n/a" not in printed
    page = report.read_text()
    assert "No sample has the sensors of lidar" in page
    assert "nan" not in re.sub("<svg.*?</svg>", "", page, flags=re.DOTALL)
    assert scene(*words, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["unscored"] == ["lidar"]
    scored = [variant for variant in document["variants"] if variant["name"] != "lidar"]
    subsets = [variant["miou"] for variant in scored if variant["kind"] in ("all", "subsets")]
    assert document["protocol_means"]["subsets"] == pytest.approx(np.mean(subsets))


def test_sample_that_cannot_be_scored_is_told(
    samples: Path, tmp_path: Path, scene: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "scenes"
    shutil.copytree(samples, root)
    (root / "labels" / "scene001.png").unlink()
    assert scene("evaluate", root, "--layout", "plain", "--report", tmp_path / "r.html") == 1
    captured = capsys.readouterr()
    assert "2 samples, 10 classes" in captured.out
    assert "1 samples could not be scored" in captured.err
    assert "1 sample could not be scored" in (tmp_path / "r.html").read_text()
