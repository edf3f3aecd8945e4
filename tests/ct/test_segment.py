"""``domainsam ct segment``: what it writes, on volumes whose organs are known."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

from domainsam_ct.read.open import read_mask
from tests.ct.made import PATIENT, PATIENT_ID, orientations, stored, write_dicom, write_nifti
from tests.ct.standin import NAMES, SHAPE, SPACING, abdomen, affine, write_case


def test_mask_lies_on_the_scan(
    tmp_path: Path, ct_segment: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    scan = write_case(tmp_path / "ct.nii.gz")
    assert ct_segment(scan, "-o", tmp_path / "seg.nii.gz") == 0
    image = nib.load(tmp_path / "seg.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj), abdomen()[1])
    assert {path.name for path in tmp_path.iterdir()} == {"ct.nii.gz", "seg.nii.gz", "seg_labels.json"}
    labels = json.loads((tmp_path / "seg_labels.json").read_text())
    assert labels["labels"] == {name: value for value, name in enumerate(NAMES) if value}
    assert labels["organs"]["kidney_left"]["side"] == "left"
    printed = capsys.readouterr().out
    # The stand-in's Dice on cases that it had not learned from is 0.91, of its liver alone.
    assert "liver 47.0 mL (Dice 0.91)" in printed
    assert re.search(r"aorta [\d.]+ mL \(no Dice, reaches the scan's edge\)", printed)
    assert "at least" not in printed
    assert "not found: gallbladder, pancreas" in printed


@pytest.mark.parametrize(("order", "flips"), orientations()[::7])
def test_same_mask_in_the_world_however_stored(
    tmp_path: Path,
    ct_segment: Callable[..., int],
    order: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
) -> None:
    hu, truth = abdomen()
    array, place = stored(hu, affine(), order, flips)
    write_nifti(tmp_path / "ct.nii.gz", array, place)
    assert ct_segment(tmp_path / "ct.nii.gz", "-o", tmp_path / "seg.nii.gz", "-q") == 0
    values, geometry = read_mask(tmp_path / "seg.nii.gz")
    np.testing.assert_array_equal(values, truth)
    np.testing.assert_allclose(geometry.grid.affine, affine(), atol=1e-4)
    np.testing.assert_allclose(nib.load(tmp_path / "seg.nii.gz").affine, place, atol=1e-4)


def test_everything_at_once_from_dicom(tmp_path: Path, ct_segment: Callable[..., int]) -> None:
    hu, truth = abdomen()
    write_dicom(tmp_path / "study", hu, affine())
    out = tmp_path / "out"
    flags = ["--dicom-seg", "--rtstruct", "--statistics", "--report", "--preview"]
    assert ct_segment(tmp_path / "study", "-o", out, *flags, "-q") == 0
    assert {path.name for path in out.iterdir()} == {
        *("study_seg.nii.gz", "study_labels.json", "study_statistics.json", "study_statistics.csv"),
        *("study_report.html", "study_preview.png", "study_seg.dcm", "study_rtstruct.dcm"),
    }
    np.testing.assert_array_equal(read_mask(out / "study_seg.nii.gz").labels, truth)
    again, geometry = read_mask(out / "study_seg.dcm")
    # Segments are numbered afresh; their names say which is which.
    named = {name: again == value for value, name in geometry.names.items()}
    assert len(named) == len(np.unique(truth)) - 1
    for name, where in named.items():
        organ = name.lower().replace(", ", "_") if name not in NAMES else name
        np.testing.assert_array_equal(where, truth == NAMES.index(organ))
    assert pydicom.dcmread(out / "study_rtstruct.dcm").Modality == "RTSTRUCT"


def test_statistics_tell_the_truth(tmp_path: Path, ct_segment: Callable[..., int]) -> None:
    scan = write_case(tmp_path / "ct.nii.gz")
    assert ct_segment(scan, "-o", tmp_path / "out", "--statistics", "-q") == 0
    document = json.loads((tmp_path / "out" / "ct_statistics.json").read_text())
    truth, voxel = abdomen()[1], float(np.prod(SPACING)) / 1000
    liver = document["organs"]["liver"]
    assert liver["volume_ml"] == pytest.approx((truth == 5).sum() * voxel)
    assert liver["hu"] == {"mean": 100, "sd": 0, "minimum": 100, "maximum": 100, "median": 100}
    assert liver["confidence"] == pytest.approx(0.8, abs=1 / 255)
    assert liver["touches_border"] is False
    assert liver["box_voxels"] == [[11, 6, 3], [17, 13, 9]]
    assert liver["centroid_mm"][0] == pytest.approx(-40 + 14 * 4)
    assert document["organs"]["aorta"]["touches_border"] is True
    gallbladder = document["organs"]["gallbladder"]
    assert gallbladder["found"] is False
    assert gallbladder["volume_ml"] is None
    assert gallbladder["hu"] is None
    with (tmp_path / "out" / "ct_statistics.csv").open() as file:
        rows = {row["organ"]: row for row in csv.DictReader(file)}
    assert float(rows["liver"]["volume_ml"]) == pytest.approx(liver["volume_ml"], abs=5e-4)
    assert rows["gallbladder"]["volume_ml"] == ""


def test_organs_one_by_one(tmp_path: Path, ct_segment: Callable[..., int]) -> None:
    scan = write_case(tmp_path / "ct.nii.gz")
    assert ct_segment(scan, "-o", tmp_path / "out", "--organs", "liver,spleen", "--per-organ", "-q") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("liver.nii.gz", "spleen.nii.gz", "ct_labels.json"),
    }
    for name in ("liver", "spleen"):
        values, geometry = read_mask(tmp_path / "out" / f"{name}.nii.gz")
        np.testing.assert_array_equal(values, abdomen()[1] == NAMES.index(name))
        assert dict(geometry.names) == {1: name}


@pytest.mark.parametrize(("label_map", "liver", "aorta"), [("totalsegmentator", 5, 52), ("btcv", 6, 8)])
def test_other_numbers(
    tmp_path: Path, ct_segment: Callable[..., int], label_map: str, liver: int, aorta: int
) -> None:
    scan = write_case(tmp_path / "ct.nii.gz")
    assert ct_segment(scan, "-o", tmp_path / "seg.nii", "--label-map", label_map, "-q") == 0
    values, geometry = read_mask(tmp_path / "seg.nii")
    truth = abdomen()[1]
    np.testing.assert_array_equal(values == liver, truth == NAMES.index("liver"))
    np.testing.assert_array_equal(values == aorta, truth == NAMES.index("aorta"))
    assert geometry.names[liver] == "liver"


def test_clean_up_per_organ_and_off(tmp_path: Path, ct_segment: Callable[..., int]) -> None:
    hu, truth = abdomen()
    hu[18, 14, 10], hu[3, 13, 10] = 100, 200
    hu[14, 10, 6] = -100
    write_nifti(tmp_path / "ct.nii", hu, affine())

    def made(*options: str) -> np.ndarray:
        assert ct_segment(tmp_path / "ct.nii", "-o", tmp_path / "s.nii", "-f", "-q", *options) == 0
        return read_mask(tmp_path / "s.nii").labels

    np.testing.assert_array_equal(made(), truth)
    raw = made("--cleanup", "none", "--fill-holes", "none")
    assert (raw[18, 14, 10], raw[3, 13, 10], raw[14, 10, 6]) == (5, 3, 0)
    some = made("--cleanup", "kidney_left", "--fill-holes", "none")
    assert (some[18, 14, 10], some[3, 13, 10], some[14, 10, 6]) == (5, 0, 0)


def test_preview_and_report_stand_alone(tmp_path: Path, ct_segment: Callable[..., int]) -> None:
    scan = write_case(tmp_path / "ct.nii.gz")
    assert ct_segment(scan, "-o", tmp_path / "out", "--report", "--preview", "-q") == 0
    picture = np.asarray(Image.open(tmp_path / "out" / "ct_preview.png").convert("RGB"))
    colours = {tuple(colour) for colour in picture.reshape(-1, 3)}
    assert (198, 91, 74) in colours, "the liver's contour has the liver's colour"
    page = (tmp_path / "out" / "ct_report.html").read_text()
    assert page.count("data:image/png") == 3
    assert "http" not in page.replace("http-equiv", "")
    # The stand-in's Dice on cases that it had not learned from is 0.91, of its liver alone.
    for words in (
        "Not a medical device",
        "reaches the scan",
        "inside the scan",
        "not found",
        "Kidney, left",
        ">0.91<",
    ):
        assert words in page


def test_the_patients_right_is_on_the_pictures_left(tmp_path: Path, ct_segment: Callable[..., int]) -> None:
    scan = write_case(tmp_path / "ct.nii.gz")
    assert ct_segment(scan, "-o", tmp_path / "out", "--preview", "--organs", "liver", "-q") == 0
    picture = np.asarray(Image.open(tmp_path / "out" / "ct_preview.png").convert("RGB"))
    liver = (picture == (198, 91, 74)).all(axis=2)
    liver[-30:] = False  # the legend
    axial = np.flatnonzero(liver.any(axis=0))
    first = axial[: np.flatnonzero(np.diff(axial) > 40)[0] + 1] if (np.diff(axial) > 40).any() else axial
    width = round(560 * SHAPE[0] * SPACING[0] / max(np.multiply(SHAPE, SPACING)))
    assert first.max() < 14 + width * 0.6


@pytest.mark.parametrize("folder", ["DOE_JANE_2020", "pid471190283", "Export Jane Doe.zip"])
def test_patients_stay_out_of_names_and_reports(
    tmp_path: Path, ct_segment: Callable[..., int], capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    write_dicom(tmp_path / "in" / folder.removesuffix(".zip"), abdomen()[0], affine())
    if folder.endswith(".zip"):
        shutil.make_archive(str(tmp_path / "in" / folder.removesuffix(".zip")), "zip", tmp_path / "in")
    out = tmp_path / "out"
    arguments = [tmp_path / "in" / folder, "-o", out, "--report", "--statistics", "--dicom-seg", "--json"]
    assert ct_segment(*arguments) == 0
    printed = capsys.readouterr()
    texts = [path.read_text() for path in out.iterdir() if path.suffix in (".json", ".csv", ".html")]
    everything = " ".join([printed.out, printed.err, *texts, *(path.name for path in out.iterdir())])
    told = re.sub(r"base64,[^\"]*", "", everything.lower().replace(str(tmp_path).lower(), ""))
    for secret in ("doe", "jane", PATIENT.lower(), PATIENT_ID.lower()):
        assert not re.search(rf"(?<![a-z]){re.escape(secret)}(?![a-z])", told)
    # A number long enough that no digest and no time has it by chance.
    assert "471190283" not in told
    assert all(path.name.startswith("case-") for path in out.iterdir())
    # A DICOM SEG belongs to the patient's record and has to say whose it is.
    assert pydicom.dcmread(next(out.glob("*_seg.dcm"))).PatientID == PATIENT_ID


def test_identifiers_are_kept_when_asked_for(tmp_path: Path, ct_segment: Callable[..., int]) -> None:
    write_dicom(tmp_path / "Doe_Jane", abdomen()[0], affine())
    out = tmp_path / "out"
    assert ct_segment(tmp_path / "Doe_Jane", "-o", out, "--report", "--keep-identifiers", "-q") == 0
    assert "Doe Jane, PID-4711" in (out / "Doe_Jane_report.html").read_text()


def test_a_scan_without_organs_says_so(
    tmp_path: Path, ct_segment: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    hu = np.where(abdomen()[1] > 0, 40, abdomen()[0]).astype(np.int16)
    write_dicom(tmp_path / "study", hu, affine())
    flags = ["--dicom-seg", "--report", "--preview", "--statistics"]
    assert ct_segment(tmp_path / "study", "-o", tmp_path / "out", *flags) == 0
    captured = capsys.readouterr()
    assert "no organ found" in captured.out
    assert "there is no DICOM SEG" in captured.err
    assert not (tmp_path / "out" / "study_seg.dcm").exists()
    assert not read_mask(tmp_path / "out" / "study_seg.nii.gz").labels.any()
    document = json.loads((tmp_path / "out" / "study_statistics.json").read_text())
    assert all(organ["volume_ml"] is None for organ in document["organs"].values())


def test_json_tells_everything(
    tmp_path: Path, ct_segment: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    scan = write_case(tmp_path / "ct.nii.gz")
    assert ct_segment(scan, "-o", tmp_path / "seg.nii.gz", "--json", "--window", "-200,600") == 0
    document = json.loads(capsys.readouterr().out)
    (case,) = document["cases"]
    assert case["paths"]["mask"] == str(tmp_path / "seg.nii.gz")
    assert case["orientation"] == "RAS"
    assert case["settings"]["model"] == "density"
    assert case["settings"]["window"] == [-200, 600]
