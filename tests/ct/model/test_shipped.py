"""The model inside the package on the real subject that took no part in its training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from domainsam.checkpoint import read_header
from domainsam.config import to_table
from domainsam_cli import main
from domainsam_ct.model.shipped import find_model
from domainsam_ct.train.recipe import read_recipe
from tests.conftest import ROOT

TARGETS = {"liver": 0.80, "spleen": 0.70}


def test_weights_and_recipe_belong_together() -> None:
    training = read_header(find_model()).config["training"]
    recipe = to_table(read_recipe(ROOT / "domains" / "domainsam_ct" / "recipes" / "abdomen.toml"))
    assert json.loads(json.dumps(training["recipe"])) == json.loads(json.dumps(recipe))
    assert training["left_out"] == "series"


def test_the_card_tells_the_headers_figures() -> None:
    metrics = read_header(find_model()).metrics
    card = (find_model().parent / "README.md").read_text(encoding="utf-8")
    for organ in ("liver", "spleen", "aorta", "stomach", "pancreas"):
        assert f"{metrics[f'dice_{organ}']:.3f}" in card


@pytest.mark.slow
def test_dice_on_the_subject_left_out(
    tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shared_data / "medical" / "totalsegmentator"
    assert main(["ct", "segment", str(data / "example_ct_dicom"), "-o", str(tmp_path), "-q"]) == 0
    found, truth = tmp_path / "example_ct_dicom_seg.nii.gz", data / "example_seg_dicom.nii.gz"
    maps = ["--prediction-label-map", "synapse", "--label-map", "totalsegmentator"]
    capsys.readouterr()
    assert main(["ct", "evaluate", str(found), str(truth), *maps, "--json"]) == 0
    organs = json.loads(capsys.readouterr().out)["organs"]
    for organ, least in TARGETS.items():
        assert organs[organ]["dice"]["value"] >= least
