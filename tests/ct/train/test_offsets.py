"""Offsets of a rare organ: no subject chooses its own, and they are written into the last layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from domainsam.checkpoint import load, read_header
from domainsam_ct.model.organs import load_model, save_model
from domainsam_ct.model.shipped import PACK
from domainsam_ct.train.case import Case
from recipes.ct.offsets import BIAS, add_offset, choose_by_others, score_offsets
from tests.ct.model.test_specialist import CONFIG, make_network
from tests.ct.organs import LABELS


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, make_network(), LABELS, CONFIG, {"left_out": ["a"]}, {}, half=True)
    return path


def test_no_subject_chooses_its_own_offset() -> None:
    # The first would choose column 2 for itself, and moves the others there; the last has no such organ.
    scores = np.array([[0.0, 0.1, 0.9], [0.3, 0.4, 0.2], [0.3, 0.5, 0.1], [np.nan] * 3])
    assert choose_by_others(scores).tolist() == [1, 2, 2, 2]


def test_an_offset_is_added_to_one_organ_and_told(tmp_path: Path, written: Path) -> None:
    add_offset(written, tmp_path / "once.safetensors", "liver", 2.0)
    add_offset(
        tmp_path / "once.safetensors", tmp_path / "twice.safetensors", "liver", 0.5, {"dice_liver": 0.75}
    )
    before, after = (load(path, PACK).tensors for path in (written, tmp_path / "once.safetensors"))
    moved = after[BIAS] - before[BIAS]
    assert moved.tolist() == [2.0 if name == "liver" else 0.0 for name in LABELS]
    assert after[BIAS].dtype == torch.float16
    assert all(torch.equal(after[name], before[name]) for name in before if name != BIAS)
    header = read_header(tmp_path / "twice.safetensors")
    assert header.config["training"] == {"left_out": ["a"], "offsets": {"liver": 2.5}}
    assert header.metrics == {"dice_liver": 0.75}


def test_scores_of_offsets_grow_from_nothing_to_everything(written: Path) -> None:
    model = load_model(written)
    truth = np.zeros((2, 64, 64), np.uint8)
    truth[:, 16:48] = model.labels.index("liver")
    case = Case("a", np.zeros((2, 64, 64), np.int16), truth, (3.0, 4.0, 4.0))
    none, everything = score_offsets(model, case, "liver", [-1e4, 1e4])
    # Half of each slice is liver: all of it found is 2 x 0.5 / 1.5.
    assert none == 0.0
    assert everything == pytest.approx(2 / 3)
    assert np.isnan(score_offsets(model, case, "kidney_right", [0.0])).all()
    assert torch.equal(
        model.network.get_parameter("specialist.out.bias"), load(written, PACK).tensors[BIAS].float()
    )
