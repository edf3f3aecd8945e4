"""A map of likeness gives outlines, ranked, of what looks like an example in colour and texture."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.foundation import load_foundation
from domainsam.prompter.dense import (
    LOOKED_AT,
    TRIES,
    DenseSource,
    DenseTarget,
    cut_parts,
    learn_dense,
    measure_spread,
)
from domainsam.prompter.search import ExampleOptions
from domainsam.protocols import Block, Foundation, PromptSource, SceneObject, Window
from domainsam.testing.contracts import ArrayView, PromptSourceContract
from tests.core.prompter.test_example import BLUE, RED, disc, draw, iou, mark, see

PLACES = ((70, 80), (170, 280), (70, 300))


@pytest.fixture(scope="module")
def fake() -> Foundation:
    return load_foundation("fake")


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    """Two red discs and a blue one."""
    return draw([(PLACES[0], RED), (PLACES[1], RED), (PLACES[2], BLUE)])


@pytest.fixture(scope="module")
def target(fake: Foundation, picture: NDArray[np.uint8]) -> DenseTarget:
    return learn_dense([(see(picture, fake), mark(disc(PLACES[0], 26, picture.shape[:2])))], fake)


class TestDenseSource(PromptSourceContract):
    @pytest.fixture
    def source(self, fake: Foundation) -> PromptSource:
        view = ArrayView(frames=2, foundation=fake)
        return DenseSource(learn_dense([(view, mark(disc((30, 40), 9, (64, 96))))], fake), fake)


def test_what_looks_alike_is_outlined_and_the_rest_is_not(
    fake: Foundation, picture: NDArray[np.uint8], target: DenseTarget
) -> None:
    # A disc of 26 pixels' radius.
    assert target.area == disc(PLACES[0], 26, picture.shape[:2]).sum()
    assert np.isnan(target.dice)
    found = list(DenseSource(target, fake, ExampleOptions(smaller=0.5, larger=2.0)).find(see(picture, fake)))
    assert len(found) == 2
    for place in PLACES[:2]:
        truth = disc(place, 26, picture.shape[:2])
        assert max(iou(one, truth) for one in found) > 0.85
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0.9


def test_a_large_scene_is_not_read_whole_to_learn_how_it_varies(
    fake: Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.zeros((fake.image_size * 12, fake.image_size * 12, 3), np.uint8)
    picture[10:40, 10:40] = RED
    view = see(picture, fake)
    one = mark(np.pad(np.ones((30, 30), bool), ((10, len(picture) - 40), (10, len(picture) - 40))))
    read: list[Window] = []
    block = view.block

    def counted(window: Window) -> Block:
        read.append(window)
        return block(window)

    monkeypatch.setattr(view, "block", counted)
    spread = measure_spread([(view, one)], fake.image_size)
    # Those that are passed over, those that are looked at, and the example's own.
    assert len(read) <= LOOKED_AT * (TRIES + 1) + 1
    assert spread.covariance.shape == (len(spread.mean),) * 2


def test_nothing_alike_is_an_answer(fake: Foundation, target: DenseTarget) -> None:
    empty = draw([])
    found = DenseSource(target, fake, ExampleOptions(smaller=0.2, larger=5.0)).find(see(empty, fake))
    assert list(found) == []


def test_a_counter_example_is_left_out(fake: Foundation) -> None:
    orange = (210, 70, 55)
    picture = draw([(PLACES[0], RED), (PLACES[1], orange), (PLACES[2], RED)])
    view = see(picture, fake)
    example, against = ((view, mark(disc(place, 26, picture.shape[:2]))) for place in PLACES[:2])
    options = ExampleOptions(smaller=0.3, larger=3.0)
    assert len(list(DenseSource(learn_dense([example], fake), fake, options).find(view))) == 3
    found = list(DenseSource(learn_dense([example], fake, [against]), fake, options).find(view))
    assert len(found) == 2
    truth = disc(PLACES[1], 26, picture.shape[:2])
    assert max(iou(one, truth) for one in found) == 0


def test_several_examples_are_left_out_in_turns(fake: Foundation, picture: NDArray[np.uint8]) -> None:
    view = see(picture, fake)
    examples = [(view, mark(disc(place, 26, picture.shape[:2]))) for place in PLACES[:2]]
    assert learn_dense(examples, fake).dice > 0.9


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (SceneObject.marked(box=(10, 10, 30, 30)), "without its outline"),
        (SceneObject(Window(0, 0, 256, 384), mask=np.ones((256, 384), bool)), "covers everything"),
        (SceneObject(Window(250, 10, 20, 20), mask=np.ones((20, 20), bool)), "the scene has 256 rows"),
        (SceneObject(Window(10, 10, 20, 20, 3), mask=np.ones((20, 20), bool)), "1 frame"),
    ],
)
def test_a_bad_example_is_one_line(
    fake: Foundation, picture: NDArray[np.uint8], one: SceneObject, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        learn_dense([(see(picture, fake), one)], fake)


def test_no_example_and_another_foundation_are_refused(fake: Foundation, target: DenseTarget) -> None:
    with pytest.raises(InputError, match="no example was given"):
        learn_dense([], fake)
    with pytest.raises(InputError, match="another foundation"):
        DenseSource(target, load_foundation("embedded"))


def test_what_touches_is_cut_where_it_is_narrow() -> None:
    """Two squares of 10 cells that touch along 4."""
    alike = np.zeros((30, 40), bool)
    alike[5:15, 5:15] = alike[5:15, 16:26] = True
    alike[8:12, 15] = True
    whole = cut_parts(alike, largest=1000, radius=5)
    assert len(np.unique(whole)) == 2
    parts = cut_parts(alike, largest=150, radius=5)
    assert parts[10, 8] != parts[10, 22]
    assert (parts > 0).tolist() == alike.tolist()
