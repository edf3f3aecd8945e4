"""``domainsam info`` of a CT."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from domainsam_cli import main
from domainsam_ct.commands.demo import describe
from tests.ct.made import PATIENT, canonical_volume, oblique, stored, write_dicom, write_nifti


def test_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    array, affine = stored(canonical_volume(), oblique(), (2, 0, 1), (False, True, True))
    path = write_nifti(tmp_path / "ct.nii.gz", array, affine)
    assert main(["info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["ct"]
    assert facts["format"] == "NIfTI"
    assert facts["size"] == "5 x 6 x 7 voxels, stored as SLP"
    assert facts["voxel"] == "5 x 3 x 2 mm"
    assert facts["axial slices"].startswith("5, 5 mm apart")
    assert facts["notes"] == "none"


def test_nothing_of_the_patient(tmp_path: Path) -> None:
    array, affine = stored(canonical_volume(), oblique(), (0, 1, 2), (True, True, False))
    write_dicom(tmp_path / "study", array, affine)
    facts = describe(str(tmp_path / "study"))
    assert facts["format"] == "DICOM series"
    assert PATIENT not in json.dumps(facts)


def test_other_kinds_are_left_to_other_packs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scene.tif").write_text("no raster")
    assert describe(str(tmp_path / "scene.tif")) == {}
    assert main(["info", str(tmp_path / "scene.tif")]) == 2
    assert "not a raster" in capsys.readouterr().err
    (tmp_path / "ct.nii.gz").write_text("no volume")
    assert main(["info", str(tmp_path / "ct.nii.gz")]) == 2
    assert "is not a NIfTI file" in capsys.readouterr().err
