"""``domainsam foundations list``: what each generalist costs and understands, and whether it is here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from domainsam.assess.speed import _measure
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
    assert rows["embedded_lite"]["default"]
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


def test_evaluate_prints_and_writes_iou_by_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.zeros((96, 128), np.uint8)
    values[20:60, 30:90] = 255
    picture = np.full((96, 128, 3), 60, np.uint8)
    picture[values > 0] = 220
    Image.fromarray(picture).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(values).save(tmp_path / "a_mask.png")
    table = tmp_path / "t.csv"
    arguments = ["foundations", "evaluate", str(tmp_path), "--prompts", "box,2", "-o", str(table), "--json"]
    assert main([*arguments, "--precision", "fp32"]) == 0
    rows = json.loads(capsys.readouterr().out)["evaluation"]
    assert [(row["foundation"], row["prompt"], row["objects"]) for row in rows] == [
        ("embedded_lite", "box", 1),
        ("embedded_lite", "2", 1),
    ]
    assert rows[0]["iou"] > 0.8, "a bright rectangle in its box"
    assert table.read_text().splitlines()[0] == "foundation,pictures,objects,prompt,iou,low,high"
    assert main(arguments) == 4, "the table exists"
    assert "t.csv" in capsys.readouterr().err


def test_bench_writes_table_and_chart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A process of its own takes seconds to import torch; that it gets one is seen in the module's tests.
    monkeypatch.setattr("domainsam.assess.speed._in_own_process", _measure)
    monkeypatch.setattr("domainsam.assess.speed.CEILING_SIDES", (64,))
    arguments = ["foundations", "bench", "--foundation", "fake", "--batch", "1,2", "--side", "64"]
    assert main([*arguments, "--seconds", "0", "--device", "cpu", "-o", str(tmp_path / "bench")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[:3] == ["foundation", "batch", "s"]
    assert [line.split()[:2] for line in printed[1:]] == [["fake", "1"], ["fake", "2"]]
    assert len((tmp_path / "bench" / "bench.csv").read_text().splitlines()) == 3
    with Image.open(tmp_path / "bench" / "bench.png") as chart:
        assert chart.size[0] > 300
    assert main([*arguments, "--batch", "0", "-o", str(tmp_path / "other")]) == 2
    assert not (tmp_path / "other").exists()


def test_coco_without_its_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    monkeypatch.setattr("domainsam.errors.extras", lambda: {"coco": ("pycocotools",)})
    (tmp_path / "instances.json").write_text("{}")
    assert main(["foundations", "evaluate", str(tmp_path), "--coco", str(tmp_path / "instances.json")]) == 3
    assert "pip install 'domainsam[coco]'" in capsys.readouterr().err
