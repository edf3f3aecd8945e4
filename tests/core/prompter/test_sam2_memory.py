"""SAM 2's memory through the official predictor, on pictures that are read when they are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from domainsam.errors import ConfigError
from domainsam.foundation import load_foundation
from domainsam.foundation.embedded_sam2 import TinySam2Foundation
from domainsam.prompter.frozen import freeze, thaw
from domainsam.prompter.sam2_memory import LazyPictures, begin_state, follow_by_memory, make_video_predictor
from domainsam.prompter.track import KINDS, Course
from domainsam.protocols import Click, SceneObject, Window
from domainsam.testing.contracts import ArrayView
from tests.core.tiny_sam2 import SIDE, tiny_foundation


@pytest.fixture(scope="module")
def foundation() -> TinySam2Foundation:
    made = tiny_foundation()
    made.name = "sam2.1_hiera_tiny"
    # Random weights would say that there is no object, and every mask would be empty.
    head = made.model.sam_mask_decoder.pred_obj_score_head
    torch.nn.init.constant_(list(head.parameters())[-1], 10.0)
    return made


def marked(frame: int) -> SceneObject:
    return SceneObject(Window(8, 8, 24, 24, frame), mask=np.ones((24, 24), bool))


def test_answers_are_the_official_predictors(foundation: TinySam2Foundation, tmp_path: Path) -> None:
    """The official way: the film as JPEG files in a folder; ours: a view of the same files."""
    view = ArrayView((SIDE, SIDE), frames=4)
    for frame in range(4):
        picture = view.image(Window(0, 0, SIDE, SIDE, frame)).transpose(1, 2, 0)
        Image.fromarray(np.rint(picture * 255).astype(np.uint8)).save(tmp_path / f"{frame}.jpg", quality=100)
        with Image.open(tmp_path / f"{frame}.jpg") as stored:
            read = np.asarray(stored, np.float32) / 255
        view._images[frame] = read.transpose(2, 0, 1)
    predictor = make_video_predictor(foundation.model)
    with torch.inference_mode():
        state = predictor.init_state(str(tmp_path))
        predictor.add_new_points_or_box(state, 1, 1, points=[[20, 20], [50, 50]], labels=[1, 0])
        official = {
            frame: logits[0, 0].numpy() > 0 for frame, _, logits in predictor.propagate_in_video(state, 1)
        }
    clicks = (Click(20, 20), Click(50, 50, inside=False))
    ours = {
        answer.frame: answer.labels == 1
        for answer in follow_by_memory(view, [SceneObject.marked(clicks, frame=1)], foundation)
    }
    assert sorted(ours) == [0, 1, 2, 3]
    assert any(mask.any() and not mask.all() for mask in official.values())
    for frame, mask in official.items():
        assert np.mean(ours[frame] != mask) < 0.002, f"picture {frame}"


def test_memory_stays_flat(foundation: TinySam2Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    from domainsam.prompter import sam2_memory

    monkeypatch.setattr(sam2_memory, "REMEMBERED", 2)
    held: list[int] = []

    def begin(predictor: object, view: ArrayView) -> dict[str, object]:
        state = begin_state(predictor, view)
        states.append(state)
        return state

    states: list[dict[str, object]] = []
    monkeypatch.setattr(sam2_memory, "begin_state", begin)
    for _ in follow_by_memory(ArrayView((SIDE, SIDE), frames=7), [marked(0)], foundation):
        outputs = states[0]["output_dict_per_obj"]
        held.append(len(outputs[0]["non_cond_frame_outputs"]))
    assert len(held) == 7
    assert max(held) <= 3


def test_memory_goes_on_from_disk_where_it_was(foundation: TinySam2Foundation) -> None:
    """Two objects, marked in pictures 1 and 3 of five: 1 to 4 forwards, then 2 to 0 backwards."""
    view, marks = ArrayView((SIDE, SIDE), frames=5), [marked(1), marked(3)]
    whole = list(follow_by_memory(view, marks, foundation))
    assert [one.frame for one in whole] == [1, 2, 3, 4, 2, 1, 0]
    for count in (2, 4, 6):
        course = Course()
        answers = follow_by_memory(view, marks, foundation, course)
        for _ in range(count):
            next(answers)
        kept = thaw(freeze(course, KINDS), KINDS)
        rest = list(follow_by_memory(view, marks, foundation, kept))
        assert [one.frame for one in rest] == [one.frame for one in whole[count:]]
        for one, other in zip(rest, whole[count:], strict=True):
            assert np.array_equal(one.labels, other.labels)
            assert one.scores == other.scores


def test_a_foundation_without_trained_memory_is_refused() -> None:
    view = ArrayView((SIDE, SIDE), frames=2)
    for name in ("fake", "embedded_sam2"):
        with pytest.raises(ConfigError, match="memory of an official SAM 2"):
            list(follow_by_memory(view, [marked(0)], load_foundation(name)))
    assert LazyPictures(view, 32)[1].shape == (3, 32, 32)
