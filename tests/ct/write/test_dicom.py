"""Masks as DICOM SEG and RTSTRUCT: identical when read back, placed and coded as viewers expect."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Polygon

from domainsam.errors import InputError, OutputError
from domainsam_ct.evaluate.labelled import read_labelled
from domainsam_ct.labels import Organ, load_label_map
from domainsam_ct.read.open import open_volume, read_mask
from domainsam_ct.read.volume import Volume, get_scan_grid
from domainsam_ct.write.dicom_seg import write_dicom_seg
from domainsam_ct.write.rtstruct import trace_outlines, write_rtstruct
from tests.ct.made import PATIENT_ID, canonical_volume, oblique, stored, write_dicom, write_nifti

SHAPE = (24, 22, 7)
LAYOUTS = {
    "axial": ((0, 1, 2), (True, True, False), 0.0),
    "oblique": ((0, 1, 2), (True, True, False), 12.0),
    "feet first": ((0, 1, 2), (False, True, True), 4.0),
    "coronal": ((0, 2, 1), (True, True, True), 8.0),
    "sagittal": ((1, 2, 0), (True, True, False), 8.0),
}


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    """Two kidneys, a liver with a hole, an aorta in two slices, a slice without anything."""
    made = np.zeros(SHAPE, np.uint8)
    made[2:8, 3:9, 1:5] = 3
    made[15:20, 3:9, 1:6] = 2
    made[9:22, 10:20, 2:5] = 5
    made[12:16, 13:16, 2:5] = 0
    made[13, 14, 2:5] = 5
    made[1, 1, 3:5] = 7
    return made


@pytest.fixture(scope="module", params=list(LAYOUTS))
def volume(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Volume]:
    order, flips, degrees = LAYOUTS[request.param]
    array, affine = stored(canonical_volume(SHAPE), oblique(degrees=degrees), order, flips)
    folder = tmp_path_factory.mktemp("series")
    write_dicom(folder, array, affine)
    with open_volume(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def organs() -> dict[int, Organ]:
    return load_label_map("synapse")


def complaints(path: Path) -> list[str]:
    """What dciodvfy, an independent validator, holds against a file."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed")
    done = subprocess.run([program, "-new", str(path)], capture_output=True, text=True, check=False)
    return [
        line
        for line in done.stderr.splitlines()
        if "DICOMDIR" not in line and ("Err" in line or "Warn" in line)
    ]


def renumbered(mask: np.ndarray) -> np.ndarray:
    """Labels as segment numbers: those that occur, from 1 on."""
    table = np.zeros(256, np.uint8)
    present = [value for value in range(1, 256) if np.any(mask == value)]
    table[present] = np.arange(1, len(present) + 1)
    return table[mask]


def placed(path: Path, volume: Volume) -> np.ndarray:
    """A mask that was read back, on the voxels of its scan."""
    return read_labelled(path).place_on(volume.grid, "scan").values


