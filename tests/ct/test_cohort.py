"""Many cases in one run: one line each, errors kept apart, nothing lost when the run is killed."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domainsam_ct import segment as pipeline
from domainsam_ct import segment as segmenting
from domainsam_ct.read import geometry
from domainsam_ct.read.open import read_mask
from tests.conftest import ROOT
from tests.ct.made import write_nifti
from tests.ct.standin import DENSITY, DensityModel, abdomen, affine, untouched, write_case


def cases(folder: Path, count: int = 3) -> list[Path]:
    return [write_case(folder / f"case{number}.nii.gz") for number in range(count)]


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_one_line_and_one_row_a_case(
    tmp_path: Path,
    ct_segment: Callable[..., int],
    density_model: DensityModel,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ct_segment(*cases(tmp_path), "-o", tmp_path / "out") == 0
    *lines, table_line, last = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["case0", "case1", "case2"]
    assert table_line.endswith("cohort.csv")
    assert last.endswith("statistics.parquet")
    rows = table(tmp_path / "out" / "cohort.csv")
    assert [(row["case"], row["status"], row["error"]) for row in rows] == [
        (f"case{number}", "done", "") for number in range(3)
    ]
    assert all(float(row["liver_volume_ml"]) == pytest.approx(47.04) for row in rows)
    assert all(row["gallbladder_volume_ml"] == "" for row in rows)
    assert density_model.asked == 3 * 12


def test_a_bad_case_is_listed_and_the_rest_go_on(
    tmp_path: Path, ct_segment: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    good = cases(tmp_path, 2)
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(good[0].read_bytes()[:200])
    assert ct_segment(good[0], bad, good[1], "-o", tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines()] == [
        "case0",
        "case1",
        "table",
        "figures",
    ]
    assert captured.err.splitlines()[-1] == "domainsam: 1 of 3 cases failed: bad"
    rows = {row["case"]: row for row in table(tmp_path / "out" / "cohort.csv")}
    assert rows["bad"]["status"] == "failed"
    assert "bad.nii.gz" in rows["bad"]["error"]
    assert rows["bad"]["liver_volume_ml"] == ""
    assert rows["case1"]["status"] == "done"
    assert not list((tmp_path / "out").glob("*bad*"))


def test_a_fault_of_ours_in_one_case_does_not_cost_the_others(
    tmp_path: Path,
    ct_segment: Callable[..., int],
    density_model: DensityModel,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predict, calls = DensityModel.predict_slices, []

    def faulty(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("a fault")
        return predict(self, *arguments)

    monkeypatch.setattr(DensityModel, "predict_slices", faulty)
    assert ct_segment(*cases(tmp_path, 2), "-o", tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert "case0: unforeseen RuntimeError: a fault" in captured.err
    assert captured.out.startswith("case1")


def test_resume_passes_over_what_is_complete(
    tmp_path: Path,
    ct_segment: Callable[..., int],
    density_model: DensityModel,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scans, out = cases(tmp_path), tmp_path / "out"
    assert ct_segment(*scans[:2], "-o", out, "-q") == 0
    before = untouched(out)
    density_model.asked = 0
    assert ct_segment(*scans, "-o", out, "--resume") == 0
    assert density_model.asked == 12
    assert "case0: complete already" in capsys.readouterr().out
    after = untouched(out)
    about_all = {"cohort.csv", "statistics.parquet"}
    assert {name: after[name] for name in before.keys() - about_all} == {
        name: content for name, content in before.items() if name not in about_all
    }
    assert [row["liver_volume_ml"] != "" for row in table(out / "cohort.csv")] == [True] * 3


def test_without_resume_existing_results_are_kept(
    tmp_path: Path,
    ct_segment: Callable[..., int],
    density_model: DensityModel,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scans, out = cases(tmp_path), tmp_path / "out"
    assert ct_segment(scans[0], scans[1], "-o", out, "-q") == 0
    density_model.asked = 0
    assert ct_segment(*scans, "-o", out) == 4
    assert "--overwrite" in capsys.readouterr().err
    assert density_model.asked == 0


def test_an_interrupted_case_goes_on_in_its_middle(
    tmp_path: Path,
    ct_segment: Callable[..., int],
    density_model: DensityModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scan, out = write_case(tmp_path / "ct.nii.gz"), tmp_path / "out"
    read = geometry.to_axial

    def interrupted(slices: Any) -> Any:
        reads.append(slices.shape)
        if len(reads) > 8:
            raise KeyboardInterrupt
        return read(slices)

    reads: list[tuple[int, ...]] = []
    with monkeypatch.context() as limited:
        limited.setattr("domainsam_ct.model.sweep.to_axial", interrupted)
        assert ct_segment(scan, "-o", out, "-q", "--workers", "1") == 130
    assert [path.name for path in out.iterdir()] == [".ct.domainsam"]
    density_model.asked = 0
    assert ct_segment(scan, "-o", out, "-q", "--resume") == 0
    assert 0 < density_model.asked < 12
    np.testing.assert_array_equal(read_mask(out / "ct_seg.nii.gz").labels, abdomen()[1])
    assert {path.name for path in out.iterdir()} == {"ct_seg.nii.gz", "ct_labels.json"}


def test_a_clean_up_that_was_interrupted_begins_anew(
    tmp_path: Path, ct_segment: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    hu = abdomen()[0]
    # A stray part of the spleen, and a cavity in the liver.
    hu[17:19, 1:3, 10:12], hu[14, 10, 6] = DENSITY["spleen"], -100
    scan = write_nifti(tmp_path / "ct.nii.gz", hu, affine())
    assert ct_segment(scan, "-o", tmp_path / "whole", "--statistics", "-q") == 0
    with monkeypatch.context() as limited:
        limited.setattr(segmenting, "measure", _interrupt)
        assert ct_segment(scan, "-o", tmp_path / "out", "--statistics", "-q") == 130
    assert ct_segment(scan, "-o", tmp_path / "out", "--statistics", "-q", "--resume") == 0
    whole, again = (
        json.loads((tmp_path / name / "ct_statistics.json").read_text()) for name in ("whole", "out")
    )
    assert again["resumed"]
    assert whole["removed_voxels"] == {"spleen": 8}
    assert whole["filled_voxels"] == {"liver": 1}
    for part in ("removed_voxels", "filled_voxels", "organs"):
        assert again[part] == whole[part]


def test_work_of_another_run_is_not_mixed_in(
    tmp_path: Path,
    ct_segment: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scan, out = write_case(tmp_path / "ct.nii.gz"), tmp_path / "out"
    monkeypatch.setattr(pipeline, "write_products", _interrupt)
    assert ct_segment(scan, "-o", out, "-q") == 130
    monkeypatch.undo()
    assert "--resume" in capsys.readouterr().err
    from domainsam_cli import main

    monkeypatch.setattr(pipeline, "load_chosen_model", lambda options: DensityModel(name="another"))
    assert main(["ct", "segment", str(scan), "-o", str(out), "--resume"]) == 2
    line = capsys.readouterr().err
    assert "cannot resume" in line
    assert "model" in line


def _interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt


SCRIPT = """
import os, signal, sys
from pathlib import Path
from domainsam_ct import segment as pipeline
from domainsam.infer import journal as inference
from tests.ct.standin import DensityModel

