"""Ours and the peer are asked alike, and one who cannot be asked is told in a line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.peer_example import bound_mean, describe, list_objects, measure_iou, read_truth, run_one


def write_set(folder: Path) -> None:
    for name in ("cat", "duck_toy"):
        for number in ("00", "01", "02"):
            Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / f"{name}_{number}.jpg")
            mask = np.zeros((20, 30, 3), np.uint8)
            mask[5:10, 5:15, 1] = 128
            Image.fromarray(mask).save(folder / f"{name}_{number}.png")
    (folder / "duck_toy_02.png").unlink()


def test_pictures_are_those_with_a_mask_and_the_example_is_not_scored(tmp_path: Path) -> None:
    write_set(tmp_path)
    assert list_objects(tmp_path) == {"cat": ["01", "02"], "duck_toy": ["01"]}
    truth = read_truth(tmp_path / "cat_01.png")
    assert (truth.shape, int(truth.sum())) == ((20, 30), 50)
    half = truth.copy()
    half[5:10, 5:10] = False
    assert measure_iou(truth, half) == 0.5
    assert measure_iou(truth, truth[:10]) == 0
    assert bound_mean([0.25, 0.75])[0] == 0.5


@pytest.mark.skipif("instantlearn" in sys.modules, reason="the peer is there")
def test_a_peer_that_does_not_import_is_told_in_a_line(tmp_path: Path) -> None:
    write_set(tmp_path)
    stub = tmp_path / "without.sh"
    stub.write_text("#!/bin/sh\necho 'ModuleNotFoundError: No module named instantlearn' >&2\nexit 3\n")
    stub.chmod(0o755)
    given = argparse.Namespace(
        pictures=tmp_path, foundation="embedded", encoder="dinov3_large", peer_python=stub
    )
    told = run_one("matcher", given)
    assert describe(told) == "matcher  not run: ModuleNotFoundError: No module named instantlearn"