@pytest.mark.parametrize("form", ["binary", "deflated", "labelmap"])
def test_every_form_holds_the_mask(
    tmp_path: Path, mask: np.ndarray, volume: Volume, organs: dict[int, Organ], form: str
) -> None:
    path = tmp_path / "seg.dcm"
    write_dicom_seg(path, mask, volume, organs, form=form)
    expected = mask if form == "labelmap" else renumbered(mask)
    assert np.array_equal(placed(path, volume), expected)
    # The same by highdicom's own reading, frame by frame through the slices' UIDs.
    uids = [header.instance_uid for header in volume.native.series.headers]
    pixels = hd.seg.segread(path).get_pixels_by_source_instance(
        uids, combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    read = volume.native.orientation.to_canonical(pixels.transpose(2, 1, 0))
    assert np.array_equal(read, expected)
    made = pydicom.dcmread(path)
    assert made.SegmentationType == ("LABELMAP" if form == "labelmap" else "BINARY")
    syntax = {"binary": "1.2.840.10008.1.2.1", "deflated": "1.2.840.10008.1.2.1.99"}
    assert made.file_meta.TransferSyntaxUID == syntax.get(form, "1.2.840.10008.1.2.5")
    assert complaints_of(path, form) == []


def complaints_of(path: Path, form: str) -> list[str]:
    """What the validator says, where it is there and knows the form."""
    return complaints(path) if shutil.which("dciodvfy") and form != "deflated" else []


def test_empty_frames_are_left_out(
    tmp_path: Path, mask: np.ndarray, volume: Volume, organs: dict[int, Organ]
) -> None:
    write_dicom_seg(tmp_path / "seg.dcm", mask, volume, organs)
    frames = sum(
        int((volume.native.orientation.to_native(mask) == value).any(axis=(0, 1)).sum())
        for value in (2, 3, 5, 7)
    )
    assert pydicom.dcmread(tmp_path / "seg.dcm").NumberOfFrames == frames


def test_overlapping_organs_keep_their_voxels(
    tmp_path: Path, mask: np.ndarray, volume: Volume, organs: dict[int, Organ]
) -> None:
    whole = {2: mask == 2, 5: (mask == 5) | (mask == 2)}
    write_dicom_seg(tmp_path / "seg.dcm", mask, volume, organs, whole=whole)
    write_rtstruct(tmp_path / "rt.dcm", mask, volume, organs, whole=whole)
    for name in ("seg.dcm", "rt.dcm"):
        read = read_labelled(tmp_path / name, None, get_scan_grid(volume)).place_on(volume.grid, "scan")
        values = {organ.name: value for value, organ in read.labels.items()}
        assert np.array_equal(read.inside(values["liver"]), whole[5])
        assert np.array_equal(read.inside(values["kidney_right"]), whole[2])
        assert np.array_equal(read.inside(values["aorta"]), mask == 7)
    with pytest.raises(InputError, match="organs overlap"):
        write_dicom_seg(tmp_path / "map.dcm", mask, volume, organs, whole=whole, form="labelmap")
    assert not (tmp_path / "map.dcm").exists()


@pytest.mark.parametrize(
    ("origin", "in_seg", "in_rtstruct"),
    [
        ("automatic", "AUTOMATIC", "AUTOMATIC"),
        ("manual", "MANUAL", "MANUAL"),
        (None, "SEMIAUTOMATIC", ""),
    ],
)
def test_origin_is_what_was_said(
    tmp_path: Path,
    mask: np.ndarray,
    volume: Volume,
    organs: dict[int, Organ],
    origin: str | None,
    in_seg: str,
    in_rtstruct: str,
) -> None:
    write_dicom_seg(tmp_path / "seg.dcm", mask, volume, organs, origin=origin)
    write_rtstruct(tmp_path / "rt.dcm", mask, volume, organs, origin=origin)
    seg, rt = (pydicom.dcmread(tmp_path / name) for name in ("seg.dcm", "rt.dcm"))
    assert {item.SegmentAlgorithmType for item in seg.SegmentSequence} == {in_seg}
    assert {item.ROIGenerationAlgorithm for item in rt.StructureSetROISequence} == {in_rtstruct}
    if origin is None:
        assert {item.SegmentAlgorithmName for item in seg.SegmentSequence} == {"not stated"}


def test_seg_reads_back_identical(
    tmp_path: Path, mask: np.ndarray, volume: Volume, organs: dict[int, Organ]
) -> None:
    path = tmp_path / "seg.dcm"
    write_dicom_seg(path, mask, volume, organs)
    assert np.array_equal(placed(path, volume), renumbered(mask))
    geometry = read_mask(path).geometry
    assert geometry.names == {1: "kidney_right", 2: "kidney_left", 3: "liver", 4: "aorta"}
    assert geometry.warnings == ()


def test_seg_agrees_with_highdicom(
    tmp_path: Path, mask: np.ndarray, volume: Volume, organs: dict[int, Organ]
) -> None:
    """highdicom's own reading of the volume, by its own affine, is the mask."""
    path = tmp_path / "seg.dcm"
    write_dicom_seg(path, mask, volume, organs)
    read = hd.seg.segread(path).get_volume(combine_segments=True)
    index = np.argwhere(np.ones(read.shape[:3], bool))
    lps = np.c_[index, np.ones(len(index))] @ read.affine.T
    there = volume.grid.to_index(lps[:, :3] * (-1, -1, 1))
    assert np.abs(there - there.round()).max() < 1e-3
    assert np.array_equal(renumbered(mask)[tuple(there.round().astype(int).T)], read.array[tuple(index.T)])


def test_seg_says_what_and_whose(
    tmp_path: Path, mask: np.ndarray, volume: Volume, organs: dict[int, Organ]
) -> None:
    path = tmp_path / "seg.dcm"
    write_dicom_seg(path, mask, volume, organs)
    made = pydicom.dcmread(path)
    source = volume.native.series.headers[0].dataset
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "StudyDate"):
        assert made[keyword].value == source[keyword].value
    assert made.SeriesInstanceUID != source.SeriesInstanceUID
    assert made.PatientID == PATIENT_ID
    sides = {}
    for segment in made.SegmentSequence:
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        modifier = kind.get("SegmentedPropertyTypeModifierCodeSequence")
        sides[segment.SegmentLabel] = (kind.CodeValue, modifier[0].CodeValue if modifier else None)
        assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert sides == {
        "Kidney, right": ("64033007", "24028007"),
        "Kidney, left": ("64033007", "7771000"),
        "Liver": ("10200004", None),
        "Aorta": ("15825003", None),
    }
    colour = hd.color.CIELabColor.from_dicom_value(made.SegmentSequence[2].RecommendedDisplayCIELabValue)
    assert np.allclose(colour.to_rgb(), organs[5].colour, atol=2)
    referred = {
        item.ReferencedSOPInstanceUID
        for frame in made.PerFrameFunctionalGroupsSequence
        for image in frame.DerivationImageSequence
        for item in image.SourceImageSequence
    }
    filled = volume.native.orientation.to_native(mask).any(axis=(0, 1))
    headers = volume.native.series.headers
    assert referred == {headers[level].instance_uid for level in np.flatnonzero(filled)}


