"""Loading settlement models: what fits, what does not, and why, in one line each."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from domainsam.errors import WeightsError
from domainsam.foundation.fake import FakeFoundation
from domainsam.prompter.trained import save_prompter
from domainsam_cli import main
from domainsam_urban.model import settlement as model_module
from domainsam_urban.model.settlement import get_shape_settings, load_model
from domainsam_urban.settings import MapOptions, OutputOptions, RunOptions, ShapeOptions
from tests.urban.tiny import tiny_prompter, write_scene

LABELS = ("background", "settlement")


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of the tiny prompter on the fake foundation."""
    path = tmp_path_factory.mktemp("model") / "mine.safetensors"
    config = {"scene": {"resolution": 0.75, "tile": 256, "overlap": 96}}
    save_prompter(path, tiny_prompter(), FakeFoundation(), "urban", LABELS, config, {"iou": 0.5})
    return path


def asked(path: Path | None, **run: Any) -> MapOptions:
    return MapOptions(OutputOptions(()), model=path, run=RunOptions(device="cpu", **run))


def test_loaded_model_is_the_saved_one(model_file: Path) -> None:
    model = load_model(asked(model_file, precision="fp32"))
    assert (model.name, model.foundation_name, model.resolution) == ("mine", "fake", 0.75)
    assert (model.tile, model.overlap, model.precision) == (256, 96, "float32")
    saved = tiny_prompter().state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in model.prompter.state_dict().items())
    assert not model.prompter.training


def test_coarse_loads_no_foundation(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "load_foundation", lambda *given: pytest.fail("not needed"))
    assert load_model(asked(model_file, method="coarse")).foundation is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_is_handed_on(model_file: Path, precision: str) -> None:
    expected = {"fp32": "float32", "bf16": "bfloat16"}[precision]
    assert load_model(asked(model_file, precision=precision)).precision == expected


@pytest.mark.parametrize(
    ("able", "gain", "expected"),
    [
        ({}, 2.0, "float32"),
        ({"avx512_bf16": True}, 0.5, "float32"),
        ({"avx512_bf16": True}, 1.5, "bfloat16"),
        ({"amx_bf16": True}, 2.0, "bfloat16"),
    ],
)
def test_auto_is_short_where_the_processor_has_units_for_it_and_gains(
    model_file: Path, monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], gain: float, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, **able}, raising=False)
    monkeypatch.setattr("domainsam.machine.find_bfloat16_gain", lambda: gain)
    assert load_model(asked(model_file)).precision == expected


def test_auto_is_float32_where_torch_does_not_tell(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert load_model(asked(model_file)).precision == "float32"


def rewrite(source: Path, target: Path, **changes: Any) -> None:
    """The same tensors under a header with some values changed."""
    from safetensors import safe_open

    with safe_open(source, framework="pt") as file:
        header = json.loads(file.metadata()["domainsam"])
    save_file(load_file(source), target, {"domainsam": json.dumps({**header, **changes})})


def other_pack(good: Path, bad: Path) -> None:
    rewrite(good, bad, pack="ct")


def other_foundation(good: Path, bad: Path) -> None:
    rewrite(good, bad, foundation_sha256="0" * 64)


def other_version(good: Path, bad: Path) -> None:
    rewrite(good, bad, format_version=99)


def disguised_pickle(good: Path, bad: Path) -> None:
    bad.write_bytes(pickle.dumps({"prompter.weight": 1}))


def disguised_archive(good: Path, bad: Path) -> None:
    torch.save({"prompter.weight": torch.zeros(2)}, bad)


def truncated(good: Path, bad: Path) -> None:
    bad.write_bytes(good.read_bytes()[:5000])


def foreign(good: Path, bad: Path) -> None:
    save_file({"weight": torch.zeros(2)}, bad)


def absent(good: Path, bad: Path) -> None:
    """No file at all."""


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_pack, ["'ct'", "'urban'"]),
        (other_foundation, ["'fake'", "000000", "train again"]),
        (other_version, ["format version 99", "the version that wrote it"]),
        (disguised_pickle, ["is a pickle", "safetensors"]),
        (disguised_archive, ["is a pickle", "safetensors"]),
        (truncated, ["damaged or cut short", "copy it again"]),
        (foreign, ["no domainsam header"]),
        (absent, ["No such file"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_model_file_that_does_not_fit(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model_file: Path,
    spoil: Callable[..., Any],
    words: Any,
) -> None:
    scene, bad = write_scene(tmp_path / "scene.tif"), tmp_path / "bad.safetensors"
    spoil(model_file, bad)
    before = sorted(path.name for path in tmp_path.iterdir())
    arguments = ["urban", "map", str(scene), "-o", str(tmp_path / "out" / "s.gpkg"), "--model", str(bad)]
    assert main(arguments) == 3
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "bad.safetensors" in line
    for word in words:
        assert word in line
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_foundation_that_is_not_the_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model_file: Path
) -> None:
    scene = write_scene(tmp_path / "scene.tif")
    arguments = ["urban", "map", str(scene), "-o", str(tmp_path / "s.gpkg"), "--model", str(model_file)]
    assert main([*arguments, "--foundation", "sam_vit_z"]) == 3
    assert "'sam_vit_z'" in capsys.readouterr().err


def test_package_without_a_model_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "SHIPPED", tmp_path / "absent.safetensors")
    with pytest.raises(WeightsError, match=r"--model.*domainsam urban train"):
        load_model(asked(None))
    assert model_module.read_shipped_resolution() is None


def test_shapes_are_as_given_else_as_the_model_file_says(tmp_path: Path, model_file: Path) -> None:
    own = tmp_path / "own.safetensors"
    shape = {"shape": {"threshold": 0.3, "min_area": 250.0}}
    save_prompter(own, tiny_prompter(), FakeFoundation(), "urban", LABELS, shape, {})
    open_ = {"threshold": None, "min_area": None}
    assert get_shape_settings(own, open_) == ShapeOptions(0.3, 250.0)
    assert get_shape_settings(own, {**open_, "threshold": 0.6}) == ShapeOptions(0.6, 250.0)
    assert get_shape_settings(model_file, {**open_, "simplify": 2.0}) == ShapeOptions(0.5, 500.0, 2.0)
    assert get_shape_settings(None, open_) == ShapeOptions(min_area=500.0)
    assert get_shape_settings(None, {**open_, "min_area": 0.0}) == ShapeOptions()


@pytest.mark.parametrize(
    ("shape", "word"), [({"threshold": 1.5}, "threshold is 1.5"), ({"min_aera": 3.0}, "min_area")]
)
def test_impossible_shapes_in_a_model_file_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shape: dict[str, float], word: str
) -> None:
    own = tmp_path / "own.safetensors"
    save_prompter(own, tiny_prompter(), FakeFoundation(), "urban", LABELS, {"shape": shape}, {})
    scene = write_scene(tmp_path / "scene.tif")
    assert main(["urban", "map", str(scene), "-o", str(tmp_path / "s.gpkg"), "--model", str(own)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert word in line


def test_whole_way_from_model_file_to_polygons(tmp_path: Path, model_file: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif")
    arguments = ["urban", "map", str(scene), "-o", str(tmp_path / "s.gpkg"), "--model", str(model_file)]
    assert main([*arguments, "--tile", "64", "--resolution", "0.9", "--quiet"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"scene.tif", "s.gpkg", "s.stac.json"}
