"""CT series from DICOM: placed by their slices' own positions, whatever else the headers say."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from domainsam_ct.read.open import open_volume, read_mask
from domainsam_ct.write.masks import MaskWriter
from tests.ct.made import PATIENT, canonical_volume, oblique, orientations, stored, write_dicom
from tests.ct.read.series import HEAD_FIRST, SHAPE, axial_series, moved, refusal, same


@pytest.mark.parametrize(("order", "flips"), orientations()[::5])
def test_any_orientation(tmp_path: Path, order: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> None:
    canonical = canonical_volume(SHAPE)
    array, affine = stored(canonical, oblique(), order, flips)
    if np.linalg.det(affine[:3, :3]) < 0:  # images of a mirrored body do not exist; slices run the other way
        array, affine = stored(canonical, oblique(), order, (*flips[:2], not flips[2]))
    write_dicom(tmp_path / "study", array, affine)
    same(tmp_path / "study", canonical, oblique())


def test_order_and_distance_come_from_positions(tmp_path: Path) -> None:
    """Instance numbers run backwards and slice thickness is 7 where slices lie 5 mm apart."""
    canonical = axial_series(tmp_path / "study")
    assert same(tmp_path / "study", canonical) == ()


def test_zip_and_nested_folders(tmp_path: Path) -> None:
    canonical = axial_series(tmp_path / "study" / PATIENT / "A")
    (tmp_path / "study" / "DICOMDIR").write_bytes(b"no image")
    (tmp_path / "study" / "report.pdf").write_bytes(b"%PDF")
    same(tmp_path / "study", canonical)
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "study")
    same(tmp_path / "packed.zip", canonical)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_compressed(tmp_path: Path, syntax: str) -> None:
    shape = (64, 64, 3)
    smooth = np.add.outer(np.add.outer(np.arange(64), np.arange(64)), [0, 100, 200]).astype(np.int16)
    array, affine = stored(smooth, oblique(degrees=0), *HEAD_FIRST)

    def compress(k: int, dataset: pydicom.Dataset) -> None:
        plugin = {JPEG2000Lossless: "pylibjpeg", JPEGLSLossless: "pyjpegls", RLELossless: "pydicom"}[syntax]
        dataset.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)

    if syntax == JPEGLSLossless:
        pytest.importorskip("jpeg_ls")
    write_dicom(tmp_path / "study", array, affine, compress)
    with open_volume(tmp_path / "study") as volume:
        assert volume.shape == shape
        assert np.array_equal(volume.slices(0, 3), smooth)


def test_slope_and_intercept_of_each_slice(tmp_path: Path) -> None:
    def change(k: int, dataset: pydicom.Dataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = "0.5", str(-500 - k)

    canonical = axial_series(tmp_path / "study", change)
    expected = (canonical + 1024) * 0.5 - 500 - np.arange(SHAPE[2])
    with open_volume(tmp_path / "study") as volume:
        assert np.allclose(volume.slices(0, SHAPE[2]), expected)


def test_monochrome1_changes_the_display_only(tmp_path: Path) -> None:
    def change(k: int, dataset: pydicom.Dataset) -> None:
        dataset.PhotometricInterpretation = "MONOCHROME1"

    same(tmp_path / "study", axial_series(tmp_path / "study", change))


def test_signed_pixels(tmp_path: Path) -> None:
    def change(k: int, dataset: pydicom.Dataset) -> None:
        pixels = np.frombuffer(dataset.PixelData, "<u2").astype("<i2") - 1024
        dataset.PixelData = pixels.astype("<i2").tobytes()
        dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 1, 16, 15
        dataset.RescaleIntercept = 0

    same(tmp_path / "study", axial_series(tmp_path / "study", change))


@pytest.mark.parametrize("emptied", ["", None])
def test_tags_emptied_by_anonymisation(tmp_path: Path, emptied: str | None) -> None:
    names = (
        *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientName"),
        *("PatientID", "SliceThickness", "InstanceNumber", "SeriesNumber", "FrameOfReferenceUID"),
    )

    def change(k: int, dataset: pydicom.Dataset) -> None:
        for name in names:
            if emptied is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, emptied)

    canonical = canonical_volume(SHAPE)
    array, affine = stored(canonical, oblique(degrees=0), *HEAD_FIRST)
    write_dicom(tmp_path / "full", array, affine)
    for number, path in enumerate(sorted((tmp_path / "full").iterdir())):
        dataset = pydicom.dcmread(path)
        change(number, dataset)
        (tmp_path / "study").mkdir(exist_ok=True)
        dataset.save_as(tmp_path / "study" / path.name, enforce_file_format=False)
    same(tmp_path / "study", canonical)


def test_localizers_and_other_objects_are_left_out(tmp_path: Path) -> None:
    canonical = axial_series(tmp_path / "study")

    def localizer(k: int, dataset: pydicom.Dataset) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    def report(k: int, dataset: pydicom.Dataset) -> None:
        dataset.Modality = "SR"
        del dataset.PixelData, dataset.Rows, dataset.Columns

    axial_series(tmp_path / "study", localizer, shape=(20, 20, 2), stem="localizer")
    axial_series(tmp_path / "study", report, shape=(20, 20, 2), stem="report")
    (note,) = same(tmp_path / "study", canonical)
    assert note.startswith("4 DICOM files hold no slice of a CT and were left out: localizer_001.dcm, ")


def one_study(k: int, dataset: pydicom.Dataset) -> None:
    """A change that puts slices of several calls into one study."""
    dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = "1.2.840.1", "1.2.840.2"


def test_mixed_series_keeps_the_larger_stack(tmp_path: Path) -> None:
    uid = generate_uid()
    canonical = axial_series(tmp_path / "study", one_study, series=uid)
    axial_series(tmp_path / "study", one_study, shape=(5, 8, 2), series=uid, stem="other")
    warnings = " ".join(same(tmp_path / "study", canonical))
    assert "2 images of another size" in warnings


def test_series_are_listed_and_chosen(tmp_path: Path) -> None:
    long, short = generate_uid(), generate_uid()
    canonical = axial_series(tmp_path / "study", series=long)
    axial_series(tmp_path / "study", shape=(9, 8, 3), series=short, stem="short")
    warnings = " ".join(same(tmp_path / "study", canonical))
    assert "2 CT series found" in warnings
    assert long in warnings
    assert short in warnings
    with open_volume(tmp_path / "study", series_uid=short) as volume:
        assert volume.shape == (9, 8, 3)
    line = refusal(tmp_path / "study", series_uid="1.2.3")
    assert long in line
    assert "9 x 8 x 5" in line


def test_axial_is_preferred(tmp_path: Path) -> None:
    canonical = axial_series(tmp_path / "study")
    array, affine = stored(canonical_volume((9, 8, 60)), oblique(degrees=0), (1, 2, 0), (False, True, False))
    write_dicom(tmp_path / "study", array, affine, stem="sagittal")
    assert "not axial" in " ".join(same(tmp_path / "study", canonical))


def test_a_slice_that_is_there_twice(tmp_path: Path) -> None:
    canonical = axial_series(tmp_path / "study")
    first = min((tmp_path / "study").iterdir())
    shutil.copy(first, tmp_path / "study" / "copy.dcm")
    assert "1 slices are there twice" in " ".join(same(tmp_path / "study", canonical))


def test_two_phases_in_one_series(tmp_path: Path) -> None:
    uid = generate_uid()
    axial_series(tmp_path / "study", one_study, series=uid)
    array, affine = stored(canonical_volume(SHAPE, seed=1), oblique(degrees=0), *HEAD_FIRST)
    write_dicom(tmp_path / "study", array, affine, one_study, series=uid, stem="late")
    assert "several phases" in refusal(tmp_path / "study")


def test_gantry_tilt_is_kept(tmp_path: Path) -> None:
    step = 5.0 * np.tan(np.radians(12))
    canonical = axial_series(tmp_path / "study", moved(*(step * np.arange(5)), axis=1))
    affine = oblique(degrees=0)
    affine[1, 2] -= step
    warnings = " ".join(same(tmp_path / "study", canonical, affine))
    assert "78.00 degrees apart" in warnings
    with open_volume(tmp_path / "study") as volume:
        with MaskWriter(tmp_path / "m.nii.gz", volume.native, {1: "bright"}) as writer:
            writer.write_slices(0, (canonical > 0).astype(np.uint8))
        labels, geometry = read_mask(tmp_path / "m.nii.gz")
        assert np.array_equal(labels, canonical > 0)
        assert np.allclose(geometry.grid.affine, volume.grid.affine, atol=1e-4)


def test_volumes_beside_a_series_are_told(tmp_path: Path) -> None:
    canonical = axial_series(tmp_path / "study")
    (tmp_path / "study" / "ct.nii.gz").touch()
    assert "1 NIfTI, NRRD or MHA files beside the series" in " ".join(same(tmp_path / "study", canonical))


def test_nothing_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def change(k: int, dataset: pydicom.Dataset) -> None:
        dataset.add_new("PatientBirthDate", "DA", "never")

    with pytest.warns(UserWarning, match="Invalid value for VR DA"):
        axial_series(tmp_path / "study", change)
    caplog.clear()
    with caplog.at_level("DEBUG"), open_volume(tmp_path / "study") as volume:
        assert volume.source_name == "study"
    assert not caplog.records


def test_real_jpeg2000_series(shared_data: Path) -> None:
    """Twenty slices 512 x 512 in JPEG 2000, 3 mm thick, 2 mm apart, most UIDs emptied; with its mask."""
    folder = shared_data / "medical" / "totalsegmentator"
    labels, geometry = read_mask(folder / "example_seg_dicom.nii.gz")
    with open_volume(folder / "example_ct_dicom") as volume:
        assert volume.shape == (512, 512, 20)
        assert volume.spacing == pytest.approx((0.9765625, 0.9765625, 2.0))
        assert volume.warnings == ()
        assert list(volume.hu_range) == [-1024, 1839]
        assert np.allclose(volume.grid.affine, geometry.grid.affine, atol=1e-4)
        liver = {name: value for value, name in geometry.names.items()}["liver"]
        inside = volume.slices(0, 20)[labels == liver]
    assert 85 < inside.mean() < 95
    assert inside.std() < 25


def test_class_uids_are_the_librarys_own() -> None:
    from domainsam_ct.read.dicom.headers import CT_IMAGE, ENHANCED_CT

    assert CTImageStorage == CT_IMAGE
    assert EnhancedCTImageStorage in ENHANCED_CT
    assert ExplicitVRLittleEndian.is_little_endian
