"""``domainsam urban evaluate``: its table, files and exit codes."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from domainsam_urban.commands.evaluate import evaluate
from tests.urban.evaluate.two_scenes import write_two_scenes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_two_scenes(tmp_path)


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(evaluate, [str(argument) for argument in arguments])


def test_command_prints_a_table_and_writes_its_files(folder: Path) -> None:
    files = (folder / "out.csv", folder / "out.html")
    arguments = (folder, "--labels", folder, "--predictions", folder / "answers", "--block", 40)
    result = call(*arguments, "--csv", files[0], "--report", files[1])
    assert result.exit_code == 0, result.output
    assert re.search(r"IoU +0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", result.stdout)
    assert "[95% intervals; resampled: " in result.stdout
    rows = list(csv.DictReader(files[0].read_text().splitlines()))
    assert [row["scene"] for row in rows] == ["a_image", "b_image"]
    assert files[1].read_text().startswith("<!doctype html>")
    again = call(*arguments, "--csv", files[0])
    assert again.exit_code != 0
    assert "--overwrite" in str(again.exception)
    document = json.loads(call(*arguments, "--json").stdout)
    assert document["scores"]["prediction"]["iou"]["low"] < float(rows[0]["iou"])
    assert call(*arguments, "--quiet").output == ""


def test_command_ends_with_one_when_a_scene_was_skipped(folder: Path) -> None:
    (folder / "a_mask.tif").unlink()
    result = call(folder, "--labels", folder, "--predictions", folder / "answers")
    assert result.exit_code == 1
    assert "domainsam: skipped a_image: no labels for scene" in result.stderr


def test_command_refuses_a_model_beside_predictions(folder: Path) -> None:
    result = call(folder, "--labels", folder, "--predictions", folder, "--ablation")
    assert result.exit_code == 2
    assert "leave out --ablation" in result.output
