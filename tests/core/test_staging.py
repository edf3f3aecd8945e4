from __future__ import annotations

import os
from pathlib import Path

import pytest

from domainsam.errors import ConfigError, OutputError
from domainsam.staging import Staging, check_apart, move_into_place, open_scratch


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_files_appear_together_at_the_end(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "deep" / "er" / "b.txt"
    with Staging([first, second]) as staging:
        staging.write_text(first, "one")
        staging[second].write_text("two")
        assert not first.exists()
        assert not second.exists()
        assert staging[first].parent.parent == tmp_path
    assert (first.read_text(), second.read_text()) == ("one", "two")
    assert everything(tmp_path) == {"a.txt", "deep", "deep/er", "deep/er/b.txt"}


def test_failure_leaves_nothing_and_harms_nothing(tmp_path: Path) -> None:
    old, new = tmp_path / "old.txt", tmp_path / "made" / "for" / "it.txt"
    old.write_text("precious")
    before = everything(tmp_path)

    def fail() -> None:
        with Staging([old, new], overwrite=True) as staging:
            staging.write_text(old, "half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert everything(tmp_path) == before
    assert old.read_text() == "precious"


def test_existing_files_need_permission(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("precious")
    with pytest.raises(OutputError, match=r"a\.txt' exists.*--overwrite"), Staging([target]):
        pass
    with Staging([target], overwrite=True) as staging:
        staging.write_text(target, "new")
        assert target.read_text() == "precious"
    assert target.read_text() == "new"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"

    def race() -> None:
        with Staging([target]) as staging:
            staging.write_text(target, "ours")
            target.write_text("theirs")

    with pytest.raises(OutputError, match="exists"):
        race()
    assert target.read_text() == "theirs"
    assert everything(tmp_path) == {"a.txt"}


def test_unusable_targets_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match=r"cannot write to folder.*file"),
        Staging([tmp_path / "file" / "a"]),
    ):
        pass
    with pytest.raises(OutputError, match="is a folder"), Staging([tmp_path], overwrite=True):
        pass
    with pytest.raises(OutputError, match="named twice"), Staging([tmp_path / "a", tmp_path / "a"]):
        pass
    assert everything(tmp_path) == {"file"}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"), Staging([tmp_path / "a.txt"]):
        pass


def test_an_output_that_was_not_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot finish"), Staging([tmp_path / "a.txt"]):
        pass
    assert everything(tmp_path) == set()


def test_a_full_disk_at_the_flush_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.txt"
    target.write_text("precious")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"), Staging([target], overwrite=True) as staging:
        staging.write_text(target, "new")
    assert target.read_text() == "precious"
    assert everything(tmp_path) == {"a.txt"}


def test_outputs_stay_apart_from_each_other_and_from_the_inputs(tmp_path: Path) -> None:
    one, two = tmp_path / "one.tif", tmp_path / "two.tif"
    check_apart([one, two], [tmp_path / "scene.tif"], "scenes")
    check_apart([], [one], "scenes")
    with pytest.raises(ConfigError, match=r"would be written 2 times.*scenes of one name"):
        check_apart([one, two, one], [], "scenes")
    one.touch()
    (tmp_path / "link.tif").symlink_to(one)
    with pytest.raises(OutputError, match="one of the cases"):
        check_apart([one], [tmp_path / "link.tif"], "cases")


def test_a_scratch_folder_goes_away_and_what_was_made_in_it_is_put_in_place(tmp_path: Path) -> None:
    target = tmp_path / "a.tif"
    target.write_text("old")
    with open_scratch(target) as room:
        assert room.parent == tmp_path
        made = room / "made.tif"
        made.write_text("new")
        assert target.read_text() == "old"
        move_into_place(made, target)
    assert target.read_text() == "new"
    assert everything(tmp_path) == {"a.tif"}
    with pytest.raises(OutputError, match="absent"), open_scratch(tmp_path / "absent" / "a.tif"):
        pass
