"""``domainsam capabilities``: complete, from the commands themselves, and alive when a pack is broken."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from domainsam import packs as core_packs
from domainsam_cli import CORE_COMMANDS, main
from domainsam_cli.commands.capabilities import exit_codes


@pytest.fixture
def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["capabilities", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_packs_and_commands_are_all_there(document: dict[str, Any]) -> None:
    assert set(document["packs"]) >= {"urban", "ct", "scene"}
    assert set(document["commands"]) == set(CORE_COMMANDS)
    assert set(document["commands"]["weights"]["commands"]) == {"list", "fetch", "verify", "convert"}
    assert set(document["commands"]["foundations"]["commands"]) == {"list", "evaluate", "bench"}
    assert set(document["packs"]["urban"]["commands"]) >= {"map", "trend", "change", "train", "evaluate"}


def test_options_tell_type_default_choices_and_help(document: dict[str, Any]) -> None:
    options = {row["name"]: row for row in document["packs"]["urban"]["commands"]["map"]["options"]}
    assert options["method"]["choices"] == ["full", "coarse"]
    assert options["batch_size"]["default"] == 4
    assert options["batch_size"]["least"] == 1
    assert options["stac"]["flags"] == ["--stac", "--no-stac"]
    assert options["out"]["required"]
    assert options["out"]["several"]
    assert all(row["help"] for row in options.values())
    (argument,) = document["packs"]["urban"]["commands"]["map"]["arguments"]
    assert argument["several"]


def test_formats_foundations_and_exit_codes(document: dict[str, Any]) -> None:
    assert ".gpkg" in document["packs"]["urban"]["formats"]["outputs"]["polygons"]
    assert ".nrrd" in document["packs"]["ct"]["formats"]["inputs"]["volume"]
    assert ".npz" in document["packs"]["scene"]["formats"]["outputs"]["probability"]
    assert document["foundations"]["embedded_lite"] == {"default": True, "weights": "included"}
    assert document["foundations"]["sam_vit_b"]["weights"].startswith("https://")
    assert document["vocabulary_models"]["ovsam_coco"]["reads"] == "any English words"
    assert [name for name, row in document["vocabulary_models"].items() if row["default"]] == ["embedded"]
    assert set(document["exit_codes"]) == {"0", "1", "2", "3", "4", "129", "130", "141", "143"}
    assert "not a medical device" in document["purpose"]


def test_every_exit_code_has_a_meaning() -> None:
    assert all(exit_codes().values())


def test_a_broken_pack_is_told_and_the_others_live(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = core_packs.find_packs()
    entry = EntryPoint("roads", "domainsam_roads_absent:PACK", core_packs.GROUP)
    monkeypatch.setattr("domainsam.plugins.entry_points", lambda group: [*real.values(), entry])
    assert main(["capabilities"]) == 0
    printed = capsys.readouterr().out
    assert "pack roads: (broken)" in printed
    assert "pack urban: informal settlements" in printed
    assert "130  interrupted" in printed