stage, count = sys.argv[1], int(sys.argv[2])

def dies_after(function):
    def counted(self, *arguments):
        global count
        result = function(self, *arguments)
        if "case1" in str(getattr(self, "path", self)):
            count -= 1
            if count == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return result
    return counted

if stage == "publish":
    Path.replace = dies_after(Path.replace)
if stage == "infer":
    inference.Journal.append = dies_after(inference.Journal.append)
pipeline.load_chosen_model = lambda options: DensityModel(batch=2)
pipeline.read_model_labels = lambda path: DensityModel().labels
from domainsam_cli import main
sys.exit(main(["ct", "segment", *sys.argv[3:]]))
"""

ENDINGS = ("_seg.nii.gz", "_labels.json", "_statistics.json", "_statistics.csv")


def run(stage: str, count: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, stage, str(count), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize(
    ("stage", "count"),
    [
        *(pytest.param("publish", count, marks=pytest.mark.slow) for count in (1, 2, 3, 4, 5)),
        *(pytest.param("infer", count, marks=pytest.mark.slow) for count in (1, 4)),
    ],
)
def test_kill_and_resume_loses_nothing(tmp_path: Path, stage: str, count: int) -> None:
    scans, out = cases(tmp_path / "in", 3), tmp_path / "out"
    killed = run(stage, count, *scans, "-o", out, "--statistics")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    finished = {name: text for name, text in untouched(out).items() if name.startswith("case0")}
    assert set(finished) == {f"case0{end}" for end in ENDINGS}
    again = run("none", 0, *scans, "-o", out, "--statistics", "--resume", "--json")
    assert again.returncode == 0, again.stderr
    document = json.loads(again.stdout)
    assert "case0" in document["complete"]
    resumed = {case["case"]: case["resumed"] for case in document["cases"]}
    # The cleaned mask is renamed first; all four files were in place when the fifth rename was done.
    assert resumed == (
        {"case2": False} if (stage, count) == ("publish", 5) else {"case1": True, "case2": False}
    )
    found = untouched(out)
    assert set(found) == {
        *(f"case{n}{end}" for n in range(3) for end in ENDINGS),
        "cohort.csv",
        "statistics.parquet",
    }
    assert {name: found[name] for name in finished} == finished
    for number in range(3):
        np.testing.assert_array_equal(read_mask(out / f"case{number}_seg.nii.gz").labels, abdomen()[1])
    assert [row["status"] for row in table(out / "cohort.csv")] == ["done"] * 3
