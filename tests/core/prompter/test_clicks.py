"""What a person marked reaches the engine as it is, and what does not fit the view is named."""

from __future__ import annotations

import pytest

from domainsam.errors import InputError
from domainsam.prompter.clicks import Clicks
from domainsam.protocols import Click, PromptSource, SceneObject, View
from domainsam.testing.contracts import ArrayView, PromptSourceContract

MARKED = (
    SceneObject.marked((Click(10.5, 20.5), Click(1, 1, inside=False)), label="roof"),
    SceneObject.marked(box=(0, 0, 64, 48.0), frame=1),
)


class TestClicks(PromptSourceContract):
    @pytest.fixture
    def source(self) -> PromptSource:
        return Clicks(MARKED)


@pytest.fixture
def view() -> View:
    return ArrayView((48, 64), frames=2)


def test_marks_are_given_in_their_order(view: View) -> None:
    assert tuple(Clicks(MARKED).find(view)) == MARKED
    assert list(Clicks(()).find(view)) == []


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (
            SceneObject.marked((Click(64, 3),)),
            r"p\.csv: object 2: point \(64, 3\) lies outside; the scene has",
        ),
        (SceneObject.marked((Click(3, -0.5),), label="b"), r"object 2 \(b\): point \(3, -0.5\)"),
        (SceneObject.marked((Click(3, 3), Click(99, 3, inside=False))), r"x from 0 to 64 and y from 0 to 48"),
        (SceneObject.marked(box=(60, 1, 66, 4)), r"left, top, right, bottom are \(60, 1, 66, 4\), partly"),
        (SceneObject.marked((Click(3, 3),), frame=2), "lies in frame 2; the scene has frames 0 to 1"),
    ],
)
def test_marks_beside_the_view_are_named(view: View, one: SceneObject, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Clicks((MARKED[0], one), "p.csv").find(view)
