"""The demo and the example: the main job on a volume that they generate themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from domainsam_cli import main
from domainsam_ct.generated import draw_abdomen
from domainsam_ct.labels import load_label_map
from tests.conftest import ROOT

SMALL = (64, 48, 6), (5.6, 5.6, 24.0)


def test_demo_says_what_it_is_and_where_everything_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("domainsam_ct.commands.demo.SHAPE", SMALL[0])
    monkeypatch.setattr("domainsam_ct.commands.demo.SPACING", SMALL[1])
    assert main(["ct", "demo", "-o", str(tmp_path / "demo")]) == 0
    printed = capsys.readouterr().out
    assert "generated" in printed
    assert "Dice" in printed
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert {"sample.nii.gz", "sample_truth.nii.gz", "sample_seg.nii.gz", "sample_report.html"} <= names
    assert not [name for name in names if name.startswith(".")]
    assert all(f"demo/{name}" in printed for name in names)
    scan, mask = (nib.load(tmp_path / "demo" / f"sample{end}.nii.gz") for end in ("", "_seg"))
    np.testing.assert_array_equal(scan.affine, mask.affine)
    assert main(["ct", "demo", "-o", str(tmp_path / "demo")]) == 4, "it replaces nothing unasked"


def test_the_drawn_liver_lies_on_the_right() -> None:
    values = {organ.name: value for value, organ in load_label_map("synapse").items()}
    hu, labels = draw_abdomen(*SMALL)
    right, left = (np.argwhere(labels == values[name])[:, 0].mean() for name in ("liver", "spleen"))
    assert left < SMALL[0][0] / 2 < right
    # The median, because the blur of thick slices mixes its rim with fat.
    assert abs(float(np.median(hu[labels == values["liver"]])) - 105) < 15
    np.testing.assert_array_equal(hu, draw_abdomen(*SMALL)[0])


@pytest.mark.slow
def test_example_runs(tmp_path: Path) -> None:
    program = [sys.executable, str(ROOT / "examples" / "ct_segment.py"), str(tmp_path / "out")]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "mL" in done.stdout
    assert (tmp_path / "out" / "sample_report.html").is_file()
