"""Organ statistics against numpy on the whole volume."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from domainsam.grid import Grid
from domainsam_ct.labels import load_label_map
from domainsam_ct.measure.statistics import OrganStatistics, Tally, measure_voxel_ml

SHAPE = (11, 9, 14)
LABELS = load_label_map("synapse")


def oblique() -> np.ndarray:
    """RAS millimetres of a grid of unequal spacing, turned about x."""
    turn = np.deg2rad(20)
    rotation = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([0.7, 0.9, 2.5])
    affine[:3, 3] = [-30, 12, 400]
    return affine


def case(whole_units: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    mask = np.where(random.random(SHAPE) < 0.5, random.integers(0, 6, SHAPE), 0).astype(np.uint8)
    mask[:, :, 0] = mask[:, :, -1] = mask[0] = mask[-1] = mask[:, 0] = mask[:, -1] = 0
    mask[5, 4, 0] = 5
    mask[mask == 4] = 0
    hu = random.normal(40, 120, SHAPE).astype(np.float32)
    confidence = random.integers(1, 256, SHAPE).astype(np.uint8)
    return mask, np.rint(hu) if whole_units else hu, confidence


def gather(
    mask: np.ndarray,
    hu: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    affine: np.ndarray | None = None,
    step: int = 5,
    native: Grid | None = None,
) -> dict[str, Any]:
    tally = Tally(Grid(SHAPE, oblique() if affine is None else affine, "RAS"), LABELS)

    def part(array: np.ndarray | None, start: int) -> Any:
        return None if array is None else np.moveaxis(array[:, :, start : start + step], 2, 0)

    for start in range(0, SHAPE[2], step):
        tally.add(start, part(mask, start), part(hu, start), part(confidence, start))
    return {organ.name: organ for organ in tally.statistics(native)}


@pytest.mark.parametrize("step", [1, 5, 14])
@pytest.mark.parametrize("whole_units", [True, False])
def test_figures_are_those_of_the_whole_volume(step: int, whole_units: bool) -> None:
    mask, hu, confidence = case(whole_units)
    found = gather(mask, hu, confidence, step=step)
    for value, organ in LABELS.items():
        here, one = mask == value, found[organ.name]
        assert one.voxels == here.sum()
        if not one.found:
            continue
        assert one.volume_ml == pytest.approx(here.sum() * 0.7 * 0.9 * 2.5 / 1000)
        assert one.hu is not None
        assert one.hu.mean == pytest.approx(hu[here].mean(dtype=float))
        assert one.hu.sd == pytest.approx(hu[here].std(dtype=float))
        assert (one.hu.minimum, one.hu.maximum) == (hu[here].min(), hu[here].max())
        assert one.hu.median == pytest.approx(np.median(hu[here]), abs=0 if whole_units else 1 / 16)
        assert one.confidence == pytest.approx(confidence[here].mean() / 255)
        world = np.argwhere(here) @ oblique()[:3, :3].T + oblique()[:3, 3]
        np.testing.assert_allclose(one.centroid_mm, world.mean(axis=0))
        assert one.box_mm is not None
        assert (np.array(one.box_mm[0]) <= world.min(axis=0)).all()
        assert (np.array(one.box_mm[1]) >= world.max(axis=0)).all()


def test_box_in_world_and_in_the_files_own_axes() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:5, 3:4, 6:10] = 5
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    # The file stores (z downwards, x to the left, y): index (13 - k, 10 - i, j).
    native = Grid(
        (14, 11, 9), np.array([[0, -2, 0, 20], [0, 0, 3, 0], [-4, 0, 0, 52], [0, 0, 0, 1]], float), "RAS"
    )
    liver = gather(mask, affine=affine, native=native)["liver"]
    assert liver.box_mm == ((3, 7.5, 22), (9, 10.5, 38))
    assert liver.box_voxels == ((4, 6, 3), (7, 8, 3))
    assert liver.touches_border is False


def test_what_is_unknown_is_none_and_never_zero() -> None:
    mask, _, _ = case()
    found = gather(mask)
    gallbladder, liver = found["gallbladder"], found["liver"]
    assert gallbladder == OrganStatistics("gallbladder", 4, 0)
    document = json.loads(json.dumps(gallbladder.document()))
    assert document["voxels"] == 0
    assert document["found"] is False
    assert [key for key, value in document.items() if value is None] == [
        "volume_ml",
        "hu",
        "centroid_mm",
        "box_mm",
        "box_voxels",
        "touches_border",
        "confidence",
    ]
    assert liver.hu is None
    assert liver.confidence is None
    assert liver.volume_ml is not None
    row = gallbladder.row()
    assert row["volume_ml"] == row["hu_mean"] == row["touches_border"] == ""


def test_only_what_reaches_the_edge_touches_the_border() -> None:
    found = gather(case()[0])
    assert {name for name, organ in found.items() if organ.touches_border} == {"liver"}
    assert found["spleen"].touches_border is False


def test_filled_voxels_do_not_lower_confidence() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[3:6, 3:6, 3:6] = 5
    confidence = np.full(SHAPE, 204, np.uint8)
    confidence[4, 4, 4] = 0
    assert gather(mask, None, confidence)["liver"].confidence == pytest.approx(0.8)


def test_values_outside_the_label_map_are_passed_over() -> None:
    mask = np.full(SHAPE, 77, np.uint16)
    assert not any(organ.found for organ in gather(mask).values())


def test_voxel_volume_of_an_oblique_grid() -> None:
    assert measure_voxel_ml(Grid(SHAPE, oblique(), "RAS")) == pytest.approx(0.7 * 0.9 * 2.5 / 1000)
