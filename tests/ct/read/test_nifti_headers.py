"""A mask's header repeats the geometry of its source to the byte, and nothing that names a patient."""

from __future__ import annotations

import gzip
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest

from domainsam_ct.read.open import open_volume
from domainsam_ct.write.masks import MaskWriter
from tests.ct.made import canonical_volume, oblique

GEOMETRY = (
    *("dim", "pixdim", "dim_info", "xyzt_units", "slice_code", "slice_start", "slice_end", "slice_duration"),
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y"),
    *("qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def make_header(
    version: int = 1, order: str = "<", codes: tuple[int, int] = (1, 2), units: int = 2
) -> nib.Nifti1Header:
    """A header with odd values in every field that must survive, and names where people put them."""
    header = (nib.Nifti1Header if version == 1 else nib.Nifti2Header)(endianness=order)
    header.set_data_shape((6, 7, 5))
    header.set_data_dtype(np.int16)
    header.set_zooms((3.0, 2.0, 5.0))
    header.set_qform(oblique(), codes[0])
    header.set_sform(oblique(), codes[1])
    header["xyzt_units"] = units | 8
    header["dim_info"], header["slice_code"], header["slice_end"] = 0b110110, 1, 4
    header["slice_duration"], header["toffset"] = 0.25, 3.5
    header["pixdim"][4:] = (1.5, 0, 7, 0)
    header["descrip"], header["aux_file"], header["intent_name"] = b"Doe^Jane", b"jane.txt", b"Jane"
    if version == 1:
        header["db_name"] = b"PID-4711"
    return header


def write_raw(path: Path, header: nib.Nifti1Header, voxels: np.ndarray, extension: bytes = b"") -> Path:
    """A file of exactly this header and these voxels."""
    header["vox_offset"] = len(header.binaryblock) + 4 + len(extension)
    flag = b"\1\0\0\0" if extension else b"\0\0\0\0"
    kind = header.get_data_dtype().newbyteorder(header.endianness)
    data = header.binaryblock + flag + extension + voxels.astype(kind).tobytes(order="F")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def mask_of(source: Path, out: Path) -> bytes:
    """Write an all-1 mask and return the bytes of its file, unpacked."""
    with open_volume(source) as volume, MaskWriter(out, volume.native, {1: "liver"}) as writer:
        writer.write_slices(0, np.ones(volume.shape, np.uint8))
    data = out.read_bytes()
    return gzip.decompress(data) if out.suffix == ".gz" else data


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("codes", [(1, 1), (0, 2), (4, 0), (1, 2), (3, 1)])
@pytest.mark.parametrize("units", [0, 2])
def test_geometry_bytes_are_the_same(
    tmp_path: Path, version: int, order: str, codes: tuple[int, int], units: int
) -> None:
    header = make_header(version, order, codes, units)
    data = mask_of(write_raw(tmp_path / "ct.nii.gz", header, canonical_volume()), tmp_path / "mask.nii.gz")
    kind = header.structarr.dtype
    made = np.frombuffer(data[: kind.itemsize], kind)
    for field in GEOMETRY:
        assert made[field].tobytes() == header.structarr[field].tobytes(), field
    assert made["sizeof_hdr"].tobytes() == header["sizeof_hdr"].tobytes()
    assert made["magic"].tobytes() == header["magic"].tobytes()


@pytest.mark.parametrize("version", [1, 2])
def test_mask_has_its_own_type_and_no_names(tmp_path: Path, version: int) -> None:
    comment = (16).to_bytes(4, "little") + (6).to_bytes(4, "little") + b"Doe^Jane"
    source = write_raw(tmp_path / "ct.nii", make_header(version), canonical_volume(), comment)
    data = mask_of(source, tmp_path / "mask.nii")
    for words in (b"Doe", b"jane", b"Jane", b"PID-4711"):
        assert words not in data
    made = nib.load(tmp_path / "mask.nii")
    assert made.get_data_dtype() == np.uint8
    assert made.header["bitpix"] == 8
    assert (made.dataobj.slope, made.dataobj.inter) == (1, 0)
    assert made.header.get_intent()[0] == "label"
    assert made.header["toffset"] == make_header(version)["toffset"]
    assert made.dataobj.offset % 16 == 0
    assert len(data) == made.dataobj.offset + canonical_volume().size
    assert np.all(np.asarray(made.dataobj) == 1)


def test_label_names_are_in_the_extension(tmp_path: Path) -> None:
    source = write_raw(tmp_path / "ct.nii", make_header(), canonical_volume())
    mask_of(source, tmp_path / "mask.nii")
    (extension,) = nib.load(tmp_path / "mask.nii").header.extensions
    text = extension.get_content()
    tree = ElementTree.fromstring(text.rstrip(b"\0").decode())
    assert [(label.get("Key"), label.text) for label in tree.iter("Label")] == [("1", "liver")]


def test_trailing_axis_of_one_volume_is_kept(tmp_path: Path) -> None:
    header = make_header()
    header.set_data_shape((6, 7, 5, 1))
    mask_of(write_raw(tmp_path / "ct.nii", header, canonical_volume()[..., None]), tmp_path / "mask.nii")
    assert nib.load(tmp_path / "mask.nii").shape == (6, 7, 5, 1)


def test_equal_masks_make_equal_files(tmp_path: Path) -> None:
    source = write_raw(tmp_path / "ct.nii", make_header(), canonical_volume())
    mask_of(source, tmp_path / "one.nii.gz")
    mask_of(source, tmp_path / "two.nii.gz")
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("scaling", [(0.0, 0.0), (2.0, -1024.0), (0.5, 0.25)])
def test_hounsfield_units_follow_the_header(tmp_path: Path, dtype: str, scaling: tuple[float, float]) -> None:
    header = make_header(order=">")
    header.set_data_dtype(dtype)
    header["scl_slope"], header["scl_inter"] = scaling
    voxels = np.arange(210).reshape(6, 7, 5) % 100
    source = write_raw(tmp_path / "ct.nii.gz", header, voxels)
    with open_volume(source) as volume:
        slope, intercept = scaling if scaling[0] else (1.0, 0.0)
        assert np.array_equal(volume.slices(0, 5), (voxels * slope + intercept).astype(np.float32))
        assert volume.hu_range == (intercept, 99 * slope + intercept)


def test_real_headers(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "medical"
    files = [
        folder / "totalsegmentator" / "example_ct_sm.nii.gz",
        *sorted(folder.glob("ibsi_sts/*/nifti/STS_00*/CT_image.nii.gz")),
    ]
    assert len(files) >= 2
    for number, path in enumerate(files):
        made = mask_of(path, tmp_path / f"mask{number}.nii.gz")
        source = nib.load(path).header
        header = np.frombuffer(made[:348], source.structarr.dtype)
        assert all(header[field].tobytes() == source.structarr[field].tobytes() for field in GEOMETRY)
