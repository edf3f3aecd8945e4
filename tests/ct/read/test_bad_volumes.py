"""Files that are no CT volume: refused or flagged by name, in one line, with nothing left behind."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from domainsam.errors import InputError, MissingInputError, OutputError
from domainsam.protocols import Window
from domainsam_ct.read.open import VolumeSource, open_volume, read_mask
from domainsam_ct.write.masks import MaskWriter
from tests.ct.made import canonical_volume, oblique, write_nifti
from tests.ct.read.test_nifti_headers import make_header, write_raw


def refusal(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(InputError) as caught:
        open_volume(path)
    line = str(caught.value)
    assert "\n" not in line
    assert path.name in line
    return line


def damaged(path: Path, **fields: object) -> Path:
    """A good file whose header fields are then set to something else."""
    header = make_header()
    voxels = canonical_volume()
    for name, value in fields.items():
        header[name] = value
    return write_raw(path, header, voxels)


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nii", "ct.nrrd", "ct.mha", "folder", "ct.zip"])
def test_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingInputError, match="no such file"):
        open_volume(tmp_path / name)


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nii", "ct.nrrd", "ct.mha"])
def test_empty_and_foreign(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert "empty (0 bytes)" in refusal(tmp_path / name)
    (tmp_path / name).write_text("no volume at all\n" * 40)
    assert "is not a" in refusal(tmp_path / name)


def test_unknown_kind(tmp_path: Path) -> None:
    (tmp_path / "ct.png").write_bytes(b"\x89PNG")
    assert ".nii.gz" in refusal(tmp_path / "ct.png")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.97])
def test_truncated_gzip(tmp_path: Path, part: float) -> None:
    path = write_nifti(tmp_path / "ct.nii.gz", canonical_volume((40, 40, 20)), oblique())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    assert "truncated" in refusal(path)


def test_gzip_with_a_wrong_checksum(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "ct.nii.gz", canonical_volume(), oblique())
    whole = bytearray(path.read_bytes())
    whole[-6] ^= 0xFF
    path.write_bytes(whole)
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
@pytest.mark.parametrize("sizes", [(6, 7, 50), (6, 7, 6), (3000, 3000, 3000), (32767, 32767, 32767)])
def test_header_that_claims_too_much(tmp_path: Path, name: str, sizes: tuple[int, int, int]) -> None:
    path = damaged(tmp_path / name, dim=[3, *sizes, 1, 1, 1, 1])
    assert "the file ends earlier" in refusal(path)


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_header_that_claims_too_little(tmp_path: Path, name: str) -> None:
    path = damaged(tmp_path / name, dim=[3, 6, 7, 3, 1, 1, 1, 1])
    assert "more data than" in refusal(path)


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_header_cut_off(tmp_path: Path, name: str) -> None:
    block = make_header().binaryblock[:100]
    (tmp_path / name).write_bytes(gzip.compress(block) if name.endswith("gz") else block)
    assert "header" in refusal(tmp_path / name)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"dim": [3, 0, 7, 5, 1, 1, 1, 1]}, "no voxels"),
        ({"dim": [3, 6, -7, 5, 1, 1, 1, 1]}, "no voxels"),
        ({"dim": [2, 42, 5, 1, 1, 1, 1, 1]}, "single image"),
        ({"dim": [3, 42, 5, 1, 1, 1, 1, 1]}, "single image"),
        ({"dim": [4, 3, 7, 5, 2, 1, 1, 1]}, "4 axes (3 x 7 x 5 x 2)"),
        ({"dim": [9, 6, 7, 5, 1, 1, 1, 1]}, "9 axes"),
        ({"xyzt_units": 1}, "metres"),
        ({"xyzt_units": 3}, "micrometres"),
        ({"qform_code": 0, "sform_code": 0}, "left and right are unknown"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "NaN"),
        ({"srow_z": [0, 0, 0, np.inf]}, "NaN"),
        ({"srow_y": [0, 0, 0, 0]}, "singular"),
        ({"srow_x": [3, 2, 5, 0]}, "degrees apart"),
        ({"srow_x": [-3, 0, 0, 0]}, "different orientations"),
        ({"quatern_b": 3.0, "sform_code": 0}, "qform"),
        ({"magic": b"ni1"}, ".hdr/.img"),
        ({"magic": b"xyz"}, "magic"),
        ({"datatype": 128, "bitpix": 24}, "values"),
        ({"datatype": 32, "bitpix": 64}, "complex"),
        ({"scl_slope": np.inf, "scl_inter": 0.0}, "not finite"),
    ],
)
def test_impossible_headers(tmp_path: Path, fields: dict[str, object], words: str) -> None:
    assert words in refusal(damaged(tmp_path / "ct.nii.gz", **fields))


@pytest.mark.parametrize("factor", [0.001, 1000.0])
def test_millimetres_that_are_none(tmp_path: Path, factor: float) -> None:
    affine = np.diag([factor, factor, factor, 1.0]) @ oblique()
    assert "wrong units" in refusal(write_nifti(tmp_path / "ct.nii", canonical_volume(), affine))


def test_unknown_data_type(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "ct.nii", canonical_volume(), oblique())
    data = bytearray(path.read_bytes())
    data[70:72] = (999).to_bytes(2, "little")
    path.write_bytes(data)
    assert "code 999" in refusal(path)


def sheared(degrees: float) -> np.ndarray:
    """An affine whose slices are shifted like those of a tilted gantry."""
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[1, 2] = 3.0 * np.tan(np.radians(degrees))
    return affine


@pytest.mark.parametrize("degrees", [1.0, 15.0, 30.0])
def test_shear_is_told_and_kept(tmp_path: Path, degrees: float) -> None:
    path = tmp_path / "ct.nii.gz"
    header = make_header(codes=(0, 1))
    header.set_sform(sheared(degrees), 1)
    write_raw(path, header, canonical_volume())
    with open_volume(path) as volume:
        assert f"{90 - degrees:.2f} degrees apart" in " ".join(volume.warnings)
        with MaskWriter(tmp_path / "m.nii.gz", volume.native, {1: "liver"}):
            pass
    assert np.allclose(nib.load(tmp_path / "m.nii.gz").affine, sheared(degrees))


def test_qform_beside_sform_is_told(tmp_path: Path) -> None:
    header = make_header()
    header["qoffset_x"] += 4
    with open_volume(write_raw(tmp_path / "ct.nii", header, canonical_volume())) as volume:
        assert "up to 4 mm apart" in " ".join(volume.warnings)
        assert np.allclose(volume.grid.affine, oblique(), atol=1e-4)


def test_strongly_oblique_is_told(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "ct.nii", canonical_volume(), oblique(degrees=30))
    with open_volume(path) as volume:
        assert "oblique" in " ".join(volume.warnings)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz", "ct.nrrd"])
def test_voxels_that_are_no_numbers(tmp_path: Path, bad: float, name: str) -> None:
    voxels = canonical_volume().astype(np.float32)
    voxels[3, 2, 4] = bad
    if name.endswith("nrrd"):
        sitk = pytest.importorskip("SimpleITK")
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / name))
    else:
        write_nifti(tmp_path / name, voxels, oblique())
    assert "NaN or infinite" in refusal(tmp_path / name)


def test_one_value_everywhere(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "ct.nii", np.full((6, 7, 5), -1000, np.int16), oblique())
    assert "nothing to segment" in refusal(path)


@pytest.mark.parametrize(("low", "high"), [(0, 1200), (0, 1), (-100, 3000), (-1000, 60000)])
def test_what_looks_like_no_ct_is_told(tmp_path: Path, low: int, high: int) -> None:
    values = np.linspace(low, high, 210).reshape(6, 7, 5).astype(np.float32)
    with open_volume(write_nifti(tmp_path / "ct.nii", values, oblique())) as volume:
        assert f"values run from {low:g} to {high:g}" in " ".join(volume.warnings)


def test_a_good_volume_says_nothing(tmp_path: Path) -> None:
    with open_volume(write_nifti(tmp_path / "ct.nii", canonical_volume(), oblique())) as volume:
        assert volume.warnings == ()


def test_a_series_is_of_dicom_only(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "ct.nii", canonical_volume(), oblique())
    with pytest.raises(InputError, match="DICOM"):
        open_volume(path, series_uid="1.2.3")


@pytest.mark.parametrize("values", [np.full(210, -1), np.full(210, 0.5), np.full(210, 70000)])
def test_a_mask_holds_labels(tmp_path: Path, values: np.ndarray) -> None:
    path = write_nifti(tmp_path / "mask.nii", values.reshape(6, 7, 5).astype(np.float32), oblique())
    with pytest.raises(InputError, match="whole numbers"):
        read_mask(path)


def test_no_mask_is_left_after_an_error(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "ct.nii", canonical_volume(), oblique())
    out = tmp_path / "new" / "mask.nii.gz"
    with open_volume(path) as volume:
        writer = MaskWriter(out, volume.native, {}).__enter__()
        writer.write_slices(0, np.ones((6, 7, 2), np.uint8))
        assert out.parent.is_dir()
        writer.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_mask_that_exists_is_kept(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "ct.nii", canonical_volume(), oblique())
    (tmp_path / "mask.nii").write_text("precious")
    with (
        open_volume(path) as volume,
        pytest.raises(OutputError, match="exists"),
        MaskWriter(tmp_path / "mask.nii", volume.native, {}),
    ):
        pass
    assert (tmp_path / "mask.nii").read_text() == "precious"


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nifti(tmp_path / "ct.nii", canonical_volume(), oblique())

    def full(*arguments: object) -> bytes:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("domainsam_ct.read.nifti.make_mask_header", full)
    with (
        open_volume(path) as volume,
        pytest.raises(OutputError, match="space"),
        MaskWriter(tmp_path / "mask.nii.gz", volume.native, {}),
    ):
        pass
    assert list(tmp_path.iterdir()) == [path]


def test_a_mask_needs_a_name_that_tells_its_format(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "ct.nii", canonical_volume(), oblique())
    with open_volume(path) as volume, pytest.raises(InputError, match=r"\.nii\.gz"):
        MaskWriter(tmp_path / "mask.png", volume.native, {})


def test_source_and_writer_agree_block_by_block(tmp_path: Path) -> None:
    """What a source reads at a window, a writer puts back at that window, overhang and all."""
    canonical = canonical_volume((41, 37, 3))
    path = write_nifti(tmp_path / "ct.nii", canonical, oblique())
    with VolumeSource.open(path, window=(-1000.0, 1000.0)) as source:
        with MaskWriter(tmp_path / "m.nii", source.volume.native, {1: "bright"}) as writer:
            for block in source.blocks(32, 8):
                assert block.image.shape[1:] == (block.index.height, block.index.width)
                assert not block.image[:, ~block.valid].any()
                writer.write(block.index, (block.image[0] > 0.5).astype(np.uint8))
        outside = source.read(Window(-64, -64, 32, 32))
    assert not outside.valid.any()
    assert np.array_equal(read_mask(tmp_path / "m.nii").labels, canonical > 0)
