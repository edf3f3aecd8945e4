"""Objects are found by words: named, ranked over the whole view, none twice, and not found is an answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from domainsam.errors import ConfigError, InputError
from domainsam.foundation import load_foundation
from domainsam.prompter.everything import EverythingOptions
from domainsam.prompter.words import WordOptions, WordSource, map_frame, measure_iou, merge_same
from domainsam.protocols import PromptSource, SceneObject, View, Window, Word
from domainsam.testing.contracts import ArrayView, PromptSourceContract
from domainsam.vocabulary.fake import COLOURS, FakeNamer

RED, BLUE, GREEN = Word("red"), Word("blue"), Word("green")
EVERY = EverythingOptions(per_side=4, least_iou=0, least_stability=0, least_area=1)


def patches(shape: tuple[int, int] = (96, 160)) -> ArrayView:
    """Grey ground with two red places and a blue one."""
    view = ArrayView(shape, foundation=load_foundation("fake"))
    image = np.full((3, *shape), 0.5, np.float32)
    for name, rows, cols in (
        ("red", (16, 40), (8, 48)),
        ("blue", (56, 80), (96, 120)),
        ("red", (8, 24), (112, 144)),
    ):
        image[:, rows[0] : rows[1], cols[0] : cols[1]] = np.array(COLOURS[name], np.float32)[:, None, None]
    view._images = image[None]
    return view


def square(
    row: int, col: int, side: int, score: float = 0.5, label: str = "red", frame: int = 0
) -> SceneObject:
    bounds = Window(row, col, side, side, frame)
    return SceneObject(bounds, label, score, mask=np.ones((side, side), bool))


class TestWordSource(PromptSourceContract):
    @pytest.fixture
    def source(self) -> PromptSource:
        return WordSource(FakeNamer(), [Word("grey"), RED], load_foundation("fake"), keep=EVERY)


def test_a_map_of_words_gives_their_places_best_first() -> None:
    view, options = patches(), WordOptions(proposals="map", least=0.5)
    source = WordSource(FakeNamer(), [RED, BLUE], load_foundation("fake"), options=options)
    found = list(source.find(view))
    assert {(one.label, one.bounds) for one in found} == {
        ("red", Window(16, 8, 24, 40)),
        ("blue", Window(56, 96, 24, 24)),
        ("red", Window(8, 112, 16, 32)),
    }
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert source.told["found"] == 3
    assert source.told["understood"]["red"] == {"known": "red", "nearness": 1.0}
    least = replace(options, most=1)
    (best,) = WordSource(FakeNamer(), [RED, BLUE], source.foundation, options=least).find(view)
    assert best.bounds == found[0].bounds


def test_what_is_not_there_is_not_found() -> None:
    source = WordSource(FakeNamer(), [GREEN], load_foundation("fake"), options=WordOptions(proposals="map"))
    assert list(source.find(patches())) == []
    assert source.told["found"] == 0


def test_a_map_is_the_same_in_windows_of_any_side() -> None:
    view = patches((96, 160))
    whole = map_frame(FakeNamer(), view, [RED, BLUE], 160)
    parts = map_frame(FakeNamer(), view, [RED, BLUE], 64)
    assert np.array_equal(whole[0], parts[0])
    assert np.allclose(whole[1], parts[1])
    assert whole[0].shape == (24, 40)


class Silent(FakeNamer):
    """Has no answer for what lies on the left."""

    def name_objects(
        self, view: View, objects: Sequence[SceneObject], words: Sequence[Word]
    ) -> NDArray[np.float32]:
        scores = super().name_objects(view, objects, words)
        scores[[one.bounds.col < 80 for one in objects]] = np.nan
        return scores


def test_non_answers_and_other_words_are_counted() -> None:
    view = patches()
    source = WordSource(
        Silent(),
        [Word("grey")],
        load_foundation("fake"),
        [RED, Word("GREY"), BLUE],
        WordOptions(least=0, proposals="everything"),
        EVERY,
    )
    assert [word.name for word in source.against] == ["red", "blue"]
    found = list(source.find(view))
    told = source.told
    assert told["unanswered"] > 0
    assert told["proposals"] == sum(
        told[name]
        for name in ("unanswered", "none_fits", "other_words", "below_least_score", "duplicates", "found")
    )
    assert all(one.label == "grey" for one in found)


class Finder(FakeNamer):
    """Finds two objects by itself, one of them twice."""

    def find_words(self, view: View, words: Sequence[Word]) -> Iterator[SceneObject]:
        yield square(0, 0, 20, 0.4, words[0].name)
        yield square(2, 0, 20, 0.9, words[0].name)
        yield square(40, 40, 20, 0.5, words[-1].name)


def test_a_model_that_finds_is_asked_directly() -> None:
    source = WordSource(Finder(), [RED], load_foundation("fake"), [BLUE])
    found = list(source.find(patches()))
    assert [(one.label, one.score) for one in found] == [("red", 0.9)]
    assert source.told["duplicates"] == 1
    assert source.told["other_words"] == 1


def test_duplicates_go_by_overlap_of_masks() -> None:
    objects = [
        square(0, 0, 20, 0.5),
        square(0, 5, 20, 0.9),
        square(0, 60, 20, 0.7),
        square(0, 0, 20, 0.6, frame=1),
    ]
    assert measure_iou(objects[0], objects[1]) == pytest.approx(300 / 500)
    assert measure_iou(objects[0], objects[2]) == 0
    assert measure_iou(objects[0], objects[3]) == 0
    kept = merge_same(objects, 0.5)
    assert [one.score for one in kept] == [0.9, 0.7, 0.6]
    assert merge_same(objects[::-1], 0.5) == kept
    assert len(merge_same(objects, 0.7)) == 4
    assert merge_same([], 0.5) == []
    boxes = [
        SceneObject.marked(box=(0, 0, 10, 10), score=0.2),
        SceneObject.marked(box=(0, 0, 10, 8), score=0.3),
    ]
    assert measure_iou(*boxes) == pytest.approx(0.8)
    assert merge_same(boxes, 0.5) == boxes[1:]


def test_impossible_searches_are_refused() -> None:
    fake = load_foundation("fake")
    with pytest.raises(ConfigError, match="nothing says what to look for"):
        WordSource(FakeNamer(), [], fake)
    with pytest.raises(InputError, match="'roof' is no colour"):
        WordSource(FakeNamer(), [Word("roof")], fake)
    wrong: dict[str, Any]
    for wrong in ({"least": 1.5}, {"overlap": -1}, {"most": 0}, {"least_area": 0}, {"proposals": "some"}):
        with pytest.raises(ConfigError, match="expected"):
            WordOptions(**wrong)


def test_a_model_that_makes_maps_is_asked_for_one() -> None:
    source = WordSource(FakeNamer(), [RED, BLUE], load_foundation("fake"))
    found = list(source.find(patches()))
    assert {one.label for one in found} == {"red", "blue"}
    assert "unanswered" not in source.told
