"""The staging folder: one run at a time, kept only when there is something to go on with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from domainsam.errors import InputError, OutputError
from domainsam.infer import workroom
from domainsam.infer.journal import JOURNAL_FILE
from domainsam.infer.workroom import WorkRoom, count_units, require_space


def work(folder: Path, units: int, error: BaseException | None = None, resume: bool = False) -> None:
    """A run that finishes some units and then perhaps fails."""
    with WorkRoom(folder, resume):
        (folder / JOURNAL_FILE).write_bytes(b"line\n" * (units + 1))
        if error is not None:
            raise error


def test_success_leaves_nothing(tmp_path: Path) -> None:
    work(tmp_path / "new" / ".s.domainsam", units=3)
    assert not (tmp_path / "new" / ".s.domainsam").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OutputError("disk full"), MemoryError()])
def test_units_are_kept_after_a_failure_that_may_pass(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        work(tmp_path / "out" / ".s.domainsam", units=2, error=error)
    assert count_units(tmp_path / "out" / ".s.domainsam") == 2


@pytest.mark.parametrize(("units", "error"), [(0, KeyboardInterrupt()), (2, InputError("truncated"))])
def test_otherwise_nothing_stays_not_even_new_folders(
    tmp_path: Path, units: int, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        work(tmp_path / "deep" / "out" / ".s.domainsam", units, error)
    assert list(tmp_path.iterdir()) == []


def test_refused_resume_keeps_the_earlier_work(tmp_path: Path) -> None:
    folder = tmp_path / ".s.domainsam"
    with pytest.raises(KeyboardInterrupt):
        work(folder, units=2, error=KeyboardInterrupt())
    with pytest.raises(InputError):
        work(folder, units=2, error=InputError("another run"), resume=True)
    assert count_units(folder) == 2


def test_second_run_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    folder = tmp_path / ".s.domainsam"
    with WorkRoom(folder, resume=False):
        with pytest.raises(OutputError, match="another run is at work"), WorkRoom(folder, resume=False):
            pass
        assert folder.is_dir()


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write to folder"), WorkRoom(tmp_path / "file" / "w", False):
        pass


def test_full_disk_is_refused_up_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    require_space(tmp_path / "not" / "there", 1_000_000, "the run")
    with pytest.raises(OutputError, match=r"1\.0 MB free, the run needs about 3\.0 GB: free some space"):
        require_space(tmp_path, 3_000_000_000, "the run")


def test_next_run_removes_what_a_killed_one_left_half_made(tmp_path: Path) -> None:
    folder, half, other = tmp_path / ".s.domainsam", tmp_path / ".domainsam-1.part", tmp_path / "mine"
    for path in (folder, half, other):
        path.mkdir()
    (half / "s.gpkg").touch()
    # What ``note_staged`` of the killed run wrote, and a line that somebody tampered with.
    (folder / workroom.STAGED_FILE).write_text(f"{half}\n{other}\n")
    with WorkRoom(folder, resume=False) as room:
        assert not half.exists()
        room.note_staged([tmp_path / ".domainsam-2.part"])
        assert (folder / workroom.STAGED_FILE).read_text() == f"{tmp_path / '.domainsam-2.part'}\n"
    assert {path.name for path in tmp_path.iterdir()} == {"mine"}
