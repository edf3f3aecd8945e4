"""Every object is looked at whole, in the same window whatever the others are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from domainsam.foundation import load_foundation
from domainsam.protocols import SceneObject, Window
from domainsam.testing.contracts import ArrayView
from domainsam.vocabulary.looks import encode_look, place_boxes, place_masks, plan_looks, read_look


def some_objects(count: int, shape: tuple[int, int], seed: int = 0) -> list[SceneObject]:
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        height, width = generator.integers(1, 120, 2)
        row = int(generator.integers(0, max(1, shape[0] - height)))
        col = int(generator.integers(0, max(1, shape[1] - width)))
        found.append(
            SceneObject.marked(box=(col, row, min(shape[1], col + width), min(shape[0], row + height)))
        )
    return found


@pytest.mark.parametrize("shape", [(40, 50), (64, 64), (65, 300), (500, 333)])
def test_windows_show_objects_whole(shape: tuple[int, int]) -> None:
    objects = some_objects(60, shape)
    looks = plan_looks(shape, objects, 64)
    seen = sorted(number for look in looks for number in look.objects)
    assert seen == list(range(60))
    for look in looks:
        window = look.window
        assert window.width % 32 == 0
        assert window.height % 32 == 0
        assert -32 <= window.row <= max(0, shape[0] - 1)
        for number in look.objects:
            bounds = objects[number].bounds
            assert window.row <= bounds.row
            assert window.col <= bounds.col
            assert bounds.row + bounds.height <= window.row + window.height
            assert bounds.col + bounds.width <= window.col + window.width
            assert plan_looks(shape, [objects[number]], 64)[0].window == window
        boxes = place_boxes(look, objects)
        assert boxes.min() >= 0
        assert boxes.max() <= 64 + 1e-3


def test_masks_and_boxes_fall_on_the_same_place() -> None:
    mask = np.zeros((100, 150), bool)
    mask[20:80, 30:120] = True
    objects = [SceneObject(Window(10, 20, 100, 150), mask=mask), SceneObject.marked(box=(25, 15, 150, 90))]
    (look, *_) = plan_looks((400, 400), objects, 64)
    picture = place_masks(look, objects)
    boxes = place_boxes(look, objects)
    for shown, box in zip(picture, boxes, strict=True):
        area = float(shown.sum())
        left, top, right, bottom = box
        assert float(shown[int(top) + 1 : int(bottom), int(left) + 1 : int(right)].sum()) == pytest.approx(
            area, rel=0.15
        )
    assert float(picture[0].sum()) == pytest.approx(60 * 90 * look.scale**2, rel=0.02)
    coarse = place_masks(look, objects, stride=4)
    assert coarse.shape[1:] == (16, 16)
    assert float(coarse[0].sum()) * 16 == pytest.approx(float(picture[0].sum()), rel=1e-4)


def test_a_look_takes_the_views_features_where_it_can() -> None:
    fake = load_foundation("fake")
    view = ArrayView((128, 128), foundation=fake)
    (small,) = plan_looks(view.shape, [SceneObject.marked(box=(70, 70, 90, 90))], 64)
    assert encode_look(view, small, fake) is view.features(small.window)
    plain = ArrayView((128, 128))
    assert torch.equal(encode_look(plain, small, fake).image, view.features(small.window).image)
    (large,) = plan_looks(view.shape, [SceneObject.marked(box=(5, 5, 120, 120))], 64)
    assert large.window.width == 128
    picture, valid = read_look(view, large)
    assert picture.shape == (3, 64, 64)
    assert valid.all()
    assert picture.mean() == pytest.approx(view.image(large.window).mean(), abs=0.01)
    assert encode_look(view, large, fake).size == (64, 64)
