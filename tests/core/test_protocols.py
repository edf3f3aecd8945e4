"""The values at the seams: what they hold, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from domainsam.errors import InputError
from domainsam.protocols import Click, SceneObject, Window


def test_window_of_the_first_frame_is_what_it_was() -> None:
    assert Window(1, 2, 3, 4) == Window(1, 2, 3, 4, frame=0)
    assert hash(Window(1, 2, 3, 4)) == hash(Window(1, 2, 3, 4, 0))
    assert Window(1, 2, 3, 4, frame=1) != Window(1, 2, 3, 4)


def test_bounds_are_the_smallest_window_of_box_and_inner_points() -> None:
    clicks = (Click(10.5, 20.0), Click(12.0, 19.9), Click(90.0, 90.0, inside=False))
    marked = SceneObject.marked(clicks, frame=3, label="liver")
    assert marked.bounds == Window(19, 10, 2, 3, 3)
    assert not marked.extent_known
    both = SceneObject.marked(clicks, box=(9.25, 18.0, 12.0, 30.5))
    assert both.bounds == Window(18, 9, 13, 4)
    assert both.extent_known


def test_mask_covers_bounds() -> None:
    rough = SceneObject(Window(5, 6, 2, 3), mask=np.ones((2, 3), bool))
    assert rough.extent_known
    with pytest.raises(InputError, match=r"mask is \(3, 2\) bool; expected bool of its bounds, \(2, 3\)"):
        SceneObject(Window(5, 6, 2, 3), mask=np.ones((3, 2), bool))
    with pytest.raises(InputError, match="mask is empty"):
        SceneObject(Window(5, 6, 2, 3), mask=np.zeros((2, 3), bool))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no box, no mask and no point inside"),
        ({"points": (Click(1, 1, inside=False),)}, "no point inside"),
        ({"points": (Click(float("nan"), 1),)}, "expected finite numbers"),
        ({"box": (4.0, 0.0, 4.0, 2.0)}, "left < right"),
        ({"box": (0.0, 0.0, 11.0, 2.0)}, "bounds are only"),
        ({"box": (0.0, 0.0, 1.0, 2.0), "score": 1.5}, "expected 0 to 1"),
    ],
)
def test_impossible_objects_are_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SceneObject(Window(0, 0, 10, 10), **given)  # type: ignore[arg-type]
