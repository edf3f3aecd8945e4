"""DICOM objects of an enhanced CT, all slices in one file: references name its frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom.uid import generate_uid

import domainsam_ct
from domainsam_ct.evaluate.labelled import read_labelled
from domainsam_ct.labels import load_label_map
from domainsam_ct.read.open import open_volume
from domainsam_ct.read.volume import get_scan_grid
from tests.ct.made import stored, write_dicom, write_nifti
from tests.ct.read.series import HEAD_FIRST
from tests.ct.standin import abdomen, affine


@pytest.fixture
def enhanced(tmp_path: Path) -> Path:
    """The abdomen as one file of frames, by highdicom."""

    def change(k: int, dataset: Any) -> None:
        for keyword, value in {"Manufacturer": "m", "ContentDate": "20200101", "ContentTime": "1200"}.items():
            setattr(dataset, keyword, value)

    paths = write_dicom(tmp_path / "classic", *stored(abdomen()[0], affine(), *HEAD_FIRST), change)
    slices = [pydicom.dcmread(path) for path in paths]
    for dataset in slices:
        dataset.DistanceSourceToDetector = dataset.get("DistanceSourceToDetector", "1000")
    made = LegacyConvertedEnhancedCTImage(slices, generate_uid(), 5, generate_uid(), 1)
    (tmp_path / "study").mkdir()
    made.save_as(tmp_path / "study" / "ct.dcm")
    return tmp_path / "study"


def test_objects_refer_to_frames(tmp_path: Path, enhanced: Path) -> None:
    mask = write_nifti(tmp_path / "m.nii.gz", abdomen()[1], affine())
    out = tmp_path / "out"
    domainsam_ct.export_mask(mask, enhanced, out, dicom_seg=True, rtstruct=True, label_map="synapse")
    source = pydicom.dcmread(enhanced / "ct.dcm", stop_before_pixels=True)
    places = {
        number: tuple(map(float, frame.PlanePositionSequence[0].ImagePositionPatient))
        for number, frame in enumerate(source.PerFrameFunctionalGroupsSequence, start=1)
    }
    seg = pydicom.dcmread(out / "study_seg.dcm")
    for frame in seg.PerFrameFunctionalGroupsSequence:
        (image,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert image.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert image.ReferencedSOPClassUID == source.SOPClassUID
        here = tuple(map(float, frame.PlanePositionSequence[0].ImagePositionPatient))
        assert np.allclose(here, places[int(image.ReferencedFrameNumber)], atol=1e-3)
    (series,) = seg.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence] == [
        source.SOPInstanceUID
    ]
    structures = pydicom.dcmread(out / "study_rtstruct.dcm")
    for region in structures.ROIContourSequence:
        for contour in region.ContourSequence:
            (image,) = contour.ContourImageSequence
            assert image.ReferencedSOPInstanceUID == source.SOPInstanceUID
            assert float(contour.ContourData[2]) == pytest.approx(
                places[int(image.ReferencedFrameNumber)][2], abs=1e-3
            )
    with open_volume(enhanced) as volume:
        scan = get_scan_grid(volume)
    names = {organ.name: value for value, organ in load_label_map("synapse").items()}
    for name in ("study_seg.dcm", "study_rtstruct.dcm"):
        read = read_labelled(out / name, None, scan).place_on(scan.grid, "scan")
        for value, organ in read.labels.items():
            assert np.array_equal(read.inside(value), abdomen()[1] == names[organ.name])
