"""How much a command says at its end."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from domainsam_cli.console import answer, command_line, path_lines


@pytest.mark.parametrize(
    ("as_json", "quiet", "out", "err"),
    [
        (False, False, "0.5\n  report       r.html\n", "domainsam: note: few samples\n"),
        (False, True, "", ""),
        (True, False, '{"iou": 0.5}', ""),
        (True, True, '{"iou": 0.5}', ""),
    ],
)
def test_json_for_programs_lines_for_people_or_nothing(
    as_json: bool, quiet: bool, out: str, err: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["0.5", *path_lines({"report": Path("r.html")})]
    answer({"as_json": as_json, "quiet": quiet}, lambda: {"iou": 0.5}, lines, ["few samples"])
    printed = capsys.readouterr()
    assert printed.err == err
    assert json.loads(printed.out) == json.loads(out) if as_json else printed.out == out


def test_command_line_is_that_of_an_unbroken_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/domainsam", "urban", "map", "a b.tif", "--resume", "-q"])
    assert command_line() == "domainsam urban map 'a b.tif' -q"
