"""The models inside the package: recipes, cards, and real subjects that took no part in training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from domainsam.checkpoint import CheckpointHeader, read_header
from domainsam.config import from_table, to_table
from domainsam.licences import OPEN_USE, RESEARCH_USE, read_provenance
from domainsam_cli import main
from domainsam_ct.labels import load_label_map
from domainsam_ct.model.shipped import find_model
from domainsam_ct.train.recipe import TrainConfig, read_recipe

NAMES = ("abdomen", "abdomen_open")
ORGANS = tuple(organ.name for _, organ in sorted(load_label_map("synapse").items()))


def header_of(name: str) -> CheckpointHeader:
    return read_header(find_model(name))


@pytest.mark.parametrize("name", NAMES)
def test_weights_and_recipe_belong_together(name: str) -> None:
    training = header_of(name).config["training"]
    recipe = json.loads(json.dumps(to_table(read_recipe(Path(name)))))
    # A recipe names no file of yours.
    stored = {key: value for key, value in training["recipe"].items() if key != "trunk_weights"}
    # Settings that came after the training have their defaults, which leave it as it was.
    assert json.loads(json.dumps(to_table(from_table(TrainConfig, stored, name)))) == recipe
    assert training["left_out"] == {"abdomen": [], "abdomen_open": "series"}[name]


def test_the_files_say_what_they_may_be_used_for() -> None:
    uses = {name: read_provenance(header_of(name).config) for name in NAMES}
    assert {name: told["use"] for name, told in uses.items()} == {
        "abdomen": RESEARCH_USE,
        "abdomen_open": OPEN_USE,
    }
    assert "BTCV" in uses["abdomen"]["data"]


@pytest.mark.parametrize(("name", "digits"), [("abdomen", 2), ("abdomen_open", 3)])
def test_the_card_tells_the_headers_figures(name: str, digits: int) -> None:
    metrics = header_of(name).metrics
    card = (find_model().parent / "README.md").read_text(encoding="utf-8")
    _, _, part = card.partition(f"# `{name}`")
    told = [organ for organ in ORGANS if f"dice_{organ}" in metrics]
    assert {"liver", "spleen", "aorta"} <= set(told)
    for organ in told:
        assert f"{metrics[f'dice_{organ}']:.{digits}f}" in part


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scan", "truth", "targets"),
    [
        ("abdomen", "example_ct_dicom", "example_seg_dicom", {"liver": 0.85, "spleen": 0.85}),
        ("abdomen", "example_ct.nii.gz", "example_seg_fast_force_split", {"liver": 0.82, "spleen": 0.85}),
        ("abdomen_open", "example_ct_dicom", "example_seg_dicom", {"liver": 0.80, "spleen": 0.70}),
    ],
)
def test_dice_on_subjects_that_took_no_part(
    tmp_path: Path,
    shared_data: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    scan: str,
    truth: str,
    targets: dict[str, float],
) -> None:
    data = shared_data / "medical" / "totalsegmentator"
    out = tmp_path / "mask.nii.gz"
    assert main(["ct", "segment", str(data / scan), "-o", str(out), "--model", name, "-q"]) == 0
    maps = ["--prediction-label-map", "synapse", "--label-map", "totalsegmentator"]
    capsys.readouterr()
    assert main(["ct", "evaluate", str(out), str(data / f"{truth}.nii.gz"), *maps, "--json"]) == 0
    organs = json.loads(capsys.readouterr().out)["organs"]
    for organ, least in targets.items():
        assert organs[organ]["dice"]["value"] >= least
