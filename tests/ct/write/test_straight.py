"""Scans of a tilted gantry on perpendicular axes: opened by ITK, every organ where it was."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

import domainsam_ct
from domainsam_ct.evaluate.labelled import read_labelled
from domainsam_ct.read.geometry import measure_shear
from domainsam_ct.read.open import open_volume
from tests.ct.made import stored, write_dicom, write_nifti
from tests.ct.read.series import HEAD_FIRST
from tests.ct.standin import SPACING, abdomen, affine

TILT = np.radians(13.5)


def tilted() -> np.ndarray:
    """The stand-in's grid, its slices turned about the patient's left-right axis, the table's steps kept."""
    matrix = affine()
    matrix[:3, 1] = np.array([0, np.cos(TILT), np.sin(TILT)]) * SPACING[1]
    return matrix


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write_dicom(tmp_path / "study", *stored(abdomen()[0], tilted(), *HEAD_FIRST))
    return tmp_path / "study"


def centre(mask: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return np.asarray((matrix @ np.r_[np.argwhere(mask).mean(axis=0), 1])[:3])


def test_straight_mask_and_scan(tmp_path: Path, study: Path) -> None:
    out = tmp_path / "out"
    mask = write_nifti(tmp_path / "m.nii", abdomen()[1], tilted(), (0, 1))
    domainsam_ct.export_mask(mask, study, out, nifti=True, deskew=True, label_map="synapse")
    exact = nib.load(out / "study_seg.nii.gz")
    straight, scan = (nib.load(out / f"study_straight{end}.nii.gz") for end in ("_seg", ""))
    assert measure_shear(exact.affine) == pytest.approx(13.5, abs=0.01), "the default stays exact"
    assert measure_shear(straight.affine) < 1e-3
    for path in ("study_straight_seg.nii.gz", "study_straight.nii.gz"):
        assert sitk.ReadImage(str(out / path)).GetSize() == straight.shape
    # Slices keep their planes: their distance is that across them.
    assert straight.header.get_zooms()[2] == pytest.approx(SPACING[2] * np.cos(TILT), rel=1e-5)
    assert np.array_equal(straight.affine, scan.affine)
    labels = {n: np.asarray(image.dataobj) for n, image in (("exact", exact), ("straight", straight))}
    for value in (1, 5, 6):
        one, other = labels["exact"] == value, labels["straight"] == value
        assert one.sum() == other.sum() > 0
        apart = centre(one, exact.affine) - centre(other, straight.affine)
        assert np.abs(apart).max() < SPACING[1] / 2, "slices move by half a pixel at most"
    assert read_labelled(out / "study_straight_seg.nii.gz").labels[5].name == "liver"
    hu = np.asarray(scan.dataobj)
    assert np.median(hu[labels["straight"] == 5]) == 100
    assert hu.min() >= -1024


def test_what_is_told(tmp_path: Path, study: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_volume(study) as volume:
        (note,) = (warning for warning in volume.warnings if "axes are" in warning)
    assert "ITK refuses" in note
    assert "--deskew" in note
    upright = write_nifti(tmp_path / "ct.nii.gz", abdomen()[0], affine())
    mask = write_nifti(tmp_path / "m.nii.gz", abdomen()[1], affine())
    result = domainsam_ct.export_mask(mask, upright, tmp_path / "out", deskew=True, statistics=True)
    assert not [path for path in result.paths.values() if "straight" in path.name]
    assert "nothing to straighten" in caplog.text
