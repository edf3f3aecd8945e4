"""A specialist as a prompt source finds what the first pass of a mapped scene finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from domainsam.foundation.fake import FakeFoundation
from domainsam.infer.engine import map_scene, prompt_scene
from domainsam.infer.networks import Networks
from domainsam.infer.objects import COARSE_FILE
from domainsam.infer.options import EngineOptions
from domainsam.infer.specialist import SpecialistSource
from domainsam.infer.store import RawRaster
from domainsam.infer.view import SceneView
from domainsam.prompter.segformer import SegFormerPrompter
from domainsam.protocols import PromptSource, Window
from domainsam.testing.contracts import PromptSourceContract
from tests.core.engine_fakes import ArraySource, BrightPrompter, one_thread, textured_scene

OPTIONS = EngineOptions(tile=96, overlap=32, workers=1, min_pixels=6, field=128)
SHAPE = (300, 280)


class TestSpecialist(PromptSourceContract):
    @pytest.fixture
    def source(self) -> PromptSource:
        return SpecialistSource(BrightPrompter(0.5), replace(OPTIONS, tile=64, overlap=32), label="bright")


def view_of(source: ArraySource) -> SceneView:
    foundation = FakeFoundation()
    return SceneView(source, Networks(foundation, torch.device("cpu"), "float32"), foundation)


def test_its_objects_are_the_components_of_a_mapped_scene(tmp_path: Path) -> None:
    scene = textured_scene(SHAPE)
    with one_thread():
        mapped = map_scene(scene, BrightPrompter(), None, tmp_path, replace(OPTIONS, method="coarse"))
        objects = list(SpecialistSource(BrightPrompter(), OPTIONS).find(view_of(scene)))
    assert len(mapped.components) > 3
    assert [found.bounds for found in objects] == [item.bounds for item in mapped.components]
    assert [found.score for found in objects] == [item.mean_probability for item in mapped.components]
    with RawRaster.open(tmp_path / COARSE_FILE, SHAPE) as coarse:
        inside = coarse.read(Window(0, 0, *SHAPE))
    union = np.zeros(SHAPE, bool)
    for found, item in zip(objects, mapped.components, strict=True):
        assert found.mask is not None
        assert int(found.mask.sum()) == item.area
        union[found.bounds.slices] |= found.mask
    foreground = (inside >= mapped.level) & (inside != 255)
    assert not (union & ~foreground).any()
    assert foreground.sum() - union.sum() < OPTIONS.min_pixels * mapped.found


def test_what_it_finds_is_decoded_and_bears_its_label(tmp_path: Path) -> None:
    scene = textured_scene(SHAPE)
    with one_thread():
        source = SpecialistSource(BrightPrompter(), OPTIONS, label="bright")
        answer = prompt_scene(scene, source, FakeFoundation(), tmp_path, OPTIONS)
    assert answer.names == ("bright",)
    assert len(answer.objects) == answer.found > 3
    assert all(found.bounds is not None and 0 < found.score <= 1 for found in answer.objects)
    assert (
        answer.object_pixels
        / sum(int(found.mask.sum()) for found in source.find(view_of(scene)) if found.mask is not None)
        > 0.5
    )


def test_a_segformer_computes_where_its_tensors_are() -> None:
    assert SpecialistSource(SegFormerPrompter().eval()).device == torch.device("cpu")
