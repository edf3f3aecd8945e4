"""Generated scenes: repeatable, varied, and each sensor the only one to tell two classes apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from domainsam_scene.generated import scenes as generated
from domainsam_scene.generated.scenes import CLASSES, COLOURS, CONDITIONS, FAILURES, SENSORS, make_scene


def test_same_arguments_give_the_same_scene() -> None:
    first, second = make_scene(7, 64), make_scene(7, 64)
    for name in SENSORS:
        np.testing.assert_array_equal(first.images[name], second.images[name])
    np.testing.assert_array_equal(first.labels, second.labels)
    assert not np.array_equal(first.labels, make_scene(8, 64).labels)


@pytest.mark.parametrize(
    ("condition", "failure"), [*((c, "none") for c in CONDITIONS), *(("day", f) for f in FAILURES)]
)
def test_shapes_types_and_ranges(condition: str, failure: str) -> None:
    scene = make_scene(3, (48, 80), condition, failure)
    assert (scene.condition, scene.failure) == (condition, failure)
    assert tuple(scene.images) == SENSORS
    for name, image in scene.images.items():
        assert image.shape == (3, 48, 80)
        assert image.dtype == np.float32
        assert 0 <= image.min() <= image.max() <= 1
        assert scene.valid[name].shape == (48, 80)
    assert scene.labels.max() < len(CLASSES)
    lost = [name for name in SENSORS if not scene.valid[name].any()]
    assert len(lost) == (failure == "drop")
    assert all(not scene.images[name].any() for name in lost)


def test_condition_and_failure_change_sensors_and_not_the_truth() -> None:
    plain = make_scene(5, 64, "day", "none")
    for condition, failure in (("night", "none"), ("fog", "none"), ("day", "overexposed")):
        other = make_scene(5, 64, condition, failure)
        np.testing.assert_array_equal(plain.labels, other.labels)
        assert not np.array_equal(plain.images["rgb"], other.images["rgb"])


def test_all_classes_occur() -> None:
    seen = set().union(*(np.unique(make_scene(seed, 96).labels) for seed in range(12)))
    assert seen == set(range(len(CLASSES)))
    assert len(set(COLOURS)) == len(CLASSES)


def medians(sensor: str, channel: int, wanted: tuple[int, ...]) -> list[float]:
    """Mean over scenes of what a sensor reads on each class, where it reads anything."""
    read: dict[int, list[float]] = {number: [] for number in wanted}
    for seed in range(10):
        scene = make_scene(seed, 96, "day", "none")
        for number in wanted:
            there = scene.labels == number
            there &= scene.images[sensor].any(axis=0) if sensor == "lidar" else True
            if there.sum() > 20:
                read[number].append(float(scene.images[sensor][channel][there].mean()))
    return [float(np.mean(read[number])) for number in wanted]


@pytest.mark.parametrize(
    ("sensor", "channel", "pair", "factor"),
    [
        ("rgb", 0, (generated.MARKING, generated.GROUND), 1.7),
        ("event", 0, (generated.MOVING, generated.PARKED), 3.0),
        ("lidar", 1, (generated.SIGN, generated.BOARD), 2.0),
    ],
)
def test_one_sensor_alone_tells_a_pair_apart(
    sensor: str, channel: int, pair: tuple[int, int], factor: float
) -> None:
    strong, weak = medians(sensor, channel, pair)
    assert strong > factor * weak
    blind = {"rgb": "depth", "event": "rgb", "lidar": "rgb"}[sensor]
    here, there = medians(blind, 0, pair)
    assert max(here, there) < 1.6 * min(here, there)


def test_barrier_looks_like_the_ground_but_is_nearer() -> None:
    differences = []
    for seed in range(10):
        scene = make_scene(seed, 96, "day", "none")
        wall = scene.labels == generated.BARRIER
        if wall.sum() < 40:
            continue
        rows = np.flatnonzero(wall.any(axis=1))
        depth = scene.images["depth"][0]
        top = wall[rows[0]]
        above = ~wall[rows[0] - 2] & top
        near, far = depth[rows[0]][above], depth[rows[0] - 2][above]
        measured = (near > 0) & (far > 0)
        differences += list((far - near)[measured])
    assert np.median(differences) > 0.01


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((0, 16), "too small"), ((0, 64, "snow"), "snow"), ((0, 64, "day", "stolen"), "stolen")],
)
def test_impossible_scenes(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_scene(*arguments)