def test_seg_and_rtstruct_satisfy_the_validator(
    tmp_path: Path, mask: np.ndarray, volume: Volume, organs: dict[int, Organ]
) -> None:
    write_dicom_seg(tmp_path / "seg.dcm", mask, volume, organs)
    write_rtstruct(tmp_path / "rt.dcm", mask, volume, organs)
    assert complaints(tmp_path / "seg.dcm") == []
    assert complaints(tmp_path / "rt.dcm") == []


def test_rtstruct_outlines_fill_to_the_mask(
    tmp_path: Path, mask: np.ndarray, volume: Volume, organs: dict[int, Organ]
) -> None:
    """Voxels whose centres lie inside a region's contours are exactly the organ's, holes and all."""
    write_rtstruct(tmp_path / "rt.dcm", mask, volume, organs)
    made = pydicom.dcmread(tmp_path / "rt.dcm")
    uids = [header.instance_uid for header in volume.native.series.headers]
    to_index = np.linalg.inv(np.diag([-1, -1, 1, 1]) @ volume.native.affine)
    columns, rows, _ = volume.native.shape
    centres = np.stack(np.meshgrid(np.arange(columns), np.arange(rows), indexing="ij"), -1).reshape(-1, 2)
    values = {organ.name: value for value, organ in organs.items()}
    filled = np.zeros(volume.native.shape, np.uint8)
    for region, outline in zip(made.StructureSetROISequence, made.ROIContourSequence, strict=True):
        assert region.ROINumber == outline.ReferencedROINumber
        assert tuple(outline.ROIDisplayColor) == organs[values[region.ROIName]].colour
        for contour in outline.ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints
            index = np.c_[points, np.ones(len(points))] @ to_index.T
            (level,) = {round(float(k)) for k in index[:, 2]}
            assert np.abs(index[:, 2] - level).max() < 1e-3
            assert contour.ContourImageSequence[0].ReferencedSOPInstanceUID == uids[level]
            inside = Polygon(np.r_[index[:, :2], index[:1, :2]]).contains_points(centres)
            filled[..., level][inside.reshape(columns, rows)] = values[region.ROIName]
    assert np.array_equal(volume.native.orientation.to_canonical(filled), mask)


def test_outlines_of_awkward_shapes() -> None:
    """Touching corners, rings within rings, single pixels and the image's rim."""
    image = np.zeros((40, 40), bool)
    image[0:9, 0:9] = True
    image[2:7, 2:7] = False
    image[3:6, 3:6] = True
    image[4, 4] = False
    image[9, 9] = image[11, 9] = image[39, 39] = image[0, 39] = True
    image[20:22, 20:22] = image[22:24, 22:24] = True
    image |= np.random.default_rng(0).random(image.shape) > 0.8
    columns, rows = np.meshgrid(np.arange(40), np.arange(40))
    filled = np.zeros(image.shape, bool)
    for ring in trace_outlines(image):
        closed = np.r_[ring, ring[:1]]
        filled ^= Polygon(closed).contains_points(np.c_[columns.ravel(), rows.ravel()]).reshape(40, 40)
    assert np.array_equal(filled, image)
    assert trace_outlines(np.zeros((5, 5), bool)) == []


