"""Series as archives, scanners and anonymisers leave them: told apart, never mixed, and chosen by name."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless, generate_uid

from domainsam.errors import InputError
from domainsam_cli import main
from domainsam_ct.read.open import open_volume
from tests.ct.made import canonical_volume, oblique, stored, write_dicom
from tests.ct.read.series import HEAD_FIRST, SHAPE, Change, axial_series, refusal, same


def joined(*changes: Change) -> Change:
    def change(k: int, dataset: pydicom.Dataset) -> None:
        for one in changes:
            one(k, dataset)

    return change


def tagged(**values: object) -> Change:
    def change(k: int, dataset: pydicom.Dataset) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    return change


def shifted(millimetres: float) -> Change:
    def change(k: int, dataset: pydicom.Dataset) -> None:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, float(z) + millimetres]

    return change


IDENTITY = {"StudyInstanceUID": generate_uid(), "FrameOfReferenceUID": generate_uid()}
"""What slices of one examination share; the generator gives every call its own."""


def late_series(folder: Path, change: Change, seed: int = 1, **options: object) -> np.ndarray:
    """Another axial series with other values in the same folder."""
    canonical = canonical_volume(SHAPE, seed=seed)
    array, affine = stored(canonical, oblique(degrees=0), *HEAD_FIRST)
    write_dicom(folder, array, affine, change, stem="without", **options)  # type: ignore[arg-type]
    return canonical


@pytest.mark.parametrize("millimetres", [0.0, 1.7, 80.3])
@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "TemporalPositionIdentifier"])
def test_two_scans_in_one_series(tmp_path: Path, millimetres: float, keyword: str) -> None:
    uid = generate_uid()
    first = axial_series(tmp_path, tagged(**IDENTITY, **{keyword: 1}), series=uid)
    late = late_series(tmp_path, joined(tagged(**IDENTITY, **{keyword: 2}), shifted(millimetres)), series=uid)
    with open_volume(tmp_path, f"{uid}:1") as one, open_volume(tmp_path, f"{uid}:2") as other:
        assert np.array_equal(one.slices(0, SHAPE[2]), first)
        assert np.array_equal(other.slices(0, SHAPE[2]), late)
    with open_volume(tmp_path) as volume:
        (note,) = volume.warnings
        assert f"{uid}:1" in note
        assert f"{uid}:2" in note
        assert volume.shape == SHAPE


def test_numbers_that_differ_within_one_scan_split_nothing(tmp_path: Path) -> None:
    def change(k: int, dataset: pydicom.Dataset) -> None:
        dataset.AcquisitionNumber = k // 2

    assert same(tmp_path, axial_series(tmp_path, change)) == ()


@pytest.mark.parametrize(
    "other",
    [
        {"PatientID": "B"},
        {"PatientName": "Roe"},
        {"StudyInstanceUID": "1.2"},
        {"FrameOfReferenceUID": "1.3"},
    ],
)
@pytest.mark.parametrize("series", ["", "1.2.3"])
def test_two_bodies_are_never_one(tmp_path: Path, other: dict[str, str], series: str) -> None:
    """Anonymised: the series UID is gone or the same, and the bodies adjoin."""
    given = {**IDENTITY, "SeriesInstanceUID": series}
    canonical = axial_series(tmp_path, tagged(**given))
    late = late_series(tmp_path, joined(tagged(**{**given, **other}), shifted(25)))
    (note,) = same(tmp_path, canonical)
    assert "2 CT series" in note
    with open_volume(tmp_path, f"{series or 'stack'}:2") as volume:
        assert np.array_equal(volume.slices(0, SHAPE[2]), late)


def test_a_frame_of_reference_for_every_slice_tells_nothing(tmp_path: Path) -> None:
    def change(k: int, dataset: pydicom.Dataset) -> None:
        dataset.FrameOfReferenceUID = generate_uid()

    assert same(tmp_path, axial_series(tmp_path, change)) == ()


def test_a_broken_series_names_the_others(tmp_path: Path) -> None:
    long, short = generate_uid(), generate_uid()
    axial_series(tmp_path, shape=(9, 8, 9), series=long)
    sorted(tmp_path.iterdir())[4].unlink()
    axial_series(tmp_path, shape=(9, 8, 3), series=short, stem="short")
    line = refusal(tmp_path)
    assert "1 slice is missing" in line
    assert long in line
    assert short in line


def test_a_slice_without_position_is_told(tmp_path: Path) -> None:
    axial_series(tmp_path)
    path = sorted(tmp_path.iterdir())[2]
    dataset = pydicom.dcmread(path)
    del dataset.ImagePositionPatient
    dataset.save_as(path)
    line = refusal(tmp_path)
    assert "1 of 5 slices" in line
    assert "no Image Position" in line


def test_slices_turned_a_little_are_one_stack(tmp_path: Path) -> None:
    def change(k: int, dataset: pydicom.Dataset) -> None:
        if k % 2:
            x, y, z, *rest = map(float, dataset.ImageOrientationPatient)
            dataset.ImageOrientationPatient = [x, y + 0.0012 * x, z, rest[0] - 0.0012 * rest[1], *rest[1:]]

    canonical = axial_series(tmp_path, change)
    with open_volume(tmp_path) as volume:
        assert volume.shape == SHAPE
        assert np.array_equal(volume.slices(0, SHAPE[2]), canonical)
        assert np.allclose(volume.grid.affine, oblique(degrees=0), atol=0.02)
        (note,) = volume.warnings
    assert "turned against each other by up to 0.069 degrees" in note


def test_the_same_slice_in_another_coding(tmp_path: Path) -> None:
    canonical = axial_series(tmp_path)
    path = sorted(tmp_path.iterdir())[2]
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    dataset.save_as(tmp_path / "again.dcm")
    assert "1 slices are there twice" in " ".join(same(tmp_path, canonical))


def test_files_without_preamble(tmp_path: Path) -> None:
    canonical = axial_series(tmp_path / "full")
    (tmp_path / "bare").mkdir()
    for path in (tmp_path / "full").iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.file_meta
        bare = tmp_path / "bare" / path.stem
        dataset.save_as(bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert same(tmp_path / "bare", canonical) == ()


def test_one_file_means_its_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    canonical = axial_series(tmp_path, shape=(9, 8, 3))
    axial_series(tmp_path, shape=(5, 8, 7), stem="longer")
    with open_volume(tmp_path / "slice_002.dcm") as volume:
        assert np.array_equal(volume.slices(0, 3), canonical)
        assert "its folder" in " ".join(volume.warnings)
    assert main(["info", str(tmp_path / "slice_002.dcm")]) == 0
    assert "as the ct pack sees it" in capsys.readouterr().out


def test_a_file_that_is_no_slice(tmp_path: Path) -> None:
    axial_series(tmp_path)
    dataset = pydicom.dcmread(tmp_path / "slice_001.dcm")
    dataset.Modality = "SR"
    dataset.save_as(tmp_path / "report.dcm")
    with pytest.raises(InputError, match="modality SR"):
        open_volume(tmp_path / "report.dcm")


def test_unknown_units_are_told(tmp_path: Path) -> None:
    (note,) = same(tmp_path, axial_series(tmp_path, tagged(RescaleType="US")))
    assert "Rescale Type is US" in note
    assert same(tmp_path / "hu", axial_series(tmp_path / "hu", tagged(RescaleType="HU"))) == ()


def write_enhanced(folder: Path) -> tuple[Path, np.ndarray]:
    """A folder with one enhanced CT, and its values in canonical order."""
    needed = tagged(Manufacturer="", ContentDate="20200101", ContentTime="12")
    canonical = axial_series(folder / "classic", needed)
    slices = [pydicom.dcmread(path) for path in sorted((folder / "classic").iterdir())]
    enhanced = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        legacy_datasets=slices,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
    )
    (folder / "one").mkdir()
    enhanced.save_as(folder / "one" / "enhanced.dcm")
    return folder / "one", canonical


def test_enhanced_ct(tmp_path: Path) -> None:
    folder, canonical = write_enhanced(tmp_path)
    assert same(folder, canonical) == ()
    assert same(folder / "enhanced.dcm", canonical) == ()
