"""What the distribution and its outputs say of licences is true."""

from __future__ import annotations

import logging
import tomllib

import pytest

from domainsam.foundation import load_foundation
from domainsam.foundations import OWN_LICENCE, OWN_NOTICE, find_foundations, tell_licences
from domainsam.licences import OPEN_USE, RESEARCH_LICENCE, RESEARCH_USE, read_provenance, tell_use
from domainsam.signatures import shipped_weights
from tests.conftest import ROOT


def test_the_metadata_names_the_licence_of_the_weights() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == f"Apache-2.0 AND {RESEARCH_LICENCE}"
    text = (ROOT / "LICENSES" / f"{RESEARCH_LICENCE}.txt").read_text()
    assert any((ROOT / "LICENSES").glob("*.txt"))
    assert "LICENSES/*.txt" in project["license-files"]
    for name in shipped_weights():
        assert f"{name}.safetensors" in text


def test_foundations_say_their_own() -> None:
    rows = find_foundations()
    for name in ("embedded", "embedded_lite", "embedded_sam2"):
        assert RESEARCH_LICENCE in rows[name].licence
        assert rows[name].licence == OWN_LICENCE
    assert rows["sam_vit_b"].licence == "Apache-2.0"


def test_every_foundation_of_ours_for_research_says_so_before_use(caplog: pytest.LogCaptureFixture) -> None:
    told = {name: row.notice for name, row in find_foundations().items() if RESEARCH_LICENCE in row.licence}
    assert told == dict.fromkeys(("embedded", "embedded_lite", "embedded_sam2"), OWN_NOTICE)
    with caplog.at_level(logging.WARNING):
        load_foundation("embedded_lite")
    assert caplog.messages == [
        "the embedded foundations are for research: trained in part on research-only imagery"
    ]


def test_outputs_tell_the_licences_of_the_weights_that_made_them() -> None:
    told = tell_licences("urban_villages", "embedded", "mine", None)
    assert set(told) == {"urban_villages", "embedded"}
    assert all(RESEARCH_LICENCE in licence for licence in told.values())
    assert tell_licences("abdomen_open") == {"abdomen_open": "Apache-2.0"}
    assert RESEARCH_LICENCE in tell_licences("abdomen")["abdomen"]
    assert set(shipped_weights()) <= set(tell_licences(*shipped_weights()))


def test_weights_for_research_are_told_once_before_use(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            load_foundation("embedded_sam2")
            tell_use("mine", {"use": RESEARCH_USE, "data": "scans lent to us"})
        tell_use("open", {"use": OPEN_USE})
        tell_use("silent", read_provenance({"training": {}}))
        tell_use("odd", read_provenance({"provenance": "a text"}))
    assert [record.getMessage() for record in caplog.records] == [
        "the embedded foundations are for research: trained in part on research-only imagery",
        "model mine is for research: trained on scans lent to us",
    ]
