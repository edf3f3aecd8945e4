"""CT series from DICOM: placed by their slices' own positions, whatever else the headers say."""

from __future__ import annotations

import shutil
import zipfile
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

from domainsam.errors import InputError
from domainsam_ct.read.open import open_volume, read_mask
from domainsam_ct.write.masks import MaskWriter
from tests.ct.made import PATIENT, PATIENT_ID, canonical_volume, oblique, orientations, stored, write_dicom

SHAPE = (9, 8, 5)
HEAD_FIRST = ((0, 1, 2), (True, True, False))
"""As most scanners store it: columns to the left, rows to the back, slices to the head."""


def axial_series(folder: Path, change=None, shape=SHAPE, affine=None, **options) -> np.ndarray:
    """Write an axial series and return it in canonical order."""
    canonical = canonical_volume(shape)
    array, placed = stored(canonical, oblique(degrees=0) if affine is None else affine, *HEAD_FIRST)
    write_dicom(folder, array, placed, change, **options)
    return canonical


def same(folder: Path, canonical: np.ndarray, affine: np.ndarray | None = None) -> tuple[str, ...]:
    """Check that a folder is read as this volume; return the warnings."""
    with open_volume(folder) as volume:
        assert np.array_equal(volume.slices(0, volume.shape[2]), canonical)
        expected = oblique(degrees=0) if affine is None else affine
        assert np.allclose(volume.grid.affine, expected, atol=1e-4)
        return volume.warnings


def refusal(folder: Path, **options: str) -> str:
    """The one line with which a folder is refused; it names no patient and no file."""
    with pytest.raises(InputError) as caught:
        open_volume(folder, **options)
    line = str(caught.value)
    assert "\n" not in line
    for secret in ("Doe", "Jane", PATIENT_ID, "slice_0"):
        assert secret not in line
    return line


@pytest.mark.parametrize(("order", "flips"), orientations()[::5])
def test_any_orientation(tmp_path: Path, order, flips) -> None:
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
    axial_series(tmp_path / "study", report, stem="report")
    assert same(tmp_path / "study", canonical) == ()


def test_mixed_series_keeps_the_larger_stack(tmp_path: Path) -> None:
    uid = generate_uid()
    canonical = axial_series(tmp_path / "study", series=uid)
    axial_series(tmp_path / "study", shape=(5, 8, 2), series=uid, stem="other")
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
    axial_series(tmp_path / "study", series=uid)
    array, affine = stored(canonical_volume(SHAPE, seed=1), oblique(degrees=0), *HEAD_FIRST)
    write_dicom(tmp_path / "study", array, affine, series=uid, stem="late")
    assert "several phases" in refusal(tmp_path / "study")


@pytest.mark.parametrize(("gone", "words"), [((2,), "1 slice is missing"), ((2, 3), "2 slices are missing")])
def test_missing_slices(tmp_path: Path, gone: tuple[int, ...], words: str) -> None:
    axial_series(tmp_path / "study", shape=(9, 8, 9))
    paths = sorted((tmp_path / "study").iterdir())
    for number in gone:
        paths[number].unlink()
    assert words in refusal(tmp_path / "study")


def moved(*millimetres: float, axis: int = 2):
    """A change that moves each slice along an axis of the patient."""

    def change(k: int, dataset: pydicom.Dataset) -> None:
        position = list(dataset.ImagePositionPatient)
        position[axis] = float(position[axis]) + millimetres[k]
        dataset.ImagePositionPatient = position

    return change


def test_uneven_slices(tmp_path: Path) -> None:
    axial_series(tmp_path / "study", moved(0, 0, 2.3, 0, 0))
    assert "uneven" in refusal(tmp_path / "study") or "even spacing" in refusal(tmp_path / "study")


def test_slightly_uneven_slices_are_told(tmp_path: Path) -> None:
    canonical = axial_series(tmp_path / "study", moved(0, 0.1, -0.1, 0.1, 0))
    assert "the mean distance is used" in " ".join(same(tmp_path / "study", canonical))


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


def test_slices_off_the_line(tmp_path: Path) -> None:
    axial_series(tmp_path / "study", moved(0, 0, 4, 0, 0, axis=0))
    assert "even spacing" in refusal(tmp_path / "study")


