"""The recipe that turns BTCV's training CTs into cases: brightness, labels, place, from either source."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from domainsam_ct.labels import load_label_map
from domainsam_ct.train.cases import find_pairs, stage_case
from recipes.ct import btcv

SIDE, DEPTH = 24, 3
EIGHT = {organ.name: value for value, organ in load_label_map("synapse").items()}
THIRTEEN = {organ.name: value for value, organ in load_label_map("btcv").items()}
SPACING = (0.9, 0.9, 3.0)


@pytest.fixture(autouse=True)
def one_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(btcv, "SLICES", {5: DEPTH})


def draw_marks(numbers: dict[str, int]) -> np.ndarray:
    """Organs on axes that grow to the left, the front and the head."""
    marks = np.zeros((SIDE, SIDE, DEPTH), np.uint8)
    marks[3:9, 12:20] = numbers["liver"]
    marks[15:18, 5:8] = numbers["kidney_left"]
    marks[5:8, 5:8, 1] = numbers["kidney_right"]
    marks[12, 9, 2] = numbers["aorta"]
    return marks


def write(path: Path, values: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


def write_pictures(folder: Path, grey: np.ndarray, marks: np.ndarray) -> None:
    """Pictures as they are published: against the second axis, masks in colours."""
    colours = np.zeros(256, np.int64)
    for name, colour in btcv.COLOURS.items():
        colours[EIGHT[name]] = colour
    for number in range(DEPTH):
        painted = colours[marks[:, ::-1, number]]
        rgb = np.stack([painted >> 16, (painted >> 8) & 255, painted & 255], axis=2).astype(np.uint8)
        for name, picture in (("3D-images", np.stack([grey[:, ::-1, number]] * 3, 2)), ("masks", rgb)):
            path = folder / "Prepared-data" / name / f"image{number + 1:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)


def convert(monkeypatch: pytest.MonkeyPatch, *words: Path | str) -> None:
    monkeypatch.setattr("sys.argv", ["btcv", *map(str, words)])
    btcv.main()


def test_pictures_become_a_case_on_its_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, DEPTH)).astype(np.uint8)
    grey[0, 0, 0], grey[1, 0, 0] = 0, 255
    marks = draw_marks(EIGHT)
    write_pictures(tmp_path, grey, marks)
    # The files' second axis is said to run backwards.
    write(tmp_path / "labels" / "label0005.nii.gz", marks, np.diag([-0.9, -0.9, 3.0, 1.0]))
    convert(monkeypatch, tmp_path, tmp_path / "out", "--labels", tmp_path / "labels")
    image = nibabel.load(tmp_path / "out" / "images" / "case0005.nii.gz")
    units = np.asarray(image.dataobj)
    assert (units[0, 0, 0], units[1, 0, 0]) == (-125, 275)
    np.testing.assert_allclose(units, grey * (400 / 255) - 125, atol=0.51)
    np.testing.assert_allclose(image.affine, np.diag([-0.9, 0.9, 3.0, 1.0]))
    label = nibabel.load(tmp_path / "out" / "labels" / "case0005.nii.gz")
    np.testing.assert_array_equal(np.asarray(label.dataobj), marks)
    (pair,) = find_pairs([tmp_path / "out" / "images"], tmp_path / "out" / "labels")
    case = stage_case(pair, {value: value for value in EIGHT.values()}, tmp_path / "case", 0.0, False)
    assert case.spacing_mm == pytest.approx((3.0, 0.9, 0.9))
    rows, columns = np.nonzero(case.labels[0] == EIGHT["liver"])
    spine, side = np.nonzero(case.labels[0] == EIGHT["kidney_left"])
    # As radiologists look at it: front at the top, the patient's left on the right.
    assert rows.mean() < spine.mean()
    assert columns.mean() < side.mean()


def test_masks_that_differ_from_the_labels_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = draw_marks(EIGHT)
    write_pictures(tmp_path, np.zeros(marks.shape, np.uint8), marks)
    marks[0, 0, 0] = EIGHT["spleen"]
    write(tmp_path / "labels" / "label0005.nii.gz", marks, np.diag([-0.9, -0.9, 3.0, 1.0]))
    with pytest.raises(ValueError, match=r"case 5: masks in colours and label0005.nii.gz differ"):
        convert(monkeypatch, tmp_path, tmp_path / "out", "--labels", tmp_path / "labels")


def test_the_official_files_give_eight_organs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    affine = np.diag([-0.9, 0.9, 3.0, 1.0])
    marks = draw_marks(THIRTEEN)
    marks[20:, 20:] = THIRTEEN["esophagus"]
    units = np.full(marks.shape, 40, np.int16)
    units[0, 0, 0], units[1, 0, 0] = -1000, 1500
    write(tmp_path / "label" / "label0005.nii.gz", marks, affine)
    write(tmp_path / "img" / "img0005.nii.gz", units, affine)
    convert(monkeypatch, tmp_path, tmp_path / "out")
    image = nibabel.load(tmp_path / "out" / "images" / "case0005.nii.gz")
    assert [int(np.asarray(image.dataobj)[x, 0, 0]) for x in range(3)] == [-125, 275, 40]
    label = nibabel.load(tmp_path / "out" / "labels" / "case0005.nii.gz")
    np.testing.assert_array_equal(np.asarray(label.dataobj), draw_marks(EIGHT))


def test_labels_with_front_and_back_exchanged_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    affine = np.diag([-0.9, -0.9, 3.0, 1.0])
    write(tmp_path / "label" / "label0005.nii.gz", draw_marks(THIRTEEN), affine)
    write(tmp_path / "img" / "img0005.nii.gz", np.zeros((SIDE, SIDE, DEPTH), np.int16), affine)
    with pytest.raises(ValueError, match=r"case 5: the left kidney lies right of the liver or before it"):
        convert(monkeypatch, tmp_path, tmp_path / "out")


def test_pictures_alone_have_no_spacing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "Prepared-data").mkdir()
    with pytest.raises(SystemExit):
        convert(monkeypatch, tmp_path, tmp_path / "out")
    assert "has no spacing: give --labels" in capsys.readouterr().err
