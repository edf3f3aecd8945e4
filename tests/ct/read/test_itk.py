"""NRRD and MetaImage, in and out, beside NIfTI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from domainsam_ct.read.open import open_volume, read_mask
from tests.ct.made import canonical_volume, oblique, orientations, stored, write_nifti
from tests.ct.standin import NAMES, abdomen, affine

sitk = pytest.importorskip("SimpleITK")


def write_itk(path: Path, array: np.ndarray, matrix: np.ndarray) -> Path:
    """The file that SimpleITK makes of a NIfTI volume."""
    nifti = write_nifti(path.with_name("made.nii"), array, matrix)
    sitk.WriteImage(sitk.ReadImage(str(nifti)), str(path))
    nifti.unlink()
    return path


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize(("order", "flips"), orientations()[::11])
def test_read_as_nifti_is_read(
    tmp_path: Path, ending: str, order: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> None:
    array, matrix = stored(canonical_volume(), oblique(), order, flips)
    path = write_itk(tmp_path / f"ct{ending}", array, matrix)
    with open_volume(path) as volume:
        np.testing.assert_allclose(volume.grid.affine, oblique(), atol=1e-4)
        np.testing.assert_array_equal(volume.slices(0, 5), canonical_volume())


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_masks_lie_on_the_scan(tmp_path: Path, ct_segment: Callable[..., int], ending: str) -> None:
    hu, truth = abdomen()
    scan = write_itk(tmp_path / f"ct{ending}", *stored(hu, affine(), (1, 0, 2), (True, False, True)))
    out = tmp_path / f"seg{ending}"
    assert ct_segment(scan, "-o", out, "-q") == 0
    mask, image = sitk.ReadImage(str(out)), sitk.ReadImage(str(scan))
    for part in ("GetOrigin", "GetSpacing", "GetDirection", "GetSize"):
        assert getattr(mask, part)() == getattr(image, part)()
    read = read_mask(out)
    np.testing.assert_array_equal(read.labels, truth)
    assert read.geometry.names[NAMES.index("liver")] == "liver"


def test_a_nifti_mask_of_an_nrrd_scan(tmp_path: Path, ct_segment: Callable[..., int]) -> None:
    hu, truth = abdomen()
    scan = write_itk(tmp_path / "ct.nrrd", hu, affine())
    assert ct_segment(scan, "-o", tmp_path / "out", "-q") == 0
    (mask,) = (tmp_path / "out").glob("*_seg*")
    np.testing.assert_array_equal(read_mask(mask).labels, truth)
    if mask.name.endswith(".nii.gz"):
        np.testing.assert_allclose(nib.load(mask).affine, affine(), atol=1e-4)
