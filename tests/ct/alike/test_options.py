"""Keywords of ``ct propagate`` and ``ct find`` are the options of the commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
import pytest

from domainsam.keywords import keyword_names
from domainsam_cli.options import job_options
from domainsam_ct.commands.alike import find_command, propagate_command
from domainsam_ct.run import segment_options
from domainsam_ct.run_alike import NO_PART, NO_PART_IN_FIND, find_options, propagate_options


@pytest.mark.parametrize(
    ("command", "options", "left_out", "inputs"),
    [
        (propagate_command, propagate_options, NO_PART, "scan"),
        (find_command, find_options, NO_PART_IN_FIND, "inputs"),
    ],
)
def test_keywords_are_the_options_of_the_command(
    command: click.Command, options: Callable[..., Any], left_out: Iterable[str], inputs: str
) -> None:
    given = {item.name for item in command.params if item.expose_value} - {inputs, "as_json", "verbose"}
    known = {*keyword_names(options), *keyword_names(segment_options)} - set(left_out)
    assert given == known


def test_defaults_are_those_of_the_commands(tmp_path: Path) -> None:
    given = propagate_command.make_context("propagate", ["ct.nii.gz", "-o", "m.nii.gz"]).params
    del given["scan"]
    assert propagate_options(**job_options(given)) == propagate_options(out="m.nii.gz")
    for name in ("a.nii", "b.nii"):
        (tmp_path / name).touch()
    like = f"{tmp_path / 'a.nii'}:{tmp_path / 'b.nii'}"
    given = find_command.make_context("find", ["ct.nii.gz", "--like", like, "-o", "m.nii.gz"]).params
    del given["inputs"]
    assert find_options(**job_options(given)) == find_options(out="m.nii.gz", like=like)
