"""The contracts for prompt sources and namers hold for honest ones and catch dishonest ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from domainsam.foundation import load_foundation
from domainsam.protocols import Namer, PromptSource, SceneObject, View, Window, Word, WordMapper
from domainsam.testing.contracts import ArrayView, NamerContract, PromptSourceContract, WordMapperContract
from domainsam.vocabulary.fake import FakeNamer


class BrightestQuarter:
    """Finds the brightest quarter of every frame, as a rough mask."""

    def find(self, view: View) -> Iterator[SceneObject]:
        for frame in range(view.frames):
            window = Window(0, 0, *view.shape, frame)
            grey = view.image(window).mean(axis=0)
            bright = grey > np.quantile(grey, 0.75)
            rows, cols = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
            bounds = Window(int(rows[0]), int(cols[0]), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1, frame)
            yield SceneObject(bounds, "bright", 0.5, mask=bright[bounds.slices])


class TestBrightestQuarter(PromptSourceContract):
    @pytest.fixture
    def source(self) -> PromptSource:
        return BrightestQuarter()


class TestFakeNamer(NamerContract):
    @pytest.fixture
    def namer(self) -> Namer:
        return FakeNamer(64)


class TestFakeMapper(WordMapperContract):
    @pytest.fixture
    def mapper(self) -> WordMapper:
        return FakeNamer()


class Neighbourly(FakeNamer):
    """Names an object by how many others there are: a namer that breaks the contract."""

    def name_objects(
        self, view: View, objects: Sequence[SceneObject], words: Sequence[Word]
    ) -> NDArray[np.float32]:
        return super().name_objects(view, objects, words) / np.float32(len(objects))


def test_a_namer_that_looks_at_its_neighbours_breaks_the_contract() -> None:
    contract, view = NamerContract(), ArrayView((96, 128), 2)
    contract.test_an_object_is_named_whatever_the_others(FakeNamer(64), view)
    with pytest.raises(AssertionError):
        contract.test_an_object_is_named_whatever_the_others(Neighbourly(64), view)


def test_a_view_encodes_a_window_once() -> None:
    view = ArrayView((64, 96), frames=2, foundation=load_foundation("fake"))
    window = Window(32, 64, 64, 64, 1)
    assert view.features(window) is view.features(window)
    image = view.image(window)
    assert image.shape == (3, 64, 64)
    assert image[:, :32, :32].all()
    assert not image[:, 32:].any()
    assert not image[:, :, 32:].any()


def test_an_object_beside_the_view_breaks_the_contract() -> None:
    class Beside:
        def find(self, view: View) -> Iterator[SceneObject]:
            yield SceneObject.marked(box=(0, 0, view.shape[1] + 1, 5))

    with pytest.raises(AssertionError):
        PromptSourceContract().test_objects_lie_in_the_view(Beside(), ArrayView())
