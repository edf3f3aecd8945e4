"""However a run ends: one line, the right code, what was finished kept, and nothing left over."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import click
import geopandas
import numpy as np
import pydicom
import pytest
import shapely

from domainsam.errors import ConfigError, InputError, OutputError, explain
from domainsam.infer.journal import Journal, mark_file
from domainsam.limits import limited, tell_changing, tell_moment
from domainsam.staging import open_scratch
from domainsam.versions import SAMPLED_BYTES, content_digest
from domainsam_cli.errors import run_guarded
from domainsam_ct.segment import identify_source
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.trend.settings import TrendOptions
from domainsam_urban.trend.trend import find_finished, find_work_room
from domainsam_urban.write.styles import store_default_styles
from domainsam_urban.write.vectors import writing_vectors
from tests.ct.made import stored, write_dicom
from tests.ct.read.series import HEAD_FIRST
from tests.ct.standin import abdomen, affine
from tests.urban.mask_files import write_raster
from tests.urban.trend.scenes import run, write_masks

SIGNALLED = """
import os, signal, sys, click
from domainsam_cli.errors import run_guarded
# Whoever runs the tests may ignore signals, as nohup does, and have them ignored here.
signal.signal(int(sys.argv[1]), signal.SIG_DFL)
@click.command()
def command():
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
        sys.stdin.read()
    finally:
        print("put away", flush=True)
sys.exit(run_guarded(command, []))
"""


def launch(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_a_run_as_ctrl_c_does(name: str, code: int) -> None:
    done = launch(SIGNALLED, str(int(getattr(signal, name))))
    assert done.returncode == code
    assert done.stdout == "put away\n"
    assert done.stderr.strip() == f"domainsam: interrupted by {name}"


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:

        @click.command()
        def command() -> None:
            os.kill(os.getpid(), signal.SIGHUP)

        assert run_guarded(command, []) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


PRINTS = """
import sys, click
from domainsam_cli.console import echo
from domainsam_cli.errors import run_guarded
@click.command()
def command():
    for number in range(20000):
        echo(f"line {number}")
