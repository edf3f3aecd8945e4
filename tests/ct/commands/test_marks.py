"""Marks of a person on slices of a CT become masks in the scan's own space, from shell and Python alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

import domainsam
from domainsam.errors import InputError
from domainsam_cli import main
from tests.ct.made import canonical_volume, oblique, stored, write_nifti

SHAPE = (64, 80, 6)
LIVER = ((12, 36), (20, 52))
"""Canonical x and y of the liver's box, first and past the last voxel; it is marked in one slice."""
SPLEEN = ((44, 58), (50, 70))
SLICE = 4
SPACES = {
    "straight": ((0, 1, 2), (False, False, False)),
    "flipped": ((0, 1, 2), (True, False, True)),
    "permuted": ((2, 0, 1), (False, True, False)),
}


def write_scan(path: Path, space: str) -> Path:
    """An oblique scan whose axes lie as the space says."""
    array, affine = stored(canonical_volume(SHAPE), oblique(), *SPACES[space])
    return write_nifti(path, array, affine)


def box_of(area: tuple[tuple[int, int], tuple[int, int]], space: str) -> list[float]:
    """A canonical box on the slice as six voxel coordinates of the file's own axes, edges between voxels."""
    order, flips = SPACES[space]
    edges = [(low - 0.5, high - 0.5) for low, high in (*area, (SLICE, SLICE + 1))]
    native = []
    for source, flip in zip(order, flips, strict=True):
        low, high = edges[source]
        native.append((SHAPE[source] - 1 - high, SHAPE[source] - 1 - low) if flip else (low, high))
    return [*(low for low, _ in native), *(high for _, high in native)]


def write_marks(path: Path, space: str = "straight", *, liver: str = "liver") -> Path:
    objects = [
        {"label": liver, "box": box_of(LIVER, space)},
        {"label": "spleen", "box": box_of(SPLEEN, space)},
    ]
    path.write_text(json.dumps({"frame": "voxel", "objects": objects}))
    return path


