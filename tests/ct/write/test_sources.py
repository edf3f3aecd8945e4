"""Headers that DICOM objects cannot repeat: known before work begins, repaired, no loss of masks."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom import config
from pydicom.dataset import Dataset

from domainsam_ct.read.dicom.sources import read_source_datasets, vet_sources
from domainsam_ct.read.open import open_volume, read_mask
from tests.ct import standin
from tests.ct.made import stored, write_dicom
from tests.ct.read.series import HEAD_FIRST


def write_study(folder: Path, **values: Any) -> Path:
    """The stand-in's abdomen as DICOM, with these tags in every slice."""

    def change(k: int, dataset: pydicom.Dataset) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    modes = config.settings.reading_validation_mode, config.settings.writing_validation_mode
    config.settings.reading_validation_mode = config.settings.writing_validation_mode = config.IGNORE
    try:
        array, affine = stored(standin.abdomen()[0], standin.affine(), *HEAD_FIRST)
        write_dicom(folder, array, affine, change)
    finally:
        config.settings.reading_validation_mode, config.settings.writing_validation_mode = modes
    return folder


def method() -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = "113100", "DCM"
    item.CodeMeaning = "Basic Application Confidentiality Profile"
    return item


@pytest.mark.parametrize(
    ("values", "words", "expected"),
    [
        (
            {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Doe^A=例^甲=れい^こう"},
            "Unicode",
            {"PatientName": "Doe^A=例^甲=れい^こう", "SpecificCharacterSet": "ISO_IR 192"},
        ),
        ({"PatientBirthDate": "00000000"}, "Patient's Birth Date", {"PatientBirthDate": ""}),
        ({"StudyDate": "20201332"}, "Study Date", {"StudyDate": ""}),
        ({"StudyTime": "ten"}, "Study Time", {"StudyTime": ""}),
        ({"SliceThickness": "0"}, "Slice Thickness", {"SliceThickness": None}),
        ({"StudyInstanceUID": ""}, "no valid Study Instance UID", {}),
        ({"StudyInstanceUID": "study one"}, "no valid Study Instance UID", {}),
        ({"SOPInstanceUID": "1.2.3.4"}, "1 different SOP Instance UIDs", {"SOPInstanceUID": None}),
        ({"PatientIdentityRemoved": "YES", "DeidentificationMethodCodeSequence": [method()]}, "", {}),
    ],
)
def test_odd_headers_cost_nothing(
    tmp_path: Path,
    ct_segment: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    values: dict[str, Any],
    words: str,
    expected: dict[str, Any],
) -> None:
    study = write_study(tmp_path / "study", **values)
    out = tmp_path / "out"
    assert ct_segment(study, "-o", out, "--dicom-seg", "--rtstruct", "--statistics", "--json") == 0
    told = [
        text
        for text in json.loads(capsys.readouterr().out)["cases"][0]["warnings"]
        if "than bodies have" not in text  # the drawn body is a small one
    ]
    assert words in " ".join(told)
    assert bool(words) == bool(told)
    mask, _ = read_mask(out / "study_seg.nii.gz")
    again, _ = read_mask(out / "study_seg.dcm")
    assert np.array_equal(again > 0, mask > 0)
    for name in ("study_seg.dcm", "study_rtstruct.dcm"):
        made = pydicom.dcmread(out / name)
        assert made.StudyInstanceUID
        assert made.get("PatientIdentityRemoved") == values.get("PatientIdentityRemoved")
        for keyword, value in expected.items():
            if value is not None:
                assert str(made.get(keyword) or "") == value


def test_the_distance_stands_in_for_no_thickness(tmp_path: Path) -> None:
    with open_volume(write_study(tmp_path / "study", SliceThickness="0")) as volume:
        assert volume.native.series is not None
        sources = read_source_datasets(volume.native.series, volume.native.spacing[2])
        assert {float(source.SliceThickness) for source in sources} == {volume.native.spacing[2]}


def test_sound_headers_are_repeated_as_they_are(tmp_path: Path) -> None:
    with open_volume(write_study(tmp_path / "study", SpecificCharacterSet="ISO_IR 100")) as volume:
        assert volume.native.series is not None
        assert vet_sources(volume.native.series, 1.0) == ()
        (first, *_) = read_source_datasets(volume.native.series, 1.0)
        assert first.SpecificCharacterSet == "ISO_IR 100"


def fail(*arguments: object, **options: object) -> None:
    raise RuntimeError("no such luck")


@pytest.mark.parametrize(
    ("where", "kind", "name"),
    [
        ("domainsam_ct.write.dicom_seg.write_dicom_seg", "DICOM SEG", "_seg.dcm"),
        ("domainsam_ct.write.rtstruct.write_rtstruct", "RTSTRUCT", "_rtstruct.dcm"),
        ("domainsam_ct.write.report.render_case", "report", "_report.html"),
        ("domainsam_ct.write.preview.draw_planes", "preview", "_preview.png"),
    ],
)
def test_one_bad_output_costs_no_other(
    tmp_path: Path,
    ct_segment: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    where: str,
    kind: str,
    name: str,
) -> None:
    study = write_study(tmp_path / "study")
    monkeypatch.setattr(where, fail)
    out = tmp_path / "out"
    options = ("--dicom-seg", "--rtstruct", "--statistics", "--report", "--preview")
    assert ct_segment(study, "-o", out, *options) == 1
    err = capsys.readouterr().err
    assert f"study: no {kind}; the mask is there" in err
    wanted = {"_seg.dcm", "_rtstruct.dcm", "_report.html", "_preview.png", "_statistics.json", "_seg.nii.gz"}
    assert not (out / f"study{name}").exists()
    assert all((out / f"study{other}").is_file() for other in wanted - {name})
    assert np.asarray(nib.load(out / "study_seg.nii.gz").dataobj).any()
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_the_table_keeps_the_figures_of_a_case_that_lacks_an_output(
    tmp_path: Path, ct_segment: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [write_study(tmp_path / name) for name in ("one", "two")]
    monkeypatch.setattr("domainsam_ct.write.dicom_seg.write_dicom_seg", fail)
    assert ct_segment(*cases, "-o", tmp_path / "out", "--dicom-seg") == 1
    with (tmp_path / "out" / "cohort.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert {row["error"] for row in rows} == {"no DICOM SEG"}
    assert all(float(row["liver_volume_ml"]) > 0 for row in rows)
