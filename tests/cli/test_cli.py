"""The command itself: help without heavy imports, packs good and broken, one-line errors."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import warnings
from importlib.metadata import EntryPoint

import click
import pytest

import domainsam_cli
from domainsam import __version__
from domainsam import errors as domain_errors
from domainsam import packs as core_packs
from domainsam_cli import main
from domainsam_cli.errors import RunState, run_guarded
from domainsam_cli.options import overwrite_option, resume_option, verbose_option

HEAVY = ("torch", "numpy", "scipy", "rasterio", "geopandas", "transformers", "timm", "rich")


def run_fresh(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a new interpreter, followed by the names of the heavy modules it imported."""
    code = (
        "import sys\nfrom domainsam_cli import main\n"
        f"code = main({list(arguments)!r})\n"
        f"print('HEAVY', *[name for name in {HEAVY!r} if name in sys.modules])\nraise SystemExit(code)"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [["--help"], ["urban", "--help"], ["urban", "map", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    done = run_fresh(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("HEAVY")
    assert "Usage: domainsam" in done.stdout


def test_help_lists_packs_and_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert "informal settlements" in printed
    for name in domainsam_cli.CORE_COMMANDS:
        assert f"\n  {name} " in printed


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


def test_unknown_command_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["villages"]) == 2
    printed = capsys.readouterr().err
    assert "'villages'" in printed
    assert "urban" in printed


@pytest.fixture
def broken_pack(monkeypatch: pytest.MonkeyPatch) -> str:
    """A pack whose module does not exist, beside the real ones."""
    real = core_packs.find_packs()
    entry = EntryPoint("roads", "domainsam_roads_absent:PACK", core_packs.GROUP)
    monkeypatch.setattr("domainsam.plugins.entry_points", lambda group: [*real.values(), entry])
    return "roads"


def test_broken_pack_is_listed_and_the_others_live(
    broken_pack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "roads (broken) pack 'roads' cannot be imported" in printed
    assert "informal settlements" in printed
    assert main(["urban", "--help"]) == 0


def test_broken_pack_refuses_in_one_line(broken_pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([broken_pack, "map", "x.tif", "--foo"]) == 3
    printed = capsys.readouterr().err
    assert len(printed.splitlines()) == 1
    assert "domainsam_roads_absent" in printed


def test_packs_command(broken_pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["packs", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["urban"]["labels"] == ["background", "settlement"]
    assert rows["urban"]["error"] is None
    assert "domainsam_roads_absent" in rows["roads"]["error"]
    assert main(["packs"]) == 0
    assert "(broken)" in capsys.readouterr().out


def raising(error: BaseException) -> click.Command:
    """A command that fails with the given error."""

    @click.command()
    @overwrite_option
    @resume_option
    @verbose_option
    @click.pass_context
    def fail(ctx: click.Context, /, **options: object) -> None:
        state = ctx.find_object(RunState)
        assert state is not None
        state.resumable = True
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (domain_errors.InputError("scene.tif: no CRS"), 2, "domainsam: scene.tif: no CRS"),
        (domain_errors.CheckpointError("m.st: another pack"), 3, "m.st: another pack"),
        (
            domain_errors.OutputError("out.gpkg exists:\n use --overwrite"),
            4,
            "out.gpkg exists: use --overwrite",
        ),
        (KeyboardInterrupt(), 130, "--resume"),
        (MemoryError(), 4, "--batch-size"),
        (OSError(errno.ENOSPC, "No space left on device", "p.tif"), 4, "p.tif"),
        (ZeroDivisionError("division by zero"), 1, "run with --verbose for the trace"),
    ],
)
def test_each_failure_is_one_line(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_guarded(raising(error), []) == code
    printed = capsys.readouterr().err.strip()
    assert words in printed
    assert len(printed.splitlines()) == 1


def test_verbose_shows_the_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_guarded(raising(ZeroDivisionError("by zero")), ["--verbose"]) == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert printed.strip().splitlines()[-1] == "domainsam: unforeseen ZeroDivisionError: by zero"


@click.command()
@verbose_option
def noisy(verbose: bool) -> None:
    """A command whose libraries complain."""
    warnings.warn("old interface", FutureWarning, stacklevel=1)
    logging.getLogger("somelib").warning("library remark")
    logging.getLogger("domainsam.infer").warning("our remark")


def test_library_noise_is_hidden_unless_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_guarded(noisy, []) == 0
    assert capsys.readouterr().err == "domainsam: warning: our remark\n"
    assert run_guarded(noisy, ["--verbose"]) == 0
    printed = capsys.readouterr().err
    assert "old interface" in printed
    assert "library remark" in printed


def test_libraries_that_are_imported_later_are_told_how_much_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    @click.command()
    @verbose_option
    def looking(verbose: bool) -> None:
        seen.append(os.environ["TORCH_CPP_LOG_LEVEL"])

    monkeypatch.delenv("TORCH_CPP_LOG_LEVEL", raising=False)
    run_guarded(looking, [])
    run_guarded(looking, ["--verbose"])
    assert seen == ["ERROR", "WARNING"]
    assert "TORCH_CPP_LOG_LEVEL" not in os.environ


def test_handlers_do_not_pile_up() -> None:
    before = list(logging.getLogger().handlers)
    run_guarded(noisy, ["--verbose"])
    assert logging.getLogger().handlers == before
