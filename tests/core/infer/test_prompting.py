"""Objects that somebody marked, decoded by the same engine in a scene and in a stack of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.foundation.fake import FakeFoundation
from domainsam.grid import Grid
from domainsam.infer.blend import NODATA
from domainsam.infer.engine import prompt_scene
from domainsam.infer.objects import EngineResult
from domainsam.infer.options import EngineOptions
from domainsam.infer.store import RawRaster
from domainsam.protocols import Block, Click, SceneObject, View, Window
from tests.core.engine_fakes import ArraySource, textured_scene


@dataclass
class Marked:
    """A prompt source that gives what it holds."""

    objects: Sequence[SceneObject]

    def find(self, view: View) -> Iterator[SceneObject]:
        yield from self.objects


@dataclass
class StackSource:
    """Pictures one behind the other, held in memory."""

    pictures: Sequence[ArraySource]

    @property
    def grid(self) -> Grid:
        return Grid((len(self.pictures), *self.pictures[0].valid.shape), np.eye(4), "RAS")

    def read(self, window: Window) -> Block:
        block = self.pictures[window.frame].read(replace(window, frame=0))
        return Block(window, block.image, block.valid)


def box(left: int, top: int, right: int, bottom: int, **more: object) -> SceneObject:
    return SceneObject.marked(box=(left, top, right, bottom), **more)  # type: ignore[arg-type]


def stored(result: EngineResult, which: str = "probability") -> NDArray[np.uint8]:
    with RawRaster.open(getattr(result, which), result.shape, result.frames) as raster:
        return np.stack([raster.read(Window(0, 0, *result.shape, frame)) for frame in range(result.frames)])


def run(
    source: ArraySource | StackSource, objects: Sequence[SceneObject], folder: Path, **more: object
) -> EngineResult:
    options = EngineOptions(field=128, tile=64, overlap=32, workers=1)
    options = replace(options, **{key: value for key, value in more.items() if key != "labels"})  # type: ignore[arg-type]
    labels: Sequence[str] = more.get("labels", ())  # type: ignore[assignment]
    return prompt_scene(source, Marked(objects), FakeFoundation(), folder, options, labels=labels)  # type: ignore[arg-type]


def test_a_box_becomes_a_mask_in_its_place_and_nothing_elsewhere(tmp_path: Path) -> None:
    source = textured_scene((300, 280))
    result = run(source, [box(100, 120, 150, 160)], tmp_path)
    values = stored(result)[0]
    inside = (values >= result.level) & (values != NODATA)
    rows, cols = np.nonzero(inside)
    assert rows.min() >= 110
    assert rows.max() < 170
    assert cols.min() >= 90
    assert cols.max() < 160
    assert inside[125:155, 105:145].mean() > 0.9
    assert ((values == NODATA) == ~source.valid).all()
    assert result.labels is None
    assert result.found == 1


def test_neither_batches_nor_strips_nor_tiles_change_the_answer(tmp_path: Path) -> None:
    source = textured_scene((300, 280))
    objects = [
        box(100, 120, 150, 160),
        SceneObject.marked(points=[Click(40.5, 200.5), Click(60.5, 230.5, inside=False)]),
        SceneObject.marked(points=[Click(220.5, 200.5)]),
        box(20, 20, 270, 290),
    ]
    whole = stored(run(source, objects, tmp_path / "a"))
    others = [
        run(source, objects, tmp_path / "b", batch_size=1),
        run(source, objects, tmp_path / "c", strip_width=96),
        run(source, objects, tmp_path / "d", tile=96, overlap=0, workers=3),
    ]
    for other in others:
        np.testing.assert_array_equal(stored(other), whole)


def test_objects_bear_labels_and_the_surer_one_holds_a_pixel(tmp_path: Path) -> None:
    source = textured_scene((200, 200), invalid=False)
    objects = [box(20, 20, 70, 70, label="pond"), box(120, 110, 180, 160, label="roof")]
    result = run(source, objects, tmp_path, labels=("roof", "pond"))
    labels = stored(result, "labels")[0]
    assert result.names == ("roof", "pond")
    assert set(np.unique(labels[30:60, 30:60])) == {2}
    assert set(np.unique(labels[120:150, 130:170])) == {1}
    assert ((labels > 0) == (stored(result)[0] >= result.level)).all()


def test_a_mark_in_a_frame_stays_in_that_frame(tmp_path: Path) -> None:
    pictures = [textured_scene((160, 128), seed, invalid=False) for seed in range(3)]
    objects = [box(30, 40, 80, 90, frame=1)]
    stack = stored(run(StackSource(pictures), objects, tmp_path / "stack"))
    alone = stored(run(pictures[1], [box(30, 40, 80, 90)], tmp_path / "alone"))
    np.testing.assert_array_equal(stack[1], alone[0])
    assert not stack[[0, 2]].any()


def test_a_rough_mask_is_decoded_where_it_lies(tmp_path: Path) -> None:
    mask = np.zeros((40, 50), np.bool_)
    mask[4:, :46] = True
    mark = SceneObject(Window(120, 100, 40, 50), mask=mask)
    result = run(textured_scene((300, 280)), [mark], tmp_path)
    rows, cols = np.nonzero((stored(result)[0] >= result.level) & (stored(result)[0] != NODATA))
    assert 100 < rows.mean() < 170
    assert 90 < cols.mean() < 160


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ([], "at least one"),
        ([box(1, 1, 9, 9, label="lake")], "expected one of: roof, pond"),
        ([SceneObject.marked(points=[Click(5, 5), Click(190, 190)])], "sees 128 x 128 at once"),
    ],
)
def test_marks_that_cannot_be_decoded_are_refused(
    tmp_path: Path, objects: list[SceneObject], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        run(textured_scene((200, 200)), objects, tmp_path, labels=("roof", "pond"))
