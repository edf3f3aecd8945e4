"""Files for ONNX Runtime and OpenVINO answer as torch does, say whose they are, or are refused in a line."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from domainsam.errors import CheckpointError, ConfigError, DependencyError, InputError, WeightsError
from domainsam.foundation import export, load_foundation, runtimes
from domainsam.foundation.efficient import SPECS, EfficientFoundation, load, save_network
from domainsam.foundation.export import TOLERANCE, compare, export_foundation, trace
from domainsam.foundation.exported import ExportedFoundation, load_exported
from domainsam.foundation.sam import SamFoundation, SamNetwork, SamSize
from domainsam.foundations import FOUNDATIONS
from domainsam.prompts import PromptSet
from domainsam.protocols import Foundation
from domainsam.testing.contracts import make_images
from tests.core.generalists import random_network
from tests.core.official import lively
from tests.core.runtimes import need_runtime

CPU = torch.device("cpu")
TINY = {"width": 48, "heads": 3, "depth": 1, "segment": 16, "dilation": 2}
TARGETS = ("onnx", pytest.param("openvino", marks=pytest.mark.slow))


def make_tiny() -> EfficientFoundation:
    """An efficient generalist of the smallest size, its weights random."""
    return EfficientFoundation(
        random_network("lightening", **TINY), replace(SPECS["lightening"], image_size=64)
    )


@pytest.fixture(scope="module")
def tiny() -> EfficientFoundation:
    return make_tiny()


Exports = Callable[[str], Path]


@pytest.fixture(scope="module")
def exports(tiny: EfficientFoundation, tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """The smallest generalist exported to a runtime, once."""

    @cache
    def make(target: str) -> Path:
        made = tmp_path_factory.mktemp(target)
        done = export_foundation(tiny, made, target)
        assert done.facts.difference <= 1e-4 < TOLERANCE
        assert sorted(path.name for path in made.iterdir()) == sorted(done.files), "and nothing else"
        return made

    return make


@pytest.fixture(params=TARGETS)
def folder(request: pytest.FixtureRequest, exports: Exports) -> Path:
    """The smallest generalist, exported."""
    need_runtime(request.param)
    return exports(request.param)


@pytest.fixture
def onnx_folder(exports: Exports, tmp_path: Path) -> Path:
    """An export to ONNX for tests that spoil it."""
    need_runtime("onnx")
    return Path(shutil.copytree(exports("onnx"), tmp_path / "onnx"))


def test_any_size_batch_and_number_of_prompts_gives_what_torch_gives(
    folder: Path, tiny: EfficientFoundation
) -> None:
    exported = load_foundation(folder)
    assert isinstance(exported, ExportedFoundation)
    assert isinstance(exported, Foundation)
    assert (exported.name, exported.image_size, exported.sha256) == ("lightening", 64, tiny.sha256)
    images = make_images(3, (96, 160))
    with torch.inference_mode():
        wanted, given = tiny.encode(images), exported.encode(images)
        torch.testing.assert_close(given.image, wanted.image, atol=1e-4, rtol=1e-4)
        count = 18  # more than are decoded together
        corners = torch.tensor([20.0, 10.0, 90.0, 80.0]) + torch.arange(count)[:, None]
        prompts = PromptSet.from_boxes(corners, image_index=torch.arange(count) % 3)
        for many in (False, True):
            one, other = tiny.decode(wanted, prompts, many), exported.decode(wanted, prompts, many)
            torch.testing.assert_close(other.logits, one.logits, atol=1e-3, rtol=1e-3)
            torch.testing.assert_close(other.iou, one.iou, atol=1e-4, rtol=1e-3)
        nothing = exported.decode(given, prompts[:0], multimask=True)
        assert nothing.logits.shape == (0, 3, 24, 40)
        # Tokens that somebody changed are taken as they are.
        moved = prompts.replace(tokens=tiny.embed(prompts, wanted.size) + 0.1)
        torch.testing.assert_close(
            exported.decode(wanted, moved).logits, tiny.decode(wanted, moved).logits, atol=1e-3, rtol=1e-3
        )
    with pytest.raises(InputError, match="multiples of 32"):
        exported.encode(torch.rand(1, 3, 50, 64))


def test_a_student_keeps_the_licence_that_its_own_file_tells(tmp_path: Path) -> None:
    file = tmp_path / "student.safetensors"
    save_network(random_network("lightening", **TINY), SPECS["lightening"], file, {"licence": "mine"}, **TINY)
    student = load("lightening", file, CPU, torch.float32, False)
    assert export.describe(student).licence == "mine"
    assert export.describe(make_tiny()).licence == FOUNDATIONS["lightening"].licence


def test_a_file_says_whose_weights_it_holds_and_what_it_wants(folder: Path) -> None:
    exported = load_foundation(folder)
    assert isinstance(exported, ExportedFoundation)
    facts = exported.facts
    row = FOUNDATIONS["lightening"]
    assert (facts.licence, facts.opset, facts.tolerance) == (row.licence, 17, TOLERANCE)
    assert facts.mean == pytest.approx((0.485, 0.456, 0.406), abs=1e-3)
    assert facts.input == f"RGB in 0 to 1, sides multiples of 32; single pictures: {row.input}"
    assert json.loads(facts.to_json())["sha256"] == exported.sha256
    assert 0 < facts.difference < 1e-4


def test_a_notice_in_the_files_is_told(
    onnx_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from domainsam.foundation.exported import OnnxGraph

    begin = OnnxGraph.__init__

    def noticed(self: OnnxGraph, *given: Any) -> None:
        begin(self, *given)
        self.facts = json.dumps({**json.loads(self.facts or ""), "notice": "for research only"})

    monkeypatch.setattr(OnnxGraph, "__init__", noticed)
    load_foundation(onnx_folder)
    assert caplog.messages.count("for research only") == 1


def test_openvino_is_imported_without_what_reports_its_use(folder: Path) -> None:
    load_foundation(folder)
    assert sys.modules.get("openvino_telemetry") is None


def test_openvino_runs_files_of_onnx_and_not_the_other_way(onnx_folder: Path, tmp_path: Path) -> None:
    need_runtime("openvino")
    assert load_foundation(onnx_folder, runtime="openvino").name == "lightening"
    other = tmp_path / "other"
    other.mkdir()
    for part in ("encoder", "prompts", "decoder"):
        (other / f"{part}.xml").touch()
    with pytest.raises(ConfigError, match="exported for openvino, which --runtime onnx cannot run"):
        load_foundation(other, runtime="onnx")


def test_what_differs_from_torch_is_not_left(
    tiny: EfficientFoundation, onnx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_trace_all", partial(_copy, onnx_folder))
    tmp_path = tmp_path / "new"
    tmp_path.mkdir()
    for found in (0.002, float("nan")):
        monkeypatch.setattr(export, "compare", lambda *_, found=found: found)
        with pytest.raises(CheckpointError, match=r"differs from torch by .* more than 1e-03"):
            export_foundation(tiny, tmp_path, "onnx")
        assert list(tmp_path.iterdir()) == []


def test_a_difference_is_seen_wherever_it_is(onnx_folder: Path, tiny: EfficientFoundation) -> None:
    exported = load_exported(onnx_folder, None, CPU, torch.float32)
    assert compare(tiny, exported) < 1e-4
    right = exported._run

    def wrong(part: str, **given: Tensor) -> list[Tensor]:
        answers = right(part, **given)
        return [*answers[:-1], answers[-1] * 1.01] if part == "decoder" else answers

    exported._run = wrong  # type: ignore[method-assign]
    assert compare(tiny, exported) == pytest.approx(0.01, rel=0.2)


def _copy(exported: Path, _: object, folder: Path, *__: object) -> None:
    shutil.copytree(exported, folder, dirs_exist_ok=True)


def test_damage_strange_files_and_absent_ones_are_a_line_each(onnx_folder: Path, tmp_path: Path) -> None:
    import onnx

    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(WeightsError, match=r"holds no exported foundation \(encoder.onnx, prompts.onnx"):
        load_foundation(empty)
    spoilt = tmp_path / "spoilt"
    shutil.copytree(onnx_folder, spoilt)
    (spoilt / "decoder.onnx").unlink()
    with pytest.raises(WeightsError, match=r"\(decoder.onnx is not there\)"):
        load_foundation(spoilt)
    whole = (onnx_folder / "encoder.onnx").read_bytes()
    (spoilt / "decoder.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"onnx cannot run '.*decoder.onnx'"):
        load_foundation(spoilt)
    strange = onnx.load(onnx_folder / "decoder.onnx")
    facts = json.loads(strange.metadata_props[0].value)
    for changed, expected in (
        ({**facts, "sha256": "0" * 64}, "graphs of different foundations"),
        ({**facts, "format": 0}, "in another form than this one reads"),
        ({"format": 1}, "is no graph of domainsam's"),
    ):
        strange.metadata_props[0].value = json.dumps(changed)
        onnx.save(strange, spoilt / "decoder.onnx")
        with pytest.raises(CheckpointError, match=expected):
            load_foundation(spoilt)


def test_large_weights_lie_beside_the_graph(
    tiny: EfficientFoundation, onnx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_trace_all", partial(_copy, onnx_folder))
    tmp_path = tmp_path / "new"
    tmp_path.mkdir()
    monkeypatch.setattr(export, "PROTOBUF_LIMIT", 1000)
    monkeypatch.setattr(
        export, "compare", lambda foundation, exported, _: float(exported.name != "lightening")
    )
    done = export_foundation(tiny, tmp_path, "onnx")
    assert done.files == ("decoder.onnx", "encoder.onnx", "encoder.onnx.data", "prompts.onnx")
    assert set(export.list_files(tiny, "onnx", tmp_path)) == set(done.files)
    images = make_images(1, (64, 64))
    with torch.inference_mode():
        given = load_foundation(tmp_path).encode(images).image
        torch.testing.assert_close(given, tiny.encode(images).image, atol=1e-4, rtol=1e-4)


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


def test_an_operator_that_onnx_lacks_is_a_line(tmp_path: Path) -> None:
    need_runtime("onnx")
    with pytest.raises(
        ConfigError, match=r"encoder has an operator that ONNX 17 lacks .*use --runtime torch"
    ):
        trace(Unknown(), {"x": torch.rand(2)}, ("y",), {}, tmp_path / "encoder.onnx")


@pytest.mark.parametrize("runtime", TARGETS)
def test_a_runtime_that_is_not_installed_names_its_extra(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("onnx", "onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DependencyError, match=rf"pip install 'domainsam\[{runtime}\]'"):
        load_exported(_touch(tmp_path, runtime), runtime, CPU, torch.float32)
    with pytest.raises(DependencyError, match=r"pip install 'domainsam\["):
        export_foundation(make_tiny(), tmp_path, runtime)


def _touch(folder: Path, runtime: str) -> Path:
    for part in ("encoder", "prompts", "decoder"):
        (folder / f"{part}{'.onnx' if runtime == 'onnx' else '.xml'}").touch()
    return folder


def test_efficientsam_refuses_what_it_refuses_in_torch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from domainsam.foundation.exported import ExportedPointsOnly, Facts

    facts = Facts("efficientsam_ti", "0", "", "", 64, "", (), (), ("points", "boxes"), "slots", "", 17, 0, 0)
    foundation = ExportedPointsOnly({}, facts, "onnx", CPU)
    boxes = PromptSet.from_boxes(torch.tensor([[1.0, 2.0, 30.0, 40.0]]))
    places, labels = foundation._list_points(boxes)
    assert labels.tolist() == [[2, 3, -1, -1, -1, -1]]
    assert places[0, :2].tolist() == [[1.0, 2.0], [30.0, 40.0]]
    outside = boxes.replace(points=torch.tensor([[[5.0, 5.0, 0.0]]]))
    with pytest.raises(InputError, match="knows no points outside"):
        foundation.embed(outside, (64, 64))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runtimes, "find_user_cache", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "exports"


def test_the_first_use_exports_and_the_second_finds_it(
    tiny: EfficientFoundation, onnx_folder: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "export_foundation", partial(_copy, onnx_folder))
    attached = runtimes.attach(tiny, "onnx", CPU, torch.float32)
    (made,) = kept.iterdir()
    assert made.name.startswith(f"lightening-{tiny.sha256[:16]}-")
    assert isinstance(attached, EfficientFoundation), "its decoder is there for those who build on it"
    assert getattr(attached, "runtime", "torch") == "onnx"
    assert getattr(tiny, "runtime", "torch") == "torch"
    monkeypatch.setattr(runtimes, "export_foundation", lambda *_: pytest.fail("exported twice"))
    again = runtimes.attach(tiny, "onnx", CPU, torch.float32)
    images = make_images(1, (64, 96))
    torch.testing.assert_close(again.encode(images).image, tiny.encode(images).image, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("kept")
def test_a_model_that_feeds_images_without_statistics_is_refused(
    onnx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = SamNetwork(SamSize(48, 1, 3, (), image_size=64, window=2))
    lively(network)
    monkeypatch.setattr(runtimes, "export_foundation", partial(_copy, onnx_folder))
    attached = runtimes.attach(SamFoundation(network, "sam_vit_b", 64), "onnx", CPU, torch.float32)
    with pytest.raises(ConfigError, match="use --runtime torch"):
        attached.encode_plain(make_images(1, (64, 64)))  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "name", ["embedded", "embedded_sam2", *(n for n in SPECS if "_xl" not in n), "sam_vit_b"]
)
def test_every_foundation_can_be_exported(name: str, target: str, tmp_path: Path) -> None:
    need_runtime(target)
    from domainsam.assess.speed import invent_foundation

    if name.startswith("embedded"):
        foundation = load_foundation(name)
    elif name in SPECS:
        foundation = EfficientFoundation(random_network(name), SPECS[name])
        if name.startswith("efficientsam"):
            from domainsam.foundation.efficientsam import EfficientSamFoundation

            foundation = EfficientSamFoundation(random_network(name), SPECS[name])
    else:
        foundation = invent_foundation(name, "cpu", torch.float32)
    done = export_foundation(foundation, tmp_path, target, own_size=False)
    assert done.facts.difference < TOLERANCE / 10
