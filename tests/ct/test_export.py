"""``domainsam ct export``: masks of any tool become DICOM objects, figures and reports, all or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

import domainsam_ct
from domainsam.errors import ConfigError
from domainsam.keywords import keyword_names
from domainsam_cli import main
from domainsam_ct.commands.export import export_command
from domainsam_ct.evaluate.labelled import read_labelled
from domainsam_ct.labels import load_label_map
from domainsam_ct.read.open import open_volume
from domainsam_ct.read.volume import get_scan_grid
from domainsam_ct.run import export_options
from domainsam_ct.write.dicom_seg import write_dicom_seg
from domainsam_ct.write.rtstruct import write_rtstruct
from tests.ct.made import stored, write_dicom, write_nifti
from tests.ct.read.series import HEAD_FIRST
from tests.ct.standin import SPACING, abdomen, affine, untouched

ORGANS = load_label_map("synapse")
VOXEL_ML = float(np.prod(SPACING)) / 1000
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scan") / "study"
    write_dicom(folder, *stored(abdomen()[0], affine(), *HEAD_FIRST))
    return folder


def truth() -> np.ndarray:
    return abdomen()[1]


def image_of(values: np.ndarray) -> sitk.Image:
    made = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)))
    made.SetSpacing(SPACING)
    made.SetOrigin((LPS @ affine())[:3, 3].tolist())
    made.SetDirection(LPS[:3, :3].ravel().tolist())
    return made


def name_segments(image: sitk.Image, values: dict[str, tuple[int, int]]) -> sitk.Image:
    for number, (name, (value, layer)) in enumerate(values.items()):
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", str(value))
        image.SetMetaData(f"Segment{number}_Layer", str(layer))
    return image


def as_nifti(folder: Path, study: Path) -> Path:
    return write_nifti(folder / "m.nii.gz", truth(), affine())


def as_other_orientation(folder: Path, study: Path) -> Path:
    return write_nifti(folder / "m.nii", *stored(truth(), affine(), (1, 2, 0), (True, False, True)))


def as_header_and_voxels(folder: Path, study: Path) -> Path:
    sitk.WriteImage(image_of(truth()), str(folder / "m.mhd"))
    return folder / "m.mhd"


def as_layers(folder: Path, study: Path) -> Path:
    """3D Slicer's file: two layers, cut to the extent of the segments."""
    values = truth()
    layers = [np.where(values == 5, 1, 0), np.where(values == 5, 0, values)]
    image = sitk.Compose(*(image_of(layer.astype(np.uint8)) for layer in layers))
    known = {organ.name: (value, 1) for value, organ in ORGANS.items() if (values == value).any()}
    named = name_segments(image[1:19, 1:15, :], {**known, "liver": (1, 0)})
    sitk.WriteImage(named, str(folder / "m.seg.nrrd"), True)
    return folder / "m.seg.nrrd"


def as_seg(folder: Path, study: Path) -> Path:
    with open_volume(study) as volume:
        write_dicom_seg(folder / "m.dcm", truth(), volume, ORGANS)
    return folder / "m.dcm"


def as_label_map(folder: Path, study: Path) -> Path:
    with open_volume(study) as volume:
        write_dicom_seg(folder / "m.dcm", truth(), volume, ORGANS, form="labelmap")
    return folder / "m.dcm"


def as_contours(folder: Path, study: Path) -> Path:
    with open_volume(study) as volume:
        write_rtstruct(folder / "m.dcm", truth(), volume, ORGANS)
    return folder / "m.dcm"


def as_folder(folder: Path, study: Path) -> Path:
    (folder / "organs").mkdir()
    for value, organ in ORGANS.items():
        write_nifti(folder / "organs" / f"{organ.name}.nii.gz", (truth() == value).astype(np.uint8), affine())
    return folder / "organs"


FORMS = (
    *(as_nifti, as_other_orientation, as_header_and_voxels, as_layers),
    *(as_seg, as_label_map, as_contours, as_folder),
)


