"""``domainsam info`` of a CT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

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


def write_object(path: Path, kind: str, modality: str, **values: Any) -> Path:
    """A DICOM file of that SOP class, made by somebody else's software."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = kind, generate_uid(), modality
    dataset.SeriesInstanceUID, dataset.PatientName = "1.2.3", PATIENT
    for name, value in values.items():
        setattr(dataset, name, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = kind
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path


def named(**values: Any) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def test_objects_that_are_no_slices_are_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [named(SegmentLabel="liver"), named(SegmentLabel="spleen")]
    seg = write_object(
        tmp_path / "seg.dcm",
        "1.2.840.10008.5.1.4.1.1.66.4",
        "SEG",
        SegmentSequence=names,
        SegmentationType="BINARY",
        NumberOfFrames=7,
        Rows=32,
        Columns=48,
    )
    assert main(["info", str(seg), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["ct"]
    assert facts["format"] == "DICOM segmentation (SEG)"
    assert facts["segments"] == "2: liver, spleen"
    assert facts["stored"] == "binary, 7 frames of 48 x 32 pixels"
    contours = named(ContourSequence=[named(ContourNumber=1), named(ContourNumber=2)])
    structures = write_object(
        tmp_path / "rt.dcm",
        "1.2.840.10008.5.1.4.1.1.481.3",
        "RTSTRUCT",
        StructureSetROISequence=[named(ROIName="aorta")],
        ROIContourSequence=[contours],
    )
    facts = describe(str(structures))
    assert (facts["regions"], facts["contours"], facts["series"]) == ("1: aorta", 2, "1.2.3")
    assert PATIENT not in json.dumps(facts)
    report = write_object(tmp_path / "sr.dcm", "1.2.840.10008.5.1.4.1.1.88.33", "SR")
    assert "Comprehensive SR" in str(describe(str(report))["format"])
