"""Volumes and DICOM series written for tests, right ones and wrong ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
SPACING = (3.0, 2.0, 5.0)
PATIENT = "Doe^Jane"
PATIENT_ID = "PID-4711"


def canonical_volume(shape: tuple[int, int, int] = (6, 7, 5), seed: int = 0) -> np.ndarray:
    """Int16 noise of a CT's range in canonical order, every voxel its own value."""
    values = np.linspace(-1000, 1000, int(np.prod(shape))).round().astype(np.int16)
    return np.random.default_rng(seed).permutation(values).reshape(shape)


def oblique(spacing: tuple[float, float, float] = SPACING, degrees: float = 12.0) -> np.ndarray:
    """A canonical affine, turned about two axes and moved off the origin."""
    a, b = np.radians(degrees), np.radians(degrees / 2)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag(spacing)
    affine[:3, 3] = (-31.5, 12.25, 100.125)
    return affine


def orientations() -> list[tuple[tuple[int, int, int], tuple[bool, bool, bool]]]:
    """All 48 ways to store the axes of a volume: their order, and which run backwards."""
    return [
        ((a, b, c), (x, y, z))
        for a, b, c in itertools.permutations(range(3))
        for x, y, z in itertools.product((False, True), repeat=3)
    ]


def stored(
    canonical: np.ndarray, affine: np.ndarray, order: tuple[int, ...], flips: tuple[bool, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The same volume with its axes in another order and direction, and the affine that says so."""
    array = canonical.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for axis, (source, flip) in enumerate(zip(order, flips, strict=True)):
        step[source, axis] = -1 if flip else 1
        step[source, 3] = canonical.shape[source] - 1 if flip else 0
    return array, affine @ step


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray, codes: tuple[int, int] = (1, 1)) -> Path:
    """A NIfTI file with qform and sform of those codes."""
    image = nib.Nifti1Image(np.ascontiguousarray(array), affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, codes[0])
    image.set_sform(affine, codes[1])
    nib.save(image, path)
    return path


def write_dicom(
    folder: Path,
    volume: np.ndarray,
    affine: np.ndarray,
    change: Callable[[int, FileDataset], None] | None = None,
    series: str | None = None,
    stem: str = "slice",
) -> list[Path]:
    """A CT series of ``volume`` (column, row, slice) in Hounsfield units on a grid of ``affine`` (RAS).

    ``change`` may alter each slice before it is written. Files are numbered
    against the order of their positions, as nothing forbids.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study, series, frame = generate_uid(), series or generate_uid(), generate_uid()
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    paths = []
    for k in range(volume.shape[2]):
        slice_ = _slice_dataset(study, series, frame, volume.shape[2] - k)
        slice_.ImagePositionPatient = [f"{v:.6f}" for v in (lps @ [0, 0, k, 1])[:3]]
        directions = np.concatenate([lps[:3, 0] / spacing[0], lps[:3, 1] / spacing[1]])
        slice_.ImageOrientationPatient = [f"{v:.8f}" for v in directions]
        slice_.PixelSpacing = [float(spacing[1]), float(spacing[0])]
        slice_.Rows, slice_.Columns = volume.shape[1], volume.shape[0]
        slice_.PixelData = np.ascontiguousarray((volume[..., k].T + 1024).astype("<u2")).tobytes()
        if change is not None:
            change(k, slice_)
        paths.append(folder / f"{stem}_{volume.shape[2] - k:03d}.dcm")
        slice_.save_as(paths[-1], enforce_file_format=True)
    return paths


def _slice_dataset(study: str, series: str, frame: str, number: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CT, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = CT, meta.MediaStorageSOPInstanceUID
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = PATIENT, PATIENT_ID, "", "F"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = study, series, frame
    made.StudyDate, made.StudyTime, made.StudyID, made.AccessionNumber = "20200101", "120000", "1", ""
    made.ReferringPhysicianName = ""
    made.Modality, made.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.SeriesNumber, made.InstanceNumber, made.AcquisitionNumber = 2, number, 1
    made.SliceThickness, made.PositionReferenceIndicator = 7.0, ""
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.RescaleSlope, made.RescaleIntercept = 1, -1024
    return made