def canonical(values: np.ndarray[Any, Any], space: str) -> np.ndarray[Any, Any]:
    """A stored array back in canonical order."""
    order, flips = SPACES[space]
    array = values[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    return array.transpose(np.argsort(order))


def segment(*arguments: object) -> int:
    """``domainsam ct segment`` with the fake foundation, whose answer to a box is about the box."""
    return main(["ct", "segment", *map(str, arguments), "--foundation", "fake"])


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def check_mask(mask: np.ndarray[Any, Any], liver: int = 1, spleen: int = 2) -> None:
    """About the boxes, in the marked slice alone."""
    assert not np.delete(mask, SLICE, axis=2).any()
    for value, ((left, right), (front, back)) in ((liver, LIVER), (spleen, SPLEEN)):
        wanted = np.zeros(mask.shape[:2], bool)
        wanted[left:right, front:back] = True
        found = mask[..., SLICE] == value
        assert (found & wanted).sum() / (found | wanted).sum() > 0.8


@pytest.mark.parametrize("space", SPACES)
def test_boxes_become_a_mask_in_the_space_of_the_scan(tmp_path: Path, space: str) -> None:
    scan = write_scan(tmp_path / "ct.nii.gz", space)
    marks = write_marks(tmp_path / "marks.json", space)
    assert segment(scan, "--boxes", marks, "-o", tmp_path / "o.nii.gz") == 0
    given, made = nibabel.load(scan), nibabel.load(tmp_path / "o.nii.gz")
    assert made.shape == given.shape
    for part in ("get_qform", "get_sform"):
        one, other = (getattr(image, part)(coded=True) for image in (given.header, made.header))
        assert np.array_equal(one[0], other[0])
        assert one[1] == other[1]
    assert np.array_equal(given.header["pixdim"], made.header["pixdim"])
    check_mask(canonical(np.asarray(made.dataobj), space))


def test_python_gives_the_mask_of_the_command(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "ct.nii.gz", "flipped")
    marks = write_marks(tmp_path / "marks.json", "flipped")
    assert segment(scan, "--boxes", marks, "-o", tmp_path / "a.nii.gz", "--statistics") == 0
    with domainsam.open(scan) as volume:
        assert (volume.pack.name, volume.frames, volume.shape) == ("ct", SHAPE[2], (SHAPE[1], SHAPE[0]))
        boxes = [box_of(LIVER, "flipped"), box_of(SPLEEN, "flipped")]
        found = volume.find(boxes=boxes, labels=["liver", "spleen"], frame="voxel", foundation="fake")
        result = found.save(tmp_path / "b.nii.gz", statistics=True)
        pictures = found.labels
        assert [item.bounds.frame for item in found.objects if item.bounds] == [SLICE, SLICE]
        with pytest.raises(InputError, match="state the frame: voxel or RAS or LPS or pixel"):
            volume.find(points=[(1, 2, 3)], foundation="fake")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert {organ.name for organ in result.organs} == {"liver", "spleen"}
    # Rows of a picture run to the back and columns to the left: both against the canonical axes.
    check_mask(pictures.transpose(2, 1, 0)[::-1, ::-1])


def test_a_slice_takes_pixels_of_its_picture(tmp_path: Path) -> None:
    with domainsam.open(write_scan(tmp_path / "ct.nii.gz", "straight")) as volume:
        found = volume.find(boxes=[(10, 12, 30, 40)], frame=2, foundation="fake")
        assert found.labels[2, 14:38, 12:28].all()
        assert not np.delete(found.labels, 2, axis=0).any()


def test_labels_become_the_numbers_of_a_label_map_and_files_of_their_own(tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "ct.nii.gz", "straight")
    marks = write_marks(tmp_path / "marks.json")
    (tmp_path / "map.toml").write_text("[labels]\nspleen = 3\nliver = 77\naorta = 4\n")
    numbered = ("--label-map", tmp_path / "map.toml")
    assert segment(scan, "--boxes", marks, "-o", tmp_path / "o.nii.gz", *numbered) == 0
    check_mask(np.asarray(nibabel.load(tmp_path / "o.nii.gz").dataobj), liver=77, spleen=3)
    assert segment(scan, "--boxes", marks, "-o", tmp_path / "parts", "--per-organ") == 0
    files = {path.name for path in (tmp_path / "parts").rglob("*.nii.gz")}
    assert len(files) == 2
    assert {name for name in ("liver", "spleen") if any(name in file for file in files)} == {
        "liver",
        "spleen",
    }
    for path in (tmp_path / "parts").rglob("*.nii.gz"):
        assert set(np.unique(np.asarray(nibabel.load(path).dataobj))) == {0, 1}


@pytest.mark.parametrize("name", ["../x", "a/b", "a b"])
def test_a_label_that_is_no_name_is_refused(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = write_scan(tmp_path / "ct.nii.gz", "straight")
    marks = write_marks(tmp_path / "marks.json", liver=name)
    before = sorted(tmp_path.rglob("*"))
    assert segment(scan, "--boxes", marks, "-o", tmp_path / "parts", "--per-organ") == 2
    assert f"object 1 is labelled {name!r}; expected letters, digits" in one_line(capsys)
    assert sorted(tmp_path.rglob("*")) == before


def test_several_scans_and_a_model_beside_marks_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = [write_scan(tmp_path / name, "straight") for name in ("a.nii.gz", "b.nii.gz")]
    marks = write_marks(tmp_path / "marks.json")
    assert segment(*scans, "--points", marks, "-o", tmp_path / "out") == 2
    assert "marks belong to one scan, but 2 were given" in one_line(capsys)
    assert segment(scans[0], "--points", marks, "-o", tmp_path / "o.nii.gz", "--model", "m.safetensors") == 2
    assert "--model is of no use beside --points or --boxes" in one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_interrupted_run_resumes_to_the_same_bytes(
    tmp_path: Path, interrupt_decoding: Callable[[], None]
) -> None:
    scan = write_scan(tmp_path / "ct.nii.gz", "straight")
    objects = [{"label": "liver", "box": [10, 10, 30, 40], "slice": number} for number in (1, 4)]
    (tmp_path / "m.json").write_text(json.dumps({"frame": "voxel", "objects": objects}))
    command = (scan, "--boxes", tmp_path / "m.json", "-o")
    assert segment(*command, tmp_path / "whole.nii.gz") == 0
    interrupt_decoding()
    assert segment(*command, tmp_path / "broken.nii.gz") == 130
    assert not (tmp_path / "broken.nii.gz").exists()
    assert segment(*command, tmp_path / "broken.nii.gz", "--resume") == 0
    assert (tmp_path / "whole.nii.gz").read_bytes() == (tmp_path / "broken.nii.gz").read_bytes()


def test_a_real_scan_from_a_box_around_an_organ(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "medical/totalsegmentator"
    truth = np.asarray(nibabel.load(folder / "example_seg_fast_force_split.nii.gz").dataobj) == 5
    k = int(truth.sum(axis=(0, 1)).argmax())
    rows, cols = np.nonzero(truth[..., k])
    box = [rows.min() - 0.5, cols.min() - 0.5, k - 0.4, rows.max() + 0.5, cols.max() + 0.5, k + 0.4]
    with domainsam.open(folder / "example_ct.nii.gz", pack="ct") as volume:
        volume.find(boxes=[box], labels="liver", frame="voxel").save(tmp_path / "o.nii.gz")
    made = nibabel.load(tmp_path / "o.nii.gz")
    given = nibabel.load(folder / "example_ct.nii.gz")
    assert np.array_equal(made.affine, given.affine)
    mask = np.asarray(made.dataobj) > 0
    assert not np.delete(mask, k, axis=2).any()
    found, wanted = mask[..., k], truth[..., k]
    # The embedded foundation is small: it must hit the organ, not outline it to the voxel.
    assert (found & wanted).sum() > 0.8 * found.sum() > 0.4 * wanted.sum()