@pytest.mark.parametrize("make", FORMS)
def test_masks_of_every_form_become_objects(
    tmp_path: Path, study: Path, make: Callable[[Path, Path], Path]
) -> None:
    mask, out = make(tmp_path, study), tmp_path / "out"
    contours = make in (as_nifti, as_layers)
    told = domainsam_ct.export_mask(
        mask, study, out, dicom_seg=True, rtstruct=contours, statistics=True, label_map="synapse"
    )
    made = {path.name for path in out.iterdir()}
    assert made - {"study_rtstruct.dcm"} == {
        *("study_seg.dcm", "study_labels.json", "study_statistics.json", "study_statistics.csv")
    }
    values = truth()
    with open_volume(study) as volume:
        scan = get_scan_grid(volume)
    for name in ("study_seg.dcm", "study_rtstruct.dcm")[: 1 + contours]:
        read = read_labelled(out / name, None, scan).place_on(scan.grid, "scan")
        found = {organ.name: read.inside(value) for value, organ in read.labels.items()}
        for value, organ in ORGANS.items():
            expected = values == value
            if expected.any():
                assert np.array_equal(found[organ.name], expected), f"{organ.name} in {name}"
            else:
                assert organ.name not in found
    (liver,) = (organ for organ in told.organs if organ.name == "liver")
    assert liver.volume_ml == pytest.approx((values == 5).sum() * VOXEL_ML)
    assert liver.hu is not None
    assert (liver.hu.mean, liver.touches_border) == (100.0, False)
    assert "mask that was given" in told.document()["notice"]


def test_report_preview_and_masks_of_contours(tmp_path: Path, study: Path) -> None:
    """An RTSTRUCT becomes NIfTI masks; the page tells of a given mask and of no model."""
    mask, out = as_contours(tmp_path, study), tmp_path / "out"
    result = domainsam_ct.export_mask(
        mask, study, out, nifti=True, report=True, preview=True, organs=["liver", "aorta"]
    )
    stored_mask = nib.load(result.paths["mask"])
    with open_volume(study) as volume:
        assert np.allclose(stored_mask.affine, volume.native.affine, atol=1e-5)
        values = volume.native.orientation.to_canonical(np.asarray(stored_mask.dataobj))
    names = json.loads((out / "study_labels.json").read_text(encoding="utf-8"))["labels"]
    assert set(names) == {"liver", "aorta"}
    assert np.array_equal(values == names["liver"], truth() == 5)
    page = (out / "study_report.html").read_text(encoding="utf-8")
    assert "Nothing was segmented here" in page
    assert "Confidence" not in page
    assert (out / "study_preview.png").stat().st_size > 1000


def test_organs_that_overlap_stay_whole(tmp_path: Path, study: Path) -> None:
    folder = as_folder(tmp_path, study)
    both = (truth() == 5) | (truth() == 2)
    write_nifti(folder / "liver.nii.gz", both.astype(np.uint8), affine())
    out = tmp_path / "out"
    result = domainsam_ct.export_mask(folder, study, out, dicom_seg=True, per_organ=True)
    volumes = {organ.name: organ.voxels for organ in result.organs}
    assert volumes["liver"] == both.sum()
    for path, name in ((out / "study_seg.dcm", "liver"), (out / "liver.nii.gz", "liver")):
        read = read_labelled(path)
        (value,) = (value for value, organ in read.labels.items() if organ.name == name)
        assert read.inside(value).sum() == both.sum()
    assert "overlap" in " ".join(result.warnings)


def test_large_values_are_counted_anew(tmp_path: Path, study: Path) -> None:
    values = (truth() == 5).astype(np.uint16) * 4000
    mask = write_nifti(tmp_path / "m.nii.gz", values, affine())
    result = domainsam_ct.export_mask(mask, study, tmp_path / "out", dicom_seg=True)
    assert (result.organs[0].name, result.organs[0].voxels) == ("label_4000", (truth() == 5).sum())
    assert "numbered from 1" in " ".join(result.warnings)
    assert read_labelled(tmp_path / "out" / "study_seg.dcm").labels[1].name == "label_4000"


