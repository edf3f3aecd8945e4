"""``domainsam foundations list``: what each generalist costs and understands, and whether it is here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from domainsam.foundations import FOUNDATIONS
from domainsam.weights import FOLDER_VARIABLE
from domainsam_cli import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_every_foundation_is_listed_with_its_facts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mobile_sam.pt").write_bytes(b"")
    assert main(["foundations", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    by_name = {line.split()[0]: line for line in lines if line.split()}
    assert set(FOUNDATIONS) - {"fake"} <= set(by_name)
    assert "fake" not in by_name
    assert by_name["efficientvit_sam_l0"].split()[1:3] == ["30.7", "34.8"]
    assert "points, boxes" in by_name["efficientsam_ti"]
    assert "non-commercial use only" in by_name["edge_sam"]
    assert " here " in by_name["mobile_sam"]
    assert "included" in by_name["embedded"]
    assert "your own" in by_name["lightening"]
    assert "domainsam weights fetch NAME" in lines[-1]


def test_json_is_complete(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "l0.pt").write_bytes(b"")
    assert main(["foundations", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["foundations"]}
    assert rows["embedded"]["default"]
    assert rows["embedded"]["included"]
    assert rows["efficientvit_sam_l0"]["path"] == str(folder / "l0.pt")
    assert rows["repvit_sam"]["path"] is None
    assert rows["repvit_sam"]["sha256"] is None
    assert rows["lightening"]["url"] is None
    assert rows["efficientsam_s"]["prompts"] == ["points", "boxes"]
    assert rows["edge_sam"]["notice"].endswith("non-commercial use only")
    for name in ("sam_vit_h", "sam2.1_hiera_large", "efficientsam_s", "repvit_sam", "embedded"):
        assert rows[name]["encoder_million_parameters"] > 0
        assert rows[name]["input"]
