"""Overlapping scenes with labels that differ: the ground in question becomes unknown in both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from domainsam.train.losses import IGNORE
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.train.labelled import LabelledScene, stage_scene
from domainsam_urban.train.scenes import hide_contradictions
from tests.urban.tiny import PLACE, UTM, write_scene

SIDE = 64


class Ground:
    """Stages scenes with masks on one piece of ground."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack

    def scene(
        self, name: str, mask: np.ndarray, place: Affine = PLACE, crs: str | None = UTM
    ) -> LabelledScene:
        image = np.full((*mask.shape, 3), 90, np.uint8)
        path = write_scene(self.folder / f"{name}.tif", image, crs, place)
        labels = write_scene(self.folder / f"{name}_mask.tif", mask[..., None], crs, place, nodata=255)
        source = RasterSource(path, allow_no_crs=crs is None)
        scene = stage_scene(source, labels, self.folder, name, 1.0)
        self.stack.callback(scene.close)
        return scene


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    with ExitStack() as stack:
        yield Ground(tmp_path, stack)


def blank() -> np.ndarray:
    return np.zeros((SIDE, SIDE), np.uint8)


def moved(cols: int, rows: int = 0) -> Affine:
    return PLACE @ Affine.translation(cols, rows)


def test_contradicted_pixels_are_unknown_in_both_and_nothing_else_changes(ground: Ground) -> None:
    first, second = blank(), blank()
    first[10:20, 40:50] = 1
    second[10:20, 8:12] = 1  # columns 40 to 44 of the first
    first[30:40, 40:60] = 1
    second[30:40, 8:28] = IGNORE  # who does not know contradicts nobody
    first[50:60, 0:20] = 1  # not on common ground
    one, other = ground.scene("one", first), ground.scene("other", second, moved(32))
    (note,) = hide_contradictions([one, other])
    expected = first.copy()
    expected[10:20, 44:50] = IGNORE
    assert np.array_equal(one.truth, expected)
    expected = second.copy()
    expected[10:20, 12:18] = IGNORE
    assert np.array_equal(other.truth, expected)
    share = 100 * 60 / (64 * 32 - 200)
    assert f"on {share:.1f} % of their common ground, which is treated as unknown" in note
    assert "one.tif" in note
    assert "other.tif" in note


def test_the_order_of_scenes_does_not_matter(ground: Ground) -> None:
    rng = np.random.default_rng(0)
    masks = [(rng.random((SIDE, SIDE)) < 0.3).astype(np.uint8) for _ in range(3)]
    answers = []
    for number, order in enumerate([(0, 1, 2), (2, 0, 1)]):
        scenes = [
            ground.scene(f"{number}{index}", masks[index], moved(8 * index, 4 * index)) for index in range(3)
        ]
        hide_contradictions([scenes[index] for index in order])
        answers.append([np.array(scene.truth) for scene in scenes])
    for one, other in zip(*answers, strict=True):
        assert np.array_equal(one, other)
        assert set(np.unique(one)) == {0, 1, IGNORE}


def test_scenes_that_agree_or_do_not_meet_are_left_alone(ground: Ground) -> None:
    mask = blank()
    mask[10:30, 20:50] = 1
    one, same = ground.scene("one", mask), ground.scene("same", mask)
    away = ground.scene("away", 1 - mask, moved(1000))
    assert hide_contradictions([one, same, away]) == ()
    assert np.array_equal(one.truth, mask)
    assert np.array_equal(away.truth, 1 - mask)


def test_scenes_of_other_pixels_and_crs_are_compared_on_the_ground(ground: Ground) -> None:
    first = blank()
    first[16:48, 16:48] = 1
    fine = ground.scene("fine", first)
    coarse = ground.scene("coarse", np.zeros((32, 32), np.uint8), PLACE @ Affine.scale(2))
    hide_contradictions([fine, coarse])
    assert np.array_equal(fine.truth == IGNORE, first == 1)
    assert np.array_equal(coarse.truth == IGNORE, first[::2, ::2] == 1)


def test_scenes_without_place_are_left_alone(ground: Ground) -> None:
    one, other = ground.scene("one", blank(), crs=None), ground.scene("other", blank() + 1, crs=None)
    assert hide_contradictions([one, other]) == ()


def test_anchors_and_weight_follow(ground: Ground) -> None:
    one, other = ground.scene("one", blank() + 1), ground.scene("other", blank())
    before = one.weight
    hide_contradictions([one, other])
    assert before > 0
    assert one.weight == other.weight == 0
    assert len(one.anchors) == 0
