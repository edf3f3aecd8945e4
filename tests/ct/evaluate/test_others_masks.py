"""Masks as other tools write them: overlapping, cut out, in layers, in folders, with unknown values."""

from __future__ import annotations

import json
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from domainsam_cli import main
from domainsam_ct.labels import match_name
from domainsam_ct.read.open import read_mask
from tests.ct.made import write_nifti
from tests.ct.read.series import axial_series

SHAPE = (20, 16, 10)
VOXEL_ML = 0.001
"""One millimetre each way."""
AFFINE = np.eye(4)


def box(*spans: tuple[int, int]) -> np.ndarray:
    inside = np.zeros(SHAPE, np.uint8)
    inside[tuple(slice(*span) for span in spans)] = 1
    return inside


LIVER = box((3, 9), (3, 9), (2, 8))
SPLEEN = box((7, 13), (5, 11), (2, 8))
"""Overlaps the liver in two columns."""
APART = box((12, 17), (5, 11), (2, 8))


def statistics(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, dict[str, object]]:
    assert main(["ct", "statistics", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def dice(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, float]:
    assert main(["ct", "evaluate", *map(str, arguments), "--json"]) == 0
    organs = json.loads(capsys.readouterr().out)["organs"]
    return {name: scores["dice"]["value"] for name, scores in organs.items()}


def write_folder(folder: Path, **organs: np.ndarray) -> Path:
    folder.mkdir()
    for name, inside in organs.items():
        write_nifti(folder / f"{name}.nii.gz", inside, AFFINE)
    return folder


def write_seg(folder: Path, organs: np.ndarray, kind: str = "BINARY") -> tuple[Path, Path]:
    """A series of 9 x 8 x 5 voxels and a SEG of ``organs`` (slice, row, column, segment) on it."""
    needed = {"Manufacturer": "", "ContentDate": "20200101", "ContentTime": "120000"}

    def change(k: int, dataset: pydicom.Dataset) -> None:
        for keyword, value in needed.items():
            setattr(dataset, keyword, value)

    axial_series(folder / "series", change)
    slices = [pydicom.dcmread(path) for path in (folder / "series").iterdir()]
    slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    names = (("Liver", codes.SCT.Liver), ("Spleen", codes.SCT.Spleen))
    manual = highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
    described = [
        highdicom.seg.SegmentDescription(number, name, codes.SCT.Organ, code, manual)
        for number, (name, code) in enumerate(names[: organs.shape[-1]], start=1)
    ]
    identity = (generate_uid(), 1, generate_uid(), 1, "maker", "model", "1", "1")
    made = highdicom.seg.Segmentation(slices, organs, kind, described, *identity)
    made.save_as(folder / "organs.dcm")
    return folder / "organs.dcm", folder / "series"


def on_series(rows: tuple[int, int], columns: tuple[int, int], slices: tuple[int, int]) -> np.ndarray:
    organ = np.zeros((5, 8, 9), np.uint8)
    organ[slice(*slices), slice(*rows), slice(*columns)] = 1
    return organ


def test_overlapping_organs_of_a_folder_are_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = statistics(capsys, write_folder(tmp_path / "organs", liver=LIVER, spleen=SPLEEN))
    for name, inside in (("liver", LIVER), ("spleen", SPLEEN)):
        assert told["organs"][name]["volume_ml"] == pytest.approx(inside.sum() * VOXEL_ML)
    assert "organs overlap (liver, spleen)" in " ".join(told["warnings"])


def test_overlapping_segments_are_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    liver, spleen = on_series((2, 6), (1, 5), (1, 4)), on_series((3, 7), (3, 8), (1, 4))
    seg, series = write_seg(tmp_path, np.stack([liver, spleen], -1))
    told = statistics(capsys, seg)
    voxels = {name: organ["voxels"] for name, organ in told["organs"].items()}
    assert voxels == {"liver": liver.sum(), "spleen": spleen.sum()}
    assert told["organs"]["liver"]["touches_border"] is None
    assert "overlap" in " ".join(told["warnings"])
    on_scan = statistics(capsys, seg, "--image", series)
    assert {name: organ["voxels"] for name, organ in on_scan["organs"].items()} == voxels
    assert on_scan["organs"]["liver"]["touches_border"] is False
    assert on_scan["organs"]["liver"]["hu"] is not None


def test_frames_that_were_left_out_are_background(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    liver = on_series((2, 6), (1, 5), (2, 3))
    seg, series = write_seg(tmp_path, liver[..., None])
    labels, geometry = read_mask(seg)
    assert labels.shape[2] == 1
    assert statistics(capsys, seg, "--image", series)["organs"]["liver"]["voxels"] == liver.sum()
    from domainsam_ct.read.open import open_volume

    with open_volume(series) as volume:
        place = geometry.grid.to_world([0, 0, 0]) - volume.grid.to_world([0, 0, 2])
        assert np.allclose(place, 0, atol=1e-4)
        whole = np.zeros(volume.shape, np.uint8)
        whole[:, :, 2:3] = 5 * labels
        write_nifti(tmp_path / "whole.nii.gz", whole, volume.grid.affine)
    assert dice(capsys, seg, tmp_path / "whole.nii.gz", "--label-map", "synapse") == {"liver": 1.0}
    assert dice(capsys, tmp_path / "whole.nii.gz", seg, "--label-map", "synapse") == {"liver": 1.0}


def test_fractions_are_halved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sure = on_series((2, 6), (1, 5), (1, 4)) * 0.9
    sure[1, 2, 1] = 0.3
    seg, _ = write_seg(tmp_path, sure[..., None].astype(np.float32), "FRACTIONAL")
    told = statistics(capsys, seg)
    assert told["organs"]["liver"]["voxels"] == 4 * 4 * 3 - 1
    assert "fractions" in " ".join(told["warnings"])


def test_a_folder_never_numbers_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "organs", liver=LIVER, spleen=APART)
    guess = write_nifti(tmp_path / "guess.nii.gz", 5 * LIVER + APART, AFFINE)
    expected = {"liver": 1.0, "spleen": 1.0}
    assert dice(capsys, guess, folder, "--label-map", "synapse") == expected
    assert dice(capsys, folder, guess, "--label-map", "synapse") == expected
    assert dice(capsys, guess, folder, "--prediction-label-map", "synapse") == expected
    assert main(["ct", "evaluate", str(guess), str(folder)]) == 2
    assert "give --label-map" in capsys.readouterr().err


def test_unknown_values_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = 5 * LIVER
    odd[:2, :2, :2] = 77
    guess, truth = (
        write_nifti(tmp_path / f"{name}.nii.gz", values, AFFINE)
        for name, values in (("guess", odd), ("truth", 5 * LIVER))
    )
    assert main(["ct", "evaluate", str(guess), str(truth), "--label-map", "synapse"]) == 0
    assert "77 (8 voxels)" in capsys.readouterr().err
    assert "77 (8 voxels)" in " ".join(statistics(capsys, guess, "--label-map", "synapse")["warnings"])


def test_two_places_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = nib.Nifti1Image(5 * LIVER, AFFINE)
    moved = AFFINE.copy()
    moved[:3, 3] += 15
    image.set_sform(AFFINE, 2)
    image.set_qform(moved, 1)
    nib.save(image, tmp_path / "mask.nii.gz")
    assert "15 mm apart" in " ".join(statistics(capsys, tmp_path / "mask.nii.gz")["warnings"])
    mask = str(tmp_path / "mask.nii.gz")
    assert main(["ct", "evaluate", mask, mask, "--label-map", "synapse"]) == 0
    assert "15 mm apart" in capsys.readouterr().err


def slicer(values: sitk.Image, path: Path, *segments: tuple[str, int, int]) -> Path:
    for number, (name, value, layer) in enumerate(segments):
        values.SetMetaData(f"Segment{number}_Name", name)
        values.SetMetaData(f"Segment{number}_LabelValue", str(value))
        values.SetMetaData(f"Segment{number}_Layer", str(layer))
    sitk.WriteImage(values, str(path), True)
    return path


def image_of(values: np.ndarray) -> sitk.Image:
    made = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)))
    made.SetDirection([-1, 0, 0, 0, -1, 0, 0, 0, 1])
    return made


