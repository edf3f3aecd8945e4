"""``domainsam ct statistics`` on masks of any tool."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from domainsam_cli import main
from tests.ct.made import write_nifti
from tests.ct.standin import NAMES, SPACING, abdomen, affine

VOXEL_ML = float(np.prod(SPACING)) / 1000


def statistics(*words: object) -> int:
    return main(["ct", "statistics", *map(str, words)])


def write_mask(path: Path, values: np.ndarray) -> Path:
    return write_nifti(path, values.astype(np.uint8), affine())


def test_figures_of_a_mask_with_its_scan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hu, truth = abdomen()
    mask, scan = write_mask(tmp_path / "m.nii.gz", truth), write_nifti(tmp_path / "ct.nii", hu, affine())
    out = tmp_path / "volumes.csv"
    assert statistics(mask, "--image", scan, "--label-map", "synapse", "-o", out, "--json") == 0
    liver = json.loads(capsys.readouterr().out)["organs"]["liver"]
    inside = truth == NAMES.index("liver")
    assert liver["volume_ml"] == pytest.approx(inside.sum() * VOXEL_ML)
    assert liver["hu"]["mean"] == 100
    assert liver["confidence"] is None
    rows = {row["organ"]: row for row in csv.DictReader(out.read_text(encoding="utf-8").splitlines())}
    assert rows["gallbladder"]["volume_ml"] == "", "not found is not 0 mL"
    assert rows["liver"]["confidence"] == ""
    assert float(rows["aorta"]["volume_ml"]) == pytest.approx(
        (truth == NAMES.index("aorta")).sum() * VOXEL_ML, abs=1e-3
    )


def test_a_folder_of_single_organs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = abdomen()[1]
    (tmp_path / "organs").mkdir()
    for name in ("liver", "spleen"):
        write_mask(tmp_path / "organs" / f"{name}.nii.gz", truth == NAMES.index(name))
    assert statistics(tmp_path / "organs") == 0
    printed = capsys.readouterr().out
    assert f"{(truth == NAMES.index('spleen')).sum() * VOXEL_ML:.1f}" in printed
    assert "HU" in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["m.nii.gz", "--image", "other.nii"], "grid"),
        (["m.nii.gz", "-o", "volumes.txt"], ".csv"),
        (["nowhere.nii.gz"], "no such file"),
        (["m.nii.gz", "--label-map", "synapsis"], "synapsis"),
    ],
)
def test_bad_calls_say_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    hu, truth = abdomen()
    write_mask(tmp_path / "m.nii.gz", truth)
    write_nifti(tmp_path / "other.nii", hu[:, :, 1:], affine())
    extra = [] if "--label-map" in words else ["--label-map", "synapse"]
    assert statistics(*words, *extra) == 2
    assert said in capsys.readouterr().err
