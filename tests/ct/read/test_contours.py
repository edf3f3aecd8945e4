"""RTSTRUCT as masks: voxels whose centres lie inside, whichever way a tool draws contours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from domainsam.errors import InputError
from domainsam_cli import main
from domainsam_ct.read.dicom.contours import STRUCTURE_SET
from domainsam_ct.read.dicom.polygons import fill_contours
from domainsam_ct.read.open import open_volume, read_mask
from domainsam_ct.read.volume import ReadMask, get_scan_grid
from tests.ct.made import canonical_volume, oblique, stored, write_dicom, write_nifti
from tests.ct.read.series import HEAD_FIRST

SHAPE = (16, 14, 6)
"""Columns, rows, slices."""
Ring = Sequence[tuple[float, float]]


def rectangle(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


class Study:
    """A series of slices, and contours in its pixels as RTSTRUCT."""

    def __init__(self, folder: Path, degrees: float = 12.0) -> None:
        self.scan = folder / "study"
        write_dicom(self.scan, *stored(canonical_volume(SHAPE), oblique(degrees=degrees), *HEAD_FIRST))
        with open_volume(self.scan) as volume:
            self.grid = get_scan_grid(volume)
            self.to_lps = np.diag([-1, -1, 1, 1]) @ volume.native.affine
            self.turn = volume.native.orientation
        self.path = folder / "rt.dcm"

    def write(self, regions: dict[str, list[tuple[float, Ring]]], **kinds: str) -> Path:
        """Regions by name: (slice, ring of (column, row))."""
        made = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = STRUCTURE_SET
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
        made.StructureSetROISequence, made.ROIContourSequence = [], []
        for number, (name, rings) in enumerate(regions.items(), start=3):
            listed, drawn = Dataset(), Dataset()
            listed.ROINumber = drawn.ReferencedROINumber = number
            listed.ROIName, listed.ReferencedFrameOfReferenceUID = name, self.grid.frame_uid
            drawn.ContourSequence = [self._contour(*ring, kinds.get(name, "CLOSED_PLANAR")) for ring in rings]
            made.StructureSetROISequence.append(listed)
            made.ROIContourSequence.append(drawn)
        made.save_as(self.path, enforce_file_format=True)
        return self.path

    def _contour(self, level: float, ring: Ring, kind: str) -> Dataset:
        contour = Dataset()
        index = np.array([(column, row, level, 1) for column, row in ring])
        contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(ring)
        contour.ContourData = [f"{value:.3f}" for value in (index @ self.to_lps.T)[:, :3].ravel()]
        return contour

    def read(self) -> ReadMask:
        return read_mask(self.path, self.grid)

    def slice_of(self, inside: np.ndarray, level: int) -> np.ndarray:
        """One slice as ``(row, column)``."""
        return np.asarray(self.turn.to_native(inside)[..., level].T)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def box(rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    made = np.zeros((SHAPE[1], SHAPE[0]), bool)
    made[slice(*rows), slice(*columns)] = True
    return made


KEYHOLE = [
    *[(1.5, 1.5), (6, 1.5), (6, 3.5), (4.5, 3.5), (4.5, 6.5), (8.5, 6.5), (8.5, 3.5), (6, 3.5), (6, 1.5)],
    *[(11.5, 1.5), (11.5, 9.5), (1.5, 9.5)],
]
RINGED = box((2, 10), (2, 12)) & ~box((4, 7), (5, 9))

CASES = {
    "half way between pixels": ([rectangle(1.5, 1.5, 11.5, 9.5)], box((2, 10), (2, 12))),
    "through the outermost pixels": ([rectangle(2, 2, 11, 9)], box((2, 10), (2, 12))),
    "between": ([rectangle(1.7, 1.9, 11.2, 9.3)], box((2, 10), (2, 12))),
    "a hole": ([rectangle(1.5, 1.5, 11.5, 9.5), rectangle(4.5, 3.5, 8.5, 6.5)], RINGED),
    "a hole first": ([rectangle(4.5, 3.5, 8.5, 6.5), rectangle(1.5, 1.5, 11.5, 9.5)], RINGED),
    "a hole through the pixels around it": ([rectangle(2, 2, 11, 9), rectangle(4, 3, 9, 7)], RINGED),
    "a keyhole": ([KEYHOLE], RINGED),
    "an island in a hole": (
        [rectangle(1.5, 1.5, 11.5, 9.5), rectangle(3.5, 2.5, 9.5, 8.5), rectangle(5.5, 4.5, 7.5, 6.5)],
        (box((2, 10), (2, 12)) & ~box((3, 9), (4, 10))) | box((5, 7), (6, 8)),
    ),
    "two parts": (
        [rectangle(0.5, 0.5, 3.5, 3.5), rectangle(7.5, 7.5, 12.5, 11.5)],
        box((1, 4), (1, 4)) | box((8, 12), (8, 13)),
    ),
    "a contour twice": ([rectangle(1.5, 1.5, 5.5, 5.5)] * 2, box((2, 6), (2, 6))),
    "parts that overlap": (
        [rectangle(1.5, 1.5, 6.5, 6.5), rectangle(4.5, 4.5, 9.5, 9.5)],
        box((2, 7), (2, 7)) | box((5, 10), (5, 10)),
    ),
    "a bow": ([[(1.5, 1.5), (9.5, 1.5), (1.5, 9.5), (9.5, 9.5)]], None),
}


@pytest.mark.parametrize("name", list(CASES))
def test_pixels_whose_centres_lie_inside(study: Study, name: str) -> None:
    rings, expected = CASES[name]
    study.write({"liver": [(2, ring) for ring in rings]})
    labels, geometry = study.read()
    filled = study.slice_of(labels == 1, 2)
    if expected is None:
        # Columns of the two triangles that meet in the middle.
        rows, columns = np.indices(filled.shape)
        across = np.minimum(rows, 11 - rows)
        expected = (rows >= 2) & (rows <= 9) & (columns >= across) & (columns <= 11 - across)
        assert (filled != expected).sum() <= 4, "only centres on the lines may differ"
        return
    assert np.array_equal(filled, expected)
    assert labels.astype(bool).sum() == expected.sum(), "nothing on other slices"
    assert geometry.names == {1: "liver"}
    overlap = "overlap in part" in " ".join(geometry.warnings)
    assert overlap == (name == "parts that overlap")


def test_contours_that_exclude_each_other(study: Study) -> None:
    rings = [rectangle(1.5, 1.5, 6.5, 6.5), rectangle(4.5, 4.5, 9.5, 9.5)]
    study.write({"liver": [(2, ring) for ring in rings]}, liver="CLOSEDPLANAR_XOR")
    expected = box((2, 7), (2, 7)) ^ box((5, 10), (5, 10))
    assert np.array_equal(study.slice_of(study.read().labels == 1, 2), expected)


def test_a_random_shape_is_filled_as_it_was_drawn() -> None:
    """Against a second implementation, point by point; contours far from centres."""
    from matplotlib.path import Path as Polygon

    random = np.random.default_rng(3)
    angles = np.sort(random.uniform(0, 2 * np.pi, 40))
    ring = np.column_stack([np.cos(angles), np.sin(angles)]) * random.uniform(4, 14, (40, 1)) + 15.123
    columns, rows = np.meshgrid(np.arange(32), np.arange(30))
    centres = np.column_stack([columns.ravel(), rows.ravel()])
    expected = Polygon(np.r_[ring, ring[:1]]).contains_points(centres).reshape(30, 32)
    assert np.array_equal(fill_contours([ring], (30, 32))[0], expected)


def test_several_regions_with_their_names(study: Study) -> None:
    square = rectangle(1.5, 1.5, 6.5, 6.5)
    study.write(
        {
            "Liver": [(1, square), (2, square)],
            "GTV 1": [(1, square)],
            "empty": [],
            "isocentre": [(3, [(4.0, 4.0)])],
            "Left kidney": [(0, rectangle(8.5, 8.5, 9.5, 9.5)), (4, rectangle(8.5, 8.5, 9.5, 9.5))],
        },
        isocentre="POINT",
    )
    labels, geometry = study.read()
    assert geometry.names == {1: "Liver", 2: "GTV 1", 3: "empty", 4: "isocentre", 5: "Left kidney"}
    assert {value: whole.sum() for value, whole in geometry.whole.items()} == {1: 50, 2: 25}
    assert (labels == 5).sum() == 2
    told = " ".join(geometry.warnings)
    assert "isocentre (POINT)" in told
    assert "without contours: empty" in told
    assert "overlap (Liver, GTV 1)" in told
    assert "first and last, which are empty: Left kidney (3)" in told


def change_frame(dataset: Any) -> None:
    for region in dataset.StructureSetROISequence:
        region.ReferencedFrameOfReferenceUID = "1.2.3.4"


def no_points(dataset: Any) -> None:
    dataset.ROIContourSequence[0].ContourSequence[0].ContourData = ["1.0", "2.0"]


def nothing_drawn(dataset: Any) -> None:
    del dataset.ROIContourSequence


@pytest.mark.parametrize(
    ("level", "change", "said"),
    [
        (2.5, None, "beside the slices"),
        (2, change_frame, "another frame of reference"),
        (2, no_points, "no points"),
        (2, nothing_drawn, "no closed contours"),
    ],
)
def test_refusals_in_one_line(study: Study, level: float, change: Any, said: str) -> None:
    study.write({"liver": [(level, rectangle(1.5, 1.5, 6.5, 6.5))]})
    if change is not None:
        dataset = pydicom.dcmread(study.path)
        change(dataset)
        dataset.save_as(study.path)
    with pytest.raises(InputError, match=said) as caught:
        study.read()
    assert "\n" not in str(caught.value)


def test_contours_across_slices_are_refused(study: Study) -> None:
    study.write({"liver": [(2, rectangle(1.5, 1.5, 6.5, 6.5))]})
    dataset = pydicom.dcmread(study.path)
    points = np.array([[3, 1, 0, 1], [3, 5, 1, 1], [3, 5, 4, 1], [3, 1, 3, 1]]) @ study.to_lps.T
    other = Dataset()
    other.ContourGeometricType, other.NumberOfContourPoints = "CLOSED_PLANAR", 4
    other.ContourData = [f"{value:.3f}" for value in (points[:, :3] + 1.3).ravel()]
    dataset.ROIContourSequence[0].ContourSequence.append(other)
    dataset.save_as(study.path)
    with pytest.raises(InputError, match="do not lie in the slices"):
        study.read()


def test_what_leaves_the_grid_is_told(study: Study) -> None:
    study.write({"liver": [(2, rectangle(10.5, 1.5, 30.5, 6.5)), (9, rectangle(1.5, 1.5, 6.5, 6.5))]})
    labels, geometry = study.read()
    assert np.array_equal(study.slice_of(labels == 1, 2), box((2, 7), (11, 16)))
    assert "outside the grid and are cut there: liver" in " ".join(geometry.warnings)


def test_statistics_and_evaluate_take_contours(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    path = study.write({"liver": [(level, rectangle(1.5, 1.5, 6.5, 6.5)) for level in (1, 2, 3)]})
    voxel_ml = float(np.prod(study.grid.grid.spacing)) / 1000
    assert main(["ct", "statistics", str(path), "--image", str(study.scan), "--json"]) == 0
    liver = json.loads(capsys.readouterr().out)["organs"]["liver"]
    assert liver["voxels"] == 75
    assert liver["volume_ml"] == pytest.approx(75 * voxel_ml, rel=1e-4)
    assert liver["hu"] is not None
    assert main(["ct", "statistics", str(path)]) == 2
    assert "give the scan" in capsys.readouterr().err
    mask = write_nifti(study.path.with_name("m.nii.gz"), 5 * study.read().labels, study.grid.grid.affine)
    for pair in ([mask, path], [path, mask]):
        assert main(["ct", "evaluate", *map(str, pair), "--label-map", "synapse", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["organs"]["liver"]["dice"]["value"] == 1.0
        assert "frame of reference of m.nii.gz is not known" in " ".join(told["notes"])
    assert main(["ct", "evaluate", str(path), str(path)]) == 2
    assert "--images" in capsys.readouterr().err
    # As archives export it: a folder with one file, whose name has no ending.
    alone = study.path.with_name("export") / "RS.1.2.3"
    alone.parent.mkdir()
    alone.write_bytes(path.read_bytes())
    words = [alone.parent, path, "--images", study.scan, "--json"]
    assert main(["ct", "evaluate", *map(str, words)]) == 0
    assert json.loads(capsys.readouterr().out)["organs"]["liver"]["dice"]["value"] == 1.0
