"""In folders that others write to, nothing of the user's elsewhere is touched through a link."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from domainsam.errors import OutputError
from domainsam.infer.journal import Journal
from domainsam.infer.store import RawRaster
from domainsam.infer.workroom import WorkRoom
from domainsam.private import Claim, make_private_folder, open_privately, sweep
from domainsam.pseudonyms import find_key
from domainsam.staging import Staging

WRITE = os.O_RDWR | os.O_CREAT | os.O_TRUNC


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text("precious")
    return path


def use_room(folder: Path) -> None:
    """Write every kind of file of a work room."""
    with WorkRoom(folder, resume=False) as room:
        room.note_staged([folder.parent])
        RawRaster.create(folder / "coarse.raw", (4, 4)).close()
        Journal(folder / "journal", {"input": "a"}).close()


@pytest.mark.parametrize("name", ["lock", "journal", "staged", "coarse.raw"])
@pytest.mark.parametrize("hard", [False, True])
def test_a_link_in_a_work_room_is_refused(tmp_path: Path, victim: Path, name: str, hard: bool) -> None:
    room = tmp_path / ".out.domainsam"
    room.mkdir()
    if hard:
        (room / name).hardlink_to(victim)
    else:
        (room / name).symlink_to(victim)
    words = "second name" if hard else "is a link"
    with pytest.raises(OutputError, match=words):
        use_room(room)
    assert victim.read_text() == "precious"


def test_a_work_room_that_is_a_link_is_refused(tmp_path: Path, victim: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("precious")
    (tmp_path / ".out.domainsam").symlink_to(elsewhere)
    with pytest.raises(OutputError, match="is a link"), WorkRoom(tmp_path / ".out.domainsam", resume=False):
        pass
    assert (elsewhere / "precious").read_text() == "precious"
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]


def test_work_rooms_are_private(tmp_path: Path) -> None:
    room = tmp_path / "out" / ".a.domainsam"
    with WorkRoom(room, resume=False) as opened:
        opened.note_staged([tmp_path])
        with Journal(room / "journal", {"input": "a"}):
            pass
        RawRaster.create(room / "a.raw", (2, 2)).close()
        assert stat.S_IMODE(room.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in room.iterdir()} == {0o600}
    room.mkdir()
    room.chmod(0o777)
    make_private_folder(room)
    assert stat.S_IMODE(room.stat().st_mode) == 0o700


def test_what_another_user_put_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lock").write_text("theirs")
    (tmp_path / "room").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(OutputError, match="another user"):
        open_privately(tmp_path / "lock", WRITE)
    with pytest.raises(OutputError, match="another user"):
        make_private_folder(tmp_path / "room")
    assert (tmp_path / "lock").read_text() == "theirs"


def test_only_plain_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="no plain file"):
        open_privately(tmp_path / "pipe", os.O_RDWR)
    # A pipe that nobody writes to must not hold the run up either.
    with pytest.raises(OutputError, match="no plain file"):
        open_privately(tmp_path / "pipe", os.O_RDONLY)
    with pytest.raises(FileNotFoundError):
        open_privately(tmp_path / "absent", os.O_RDONLY)


def test_a_key_is_not_read_through_a_link(tmp_path: Path, victim: Path) -> None:
    (tmp_path / ".out.pseudonyms.key").symlink_to(victim)
    with pytest.raises(OutputError, match="is a link"):
        find_key(tmp_path / "out", folder=True)


def test_outputs_are_readable_by_whoever_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with Staging([tmp_path / "a.txt"]) as staging:
            staging.write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644


def test_what_a_killed_run_left_is_swept_and_what_is_at_work_is_not(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from domainsam.private import Claim\n"
        "Claim(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (left,) = tmp_path.glob(".domainsam-*.part")
    (tmp_path / ".domainsam-link.part").symlink_to(left)
    with Claim(tmp_path) as mine:
        sweep(tmp_path)
        assert mine.is_dir()
        assert not left.exists()
        assert (tmp_path / ".domainsam-link.part").is_symlink()
    assert not mine.exists()


def test_the_next_run_on_a_folder_sweeps_it(tmp_path: Path) -> None:
    (tmp_path / ".domainsam-abc.part").mkdir()
    with Staging([tmp_path / "a.txt"]) as staging:
        staging.write_text(tmp_path / "a.txt", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
