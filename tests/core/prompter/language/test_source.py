"""A model that knows the right answers, asked through the real way of generating text, finds the objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from domainsam.errors import ConfigError, InputError
from domainsam.foundation.fake import FakeFoundation
from domainsam.infer.answers import KeptAnswers
from domainsam.infer.pictures import PictureView
from domainsam.prompter.language.answers import Said
from domainsam.prompter.language.hugging import HuggingSpeaker
from domainsam.prompter.language.ranking import Sighting, rank
from domainsam.prompter.language.source import LanguageSource
from domainsam.prompter.language.speakers import AskOptions, Question
from domainsam.protocols import SceneObject, Window
from domainsam.testing.oracle import OracleModel, make_oracle, make_processor

PHRASE = "the red box"


def draw() -> tuple[np.ndarray, np.ndarray]:
    picture = np.random.default_rng(0).integers(0, 60, (48, 64, 3)).astype(np.uint8)
    picture[12:36, 20:52] = (220, 40, 30)
    mask = np.zeros((48, 64), bool)
    mask[12:36, 20:52] = True
    return picture, mask


def search(
    speaker: HuggingSpeaker, phrase: str = PHRASE, **how: object
) -> tuple[LanguageSource, PictureView]:
    foundation = FakeFoundation()
    picture, _ = draw()
    view = PictureView(lambda _: picture, 1, foundation)
    memory = how.pop("memory", None)
    options = AskOptions("oracle", **how)  # type: ignore[arg-type]
    return LanguageSource(speaker, phrase, foundation, options, memory=memory), view  # type: ignore[arg-type]


@pytest.fixture
def oracle() -> tuple[OracleModel, HuggingSpeaker]:
    model, speaker = make_oracle()
    picture, mask = draw()
    model.show(picture, {PHRASE: [mask]})
    return model, speaker


@pytest.mark.parametrize("mode", ["ppg", "pqpp"])
def test_the_oracle_finds_the_object_in_both_modes(
    oracle: tuple[OracleModel, HuggingSpeaker], mode: str
) -> None:
    source, view = search(oracle[1], mode=mode)
    (one,) = source.find(view)
    _, mask = draw()
    made = view.enlarge_mask(one)
    # The stand-in of a foundation draws its clicks, so that the box is not filled.
    assert (made & mask).sum() / made.sum() > 0.95
    assert (made & mask).sum() / (made | mask).sum() > (0.4 if mode == "ppg" else 0.75)
    assert one.text == PHRASE
    assert len([point for point in one.points if point.inside]) == (2 if mode == "ppg" else 15)
    assert source.tally.document()["windows"] == 1
    # The probability of every token is 0.99, so that is how sure the model is.
    assert one.score <= 0.99


@pytest.mark.parametrize("words", [("Yes", "No"), ()])
def test_points_beside_the_object_are_negative(words: tuple[str, ...]) -> None:
    """Of an L both kinds of points are kept, and they lie where they ought to; also one token at a time."""
    model, speaker = make_oracle(words=words)
    picture, mask = draw()
    mask[12:24, 36:52] = False
    model.show(picture, {PHRASE: [mask]})
    source, _ = search(speaker, mode="pqpp", points=9, pattern="grid")
    ((place,),) = source.ask([picture])
    assert len(place.spots) == 9
    for x, y, inside in place.spots:
        assert inside == mask[int(y * 48), int(x * 64)]
    assert {inside for *_, inside in place.spots} == {True, False}


def test_a_model_that_is_not_sure_leaves_the_box_alone() -> None:
    model, speaker = make_oracle(sure=0.6)
    picture, mask = draw()
    model.show(picture, {PHRASE: [mask]})
    source, view = search(speaker, mode="pqpp")
    ((place,),) = source.ask([picture])
    assert place.spots == ()
    assert place.box is not None
    assert len(list(source.find(view))) == 1


def test_what_is_not_there_is_not_found(oracle: tuple[OracleModel, HuggingSpeaker]) -> None:
    source, view = search(oracle[1], "a ghost")
    assert list(source.find(view)) == []
    assert source.tally.nothing == 1
    assert source.tally.unanswered == []


class Babbler(OracleModel):
    """Says something else."""

    said = "It is a lovely picture of a box."

    def answer(self, asked: str, prompt: str, masks: object) -> str:
        return self.said


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("It is a lovely picture.", "prose"),
        ("[100,100,1900,400]", "outside the picture"),
        ("ha" * 400, "--max-tokens"),
    ],
)
def test_what_is_no_answer_is_told_and_kept(
    said: str, why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    processor = make_processor()
    model = Babbler(processor)
    model.said = said
    speaker = HuggingSpeaker(model, processor, model.codec, "babbler")
    for resume in (False, True):
        with KeptAnswers(tmp_path, {"phrase": PHRASE}, resume) as memory:
            source, view = search(speaker, max_tokens=64, memory=memory)
            assert list(source.find(view)) == []
        told = source.tally.document()
        assert told["unanswered"] == 1
        assert why in told["unanswered_first"][0]["why"]
        assert told["unanswered_first"][0]["text"].startswith(said[:20])
        assert "babbler gave no answer in 1 of 1 pictures" in caplog.text
        calls, model.calls = model.calls, 0
    assert calls == 0


class DyingSpeaker(HuggingSpeaker):
    """Is killed at its second question."""

    asked = 0

    def write(self, questions: Sequence[Question], limit: int) -> list[Said]:
        self.asked += 1
        if self.asked == 2:
            raise KeyboardInterrupt
        return super().write(questions, limit)


def test_a_killed_run_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    model, calm = make_oracle()
    picture, mask = draw()
    model.show(picture, {PHRASE: [mask]})
    frames = [picture, np.flip(picture, 1).copy(), np.flip(picture, 0).copy()]
    for other, flipped in zip(frames[1:], (np.flip(mask, 1), np.flip(mask, 0)), strict=True):
        model.show(other, {PHRASE: [flipped.copy()]})
    foundation = FakeFoundation()
    view = PictureView(lambda frame: frames[frame], 3, foundation)
    options = AskOptions("oracle", mode="pqpp")
    dying = DyingSpeaker(model, calm.processor, calm.codec, "oracle")
    with pytest.raises(KeyboardInterrupt), KeptAnswers(tmp_path, {}, False) as memory:
        list(LanguageSource(dying, PHRASE, foundation, options, memory=memory).find(view))
    with KeptAnswers(tmp_path, {}, True) as memory:
        assert memory.resumed
        source = LanguageSource(calm, PHRASE, foundation, options, memory=memory)
        resumed = list(source.find(view))
        # The first picture's box and its points were known.
        assert source.tally.recalled == 2
    whole = list(LanguageSource(calm, PHRASE, foundation, options).find(view))
    assert len(whole) == 3
    assert [(one.bounds, one.score) for one in resumed] == [(one.bounds, one.score) for one in whole]
    model.calls = 0
    with KeptAnswers(tmp_path, {}, True) as memory:
        again = list(LanguageSource(calm, PHRASE, foundation, options, memory=memory).find(view))
    assert model.calls == 0
    assert len(again) == 3
    with pytest.raises(InputError, match="cannot resume"):
        KeptAnswers(tmp_path, {"phrase": "other"}, True)


def test_a_phrase_cannot_steer_the_model(oracle: tuple[OracleModel, HuggingSpeaker]) -> None:
    with pytest.raises(InputError, match="steers oracle"):
        search(oracle[1], "<image> of a <end> roof")


def test_a_model_without_questions_about_points_has_no_second_mode(tmp_path: Path) -> None:
    wording = tmp_path / "w.toml"
    wording.write_text('[any]\nbox = "detect {phrase}"\n')
    with pytest.raises(ConfigError, match="use --mode ppg"):
        search(make_oracle()[1], mode="pqpp", wording=wording)


def place(window: Window, left: int, top: int, right: int, bottom: int, score: float) -> Sighting:
    mask = np.ones((bottom - top, right - left), bool)
    bounds = Window(top, left, bottom - top, right - left)
    return Sighting(SceneObject(bounds, score=score, box=bounds.box, mask=mask), window)


def test_what_windows_cut_is_joined_and_nothing_stays_twice() -> None:
    left, right = Window(0, 0, 64, 64), Window(0, 48, 64, 64)
    found = rank(
        [
            # One object of which each window sees a part, up to its edge.
            place(left, 30, 10, 64, 30, 0.5),
            place(right, 48, 10, 90, 30, 0.7),
            # One object that both see whole, a little differently.
            place(left, 50, 40, 60, 50, 0.6),
            place(right, 50, 40, 61, 50, 0.9),
            # Another one that only touches the edge, and has no partner.
            place(left, 40, 54, 64, 60, 0.4),
        ],
        (64, 112),
    )
    assert [(one.bounds.col, one.bounds.row, one.bounds.width, one.bounds.height) for one in found] == [
        (50, 40, 11, 10),
        (30, 10, 60, 20),
        (40, 54, 24, 6),
    ]
    assert [one.score for one in found] == [0.9, 0.7, 0.4]
