"""Scores of a model and its variants, mapped on the way."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from affine import Affine

from domainsam.errors import CheckpointError, InputError
from domainsam_urban.evaluate.evaluate import ABLATION, make_answers
from domainsam_urban.settings import MapOptions, OutputOptions, ShapeOptions
from tests.urban.commands.test_evaluate import call
from tests.urban.evaluate.two_scenes import truth_mask
from tests.urban.mask_files import METRE, write_raster


@dataclass(frozen=True)
class Loaded:
    """A model as far as it is asked: where it came from, and the ground pixel that it has learnt."""

    path: Path | None
    resolution: float | None = None


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    """Stand-ins for the modules that load torch: what is tested is how they are called."""
    pipeline, model = ModuleType("domainsam_urban.map"), ModuleType("domainsam_urban.model.settlement")
    model.load_model = lambda options: Loaded(options.model)  # type: ignore[attr-defined]
    model.get_shape_settings = lambda path, given: ShapeOptions(given["threshold"] or 0.5)  # type: ignore[attr-defined]
    model.get_method = lambda path: "full"  # type: ignore[attr-defined]
    for module in (pipeline, model):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return pipeline, model


def test_model_runs_once_for_every_variant(folder: Path, networks: tuple[ModuleType, ModuleType]) -> None:
    seen: list[tuple[str, frozenset[str], Any, float]] = []
    kept: list[Path] = []

    def map_scenes(inputs: tuple[str, ...], options: MapOptions, model: Any, first_pass: Path) -> Any:
        kept.append(first_pass)
        seen.append((options.run.method, options.run.disabled, model, options.shape.threshold))
        mask = truth_mask(shift=0 if options.run.method == "full" else 9)
        affine = METRE @ Affine.translation(0 if "a_image" in inputs[0] else 500, 0)
        assert options.outputs.probability is not None
        write_raster(options.outputs.probability, mask * np.uint8(254), affine)
        return SimpleNamespace(failures=())

    networks[0].map_scenes = map_scenes  # type: ignore[attr-defined]
    arguments = ("--model", "m.safetensors", "--threshold", 0.4, "--block", 40)
    result = call(folder, "--labels", folder, "--ablation", "--json", *arguments)
    assert result.exit_code == 0, result.output
    # Pass one of a scene is shared by its variants, and by nothing else.
    assert [kept.count(path) for path in dict.fromkeys(kept)] == [len(ABLATION)] * 2
    assert seen == 2 * [(v.method, v.disabled, Loaded(Path("m.safetensors")), 0.4) for v in ABLATION]
    document = json.loads(result.stdout)
    assert list(document["scores"]) == [variant.name for variant in ABLATION]
    assert document["iou_lead"]["coarse"]["low"] > 0
    assert document["iou_lead"]["no box"]["value"] == 0

    printed = call(folder, "--labels", folder, "--ablation", "--report", folder / "r.html", *arguments)
    assert re.search(r"^no box +1\.000 \[0\.510, 1\.000\]", printed.stdout, re.MULTILINE)
    assert re.search(r"^Lead in IoU +\+0\.", printed.stdout, re.MULTILINE)
    page = (folder / "r.html").read_text()
    assert "What each part of the prompt is worth" in page
    assert "no SegFormer embedding" in page


def test_a_scene_that_cannot_be_mapped_is_skipped_but_a_model_that_cannot_be_used_stops(
    folder: Path, networks: tuple[ModuleType, ModuleType]
) -> None:
    pipeline, model = networks
    pipeline.map_scenes = lambda *given: SimpleNamespace(failures=(("a", "scene is empty"),))  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="scene is empty"):
        make_answers(MapOptions(OutputOptions(vectors=())))(folder / "a_image.tif", folder)

    def refuse(options: MapOptions) -> None:
        raise CheckpointError("model 'm' is a pickle")

    model.load_model = refuse  # type: ignore[attr-defined]
    result = call(folder, "--labels", folder)
    assert isinstance(result.exception, CheckpointError)
