"""``domainsam distil``: from a folder of pictures to a file that ``--foundation`` takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from domainsam_cli import main
from tests.core.distil.tiny import STUDENT, write_pictures, write_teacher


@pytest.fixture
def room(tmp_path: Path) -> Path:
    write_teacher(tmp_path / "teacher.safetensors")
    write_pictures(tmp_path / "pictures", 4)
    return tmp_path


def command(room: Path, *more: str) -> list[str]:
    teacher = ["--teacher", str(room / "teacher.safetensors"), "--student", STUDENT]
    length = ["--steps", "2", "--lr", "1e-3", "--batch-size", "2", "--device", "cpu"]
    return ["distil", str(room / "pictures"), *teacher, *length, "-o", str(room / "s.safetensors"), *more]


def test_the_command_writes_a_foundation_and_tells_how_near_it_is(
    room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (room / "own.toml").write_text("prompts = 2\n")
    assert main(command(room, "--json", "--config", str(room / "own.toml"))) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["model"] == str(room / "s.safetensors")
    assert told["metrics"]["feature_error"] < told["metrics"]["feature_error_before"]
    assert (room / "s.safetensors").is_file()
    assert main(command(room)) == 4
    assert "exists: choose another name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--recipe", "promptloop"], 2, "did you mean prompt-loop"),
        (["--steps", "a"], 2, "is not whole numbers"),
        (["--cache-size", "big"], 2, "is no size"),
        (["--config", "absent.toml"], 2, "no configuration file"),
    ],
)
def test_bad_options_are_one_line(
    room: Path, more: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(room, *more)) == code
    assert words in capsys.readouterr().err
    assert not (room / "s.safetensors").exists()
