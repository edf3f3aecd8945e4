"""The gate on a real scan: silent on it and on twenty pieces of it, not on what is made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from domainsam.familiar import Judgement
from domainsam_ct.labels import load_label_map
from domainsam_ct.measure.cleanup import Cleaned
from domainsam_ct.measure.gate import judge_case
from domainsam_ct.measure.statistics import Tally
from domainsam_ct.read.open import open_volume, read_mask
from tests.ct.made import write_nifti

Judge = Callable[[NDArray[np.float32], NDArray[np.uint8]], Judgement]
FOLDER = "medical/totalsegmentator"


@pytest.fixture(scope="module")
def scan(shared_data: Path) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Canonical Hounsfield units and 61 structures of another tool, at 3 mm."""
    folder = shared_data / FOLDER
    if not (folder / "example_ct.nii.gz").is_file():
        pytest.skip(f"{folder}/example_ct.nii.gz is not there")
    with open_volume(folder / "example_ct.nii.gz") as volume:
        hu = volume.slices(0, volume.shape[2])
    return hu, read_mask(folder / "example_seg_fast_force_split.nii.gz").labels.astype(np.uint8)


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    labels = load_label_map("totalsegmentator")

    def judged(hu: NDArray[np.float32], mask: NDArray[np.uint8]) -> Judgement:
        path = write_nifti(tmp_path / "ct.nii.gz", hu.astype(np.int16), np.diag([3.0, 3.0, 3.0, 1.0]))
        with open_volume(path) as volume:
            tally = Tally(volume.grid, labels)
            tally.add(0, np.moveaxis(mask, 2, 0), np.moveaxis(volume.slices(0, mask.shape[2]), 2, 0))
            return judge_case(volume, tally.statistics(), Cleaned(), None)

    return judged


def test_pieces_of_a_real_scan_raise_no_doubt(
    judge: Judge, scan: tuple[NDArray[np.float32], NDArray[np.uint8]]
) -> None:
    hu, mask = scan
    assert judge(hu, mask).texts == ()
    rng = np.random.default_rng(0)
    size = np.array(hu.shape)
    for _ in range(20):
        start = (rng.random(3) * 0.35 * size).astype(int)
        stop = (size * (1 - 0.35 * rng.random(3))).astype(int)
        piece = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        assert judge(hu[piece], mask[piece]).texts == ()


def test_what_is_wrong_with_a_real_scan_is_told(
    judge: Judge, scan: tuple[NDArray[np.float32], NDArray[np.uint8]]
) -> None:
    hu, mask = scan
    wrong = {
        "values": (hu + 1024, mask),
        "density": (hu - 1024, mask),
        "side": (hu[::-1], mask[::-1]),
        "order": (hu[:, :, ::-1], mask[:, :, ::-1]),
        "nothing": (hu, np.zeros_like(mask)),
    }
    for kind, (values, organs) in wrong.items():
        assert kind in {doubt.kind for doubt in judge(values, organs).doubts}, kind


def test_a_real_mr_is_told(judge: Judge, shared_data: Path) -> None:
    path = shared_data / FOLDER / "example_mr_sm.nii.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    values = np.asarray(nib.load(path).dataobj, np.float32)
    doubts = judge(values, np.zeros(values.shape, np.uint8)).doubts
    assert "values" in {doubt.kind for doubt in doubts}
