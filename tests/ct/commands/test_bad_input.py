"""Bad input to ``domainsam ct segment``: one line, the fitting exit code, nothing left behind."""

from __future__ import annotations

import errno
import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.encaps import encapsulate

from domainsam.checkpoint import CheckpointHeader, save
from domainsam_cli import main
from tests.ct.made import canonical_volume, oblique, write_dicom, write_nifti
from tests.ct.standin import write_case


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed on stderr, which is one line, beside what weights may be used for."""
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = [told for told in captured.err.strip().splitlines() if "for research" not in told]
    assert line.startswith("domainsam: ")
    return line


def make_missing(path: Path) -> Path:
    return path / "nowhere.nii.gz"


def make_text(path: Path) -> Path:
    (path / "ct.nii.gz").write_text("no volume\n")
    return path / "ct.nii.gz"


def make_cut(path: Path) -> Path:
    whole = write_case(path / "whole.nii.gz")
    packed = whole.read_bytes()
    (path / "ct.nii.gz").write_bytes(packed[: len(packed) // 2])
    whole.unlink()
    return path / "ct.nii.gz"


def make_liar(path: Path) -> Path:
    whole = write_case(path / "ct.nii")
    values = bytearray(whole.read_bytes())
    values[42:44] = (4000).to_bytes(2, "little")
    whole.write_bytes(values)
    return whole


def make_flat(path: Path) -> Path:
    return write_nifti(path / "ct.nii.gz", np.zeros((8, 8), np.int16), np.eye(4))


def make_four(path: Path) -> Path:
    return write_nifti(path / "ct.nii.gz", np.zeros((8, 8, 4, 3), np.int16), np.eye(4))


def make_nan_affine(path: Path) -> Path:
    whole = write_case(path / "ct.nii.gz")
    values = bytearray(gzip.decompress(whole.read_bytes()))
    values[280:284] = np.float32(np.nan).tobytes()
    whole.write_bytes(gzip.compress(bytes(values)))
    return whole


def make_no_dicom(path: Path) -> Path:
    (path / "study").mkdir()
    (path / "study" / "notes.txt").write_text("no DICOM")
    return path / "study"


def make_beyond_us(path: Path) -> Path:
    def change(_: int, dataset: Any) -> None:
        dataset.PixelData = encapsulate([b"\0film\1" * 20])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"

    write_dicom(path / "study", canonical_volume(), oblique(degrees=0), change)
    return path / "study"


MADE = {
    make_missing: "no such file",
    make_text: "is not a",
    make_cut: "truncated",
    make_liar: "ct.nii",
    make_flat: "expected",
    make_four: "expected",
    make_nan_affine: "affine",
    make_no_dicom: "is DICOM",
    make_beyond_us: "MPEG2",
}


@pytest.mark.parametrize(("make", "said"), MADE.items(), ids=lambda part: getattr(part, "__name__", ""))
def test_bad_scans(
    tmp_path: Path,
    ct_segment: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], Any],
    said: str,
) -> None:
    scan = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert ct_segment(scan, "-o", tmp_path / "seg.nii.gz") == 2
    assert said in one_line(capsys)
    assert sorted(tmp_path.iterdir()) == before


def test_a_model_of_another_pack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan, model = write_case(tmp_path / "ct.nii.gz"), tmp_path / "model.safetensors"
    header = CheckpointHeader("urban", "embedded", "0" * 64, ("background", "settlement"), {}, {})
    save(model, {}, header)
    assert main(["ct", "segment", str(scan), "-o", str(tmp_path / "out"), "--model", str(model)]) == 3
    assert "urban" in one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written(
    tmp_path: Path, ct_segment: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    scan = write_case(tmp_path / "ct.nii.gz")
    (tmp_path / "file").touch()
    assert ct_segment(scan, "-o", tmp_path / "file" / "seg.nii.gz") == 4
    one_line(capsys)


def test_a_disk_that_fills_up(
    tmp_path: Path,
    ct_segment: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scan = write_case(tmp_path / "ct.nii.gz")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    assert ct_segment(scan, "-o", tmp_path / "out" / "seg.nii.gz", "-q") == 4
    assert "space" in one_line(capsys)
    assert not (tmp_path / "out" / "seg.nii.gz").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--organs", "heart"], "heart"),
        (["--label-map", "nowhere.toml"], "nowhere.toml"),
        (["--cleanup", "lung"], "lung"),
        (["--dicom-seg"], "DICOM"),
        (["--series", "1.2.3"], "DICOM"),
    ],
)
def test_options_that_cannot_be_met(
    tmp_path: Path,
    ct_segment: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    scan = write_case(tmp_path / "ct.nii.gz")
    assert ct_segment(scan, "-o", tmp_path / "out", *words) in (2, 3)
    assert said in one_line(capsys)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
