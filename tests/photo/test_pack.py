"""The pack keeps the contract of packs, and its keywords are its commands' options."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from domainsam.keywords import keyword_names
from domainsam.testing.contracts import HEAVY, PackContract
from domainsam_photo.commands.find import find_command
from domainsam_photo.commands.segment import everything_command, segment_command
from domainsam_photo.commands.semantic import semantic_command
from domainsam_photo.commands.track import track_command
from domainsam_photo.run import everything_options, find_options, run_options, segment_options, track_options
from domainsam_photo.run_words import semantic_options

TALK = {"as_json", "verbose"}


class TestPhotoPack(PackContract):
    name = "photo"

    def test_listing_it_imports_nothing_heavy(self) -> None:
        code = f"import sys, domainsam_photo; print([name for name in {HEAVY!r} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_its_commands_and_keywords_import_no_torch(self) -> None:
        names = "find, segment, semantic, track"
        code = f"import sys; from domainsam_photo.commands import {names}; print('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("command", "functions", "inputs"),
    [
        (segment_command, (segment_options,), {"picture"}),
        (everything_command, (everything_options, run_options), {"pictures"}),
        (find_command, (find_options, run_options), {"pictures"}),
        (semantic_command, (semantic_options, run_options), {"pictures"}),
        (track_command, (track_options, run_options), {"film"}),
    ],
)
def test_keywords_are_the_options_of_the_command(
    command: object, functions: tuple[Callable[..., object], ...], inputs: set[str]
) -> None:
    options = {item.name for item in command.params if item.expose_value} - TALK - inputs  # type: ignore[attr-defined]
    assert options == set(keyword_names(*functions)) - {"made_by"}
