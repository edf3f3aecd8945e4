"""Progress: a bar with megapixels a second on a terminal, silence elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from domainsam_cli.console import pixel_progress


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def run(quiet: bool) -> None:
    with pixel_progress("scene", quiet) as progress:
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
    with pytest.raises(KeyboardInterrupt), pixel_progress("scene"):
        raise KeyboardInterrupt
