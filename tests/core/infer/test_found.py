"""What became of marked objects: scores and bounds over the crops they were decoded in."""

from __future__ import annotations

from domainsam.infer.decode import Outline
from domainsam.infer.found import FoundObject, gather_objects, name_objects
from domainsam.protocols import Click, SceneObject, Window

CAT = SceneObject.marked((Click(3, 4),), label="cat", score=0.5)
BOX = SceneObject.marked(box=(0, 0, 9, 9))


def test_scores_weigh_crops_by_pixels_and_bounds_hold_all_parts() -> None:
    outlines = {
        (1, 0, 0, 0): Outline(0.8, 30, Window(2, 2, 4, 4)),
        (1, 0, 0, 32): Outline(0.4, 10, Window(3, 5, 2, 9)),
        (2, 0, 0, 0): Outline(0.9, 81, None),
    }
    assert gather_objects((CAT, BOX), outlines) == (
        FoundObject("cat", 0.5 * 0.7, Window(2, 2, 4, 12)),
        FoundObject(None, 0.9, None),
    )


def test_objects_get_a_label_only_where_others_bear_one() -> None:
    assert name_objects((BOX,), ()) == (BOX,)
    assert [mark.label for mark in name_objects((BOX, CAT), ())] == ["object", "cat"]
    assert name_objects((BOX, CAT), ("cat",)) == (BOX, CAT)
