"""What claims more than the memory there is, is refused by its header before any of it is read."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import rasterio
import torch

from domainsam.checkpoint import METADATA_KEY, CheckpointHeader, read_header
from domainsam.errors import CheckpointError, ConfigError, InputError
from domainsam.io.rasters import Handles
from domainsam.limits import find_budget, limited, measure_machine, parse_size, require_memory
from domainsam.machine import measure_peak_rss
from domainsam.tensorfile import write_safetensors
from domainsam_cli import main
from domainsam_ct.read.open import open_volume, read_mask
from domainsam_scene.read.images import read_image

MEGABYTES = 200


@pytest.fixture(autouse=True)
def _little_memory() -> object:
    with limited(memory=MEGABYTES * 10**6):
        before = measure_peak_rss()
        yield
    assert measure_peak_rss() - before < 2 * MEGABYTES


def write_npz(path: Path, shape: tuple[int, ...]) -> Path:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"shape": shape, "fortran_order": False, "descr": "<f8"})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as file:
        file.write(head.getvalue())
        for _ in range(40):
            file.write(bytes(1 << 20))
    return path


def test_an_npz_that_unpacks_to_more(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"about 1\.\d GB of memory; the limit is 0\.2 GB.*--max-memory"):
        read_image(write_npz(tmp_path / "a.npz", (8192, 8192)))


def test_an_npy_whose_header_lies(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    content = (tmp_path / "a.npy").read_bytes().replace(b"(4, 4)", b"(4,44)")
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match="where its header says"):
        read_image(tmp_path / "a.npy")


@pytest.mark.parametrize("mask", [False, True])
def test_a_nifti_of_zeros(tmp_path: Path, mask: bool) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_shape((16384, 16384, 2) if not mask else (1000, 1000, 400))
    header.set_data_dtype(np.int16 if not mask else np.uint8)
    header.set_sform(np.diag([0.05, 0.05, 1, 1]) if not mask else np.eye(4), 1)
    path = tmp_path / "a.nii.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(40):
            file.write(bytes(1 << 20))
    # A file as long as such a one would be, for the first test is that of its length.
    with path.open("ab") as file:
        file.truncate(2 << 20)
    with pytest.raises(InputError, match="of memory; the limit is"):
        read_mask(path) if mask else open_volume(path)


def test_a_picture_that_claims_ten_thousand_million_pixels(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    size = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(9000))) + chunk(b"IEND", b"")
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    with pytest.raises(InputError, match=r"100000 x 100000 pixels in 3 bands, which takes about 360\.0 GB"):
        read_image(path)


def test_a_raster_in_one_block(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    shape = {"count": 1, "height": 20_000, "width": 20_000, "dtype": "uint8"}
    block = {"tiled": True, "blockxsize": 20_000, "blockysize": 20_000, "sparse_ok": True}
    place = {"crs": "EPSG:32650", "transform": rasterio.Affine(1, 0, 9, 0, -1, 9)}
    with rasterio.open(path, "w", driver="GTiff", **shape, **block, **place):
        pass
    assert path.stat().st_size < 10_000
    with pytest.raises(InputError, match="in blocks of 20000 x 20000"):
        Handles(path)


def _header(labels: list[str], config: dict[str, object]) -> str:
    header = CheckpointHeader("ct", "embedded", "0", ())
    return json.dumps({**vars(header), "labels": labels, "config": config, "metrics": {}})


@pytest.mark.parametrize(
    ("labels", "config", "words"),
    [
        ([f"organ {n}" for n in range(100_001)], {}, "names 100001 labels"),
        (["x" * 1000], {}, "labels"),
        (["a"], {"model": {"width": 10**9}}, "gives 1000000000 as a size"),
    ],
)
def test_a_models_header_beyond_reason(
    tmp_path: Path, labels: list[str], config: dict[str, object], words: str
) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"a": torch.zeros(1)}, {METADATA_KEY: _header(labels, config)})
    with pytest.raises(CheckpointError, match=words):
        read_header(path)


def test_the_budget_is_a_share_of_the_machine() -> None:
    assert find_budget() == MEGABYTES * 10**6
    with limited(memory="3G"):
        assert find_budget() == 3 * 10**9
        require_memory("a", 3 * 10**9, "three")
        with pytest.raises(InputError, match=r"a: its header says more.*about 3\.5 GB.*--max-memory 4G"):
            require_memory("a", 3_500_000_000, "more")
    assert measure_machine() > 10**8


@pytest.mark.parametrize(
    ("text", "size"), [("8G", 8 * 10**9), ("500M", 5 * 10**8), ("1.5gb", 15 * 10**8), ("1000", 1000)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1G", "8X", "G", "1e9", "9" * 5000])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ConfigError, match="is no size"):
        parse_size(text)


def test_the_option_holds_for_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_npz(tmp_path / "a.npz", (4096, 1280))
    assert (
        main(
            [
                "scene",
                "segment",
                "--modality",
                f"rgb={path}",
                "-o",
                str(tmp_path / "m.png"),
                "--max-memory",
                "90M",
            ]
        )
        != 0
    )
    assert "the limit is 90.0 MB" in capsys.readouterr().err
    assert find_budget() == MEGABYTES * 10**6