def test_slicers_extent_lies_on_the_scan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = write_nifti(tmp_path / "ct.nii.gz", (100 * LIVER).astype(np.int16), AFFINE)
    cut = image_of(5 * LIVER)[3:9, 3:9, 2:8]
    path = slicer(cut, tmp_path / "cut.seg.nrrd", ("Liver", 5, 0))
    assert statistics(capsys, path)["organs"]["liver"]["touches_border"] is None
    told = statistics(capsys, path, "--image", scan)["organs"]["liver"]
    assert (told["voxels"], told["hu"]["mean"], told["touches_border"]) == (LIVER.sum(), 100.0, False)
    aside = write_nifti(tmp_path / "aside.nii.gz", (100 * LIVER).astype(np.int16), np.diag([1, 1, 1.1, 1]))
    assert main(["ct", "statistics", str(path), "--image", str(aside)]) == 2
    assert "different grids" in capsys.readouterr().err


def test_slicers_layers_are_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = sitk.Compose(image_of(LIVER), image_of(SPLEEN))
    path = slicer(layers, tmp_path / "two.seg.nrrd", ("liver", 1, 0), ("spleen", 1, 1))
    told = statistics(capsys, path)
    assert {name: organ["voxels"] for name, organ in told["organs"].items()} == {
        "liver": LIVER.sum(),
        "spleen": SPLEEN.sum(),
    }
    assert "overlap (liver, spleen)" in " ".join(told["warnings"])


@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_header_and_voxels_in_two_files(
    tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"mask{ending}"
    sitk.WriteImage(image_of(5 * LIVER), str(path))
    labels, geometry = read_mask(path)
    assert np.array_equal(labels, 5 * LIVER)
    assert np.allclose(geometry.grid.affine, AFFINE)
    elsewhere = tmp_path / "in" / path.name
    elsewhere.parent.mkdir()
    text = path.read_bytes().replace(b"mask.raw", b"../mask.raw")
    elsewhere.write_bytes(text)
    assert main(["ct", "statistics", str(elsewhere)]) == 2
    assert "cannot be part of a file's name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("told", "ours"),
    [
        ("Liver", "liver"),
        ("Left kidney", "kidney_left"),
        ("Kidney, right", "kidney_right"),
        ("tumour", "tumour"),
    ],
)
def test_names_of_other_tools(told: str, ours: str) -> None:
    assert match_name(told) == ours
