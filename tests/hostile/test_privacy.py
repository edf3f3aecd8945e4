"""Under the pseudonym rule nothing that leaves tells of a patient, and a pseudonym cannot be tried out."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from domainsam.errors import ConfigError, MissingInputError
from domainsam.names import lift_veils, show
from domainsam.pseudonyms import Veil, find_key, hide_path, make_pseudonym, read_key
from domainsam_cli import main
from domainsam_ct.job import make_case_stem
from domainsam_ct.read.geometry import to_axial
from tests.ct.made import write_dicom, write_nifti
from tests.ct.standin import abdomen, affine, write_case

NAME = "DOE_JANE_2020"


@pytest.fixture(autouse=True)
def _no_veils() -> object:
    lift_veils()
    yield
    lift_veils()


def named_case(folder: Path) -> Path:
    """A series in a folder that is called as its patient is."""
    write_dicom(folder / NAME, abdomen()[0], affine())
    return folder / NAME


def texts_of(folder: Path) -> str:
    """Names and contents of all files below a folder, DICOM and pictures left out."""
    parts = [str(path.relative_to(folder)) for path in folder.rglob("*")]
    kept = (".json", ".csv", ".html", "")
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix in kept]
    return " ".join([*parts, *(path.read_text(errors="replace") for path in files)]).lower()


def test_a_case_that_fails_is_not_named_in_table_or_on_the_terminal(
    tmp_path: Path, ct_segment: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    case = named_case(tmp_path / "in")
    # A gap: the series is refused with a line that names its folder.
    sorted(case.iterdir())[5].unlink()
    out = tmp_path / "out"
    assert ct_segment(case, write_case(tmp_path / "plain.nii.gz"), "-o", out, "--json") == 1
    printed = capsys.readouterr()
    assert "jane" not in texts_of(out)
    assert "jane" not in (printed.out + printed.err).lower()
    with (out / "cohort.csv").open() as file:
        failed = next(row for row in csv.DictReader(file) if row["status"] == "failed")
    assert failed["case"].startswith("case-")
    assert failed["error"].startswith(f"{failed['case']}: 1 slice is missing")


def test_a_single_case_that_fails_is_not_named(
    tmp_path: Path, ct_segment: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    case = named_case(tmp_path / "in")
    sorted(case.iterdir())[5].unlink()
    assert ct_segment(case, "-o", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "1 slice is missing" in told
    assert "jane" not in told.lower()


def test_a_parent_folder_of_the_patients_name_is_not_told(
    tmp_path: Path, ct_segment: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    case = tmp_path / NAME / "series1"
    write_dicom(case, abdomen()[0], affine())
    sorted(case.iterdir())[5].unlink()
    assert ct_segment(case, "-o", tmp_path / "out") == 2
    assert "domainsam: series1: 1 slice is missing" in capsys.readouterr().err


def test_the_journal_of_a_killed_run_is_private_and_tells_nothing(
    tmp_path: Path,
    ct_segment: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case, out, asked = named_case(tmp_path / "in"), tmp_path / "out", []

    def interrupted(slices: np.ndarray) -> np.ndarray:
        asked.append(1)
        if len(asked) > 8:
            raise KeyboardInterrupt
        return read(slices)

    read = to_axial
    monkeypatch.setattr("domainsam_ct.model.sweep.to_axial", interrupted)
    assert ct_segment(case, "-o", out, "-q", "--workers", "1") == 130
    (room,) = out.iterdir()
    assert stat.S_IMODE(room.stat().st_mode) == 0o700
    for path in room.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "jane" not in texts_of(out)
    assert '"input":"case-' in (room / "journal").read_text()


def test_a_pseudonym_is_no_hash_of_the_name(tmp_path: Path, ct_segment: Callable[..., int]) -> None:
    case = named_case(tmp_path / "in")
    for out in ("one", "other"):
        assert ct_segment(case, "-o", tmp_path / out, "-q") == 0
    names = [next((tmp_path / out).glob("*_seg.nii.gz")).name for out in ("one", "other")]
    assert names[0] != names[1]
    plain = hashlib.sha256(make_case_stem(case).encode()).hexdigest()[:8]
    assert not any(plain in name for name in names)
    key = tmp_path / ".one.pseudonyms.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    # The same folder gives the same patient the same name; so does the user's own key anywhere.
    assert ct_segment(case, "-o", tmp_path / "one", "-q", "-f") == 0
    assert len(list((tmp_path / "one").glob("*_seg.nii.gz"))) == 1
    shutil.copy(key, tmp_path / "mine.key")
    assert ct_segment(case, "-o", tmp_path / "third", "-q", "--pseudonym-key", tmp_path / "mine.key") == 0
    assert (tmp_path / "third" / names[0]).is_file()
    assert not (tmp_path / ".third.pseudonyms.key").exists()


def test_names_that_tell_nothing_need_no_key(tmp_path: Path, ct_segment: Callable[..., int]) -> None:
    assert ct_segment(write_case(tmp_path / "ct.nii.gz"), "-o", tmp_path / "out", "-q") == 0
    assert not list(tmp_path.glob(".*key"))


def test_keys(tmp_path: Path) -> None:
    key = find_key(tmp_path / "out", folder=True)
    assert find_key(tmp_path / "out", folder=True) == key
    assert find_key(tmp_path / "a.nii.gz", folder=False) != key
    assert make_pseudonym("Doe", key, "case") == make_pseudonym("Doe", key, "case")
    assert len({make_pseudonym(name, key, "case") for name in map(str, range(200))}) == 200
    # RFC 4231, test case 2.
    assert make_pseudonym("what do ya want for nothing?", b"Jefe", "x") == "x-5bdcc146bf"
    with pytest.raises(MissingInputError, match="openssl rand"):
        read_key(tmp_path / "absent")
    (tmp_path / "short").write_text("abc")
    with pytest.raises(ConfigError, match="holds 3 bytes"):
        read_key(tmp_path / "short")


def test_what_is_hidden_is_hidden_wherever_it_is_shown(tmp_path: Path) -> None:
    assert Veil("case-1", ("DOE", "DOE_JANE"))("'DOE_JANE/a' and DOE, not DOESKIN") == (
        "'case-1/a' and case-1, not DOESKIN"
    )
    hide_path(tmp_path / "in" / NAME, "case-1", (NAME,))
    assert show(f"{tmp_path / 'in' / NAME}: 1 slice is missing") == "case-1: 1 slice is missing"
    lift_veils()
    assert NAME in show(NAME)


def masks_of(folder: Path) -> tuple[Path, Path, Path]:
    """A named patient's scan, and folders with a mask and labels that are called after it."""
    scan = named_case(folder / "scans")
    for part in ("found", "known"):
        (folder / part).mkdir()
        write_nifti(folder / part / f"{NAME}.nii.gz", abdomen()[1], affine())
    return scan, folder / "found", folder / "known"


