"""The script for GPUs runs on the CPU, so that no minute on a GPU is spent on finding its faults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import on_gpu
from benchmarks.on_gpu import Report, add_ratios, make_table


@pytest.mark.slow
def test_every_section_has_figures(tmp_path: Path) -> None:
    assert on_gpu.main(["--device", "cpu", "--quick", "-o", str(tmp_path)]) == 0
    document = json.loads((tmp_path / "on_gpu.json").read_text())
    sections = document["sections"]
    assert list(sections) == ["packs", "training", "ceiling", "encoders"]
    assert [row["what"] for row in sections["packs"]] == ["urban", "ct", "scene"]
    assert all(row["equal share"] == 1 for row in sections["packs"]), "the CPU agrees with itself"
    assert all(row["last loss"] < row["first loss"] for row in sections["training"])
    assert sections["encoders"][0]["images_per_second"] > 0
    assert "## encoders" in (tmp_path / "on_gpu.md").read_text()


@pytest.mark.slow
def test_training_steps_and_the_ceiling_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domainsam.assess.speed.CEILING_SIDES", (64,))
    report = Report("cpu", quick=True)
    row = on_gpu.train_steps(report, "bf16")
    assert row["last loss"] < row["first loss"]
    assert row["steps/s"] * 2 == pytest.approx(row["images/s"])
    assert on_gpu._ceiling(report, "fp32")["GFLOP/s"] > 0


def test_what_fails_and_what_the_time_does_not_allow_is_a_row() -> None:
    report = Report("cpu", quick=True, limit=30)

    def fail() -> dict[str, object]:
        raise ValueError("no kernel\nfor this device")

    report.run("a", "fails", 1, fail)
    report.run("a", "too long", 60, lambda: {"x": 1})
    report.run("a", "works", 1, lambda: {"x": 0.123456})
    notes = [row.get("note", "") for row in report.sections["a"]]
    assert notes[0] == "ValueError: no kernel for this device"
    assert notes[1].startswith("left out: ")
    table = make_table(report.sections, {"cpu": "some"})
    assert "| works |  | 0.1235 |" in table


def test_ratios_are_to_vit_h_in_the_same_arithmetic() -> None:
    def row(name: str, precision: str, rate: float) -> dict[str, object]:
        return {"foundation": name, "precision": precision, "compiled": False, "images_per_second": rate}

    rows = [row("sam_vit_h", "bf16", 2.0), row("edge_sam", "bf16", 50.0), row("edge_sam", "fp32", 9.0)]
    add_ratios(rows)
    assert [one.get("times_sam_vit_h") for one in rows] == [1.0, 25.0, None]


def test_without_a_gpu_it_says_what_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(SystemExit):
        on_gpu.main([])
    assert "--device cpu --quick" in capsys.readouterr().err
