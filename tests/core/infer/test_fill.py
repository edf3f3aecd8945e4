"""What networks see where a picture shows nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from domainsam.infer.engine import map_scene
from domainsam.infer.fill import fill_missing, make_filled_reader, measure_colour
from domainsam.infer.options import EngineOptions
from domainsam.protocols import Block, Window
from tests.core.engine_fakes import ArraySource, BrightPrompter, textured_scene

GREY = np.array([0.5, 0.5, 0.5], np.float32)


def test_what_is_missing_has_the_mean_colour_of_the_scene() -> None:
    image = np.zeros((3, 96, 128), np.float32)
    image[0] = np.linspace(0, 1, 96)[:, None]
    image[1] = 0.7
    seen = np.ones((96, 128), bool)
    seen[:, 100:] = False
    scene = ArraySource(image, seen)
    # In whatever tile the missing ground lies.
    for window in (Window(0, 64, 64, 64), Window(32, 80, 64, 64), Window(-20, 0, 64, 64)):
        block = make_filled_reader(scene)(window)
        np.testing.assert_allclose(block.image[0][~block.valid], 0.5, atol=0.01)
        np.testing.assert_allclose(block.image[1][~block.valid], 0.7, rtol=1e-6)
        np.testing.assert_array_equal(block.image[:, block.valid], scene.read(window).image[:, block.valid])
    unseen = ArraySource(image, np.zeros_like(seen))
    assert measure_colour(unseen) is None
    assert not make_filled_reader(unseen)(Window(0, 0, 32, 32)).image.any()


@pytest.mark.parametrize("side", [60, 1100])
def test_a_frame_of_nodata_does_not_change_the_colour(side: int) -> None:
    image = np.random.default_rng(0).random((3, side, side)).astype(np.float32) ** 2
    seen, frame = np.ones((side, side), bool), ((90, 40), (7, 70))
    plain = measure_colour(ArraySource(image, seen))
    framed = measure_colour(ArraySource(np.pad(image, ((0, 0), *frame)), np.pad(seen, frame)))
    assert plain is not None
    assert framed is not None
    # A large scene's is that of a sample, which lies otherwise in the frame.
    np.testing.assert_allclose(framed, plain, rtol=1e-5 if side < 1024 else 0.15)
    np.testing.assert_allclose(plain, image.mean((1, 2)), rtol=1e-5 if side < 1024 else 0.05)


def test_a_picture_that_is_mostly_missing_is_mirrored() -> None:
    image = np.random.default_rng(0).random((3, 20, 60)).astype(np.float32)
    seen = np.zeros((20, 60), bool)
    seen[:, :15] = True
    filled = fill_missing(np.where(seen, image, 0), seen, GREY)
    expected = np.pad(image[:, :, :15], ((0, 0), (0, 0), (0, 14)), mode="reflect")
    np.testing.assert_array_equal(filled[:, :, :29], expected)
    assert (filled[:, :, 29:] == GREY[:, None, None]).all()


def test_networks_that_sweep_see_a_mirror_image_round_any_scene() -> None:
    scene = textured_scene((64, 80), invalid=False)
    block = make_filled_reader(scene, mirrored=True)(Window(-16, -16, 96, 112))
    expected = np.pad(scene.image, ((0, 0), (16, 16), (16, 16)), mode="reflect")
    # Past a corner the nearest pixel seen is the corner itself, which a mirror in both axes agrees with.
    np.testing.assert_array_equal(block.image, expected)
    np.testing.assert_array_equal(block.valid, np.pad(scene.valid, 16))


@pytest.mark.parametrize("shape", ["corner", "diamond", "hole", "speckle"])
def test_no_black_is_left_and_nothing_seen_is_changed(shape: str) -> None:
    rows, cols = np.mgrid[:64, :64]
    missing = {
        "corner": rows + cols < 40,
        "diamond": np.abs(rows - 32) + np.abs(cols - 32) > 36,
        "hole": (rows - 30) ** 2 + (cols - 20) ** 2 < 80,
        "speckle": np.random.default_rng(0).random((64, 64)) < 0.05,
    }[shape]
    image = np.random.default_rng(1).uniform(0.4, 0.6, (3, 64, 64)).astype(np.float32)
    filled = fill_missing(np.where(missing, 0, image), ~missing, GREY)
    np.testing.assert_array_equal(filled[:, ~missing], image[:, ~missing])
    assert filled[:, missing].min() >= 0.4
    plain = (filled[:, missing] == GREY[:, None]).all(axis=0)
    assert plain.mean() > 0.9 if shape != "speckle" else not plain.any()


def test_what_is_whole_is_left_alone() -> None:
    image = np.full((3, 8, 8), 0.5, np.float32)
    assert fill_missing(image, np.ones((8, 8), bool), GREY) is image


def test_reader_fills_nodata_and_overhang_and_keeps_both_invalid() -> None:
    scene = textured_scene((70, 90))
    block = make_filled_reader(scene)(Window(-10, 40, 96, 64))
    direct = scene.read(Window(-10, 40, 96, 64))
    np.testing.assert_array_equal(block.valid, direct.valid)
    np.testing.assert_array_equal(block.image[:, block.valid], direct.image[:, block.valid])
    assert (block.image[:, ~block.valid] > 0).all()


def test_ground_that_nobody_asked_about_is_context_as_it_is() -> None:
    """A block may show more than it answers for; only what it does not show is filled."""

    class Part(ArraySource):
        def read(self, window: Window) -> Block:
            block = super().read(window)
            valid = block.valid.copy()
            valid[:, :20] = False
            return replace(block, valid=valid, seen=block.valid)

    scene = textured_scene((64, 64), invalid=False)
    block = make_filled_reader(Part(scene.image, scene.valid))(Window(0, 0, 64, 64))
    np.testing.assert_array_equal(block.image, scene.image)
    assert not block.valid[:, :20].any()


def test_seen_ground_keeps_its_answer_beside_nodata(tmp_path: Path) -> None:
    """A delivered scene's corners: far from them nothing changes, beside them hardly anything."""
    whole = textured_scene((260, 260), invalid=False)
    rows, cols = np.mgrid[:260, :260]
    seen = np.abs(rows - 130) + np.abs(cols - 130) < 120
    answers = []
    for name, source in (("a", whole), ("b", ArraySource(whole.image, seen))):
        options = EngineOptions(tile=128, overlap=64, method="coarse")
        result = map_scene(source, BrightPrompter(), None, tmp_path / name, options)
        answers.append(np.fromfile(result.probability, np.uint8).reshape(260, 260))
    assert ((answers[1] == 255) == ~seen).all()
    far = ndimage.distance_transform_edt(seen) > 40
    np.testing.assert_array_equal(answers[1][far], answers[0][far])
    one, other = (values[seen] >= 127 for values in answers)
    assert (one & other).sum() / (one | other).sum() > 0.93
    assert other.sum() == pytest.approx(one.sum(), rel=0.03)