sys.exit(run_guarded(command, []))
"""


def test_a_reader_that_has_gone() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PRINTS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    told = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 141
    assert told == "domainsam: whoever read the output has gone; files that were finished are kept\n"


def test_a_closed_output_and_a_full_one() -> None:
    closed = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" >&-', sys.executable, PRINTS], capture_output=True, text=True, check=False
    )
    assert (closed.returncode, closed.stderr) == (0, "")
    if not Path("/dev/full").exists():
        return
    full = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" >/dev/full', sys.executable, PRINTS],
        capture_output=True,
        text=True,
        check=False,
    )
    assert full.returncode == 4
    assert full.stderr.count("\n") == 1
    assert full.stderr.startswith("domainsam: ")


def write_large(path: Path) -> None:
    """A GeoPackage whose rows fit on the disk and whose styles do not."""
    shapes = [shapely.box(n, 0, n + 1, 1) for n in range(200)]
    table = geopandas.GeoDataFrame({"n": range(200)}, geometry=shapes, crs="EPSG:32650")
    with writing_vectors(path):
        table.to_file(path, layer="b")
        store_default_styles(path, {"b": "<qgis/>" * 200_000})


def test_a_disk_that_is_full_while_a_geopackage_is_finished(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
        with pytest.raises(OutputError, match="cannot write"):
            write_large(tmp_path / "a.gpkg")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    (tmp_path / "a.gpkg").unlink()
    write_large(tmp_path / "a.gpkg")


def change_in_place(path: Path, at: int, length: int = 1) -> None:
    """Change bytes and keep size and times."""
    facts = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(length)
        file.seek(at)
        file.write(bytes(byte ^ 0xFF for byte in old))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_pixels_that_changed_in_place_are_another_scene(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (3, 400, 400), dtype=np.uint8)
    path = write_raster(tmp_path / "a.tif", values, nodata=None)
    with RasterSource(path) as source:
        first = source.fingerprint
    marked, source_mark = mark_file(str(path)), identify_source(path)
    change_in_place(path, 300_000)
    with RasterSource(path) as source:
        later = source.fingerprint
    assert first["source"] == later["source"]
    assert first["source_content"] != later["source_content"]
    assert marked != mark_file(str(path))
    assert source_mark != identify_source(path)
    with Journal(tmp_path / "journal", first) as journal:
        journal.append({"unit": ["a"]})
    with pytest.raises(InputError, match="source_content was"):
        Journal(tmp_path / "journal", later, resume=True)


def test_large_files_are_sampled_all_over(tmp_path: Path) -> None:
    path = tmp_path / "large"
    size = SAMPLED_BYTES + (1 << 20)
    with path.open("wb") as file:
        file.truncate(size)
    before = content_digest([path])
    for at, length in ((0, 1), (size // 2, 4096), (size - 1, 1)):
        change_in_place(path, at, length)
        now = content_digest([path])
        assert now != before
        before = now
    assert content_digest([path, path]) != before


@pytest.mark.slow
def test_a_finished_trend_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--masks", *write_masks(tmp_path), "-o", str(tmp_path / "trend")]
    assert run(*arguments, "-q") == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "trend").rglob("*")}
    assert run(*arguments, "--resume") == 0
    assert "complete: all" in capsys.readouterr().out
    assert run(*arguments, "--resume", "--json") == 0
    assert json.loads(capsys.readouterr().out)["complete"] is True
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "trend").rglob("*")} == before
    assert run(*arguments) == 4
    assert not find_work_room(tmp_path / "trend").exists()
    assert set(find_finished(TrendOptions(tmp_path / "trend", resume=True))) == {
        path for path in before if path.is_file()
    }


def test_a_folder_that_was_removed_is_told(tmp_path: Path) -> None:
    for name, code in ((tmp_path / "gone" / "a.raw", 4), (tmp_path / "a.raw", 1)):
        line, found = explain(FileNotFoundError(2, "No such file", str(name)))
        assert found == code
        assert ("removed or renamed during the run" in line) == (code == 4)


def test_reproducible_outputs_tell_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tell_changing(1.5) == 1.5
    with limited(reproducible=True):
        assert tell_changing(1.5) is None
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
        assert tell_moment().isoformat() == "1970-01-02T00:00:00+00:00"
        monkeypatch.delenv("SOURCE_DATE_EPOCH")
        assert tell_moment().year == 1970


@pytest.mark.parametrize("stated", ["9" * 20, "\u00b2", "soon", ""])
def test_a_malformed_date_of_the_source_is_one_line(monkeypatch: pytest.MonkeyPatch, stated: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", stated)
    with limited(reproducible=True), pytest.raises(ConfigError, match="expected seconds since 1970"):
        tell_moment()


@pytest.mark.parametrize("name", ["a**b.tif", "a[1].tif", "a?.tif"])
def test_leftovers_are_swept_whatever_the_output_is_called(tmp_path: Path, name: str) -> None:
    left = tmp_path / f".{name}.killed.part"
    left.mkdir()
    with open_scratch(tmp_path / name) as room:
        assert room.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_two_reproducible_runs_are_equal_bytes(tmp_path: Path, ct_segment: object) -> None:
    from tests.ct.standin import write_case

    case, contents = write_case(tmp_path / "ct.nii.gz"), []
    for out in ("one", "other"):
        folder = tmp_path / out
        assert ct_segment(case, "-o", folder, "--statistics", "--report", "-q", "--reproducible") == 0  # type: ignore[operator]
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]
    assert json.loads(contents[0]["ct_statistics.json"])["seconds"] is None


def test_reproducible_objects_have_identifiers_of_their_content(tmp_path: Path, ct_segment: object) -> None:
    write_dicom(study := tmp_path / "study", *stored(abdomen()[0], affine(), *HEAD_FIRST))
    runs: list[dict[str, bytes]] = []
    for out, organs in (("one", "liver,spleen"), ("again", "liver,spleen"), ("other", "liver")):
        folder = tmp_path / out
        given = (study, "-o", folder, "--dicom-seg", "--rtstruct", "-q", "--organs", organs)
        assert ct_segment(*given, "--reproducible") == 0  # type: ignore[operator]
        runs.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert runs[0] == runs[1]
    objects = [name for name in runs[0] if name.endswith(".dcm")]
    assert len(objects) == 2
    uids = [
        pydicom.dcmread(BytesIO(run[name])).SOPInstanceUID for run in (runs[0], runs[2]) for name in objects
    ]
    assert len(set(uids)) == 4


@pytest.mark.slow
def test_kills_at_random_leave_no_trace() -> None:
    code = "import sys; from tests.kills import kill; print(*kill(14, 1), sep='\\n', end=''); sys.exit(0)"
    done = launch(code)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]