def move(mask: Path) -> Path:
    """The mask half a voxel aside."""
    image = nib.load(mask)
    moved = affine()
    moved[0, 3] += SPACING[0] / 2
    return write_nifti(mask.with_name("moved.nii.gz"), np.asarray(image.dataobj), moved)


def other_frame(mask: Path) -> Path:
    dataset = pydicom.dcmread(mask)
    for region in dataset.StructureSetROISequence:
        region.ReferencedFrameOfReferenceUID = "1.2.3.4"
    dataset.save_as(mask)
    return mask


def empty(mask: Path) -> Path:
    return write_nifti(mask.with_name("empty.nii.gz"), 0 * truth(), affine())


def overlapping(mask: Path) -> Path:
    write_nifti(mask / "liver.nii.gz", np.ones_like(truth()), affine())
    return mask


@pytest.mark.parametrize(
    ("make", "change", "words", "said"),
    [
        (as_nifti, move, ["--dicom-seg"], "different grids"),
        (as_contours, other_frame, ["--dicom-seg"], "another frame of reference"),
        (as_nifti, empty, ["--dicom-seg", "--label-map", "synapse"], "no voxel of"),
        (as_folder, overlapping, ["--dicom-seg", "--seg-type", "labelmap", "--statistics"], "organs overlap"),
        (as_nifti, None, [], "nothing to write"),
        (as_nifti, None, ["--dicom-seg", "--organs", "lever", "--label-map", "synapse"], "lever"),
        (as_nifti, None, ["--deskew"], "not shifted"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(
    tmp_path: Path,
    study: Path,
    make: Callable[[Path, Path], Path],
    change: Callable[[Path], Path] | None,
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mask = make(tmp_path, study)
    mask = mask if change is None else change(mask)
    before = untouched(tmp_path)
    assert main(["ct", "export", str(mask), str(study), "-o", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in error
    assert untouched(tmp_path) == before


def test_objects_need_a_series(tmp_path: Path, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = write_nifti(tmp_path / "ct.nii.gz", abdomen()[0], affine())
    mask = as_nifti(tmp_path, study)
    assert main(["ct", "export", str(mask), str(scan), "-o", str(tmp_path / "out"), "--dicom-seg"]) == 2
    assert "give the DICOM folder" in capsys.readouterr().err
    assert main(["ct", "export", str(mask), str(scan), "-o", str(tmp_path / "out"), "--statistics"]) == 0
    assert main(["ct", "export", str(mask), str(scan), "-o", str(tmp_path / "out"), "--statistics"]) == 4
    assert "exists" in capsys.readouterr().err


def test_keywords_are_the_options_of_the_command(tmp_path: Path) -> None:
    options = {parameter.name for parameter in export_command.params if parameter.expose_value}
    assert options - {"mask", "scan", "as_json", "verbose"} == set(keyword_names(export_options))
    with pytest.raises(ConfigError, match="did you mean dicom_seg"):
        domainsam_ct.export_mask("m.nii.gz", "ct.nii.gz", tmp_path, dicom_segm=True)


def test_labels_beside_dicom_objects_alone_tell_their_values(tmp_path: Path, study: Path) -> None:
    mask, out = as_nifti(tmp_path, study), tmp_path / "out"
    given = ["ct", "export", str(mask), str(study), "-o", str(out), "--dicom-seg", "--label-map", "synapse"]
    assert main(given) == 0
    (file,) = out.glob("*_labels.json")
    told = json.loads(file.read_text())["labels"]
    assert {told["spleen"], told["kidney_left"], told["liver"], told["aorta"]} == {1, 3, 5, 7}
