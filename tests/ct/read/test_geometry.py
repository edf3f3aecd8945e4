"""A volume is the same whatever the order and direction of the axes in its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine

from domainsam_ct.read.geometry import Orientation, from_axial, to_axial
from domainsam_ct.read.open import open_volume, read_mask
from domainsam_ct.read.volume import Volume
from domainsam_ct.write.masks import MaskWriter
from tests.ct.made import SPACING, canonical_volume, oblique, orientations, stored, write_nifti

THRESHOLD = 100


def segment(volume: Volume, path: Path, step: int = 2) -> None:
    """A stand-in for the model, which sees axial images in canonical space; a mark breaks all symmetry."""
    with MaskWriter(path, volume.native, {1: "bright", 2: "corner"}) as writer:
        for start in range(0, volume.shape[2], step):
            stop = min(start + step, volume.shape[2])
            images = to_axial(volume.slices(start, stop))
            found = (images > THRESHOLD).astype(np.uint8)
            if stop == volume.shape[2]:
                found[-1, 0, 0] = 2  # head, front, the patient's right
            writer.write_slices(start, from_axial(found))


def world_mask(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Labels of a file by where they lie in the world, by nibabel alone, on the grid of :func:`oblique`."""
    image = nib.load(path)
    values = np.asarray(image.dataobj)
    index = np.argwhere(np.ones(values.shape, bool))
    there = apply_affine(np.linalg.inv(oblique()) @ image.affine, index)
    assert np.abs(there - there.round()).max() < 1e-4
    laid = np.full(shape, 255, np.uint8)
    laid[tuple(there.round().astype(int).T)] = values[tuple(index.T)]
    return laid


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray]:
    canonical = canonical_volume()
    path = write_nifti(tmp_path_factory.mktemp("reference") / "ct.nii", canonical, oblique())
    out = path.with_name("mask.nii")
    with open_volume(path) as volume:
        segment(volume, out)
    expected = (canonical > THRESHOLD).astype(np.uint8)
    expected[-1, -1, -1] = 2
    assert np.array_equal(world_mask(out, canonical.shape), expected)
    return canonical, expected


@pytest.mark.parametrize(("order", "flips"), orientations())
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_same_mask_in_the_world(
    tmp_path: Path, reference: Any, suffix: str, order: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> None:
    canonical, expected = reference
    array, affine = stored(canonical, oblique(), order, flips)
    path = write_nifti(tmp_path / f"ct{suffix}", array, affine)
    out = tmp_path / f"mask{suffix}"
    with open_volume(path) as volume:
        assert np.array_equal(volume.slices(0, canonical.shape[2]), canonical)
        assert np.allclose(volume.grid.affine, oblique(), atol=1e-5)
        assert volume.spacing == pytest.approx(SPACING, rel=1e-6)
        segment(volume, out)
    assert np.array_equal(world_mask(out, canonical.shape), expected)
    assert nib.load(out).shape == array.shape
    labels, geometry = read_mask(out)
    assert np.array_equal(labels, expected)
    assert geometry.names == {1: "bright", 2: "corner"}


@pytest.mark.parametrize(("order", "flips"), orientations())
def test_code_agrees_with_nibabel(order: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> None:
    _, affine = stored(np.zeros((4, 5, 6)), oblique(), order, flips)
    assert Orientation.of(affine).code == "".join(nib.aff2axcodes(affine))


def test_axial_images_lie_as_radiologists_see_them() -> None:
    canonical = np.zeros((4, 5, 6))
    canonical[-1, -1, -1] = 1  # right, front, head
    images = to_axial(canonical)
    assert images.shape == (6, 5, 4)
    assert images[-1, 0, 0] == 1
    assert np.array_equal(from_axial(images), canonical)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_real_volume_in_other_orders(tmp_path: Path, shared_data: Path, order: tuple[int, int, int]) -> None:
    source = nib.load(shared_data / "medical" / "totalsegmentator" / "example_ct_sm.nii.gz")
    values = np.asarray(source.dataobj)
    array, affine = stored(values, source.affine, order, (True, False, True))
    path = write_nifti(tmp_path / "ct.nii.gz", array, affine)
    with open_volume(path) as volume, open_volume(source.get_filename()) as straight:
        assert np.allclose(volume.grid.affine, straight.grid.affine, atol=1e-4)
        assert np.array_equal(volume.slices(3, 9), straight.slices(3, 9))
        assert np.array_equal(volume.slices(3, 9), values[..., 3:9])


def test_liver_lies_on_the_patients_right(shared_data: Path) -> None:
    folder = shared_data / "medical" / "totalsegmentator"
    labels, geometry = read_mask(folder / "example_seg.nii.gz")
    values = {name: value for value, name in geometry.names.items()}
    liver, spleen = (np.argwhere(labels == values[name]).mean(axis=0) for name in ("liver", "spleen"))
    assert liver[0] > spleen[0]
    image = to_axial(labels)[round(liver[2])]
    assert np.argwhere(image == values["liver"])[:, 1].mean() < image.shape[1] / 2
