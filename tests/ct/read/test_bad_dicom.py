"""DICOM that cannot be read: one line each, naming no patient and no file."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import EnhancedCTImageStorage

from tests.ct.made import canonical_volume, oblique, stored, write_dicom
from tests.ct.read.series import HEAD_FIRST, SHAPE, Change, axial_series, moved, refusal, same


@pytest.mark.parametrize(("gone", "words"), [((2,), "1 slice is missing"), ((2, 3), "2 slices are missing")])
def test_missing_slices(tmp_path: Path, gone: tuple[int, ...], words: str) -> None:
    axial_series(tmp_path / "study", shape=(9, 8, 9))
    paths = sorted((tmp_path / "study").iterdir())
    for number in gone:
        paths[number].unlink()
    assert words in refusal(tmp_path / "study")


def test_uneven_slices(tmp_path: Path) -> None:
    axial_series(tmp_path / "study", moved(0, 0, 2.3, 0, 0))
    assert "uneven" in refusal(tmp_path / "study") or "even spacing" in refusal(tmp_path / "study")


def test_slightly_uneven_slices_are_told(tmp_path: Path) -> None:
    canonical = axial_series(tmp_path / "study", moved(0, 0.1, -0.1, 0.1, 0))
    assert "the mean distance is used" in " ".join(same(tmp_path / "study", canonical))


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


def removed(*names: str) -> Change:
    def change(k: int, dataset: pydicom.Dataset) -> None:
        for name in names:
            delattr(dataset, name)

    return change


def assigned(**values: object) -> Change:
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
def test_unfit_slices(tmp_path: Path, change: Change, words: str) -> None:
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
