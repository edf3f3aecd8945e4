"""Two maps compared: on ground that both saw, with bounds, and with a caution where they decide nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine

from domainsam_cli import main
from tests.urban.mask_files import METRE, write_raster


def settled(*parts: tuple[slice, slice]) -> np.ndarray:
    mask = np.zeros((400, 400), np.uint8)
    for part in parts:
        mask[part] = 1
    return mask


SQUARE = np.s_[50:150, 50:150]
FAR = np.s_[50:150, 250:350]


def compare(folder: Path, early: Path, late: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    out = folder / "change.gpkg"
    arguments = ["urban", "change", "--masks", str(early), str(late), "-o", str(out), "--json", "-q"]
    assert main(arguments) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_a_part_of_the_same_map_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = settled(SQUARE, FAR)
    write_raster(tmp_path / "2016.tif", mask, METRE)
    write_raster(tmp_path / "2018.tif", mask[:, 20:200], METRE @ Affine.translation(20, 0))
    told = compare(tmp_path, tmp_path / "2016.tif", tmp_path / "2018.tif", capsys)
    assert told["settlements"] == {"stable": 1}
    for year in told["areas"]:
        assert year["valid_ha"] == pytest.approx(400 * 180 / 1e4, rel=0.02)
        assert year["area_ha"]["central"] == pytest.approx(1, rel=0.03)
    net = told["change"]["net_ha"]
    assert net["central"] == pytest.approx(0, abs=0.01)
    assert net["low"] < 0 < net["high"]
    assert any(" are compared; all figures" in words for words in told["warnings"]), told["warnings"]


def test_a_sure_change_needs_no_caution(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_raster(tmp_path / "2016.tif", settled(SQUARE), METRE)
    write_raster(tmp_path / "2018.tif", settled(SQUARE, FAR), METRE)
    told = compare(tmp_path, tmp_path / "2016.tif", tmp_path / "2018.tif", capsys)
    assert told["settlements"] == {"appeared": 1, "stable": 1}
    assert told["change"]["net_ha"]["central"] == pytest.approx(1, rel=0.03)
    assert told["change"]["net_ha"]["low"] > 0.5
    assert not any("cannot be told from none" in words for words in told["warnings"])


def test_the_line_for_a_person_has_bounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_raster(tmp_path / "2016.tif", settled(SQUARE), METRE)
    write_raster(tmp_path / "2018.tif", settled(np.s_[50:80, 250:280]), METRE)
    files = [str(tmp_path / f"{year}.tif") for year in (2016, 2018)]
    assert main(["urban", "change", "--masks", *files, "-o", str(tmp_path / "c.gpkg")]) == 0
    told = capsys.readouterr().out
    assert "1 appeared, 1 vanished" in told
    assert "settlement 1.0 ha [" in told
    assert "; net change -0.9 ha [-" in told
