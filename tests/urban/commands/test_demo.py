"""The demo: a sample of its own, mapped along the same path, and honest about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from domainsam_cli import main
from domainsam_cli.options import find_free_folder
from domainsam_urban import finders
from domainsam_urban.generated import measure_agreement, write_sample
from domainsam_urban.model.settlement import SettlementModel


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch, model: SettlementModel, tmp_path: Path) -> Any:
    """``domainsam demo`` on a small sample with the tiny model, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(finders, "load_model", lambda options: model)
    monkeypatch.setattr("domainsam_urban.commands.demo.SIDE", 128)
    return lambda *arguments: main(["demo", *arguments])


def test_demo_says_what_it_is_and_where_everything_lies(
    demo: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo() == 0
    printed = capsys.readouterr().out
    assert "generated" in printed
    assert "IoU" in printed
    folder = tmp_path / "domainsam-demo"
    for name in ("sample.tif", "settlements.gpkg", "probability.tif", "preview.png", "summary.json"):
        assert (folder / name).is_file()
        assert f"domainsam-demo/{name}" in printed
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_second_demo_takes_the_next_name(
    demo: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "domainsam-demo").mkdir()
    assert demo("--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["generated"] is True
    assert 0 <= document["iou_with_truth"] <= 1
    assert document["paths"]["polygons"] == "domainsam-demo-2/settlements.gpkg"


def test_named_folder_is_not_overwritten(
    demo: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "sample.tif").write_text("precious")
    assert demo("-o", "mine") == 4
    assert "--overwrite" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["sample.tif"]


def test_free_folder(tmp_path: Path) -> None:
    assert find_free_folder(tmp_path / "d") == tmp_path / "d"
    for name in ("d", "d-2"):
        (tmp_path / name).mkdir()
    assert find_free_folder(tmp_path / "d") == tmp_path / "d-3"


def test_sample_lies_in_utm_at_ninety_centimetres(tmp_path: Path) -> None:
    write_sample(tmp_path / "s.tif", tmp_path / "t.tif", side=64, seed=1)
    with rasterio.open(tmp_path / "s.tif") as scene, rasterio.open(tmp_path / "t.tif") as truth:
        assert (scene.count, scene.shape, scene.crs.to_epsg()) == (3, (64, 64), 32650)
        assert scene.transform == truth.transform
        assert abs(scene.transform.a) == pytest.approx(0.9)
        assert "generated" in scene.tags()["DESCRIPTION"]
        assert set(np.unique(truth.read(1))) <= {0, 1}


def test_agreement_of_known_masks(tmp_path: Path) -> None:
    write_sample(tmp_path / "s.tif", tmp_path / "t.tif", side=96, seed=1)
    with rasterio.open(tmp_path / "t.tif") as dataset:
        truth, profile = dataset.read(1), dataset.profile
    half = truth.copy()
    half[:48] = 0
    for name, mask in {"same": truth, "half": half, "none": np.zeros_like(truth)}.items():
        with rasterio.open(tmp_path / f"{name}.tif", "w", **profile) as dataset:
            dataset.write(mask, 1)
    assert measure_agreement(tmp_path / "same.tif", tmp_path / "t.tif") == 1
    assert measure_agreement(tmp_path / "none.tif", tmp_path / "t.tif") == 0
    expected = half.sum() / truth.sum()
    assert measure_agreement(tmp_path / "half.tif", tmp_path / "t.tif") == pytest.approx(expected)
