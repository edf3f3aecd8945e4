"""Cases in folders of their own, as public data sets have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from domainsam_ct.evaluate.labelled import find_pairs as find_masks
from domainsam_ct.job import plan_outputs
from domainsam_ct.labels import load_label_map
from domainsam_ct.settings import OutputOptions
from domainsam_ct.train.cases import find_pairs, gather
from domainsam_ct.train.recipe import SplitOptions
from tests.ct.made import write_nifti

SHAPE = (40, 36, 8)


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """Two cases: ``s0001/ct.nii.gz``, ``s0001/segmentations/liver.nii.gz`` and so on."""
    for case in ("s0001", "s0002"):
        organs = tmp_path / "data" / case / "segmentations"
        organs.mkdir(parents=True)
        values = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
        write_nifti(organs.parent / "ct.nii.gz", values, np.eye(4))
        for number, name in enumerate(("liver", "spleen", "lung_upper_lobe_left")):
            inside = np.zeros(SHAPE, np.uint8)
            inside[4 + 8 * number : 14 + 8 * number, 5:15, 2:6] = 1
            write_nifti(organs / f"{name}.nii.gz", inside, np.eye(4))
    return tmp_path / "data"


def test_cases_are_named_after_their_folders(layout: Path, tmp_path: Path) -> None:
    inputs = sorted(layout.glob("*/ct.nii.gz"))
    plans = plan_outputs(inputs, ["liver"], OutputOptions(tmp_path / "out"))
    assert [plan.stem for plan in plans] == ["s0001", "s0002"]
    (single,) = plan_outputs(inputs[:1], ["liver"], OutputOptions(tmp_path / "out"))
    assert single.stem == "ct"


def test_folders_of_organs_are_labels(layout: Path, tmp_path: Path) -> None:
    pairs = find_pairs([layout], layout)
    assert [pair.name for pair in pairs] == ["s0001", "s0002"]
    assert [pair.image.name for pair in pairs] == ["ct.nii.gz"] * 2
    labels = load_label_map("synapse")
    material = gather(pairs, labels, SplitOptions(share=0.0), 1.0, tmp_path / "staged", 0)
    counts = np.bincount(np.asarray(material.training[0].labels).ravel(), minlength=len(material.labels))
    held = {name: int(count) for name, count in zip(material.labels, counts, strict=True) if count}
    # The organs overlap in two columns, where the liver comes later in the label map.
    assert held == {"background": int(np.prod(SHAPE)) - 400 - 320, "spleen": 320, "liver": 400}


def test_masks_are_found_below_the_cases(layout: Path) -> None:
    pairs, left = find_masks(layout, layout)
    assert [pair.case for pair in pairs] == ["s0001", "s0002"]
    assert left == ()