def test_anonymised_series_still_gets_objects(
    tmp_path: Path, mask: np.ndarray, organs: dict[int, Organ]
) -> None:
    """Emptied UIDs are replaced, by the same ones in both objects."""
    array, affine = stored(canonical_volume(SHAPE), oblique(degrees=0), *LAYOUTS["axial"][:2])

    def change(k: int, dataset: pydicom.Dataset) -> None:
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "StudyID"):
            setattr(dataset, keyword, "")
        del dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.SliceThickness

    write_dicom(tmp_path / "study", array, affine, change)
    with open_volume(tmp_path / "study") as volume:
        write_dicom_seg(tmp_path / "seg.dcm", mask, volume, organs)
        write_rtstruct(tmp_path / "rt.dcm", mask, volume, organs)
    seg, rt = (pydicom.dcmread(tmp_path / name) for name in ("seg.dcm", "rt.dcm"))
    assert seg.StudyInstanceUID == rt.StudyInstanceUID != ""
    assert seg.FrameOfReferenceUID == rt.FrameOfReferenceUID != ""
    assert complaints(tmp_path / "seg.dcm") == []
    assert complaints(tmp_path / "rt.dcm") == []


@pytest.mark.parametrize("write", [write_dicom_seg, write_rtstruct])
def test_refusals(
    tmp_path: Path, mask: np.ndarray, volume: Volume, organs: dict[int, Organ], write: Callable[..., Any]
) -> None:
    out = tmp_path / "out.dcm"
    with pytest.raises(InputError, match="no organ was found"):
        write(out, np.zeros(SHAPE, np.uint8), volume, organs)
    path = write_nifti(tmp_path / "ct.nii", canonical_volume(SHAPE), oblique())
    with open_volume(path) as other, pytest.raises(InputError, match="give the DICOM folder"):
        write(out, mask, other, organs)
    assert not out.exists()
    out.write_text("precious")
    with pytest.raises(OutputError, match="exists"):
        write(out, mask, volume, organs)
    assert out.read_text() == "precious"


def _one_slice(folder: Path) -> Path:
    return write_dicom(folder, *stored(canonical_volume(SHAPE), oblique(), *LAYOUTS["axial"][:2]))[0]


def test_other_dicom_files_are_no_masks(
    tmp_path: Path, volume: Volume, mask: np.ndarray, organs: dict[int, Organ]
) -> None:
    write_rtstruct(tmp_path / "rt.dcm", mask, volume, organs)
    with pytest.raises(InputError, match="contours have no voxels: give the scan"):
        read_mask(tmp_path / "rt.dcm")
    slice_ = Path(shutil.copy(_one_slice(tmp_path / "one"), tmp_path / "slice.dcm"))
    with pytest.raises(InputError, match="no segmentation"):
        read_mask(slice_)
    (tmp_path / "text.dcm").write_text("hello")
    with pytest.raises(InputError, match="no mask"):
        read_mask(tmp_path / "text.dcm")
    write_dicom_seg(tmp_path / "seg.dcm", mask, volume, organs)
    whole = (tmp_path / "seg.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[: len(whole) - 200])
    with pytest.raises(InputError, match="truncated"):
        read_mask(tmp_path / "cut.dcm")


@pytest.mark.slow
def test_real_series(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "medical" / "totalsegmentator"
    labels = read_mask(folder / "example_seg_dicom.nii.gz").labels
    organs = {v: o for v, o in load_label_map("totalsegmentator").items() if o.name in ("liver", "aorta")}
    wanted = np.where(np.isin(labels, list(organs)), labels, 0).astype(np.uint8)
    with open_volume(folder / "example_ct_dicom") as volume:
        write_dicom_seg(tmp_path / "seg.dcm", labels, volume, organs)
        write_rtstruct(tmp_path / "rt.dcm", labels, volume, organs)
        assert np.array_equal(placed(tmp_path / "seg.dcm", volume), renumbered(wanted))
        contours = read_labelled(tmp_path / "rt.dcm", None, get_scan_grid(volume))
    assert np.array_equal(contours.values, renumbered(wanted))
    assert complaints(tmp_path / "seg.dcm") == []
    assert complaints(tmp_path / "rt.dcm") == []