def test_scores_are_under_pseudonyms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan, found, known = masks_of(tmp_path / "in")
    out = tmp_path / "out"
    out.mkdir()
    given = ["ct", "evaluate", str(found), str(known), "--images", str(scan.parent), "--label-map", "synapse"]
    outputs = ["--csv", str(out / "s.csv"), "--report", str(out / "s.html")]
    assert main([*given, *outputs]) == 0
    printed = capsys.readouterr()
    assert "jane" not in texts_of(out) + (printed.out + printed.err).lower()
    with (out / "s.csv").open() as file:
        case = next(csv.DictReader(file))["case"]
    assert case.startswith("case-")
    assert (out / ".pseudonyms.key").is_file()
    # Without outputs nothing is kept; a user's own key names alike wherever it is used.
    assert main([*given, "--json", "--pseudonym-key", str(out / ".pseudonyms.key")]) == 0
    told = capsys.readouterr().out
    assert case in told
    assert "jane" not in told.lower()
    assert main([*given, "--json", "--keep-identifiers"]) == 0
    assert NAME in capsys.readouterr().out


def test_volumes_are_under_pseudonyms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan, found, _ = masks_of(tmp_path / "in")
    out = tmp_path / "out.json"
    given = ["ct", "statistics", str(found / f"{NAME}.nii.gz"), "--image", str(scan)]
    assert main([*given, "-o", str(out), "--label-map", "synapse"]) == 0
    printed = capsys.readouterr()
    assert "jane" not in (out.read_text() + printed.out + printed.err).lower()
    assert json.loads(out.read_text())["image"].startswith("case-")
    assert main([*given, "--json", "--keep-identifiers"]) == 0
    assert json.loads(capsys.readouterr().out)["image"] == NAME


def test_training_names_no_patient(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan, _, known = masks_of(tmp_path / "in")
    write_nifti(known / f"{NAME}.nii.gz", abdomen()[1][:-1], affine())
    given = ["ct", "train", str(scan), "--labels", str(known), "-o", str(tmp_path / "m.safetensors")]
    given += ["--val-share", "0"]
    assert main(given) == 2
    told = capsys.readouterr().err
    assert "case-" in told
    assert "jane" not in told.lower()


def test_runs_that_begin_at_once_share_a_key(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from domainsam.pseudonyms import find_key; "
    given = [sys.executable, "-c", f"{code}print(find_key(Path(sys.argv[1]), True))", str(tmp_path / "out")]
    runs = [subprocess.Popen(given, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({run.communicate()[0] for run in runs}) == 1
