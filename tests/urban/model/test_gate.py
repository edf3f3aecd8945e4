"""The gate fires on scenes and maps that are not to be relied on, and is silent on usual ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray

from domainsam.familiar import Known, learn_known
from domainsam_urban.model.gate import judge_answer, judge_scene
from domainsam_urban.read.looks import BANDS, sample_scene
from domainsam_urban.read.scene import RasterSource
from tests.urban.tiny import write_scene
from tests.urban.trend.scenes import place, texture

Scene = Callable[..., RasterSource]


@pytest.fixture
def open_picture(tmp_path: Path) -> Scene:
    def opened(picture: NDArray[np.uint8], transform: Affine | None = None) -> RasterSource:
        return RasterSource(write_scene(tmp_path / "scene.tif", picture, transform=transform or place()))

    return opened


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    """Of twelve scenes, as a training would see them."""
    path = tmp_path_factory.mktemp("learnt") / "scene.tif"
    samples = []
    for seed in range(12):
        with RasterSource(write_scene(path, texture(200, 200, seed), transform=place())) as source:
            samples.append(sample_scene(source))
    return learn_known(samples, BANDS, resolutions=[0.5, 1.0])


def test_a_sample_has_the_pixels_of_the_scene_and_nothing_else(open_picture: Scene) -> None:
    picture = texture(300, 100)
    with open_picture(picture) as source:
        looked = sample_scene(source)
        rows = source.grid.shape[0]
    assert looked.shape[:2] == (3, 256)
    seen = looked[:, np.isfinite(looked).all(axis=0)]
    assert seen.min() >= picture.min() / 255 - 1e-6
    assert seen.max() <= picture.max() / 255 + 1e-6
    assert rows >= 256


def test_usual_pieces_raise_no_doubt(open_picture: Scene, known: Known) -> None:
    """Twenty pieces of scenes like those learnt from, a little brighter or darker."""
    rng = np.random.default_rng(0)
    for number in range(20):
        piece = texture(200, 200, number % 12)[10:190, 15:185] * rng.uniform(0.95, 1.05)
        with open_picture(piece.clip(0, 255).astype(np.uint8)) as source:
            judgement = judge_scene(source, known, 0.9)
        assert judgement.texts == ()
        assert judgement.compared


def test_other_scenes_are_doubted(open_picture: Scene, known: Known) -> None:
    usual = texture(208, 208, 50)
    dark = (usual * 0.3).astype(np.uint8)
    water = np.full_like(usual, 60) + np.random.default_rng(0).integers(0, 3, usual.shape, np.uint8)
    blurred = np.repeat(np.repeat(usual[::16, ::16], 16, axis=0), 16, axis=1)
    red = usual.copy()
    red[..., 0] = np.clip(usual[..., 0].astype(int) + 90, 0, 255)
    for name, picture in {"dark": dark, "water": water, "enlarged": blurred, "red": red}.items():
        with open_picture(picture) as source:
            judgement = judge_scene(source, known, 0.9)
        assert [doubt.kind for doubt in judgement.doubts] == ["values"], name
        assert judgement.line == "doubtful: values"


def test_a_coarse_scene_is_doubted_with_and_without_the_files_word(open_picture: Scene, known: Known) -> None:
    with open_picture(texture(64, 64, 3), place(pixel=3.0)) as source:
        assert "coarser than any in training (0.5 to 1 m)" in judge_scene(source, known, 0.9).texts[-1]
        (doubt,) = judge_scene(source, None, 0.9).doubts
        assert not judge_scene(source, None, 0.9).compared
    assert doubt.text == "pixels of 3 m are 3.3 times as coarse as the model has learnt"


def test_answers_that_no_city_gives() -> None:
    assert judge_answer([100.0, 50.0], [0.9, 0.8], 1000.0) == ()
    assert judge_answer([], [], 1000.0) == ()
    assert judge_answer([9.0], [np.nan], float("nan")) == ()
    assert judge_answer([90.0], [0.9], 100.0) == (), "a scene may lie inside a settlement"
    (share,) = judge_answer([800.0], [0.9], 1000.0)
    assert share.text.startswith("80% of 1000 ha would be informal settlement")
    (unsure,) = judge_answer([30.0, 10.0], [0.5, 0.7], 1000.0)
    assert "mean probability of 0.55" in unsure.text
