"""What was told of a scan stays with its mask: whoever measures or compares the mask later hears it again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from domainsam_cli import main
from domainsam_ct.evaluate.labelled import read_labelled
from domainsam_ct.evaluate.sidecar import read_names, read_warnings
from tests.ct.made import stored, write_dicom
from tests.ct.read.series import HEAD_FIRST
from tests.ct.standin import abdomen, affine

TWO_PLACES = "15 mm apart"


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A scan with two places in its header, of which the user is told."""
    image = nib.Nifti1Image(abdomen()[0], affine())
    moved = affine()
    moved[:3, 3] += 15
    image.set_sform(affine(), 2)
    image.set_qform(moved, 1)
    nib.save(image, tmp_path / "ct.nii.gz")
    return tmp_path / "ct.nii.gz"


def make_plain(mask: Path) -> Path:
    """The mask with one place, as a program leaves it that writes geometry anew."""
    image = nib.load(mask)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj).astype(np.uint8), image.affine), mask)
    return mask


def test_warnings_of_the_scan_are_told_of_its_mask(
    tmp_path: Path, scan: Path, ct_segment: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert ct_segment(scan, "-o", out) == 0
    assert TWO_PLACES in " ".join(json.loads((out / "ct_labels.json").read_text())["warnings"])
    mask = make_plain(out / "ct_seg.nii.gz")
    capsys.readouterr()
    assert main(["ct", "statistics", str(mask), "--json"]) == 0
    assert TWO_PLACES in " ".join(json.loads(capsys.readouterr().out)["warnings"])
    assert main(["ct", "statistics", str(mask)]) == 0
    assert TWO_PLACES in capsys.readouterr().err
    assert main(["ct", "evaluate", str(mask), str(mask), "--json"]) == 0
    assert TWO_PLACES in " ".join(json.loads(capsys.readouterr().out)["notes"])
    assert main(["ct", "export", str(mask), str(scan), "-o", str(tmp_path / "e"), "--statistics", "-q"]) == 0
    document = json.loads((tmp_path / "e" / "ct_statistics.json").read_text())
    assert sum(TWO_PLACES in warning for warning in document["warnings"]) == 2, "of the scan, and of the mask"


@pytest.mark.parametrize("words", [("--per-organ",), ("--dicom-seg", "--rtstruct")])
def test_organ_masks_and_objects_keep_them_too(
    tmp_path: Path, ct_segment: Callable[..., int], words: tuple[str, ...]
) -> None:
    study, out = tmp_path / "study", tmp_path / "out"

    def change(k: int, dataset: object) -> None:
        dataset.RescaleType = "US"  # type: ignore[attr-defined]

    write_dicom(study, *stored(abdomen()[0], affine(), *HEAD_FIRST), change)
    assert ct_segment(study, "-o", out, *words) == 0
    if "--per-organ" in words:
        masks = [out, out / "liver.nii.gz"]
    else:
        masks = [out / "study_seg.dcm", out / "study_seg.nii.gz"]
        assert "Rescale Type" in " ".join(read_warnings(out / "study_rtstruct.dcm"))
    if "--per-organ" in words:
        alone = make_plain(out / "liver.nii.gz")
        assert [organ.name for organ in read_labelled(alone).labels.values()] == ["liver"]
    for mask in masks:
        assert "Rescale Type is US" in " ".join(read_labelled(mask).warnings)


def test_a_mask_by_itself_has_none_and_a_broken_record_is_told(tmp_path: Path, scan: Path) -> None:
    assert read_warnings(scan) == ()
    (tmp_path / "ct_labels.json").write_text("{")
    assert "cannot be read" in read_warnings(scan)[0]
    (tmp_path / "ct_labels.json").write_text('{"labels": {"liver": 5}}')
    assert read_warnings(scan) == ()


def test_a_mask_that_a_sidecar_of_single_organs_does_not_name_gets_no_name(tmp_path: Path) -> None:
    told = {
        "labels": {"liver": 1, "spleen": 1},
        "files": {"liver": "liver.nii.gz", "spleen": "spleen.nii.gz"},
    }
    (tmp_path / "ct_labels.json").write_text(json.dumps(told))
    assert read_names(tmp_path / "ct_straight_seg.nii.gz") == {}
    assert read_names(tmp_path / "spleen.nii.gz") == {1: "spleen"}
