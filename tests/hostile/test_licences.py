"""What the distribution and its outputs say of licences is true."""

from __future__ import annotations

import tomllib

from domainsam.foundations import OWN_LICENCE, RESEARCH_LICENCE, find_foundations, tell_licences
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
    for name in ("embedded", "embedded_fast", "embedded_sam2"):
        assert RESEARCH_LICENCE in rows[name].licence
        assert rows[name].licence == OWN_LICENCE
    assert rows["sam_vit_b"].licence == "Apache-2.0"


def test_outputs_tell_the_licences_of_the_weights_that_made_them() -> None:
    told = tell_licences("urban_villages", "embedded", "mine", None)
    assert set(told) == {"urban_villages", "embedded"}
    assert all(RESEARCH_LICENCE in licence for licence in told.values())
    assert tell_licences("abdomen_open") == {"abdomen_open": "Apache-2.0"}
    assert RESEARCH_LICENCE in tell_licences("abdomen")["abdomen"]
    assert set(shipped_weights()) <= set(tell_licences(*shipped_weights()))
