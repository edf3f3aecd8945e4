"""What the distribution and its outputs say of licences is true."""

from __future__ import annotations

import tomllib

from domainsam.foundations import OWN_LICENCE, RESEARCH_LICENCE, find_foundations
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
    for name in ("embedded", "embedded_sam2"):
        assert RESEARCH_LICENCE in rows[name].licence
        assert rows[name].licence == OWN_LICENCE
    assert rows["sam_vit_b"].licence == "Apache-2.0"
