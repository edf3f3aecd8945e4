"""Nothing damaged passes as whole, as far as formats tell."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import geopandas
import numpy as np
import pydicom
import pytest
import rasterio
import shapely
import torch
from pydicom.uid import JPEG2000Lossless

from domainsam.checkpoint import CheckpointHeader, load, save
from domainsam.errors import CheckpointError, InputError
from domainsam.infer.networks import compute_foreground
from domainsam.io.whole import check_codestream, check_whole
from domainsam.tensorfile import write_safetensors
from domainsam_ct.read.itk_whole import check_voxels
from domainsam_ct.read.open import open_volume, read_mask
from domainsam_urban.read.layers import read_polygons
from domainsam_urban.read.scene import RasterSource
from tests.ct.made import canonical_volume, oblique, write_dicom


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    """Slices by their place, the first nearest to the feet."""
    volume = canonical_volume((8, 9, 6))
    paths = write_dicom(tmp_path / "scan", volume, oblique())
    return sorted(paths, key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))


@pytest.mark.parametrize("which", [0, 2, -1])
@pytest.mark.parametrize("damage", ["header", "magic", "cut", "size"])
def test_no_slice_is_passed_over(series: list[Path], which: int, damage: str) -> None:
    victim = series[which]
    content = bytearray(victim.read_bytes())
    if damage == "header":
        # The length of the first element of the file's meta information.
        content[138:140] = b"\xff\xff"
    elif damage == "magic":
        content[128:140] = bytes(12)
    elif damage == "cut":
        content = content[: len(content) // 3]
    else:
        at = content.index(bytes.fromhex("28001000") + b"US")
        del content[at : at + 10]
    victim.write_bytes(bytes(content))
    with pytest.raises(InputError) as caught:
        open_volume(victim.parent)
    assert "\n" not in str(caught.value)
    if damage != "header":
        assert victim.name in str(caught.value) or "missing" in str(caught.value)


def test_every_file_of_a_folder_is_accounted_for(series: list[Path]) -> None:
    folder = series[0].parent
    (folder / "readme.txt").write_text("words")
    report = pydicom.dcmread(series[0])
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(report, keyword)
    report.Modality = "SR"
    report.save_as(folder / "report.dcm")
    stray = pydicom.dcmread(series[0])
    stray.SeriesInstanceUID = "1.2.3.4"
    stray.save_as(folder / "stray.dcm")
    with open_volume(folder) as volume:
        told = " ".join(volume.warnings)
        assert volume.shape[2] == 6
    assert "1 files are no DICOM and were left out: readme.txt" in told
    assert "1 DICOM files hold no slice of a CT and were left out: report.dcm" in told
    assert "1 CT images belong to no series of several slices and were left out: stray.dcm" in told


def test_names_of_files_that_tell_of_the_patient_are_numbers(series: list[Path]) -> None:
    (series[0].parent / "notes_doe.txt").write_text("words")
    with open_volume(series[0].parent) as volume:
        told = " ".join(volume.warnings)
    assert "doe" not in told
    assert "file 1 of 7 by name" in told


def test_gaps_in_instance_numbers_are_told(series: list[Path]) -> None:
    for path in series:
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber = int(dataset.InstanceNumber) + (2 if int(dataset.InstanceNumber) > 3 else 0)
        dataset.save_as(path)
    with open_volume(series[0].parent) as volume:
        assert any(note.startswith("Instance Numbers 4, 5 are not among") for note in volume.warnings)


def test_a_cut_codestream_within_dicom_is_refused(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(-900, 900, (64, 64, 3)).astype(np.int16)
    series = write_dicom(tmp_path / "scan", volume, oblique())
    for path in series:
        dataset = pydicom.dcmread(path)
        dataset.compress(JPEG2000Lossless)
        dataset.save_as(path)
    with open_volume(tmp_path / "scan") as opened:
        assert opened.shape[2] == 3
    dataset = pydicom.dcmread(series[-1])
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = pydicom.encaps.encapsulate([frame[: len(frame) // 2]])
    dataset.save_as(series[-1])
    with pytest.raises(InputError, match="truncated"):
        open_volume(tmp_path / "scan")


def _itk(path: Path, compressed: bool) -> Path:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(canonical_volume((9, 8, 7)))
    SimpleITK.WriteImage(image, str(path), useCompression=compressed)
    return path


@pytest.mark.parametrize("name", ["v.mha", "v.mhd", "v.nrrd", "v.nhdr"])
@pytest.mark.parametrize("count", ["4294967296", "1e300", "9" * 500, "-3"])
def test_counts_that_crash_itk_are_refused_before_it_reads(tmp_path: Path, name: str, count: str) -> None:
    path = _itk(tmp_path / name, compressed=False)
    data = path.read_bytes()
    field = b"dimension: 3" if name.startswith("v.n") else b"NDims = 3"
    assert field in data
    path.write_bytes(data.replace(field, field[:-1] + count.encode()))
    with pytest.raises(InputError, match=r"its header says .* expected counts"):
        open_volume(path)


@pytest.mark.parametrize(
    "field", [b"NDims\t= 99999", b"NDims \t= 99999", b"\tNDims = 99999", b"NDims\r= 99999"]
)
def test_white_space_hides_no_count(tmp_path: Path, field: bytes) -> None:
    path = _itk(tmp_path / "v.mha", compressed=False)
    path.write_bytes(path.read_bytes().replace(b"NDims = 3", field))
    with pytest.raises(InputError, match=r"its header says '99999' for ndims, expected counts"):
        open_volume(path)


@pytest.mark.parametrize(
    ("field", "long"),
    [
        (b"space origin: (0,0,0)", b"space origin: (0," + b"9" * 10_000 + b",0)"),
        (b"space directions: (1,0,0)", b"space directions: (1,0," + b"9" * 10_000 + b")"),
    ],
)
def test_a_number_of_thousands_of_digits_is_refused_before_itk_reads(
    tmp_path: Path, field: bytes, long: bytes
) -> None:
    path = _itk(tmp_path / "v.nrrd", compressed=False)
    content = path.read_bytes()
    assert field in content
    path.write_bytes(content.replace(field, long))
    with pytest.raises(InputError, match="hundreds of digits"):
        open_volume(path)


@pytest.mark.parametrize("word", [b"T", b"1", b"True"])
def test_metaio_knows_a_compressed_volume_by_one_letter(tmp_path: Path, word: bytes) -> None:
    path = _itk(tmp_path / "v.mha", compressed=True)
    content = path.read_bytes()
    assert b"CompressedData = True" in content
    path.write_bytes(content.replace(b"CompressedData = True", b"CompressedData = " + word))
    with open_volume(path) as volume:
        assert sorted(volume.shape) == [7, 8, 9]


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_a_wrong_checksum_is_no_volume(tmp_path: Path, name: str) -> None:
    path = _itk(tmp_path / name, compressed=True)
    content = bytearray(path.read_bytes())
    # The last bytes of gzip's CRC and of zlib's Adler-32.
    content[-8 if name.endswith("nrrd") else -1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="damaged"):
        open_volume(path)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
@pytest.mark.parametrize("change", [-2, 2])
def test_uncompressed_voxels_are_counted(tmp_path: Path, name: str, change: int) -> None:
    path = _itk(tmp_path / name, compressed=False)
    content = path.read_bytes()
    with open_volume(path):
        pass
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    with pytest.raises(InputError, match=r"holds 10\d\d bytes of voxels where the header says 1008"):
        open_volume(path)


def test_streams_are_compared_to_their_end(tmp_path: Path) -> None:
    head = b"NRRD0004\ntype: uint8\nencoding: gzip\n\n"
    path = tmp_path / "a.nrrd"
    path.write_bytes(head + gzip.compress(bytes(500)))
    check_voxels(path, path, 500)
    with pytest.raises(InputError, match="holds"):
        check_voxels(path, path, 400)
    path.write_bytes(head + gzip.compress(bytes(500))[:-3])
    with pytest.raises(InputError, match="cut short"):
        check_voxels(path, path, 500)
    (tmp_path / "a.mha").write_bytes(
        b"CompressedData = True\nElementDataFile = LOCAL\n" + zlib.compress(bytes(500))
    )
    check_voxels(tmp_path / "a.mha", tmp_path / "a.mha", 500)


@pytest.fixture
def shapefile(tmp_path: Path) -> Path:
    shapes = [shapely.box(10 * n, 0, 10 * n + 5, 5) for n in range(8)]
    table = geopandas.GeoDataFrame({"n": range(8)}, geometry=shapes, crs="EPSG:32650")
    table.to_file(tmp_path / "a.shp")
    return tmp_path / "a.shp"


@pytest.mark.parametrize("part", [".shp", ".shx", ".dbf"])
@pytest.mark.parametrize("left", [0.4, 0.9])
def test_a_cut_shapefile_is_refused(shapefile: Path, part: str, left: float) -> None:
    assert len(read_polygons(shapefile)[0]) == 8
    victim = shapefile.with_suffix(part)
    victim.write_bytes(victim.read_bytes()[: int(left * victim.stat().st_size)])
    with pytest.raises(InputError):
        read_polygons(shapefile)


def test_a_shapefile_whose_index_disagrees_is_refused(shapefile: Path) -> None:
    index = shapefile.with_suffix(".shx")
    content = bytearray(index.read_bytes())
    content[108:112], content[116:120] = content[116:120], content[108:112]
    index.write_bytes(bytes(content))
    with pytest.raises(InputError, match="not where its index says"):
        read_polygons(shapefile)
    index.unlink()
    with pytest.raises(InputError, match=r"index \.shx is not beside it"):
        read_polygons(shapefile)


@pytest.mark.parametrize("driver", ["PNG", "JPEG", "JP2OpenJPEG"])
def test_a_cut_picture_is_refused(tmp_path: Path, driver: str) -> None:
    path = tmp_path / "a.img"
    values = np.random.default_rng(0).integers(0, 255, (3, 64, 64), dtype=np.uint8)
    shape = {"count": 3, "height": 64, "width": 64, "dtype": "uint8", "crs": "EPSG:32650"}
    with rasterio.open(
        path, "w", driver=driver, transform=rasterio.Affine(1, 0, 9, 0, -1, 9), **shape
    ) as made:
        made.write(values)
    check_whole(path)
    content = path.read_bytes()
    for left in (0.5, 0.99):
        cut = tmp_path / f"{left}.img"
        cut.write_bytes(content[: int(left * len(content))])
        with pytest.raises(InputError, match="truncated"):
            RasterSource(cut, allow_no_crs=True)


def test_a_pngs_checksums_are_compared(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    start, end = b"\x89PNG\r\n\x1a\n", chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(start + chunk(b"IHDR", bytes(13)) + end)
    check_whole(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(
        start + chunk(b"IHDR", bytes(13)).replace(bytes(13), b"\1" + bytes(12)) + end
    )
    with pytest.raises(InputError, match="'IHDR' has a wrong checksum"):
        check_whole(tmp_path / "b.png")


def test_a_codestream_without_a_tile_is_refused() -> None:
    size = struct.pack(">HHHIIIIIIII", 0xFF51, 47, 0, 64, 64, 0, 0, 32, 64, 0, 0) + bytes(11)
    parts = [struct.pack(">HHHIBB", 0xFF90, 10, tile, 14, 0, 1) + b"\xff\x93" for tile in (0, 1)]
    whole = b"\xff\x4f" + size + b"".join(parts) + b"\xff\xd9"
    check_codestream(whole, "a")
    check_codestream(whole + b"\0", "a")
    for damaged in (whole.replace(parts[1], b""), whole[:-2], whole[:40], b"\xff\x4f"):
        with pytest.raises(InputError, match="truncated"):
            check_codestream(damaged, "a")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    header = CheckpointHeader("fuzz", "embedded", "0", ("background", "liver"))
    save(tmp_path / "a.safetensors", {"good": torch.ones(3), "bad": torch.tensor([1.0, value])}, header)
    with pytest.raises(CheckpointError, match="NaN or infinite in bad"):
        load(tmp_path / "a.safetensors", "fuzz")
    write_safetensors(tmp_path / "b.safetensors", {"bad": torch.tensor([value]).half()}, {})
    from domainsam.foundation.loading import read_tensors

    with pytest.raises(CheckpointError, match="NaN or infinite"):
        read_tensors(tmp_path / "b.safetensors")


def test_an_answer_that_is_no_number_is_no_answer() -> None:
    with pytest.raises(CheckpointError, match="the specialist gave values that are NaN"):
        compute_foreground(torch.tensor([[[[float("nan")]], [[0.0]]]]))


def test_a_mask_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = _itk(tmp_path / "a.nrrd", compressed=False)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError):
        read_mask(path)
