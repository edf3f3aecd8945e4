"""The organ model from openly licensed subjects alone, and the two runs that show what it is worth.

    python -m recipes.ct.train_open DATA --leave-out abdomen --work runs/ct
    python -m recipes.ct.train_open DATA --leave-out series --work runs/ct
    python -m recipes.ct.train_open DATA --work runs/ct

``DATA`` is the folder of real data. The first two train without one of the two
labelled subjects and print Dice on it; the third trains on both. All use the
same settings, ``abdomen_open.toml``, and write a model file. The package holds that
of the second, so that what its card says of it can be checked. A run that was
stopped goes on when its command is repeated.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import domainsam_ct
from domainsam.config import to_table
from domainsam.foundation import load_foundation
from domainsam.licences import OPEN_USE
from domainsam.machine import keep_freed_memory
from domainsam_ct.labels import load_label_map, name_classes
from domainsam_ct.model.network import OrganNetwork
from domainsam_ct.model.organs import save_model
from domainsam_ct.train.case import Case, Material
from domainsam_ct.train.organs import judge, learn
from domainsam_ct.train.recipe import read_recipe
from domainsam_ct.train.slices import average_dice
from recipes.ct.cases import SETS, read_case
from recipes.ct.extras import read_chest, read_limbs, read_pictures
from recipes.ct.runs import make_run

REPEATS = {"abdomen": 1, "series": 4}
"""The whole abdomen has about four times as many slices with organs as the series."""
PICTURES_REPEATED = 3
SHOWN_EVERY = 50
PROVENANCE = {
    "use": OPEN_USE,
    "data": "one abdominal CT, a chest and four slices (Apache-2.0), and limbs (CC BY 3.0)",
}
CONFIG = Path(domainsam_ct.__file__).parent / "recipes" / "abdomen_open.toml"


def cases_without(data: Path, left_out: str) -> list[Case]:
    """Everything to learn from, but for one subject."""
    labelled = data / "totalsegmentator"
    cases = [
        case for name in SETS if name != left_out for case in [read_case(name, labelled)] * REPEATS[name]
    ]
    cases += read_pictures(data / "sammed2d_demo") * PICTURES_REPEATED
    cases += [read_chest(labelled / "aorta_report" / "test_result" / "models")]
    return cases + read_limbs(data / "ibsi_sts" / "ibsi_validation" / "nifti")


def main() -> None:
    """Train, judge on the subject left out, write the model file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of real data")
    parser.add_argument("--leave-out", choices=[*SETS, "none"], default="none")
    parser.add_argument("--work", type=Path, required=True, help="folder for states, logs and models")
    parser.add_argument("--config", type=Path, default=CONFIG)
    given = parser.parse_args()
    keep_freed_memory()
    config = read_recipe(given.config)
    medical = given.data / "medical"
    labels = name_classes(load_label_map("synapse"))
    judged = [read_case(name, medical / "totalsegmentator") for name in SETS if name == given.leave_out]
    material = Material(labels, cases_without(medical, given.leave_out))
    foundation = load_foundation(config.foundation, "cpu", torch.bfloat16)
    name = "abdomen" if given.leave_out == "none" else f"without_{given.leave_out}"
    run = make_run(given.work / name, [to_table(config), given.leave_out], "bfloat16", SHOWN_EVERY)
    network, _ = learn(config, material, foundation, run, torch.bfloat16)
    scores = average_dice(judge(network, Material(labels, (), judged), config))
    assert isinstance(network, OrganNetwork)
    print(json.dumps({"gates": network.ladder.shares(), **scores}, indent=2))
    table = {"recipe": to_table(config), "left_out": given.leave_out}
    out = given.work / f"{name}.safetensors"
    save_model(out, network, labels, config.model, table, scores, half=True, provenance=PROVENANCE)


if __name__ == "__main__":
    main()
