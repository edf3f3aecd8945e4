"""What is refused before a scene is opened, and coordinates that mark objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from domainsam import opened
from domainsam.errors import ConfigError, InputError
from domainsam.grid import Grid
from domainsam.infer.found import UNNAMED
from domainsam.io.marks import place_marks
from domainsam.opened import Opened, guess_pack
from domainsam.packs import DomainPack
from domainsam.protocols import Click, SceneObject, Window
from tests.core.engine_fakes import ArraySource, textured_scene

PLACED = np.array([[0.0, 2.0, 1000.0], [-2.0, 0.0, 5000.0], [0.0, 0.0, 1.0]])
"""Pixels of 2 m, the first one's centre at x 1000, y 5000."""
PACK = DomainPack("roads", "roads", ("background", "road"), "a:b", "a:b", "json:dumps")


@pytest.fixture
def scene() -> Opened:
    return Opened(PACK, textured_scene((160, 192), invalid=False))


def test_world_coordinates_are_the_default_where_a_scene_has_a_place() -> None:
    grid = Grid((50, 40), PLACED, "EPSG:32650")
    one, two = place_marks(grid, points=[(1020, 4960)], boxes=np.array([[999, 4981, 1019, 5001]]), labels="a")
    assert one.points == (Click(10.5, 20.5),)
    assert two.box == (0.0, 0.0, 10.0, 10.0)
    assert one.label == two.label == "a"


def test_pixels_are_the_default_elsewhere_and_a_list_is_one_object() -> None:
    (one,) = place_marks(Grid((50, 40), np.eye(3), "pixel"), points=[[(3, 4), (10.5, 20.5)]])
    assert one.points == (Click(3, 4), Click(10.5, 20.5))


def test_a_number_as_frame_is_a_slice() -> None:
    (one,) = place_marks(Grid((5, 50, 40), np.eye(4), "RAS"), boxes=[(3, 4, 10, 20)], frame=2)
    assert one.bounds == Window(4, 3, 16, 7, 2)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"points": [(1, 2, 3)]}, "state the frame: RAS or LPS or pixel"),
        ({"points": [(1, 2), (3, 4)], "labels": ["a"], "frame": 0}, "2 objects are marked, but 1 labels"),
        ({"points": [("x", 2)], "frame": 0}, "expected numbers"),
        ({"points": [(1, 2)], "frame": "world"}, "'world' cannot be used here"),
        ({"points": []}, "nothing is marked"),
    ],
)
def test_coordinates_that_cannot_be_placed_are_refused(given: Mapping[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        place_marks(Grid((5, 50, 40), np.eye(4), "RAS"), **given)


@pytest.mark.parametrize(
    "given", [{}, {"points": [(1, 2)], "marks": "p.csv"}, {"marks": "p.csv", "labels": "a"}]
)
def test_objects_are_marked_in_one_way(scene: Opened, given: Mapping[str, Any]) -> None:
    with scene, pytest.raises(ConfigError, match=r"in one way|bear their own"):
        scene.find(**given, foundation="fake")


def test_arrays_lie_on_the_grid_and_unlabelled_objects_keep_apart_from_labelled_ones(scene: Opened) -> None:
    marks = [
        SceneObject.marked(box=(40, 56, 56, 72), label="pond"),
        SceneObject.marked(box=(100, 90, 150, 130)),
    ]
    with scene:
        found = scene.find(marks=marks, foundation="fake")
        assert found.names == ("pond", UNNAMED)
        assert found.labels.shape == scene.grid.shape
        assert set(np.unique(found.labels)) == {0, 1, 2}
        assert np.array_equal(found.mask, found.masks["pond"] | found.masks[UNNAMED])
        rows, cols = np.nonzero(found.masks["pond"])
        bounds = found.objects[0].bounds
        assert bounds is not None
        # Two crops saw the pond, and each may have seen a pixel more than their mean.
        assert 0 <= rows.min() - bounds.row <= 1
        assert 0 <= cols.min() - bounds.col <= 1
        assert 0 <= bounds.row + bounds.height - 1 - rows.max() <= 1
        assert 0 <= bounds.col + bounds.width - 1 - cols.max() <= 1
        assert abs(bounds.row - 56) <= 4
        assert abs(bounds.width - 16) <= 8
        assert scene.find(boxes=[(40, 56, 56, 72)], foundation="fake").names == (UNNAMED,)


def test_where_the_pack_asks_nobody_a_language_model_is_asked_about_any_scene(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from domainsam.testing.oracle import SeeingSpeaker

    image = np.full((3, 160, 192), 0.2, np.float32)
    image[:, 20:56, 30:70] = 0.9

    def see(picture: NDArray[np.uint8]) -> dict[str, list[NDArray[np.bool_]]]:
        bright = picture[..., 0] > 128
        return {"the pond": [bright] if bright.any() else []}

    speaker = SeeingSpeaker(see)
    monkeypatch.setattr("domainsam.prompter.language.speakers.load_speaker", lambda *_: speaker)
    asked: dict[str, Any] = {"ask": "the pond", "mllm": "oracle", "foundation": "fake", "device": "cpu"}
    with Opened(PACK, ArraySource(image, np.ones(image.shape[1:], bool))) as scene:
        found = scene.find(**asked, mode="pqpp")
        assert found.names == (UNNAMED,)
        truth = image[0] > 0.5
        assert (found.mask & truth).sum() / (found.mask | truth).sum() > 0.6
        with pytest.raises(ConfigError, match="roads find: no option is named 'mood'"):
            scene.find(**asked, mood="good")
        with pytest.raises(ConfigError, match="mllm="):
            scene.find(ask="the pond")


def test_features_and_pictures_are_of_a_window(scene: Opened) -> None:
    with scene:
        window = Window(32, 64, 64, 96)
        assert scene.image(window).shape == (3, 64, 96)
        features = scene.features(window, "fake")
        assert features.size == (64, 96)
        assert scene.features(window, "fake") is features


def test_staging_goes_when_the_scene_is_closed(scene: Opened) -> None:
    folder = scene._folder
    with scene:
        found = scene.find(points=[(50, 60)], foundation="fake")
        assert any(folder.rglob("*.u8"))
    assert not folder.exists()
    with pytest.raises(InputError, match="the scene is closed"):
        _ = found.mask


@pytest.mark.parametrize(("packs", "words"), [(("a", "b"), "a and b read")])
def test_a_file_of_several_packs_asks_for_one(
    monkeypatch: pytest.MonkeyPatch, packs: tuple[str, ...], words: str
) -> None:
    answers: Callable[[str], dict[str, object]] = lambda file: dict.fromkeys(packs)  # noqa: E731
    monkeypatch.setattr(opened, "describe_file", answers)
    with pytest.raises(ConfigError, match=words):
        guess_pack(Path("a.tif"))
    with pytest.raises(ConfigError, match="pack='scene'"):
        guess_pack({"rgb": "a.png"})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"like": "a.gpkg", "labels": "roof"}, "'labels' belongs to marks"),
        ({"track": "a.nii.gz", "frame": 3}, "'frame' belongs to marks"),
        ({"everything": True, "threshold": 0.4}, "'threshold' belongs to marks"),
        ({"like": "a.gpkg", "points": [(1, 2)]}, "in one way"),
        ({"everything": True, "boxes": [(1, 2, 3, 4)]}, "in one way"),
        ({"points": [(1, 2)], "per_side": 3}, "belongs to a search"),
    ],
)
def test_options_of_marks_and_of_a_search_exclude_each_other(
    scene: Opened, given: Mapping[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        scene.find(**given)