def test_no_dicom(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    assert "none of its 0 files is DICOM" in refusal(tmp_path / "study")
    (tmp_path / "study" / "notes.txt").write_text("hello")
    assert "none of its 1 files is DICOM" in refusal(tmp_path / "study")
    (tmp_path / "study" / "ct.nii.gz").touch()
    assert "1 are volumes: name them one by one" in refusal(tmp_path / "study")


def test_volumes_beside_a_series_are_told(tmp_path: Path) -> None:
    canonical = axial_series(tmp_path / "study")
    (tmp_path / "study" / "ct.nii.gz").touch()
    assert "1 NIfTI, NRRD or MHA files beside the series" in " ".join(same(tmp_path / "study", canonical))


def test_bad_zip(tmp_path: Path) -> None:
    (tmp_path / "study.zip").write_text("no zip")
    assert "is not a zip file" in refusal(tmp_path / "study.zip")
    axial_series(tmp_path / "study")
    shutil.make_archive(str(tmp_path / "cut"), "zip", tmp_path / "study")
    whole = (tmp_path / "cut.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    assert "zip" in refusal(tmp_path / "cut.zip")
    with zipfile.ZipFile(tmp_path / "locked.zip", "w") as archive:
        archive.writestr("slice_001.dcm", b"secret")
    data = bytearray((tmp_path / "locked.zip").read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(data)
    assert "password" in refusal(tmp_path / "locked.zip")


def removed(*names: str):
    def change(k: int, dataset: pydicom.Dataset) -> None:
        for name in names:
            delattr(dataset, name)

    return change


def assigned(**values: object):
    def change(k: int, dataset: pydicom.Dataset) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    return change


def shortened(k: int, dataset: pydicom.Dataset) -> None:
    if k == 3:
        dataset.PixelData = dataset.PixelData[:40]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (removed("ImagePositionPatient"), "place is unknown"),
        (removed("ImageOrientationPatient"), "place is unknown"),
        (removed("PixelSpacing"), "place is unknown"),
        (assigned(ImagePositionPatient=[]), "place is unknown"),
        (assigned(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "perpendicular"),
        (assigned(ImageOrientationPatient=[2, 0, 0, 0, 1, 0]), "perpendicular"),
        (assigned(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), "perpendicular"),
        (assigned(PixelSpacing=[0, 0]), "place is unknown"),
        (removed("RescaleSlope"), "Hounsfield units are unknown"),
        (assigned(RescaleIntercept=None), "Hounsfield units are unknown"),
        (assigned(Modality="MR"), "modality MR"),
        (assigned(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "only localizers"),
        (assigned(NumberOfFrames=4), "multi-frame"),
        (assigned(SOPClassUID=EnhancedCTImageStorage), "multi-frame"),
        (removed("PixelData"), "no pixels"),
        (shortened, "cannot be decoded"),
        (assigned(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0), "decoded"),
    ],
)
def test_unfit_slices(tmp_path: Path, change, words: str) -> None:
    axial_series(tmp_path / "study", change)
    assert words in refusal(tmp_path / "study")


@pytest.mark.parametrize(
    ("syntax", "words"),
    [
        ("1.2.840.10008.1.2.4.100", "MPEG2"),
        ("1.2.840.10008.1.2.4.90", "JPEG 2000"),
        ("1.2.3.4.5", "1.2.3.4.5"),
    ],
)
def test_coding_beyond_us(tmp_path: Path, syntax: str, words: str) -> None:
    """The header promises a coding that the bytes are not in, as with encrypted or exotic files."""

    def change(k: int, dataset: pydicom.Dataset) -> None:
        dataset.PixelData = pydicom.encaps.encapsulate([b"\0secret\1" * 20])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax

    canonical = canonical_volume(SHAPE)
    array, affine = stored(canonical, oblique(degrees=0), *HEAD_FIRST)
    write_dicom(tmp_path / "study", array, affine)
    for path in (tmp_path / "study").iterdir():
        dataset = pydicom.dcmread(path)
        change(0, dataset)
        dataset.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=False)
    line = refusal(tmp_path / "study")
    assert words in line
    assert "cannot be decoded" in line


def test_single_image(tmp_path: Path) -> None:
    axial_series(tmp_path / "study", shape=(9, 8, 2))
    next((tmp_path / "study").iterdir()).unlink()
    assert "single CT image" in refusal(tmp_path / "study")


def test_truncated_slice(tmp_path: Path) -> None:
    axial_series(tmp_path / "study")
    path = min((tmp_path / "study").iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 60])
    assert "slice" in refusal(tmp_path / "study")


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
        assert volume.hu_range == (-1024, 1839)
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
