"""What commands print: their end, progress and tables of scores."""

from __future__ import annotations

import io
import json
import sys
from math import nan
from pathlib import Path
from types import SimpleNamespace

import pytest

from domainsam_cli.console import (
    align_rows,
    format_paths,
    format_score,
    get_command_line,
    print_result,
    show_pixel_progress,
)


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
    lines = ["0.5", *format_paths({"report": Path("r.html")})]
    print_result({"as_json": as_json, "quiet": quiet}, lambda: {"iou": 0.5}, lines, ["few samples"])
    printed = capsys.readouterr()
    assert printed.err == err
    assert json.loads(printed.out) == json.loads(out) if as_json else printed.out == out


def test_command_line_is_that_of_an_unbroken_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/domainsam", "urban", "map", "a b.tif", "--resume", "-q"])
    assert get_command_line() == "domainsam urban map 'a b.tif' -q"


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def run(quiet: bool) -> None:
    with show_pixel_progress("scene", quiet) as progress:
        for done in (0, 4_000_000, 8_000_000):
            progress("coarse", done, 8_000_000)


def test_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    run(quiet=False)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize("quiet", [True, False])
def test_bar_on_a_terminal_unless_quiet(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    run(quiet)
    assert ("scene: coarse" in terminal.getvalue()) != quiet
    assert ("Mpx/s" in terminal.getvalue()) != quiet


def test_errors_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(KeyboardInterrupt), show_pixel_progress("scene"):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("value", "low", "high", "sign", "text"),
    [
        (0.8154, 0.7449, 0.8751, "-", "0.815 [0.745, 0.875]"),
        (0.05, 0.01, 0.09, "+", "+0.050 [0.010, 0.090]"),
        (0.5, nan, nan, "-", "0.500"),
        (nan, nan, nan, "-", "n/a"),
    ],
)
def test_cell(value: float, low: float, high: float, sign: str, text: str) -> None:
    assert format_score(SimpleNamespace(value=value, low=low, high=high), sign) == text


def test_columns_are_of_even_width_and_lines_end_without_space() -> None:
    assert list(align_rows([["", "full"], ["IoU", "0.6"], ["Precision", ""]])) == [
        "           full",
        "IoU        0.6",
        "Precision",
    ]
