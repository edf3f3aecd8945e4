"""What is added to the logit of an organ that the network hardly dares to name.

    python -m recipes.ct.offsets runs/third/fold0.safetensors CASES --organ pancreas
    python -m recipes.ct.offsets runs/third/abdomen.safetensors --add pancreas=1 --out abdomen.safetensors

The first compares offsets on the subjects that a fold left out, which are looked for in ``CASES``
(``recipes.ct.btcv`` wrote it). No subject chooses its own: for each the offset is taken that suits the others
best, and the figures are of these. The second writes a model whose last layer has the offset in its bias. A
rare organ loses voxels to the background whose share in training was so much larger (Menon et al. 2021,
arXiv:2007.07314, adjust logits for that); here the amount is chosen, not derived.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from domainsam.checkpoint import load, read_header, save
from domainsam.machine import keep_freed_memory
from domainsam_ct.labels import load_label_map
from domainsam_ct.model.organs import OrganModel, load_model
from domainsam_ct.model.shipped import PACK
from domainsam_ct.train.case import Case
from domainsam_ct.train.cases import find_pairs, gather
from domainsam_ct.train.recipe import SplitOptions
from domainsam_ct.train.slices import score_case

BIAS = "organs.specialist.out.bias"
"""The tensor that the offset goes into, ``(classes,)``."""
OFFSETS = (0.0, 1.0, 2.0, 3.0)
"""Natural logarithms of odds that are compared."""


def score_offsets(model: OrganModel, case: Case, organ: str, offsets: Sequence[float]) -> list[float]:
    """Dice of an organ in a case with each offset, before clean-up; NaN where the case does not show it."""
    bias = model.network.get_parameter(BIAS.partition(".")[2])
    value, own = model.labels.index(organ), bias.detach().clone()
    scores = []
    try:
        for offset in offsets:
            with torch.no_grad():
                bias[value] = own[value] + offset
            found = model.predict_slices(np.asarray(case.slices, np.float32), case.spacing_mm[1:])
            scores.append(score_case(case.labels, found.labels, model.labels).get(organ, np.nan))
    finally:
        with torch.no_grad():
            bias.copy_(own)
    return scores


def choose_by_others(scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """For each subject of ``(subjects, offsets)`` the column that has the greatest mean over the others."""
    others = [np.nanmean(np.delete(scores, subject, axis=0), axis=0) for subject in range(len(scores))]
    return np.array([np.argmax(means) for means in others])


def add_offset(
    source: Path, target: Path, organ: str, offset: float, scores: Mapping[str, float] | None = None
) -> None:
    """Write a model file with an offset in the bias of its last layer, told in the header.

    ``scores`` are Dice on folds, in place of those that the header has.
    """
    checkpoint = load(source, PACK)
    tensors, header = dict(checkpoint.tensors), checkpoint.header
    bias = tensors[BIAS].float().clone()
    bias[header.labels.index(organ)] += offset
    training = dict(header.config["training"])
    earlier = training.get("offsets", {})
    training["offsets"] = {**earlier, organ: earlier.get(organ, 0.0) + offset}
    halved = tensors[BIAS].dtype == torch.float16
    config = {**header.config, "training": training}
    told = replace(header, config=config, metrics=header.metrics if scores is None else scores)
    save(target, {**tensors, BIAS: bias}, told, halved)


def compare(path: Path, cases: Path, organ: str) -> None:
    """Print the Dice of every subject that a fold left out, and of what the others choose for it."""
    model = load_model(path)
    left_out = read_header(path).config["training"]["left_out"]
    pairs = [pair for pair in find_pairs([cases / "images"], cases / "labels") if pair.name in left_out]
    with tempfile.TemporaryDirectory() as scratch:
        label_map = load_label_map("synapse")
        material = gather(
            pairs, label_map, SplitOptions(share=0.0), model.config.pixel_mm, Path(scratch) / "all", 0
        )
        table = []
        for case in material.training:
            table.append(score_offsets(model, case, organ, OFFSETS))
            print(
                case.name,
                *(f"{offset:g}: {score:.3f}" for offset, score in zip(OFFSETS, table[-1], strict=True)),
            )
    scores = np.array(table)
    chosen = choose_by_others(scores)
    taken = scores[np.arange(len(scores)), chosen]
    print(f"chosen by the others: {', '.join(f'{OFFSETS[index]:g}' for index in chosen)}")
    print(f"{organ}: {np.nanmean(scores[:, 0]):.3f} without, {np.nanmean(taken):.3f} with")


def main() -> None:
    """Compare offsets, or write a model with one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("cases", type=Path, nargs="?", help="folder with images and labels")
    parser.add_argument("--organ", default="pancreas")
    parser.add_argument("--add", metavar="ORGAN=OFFSET", help="write a model with this offset")
    parser.add_argument("--out", type=Path, help="where to")
    parser.add_argument("--scores", type=Path, help="JSON of Dice on the folds, for the file's header")
    given = parser.parse_args()
    keep_freed_memory()
    if given.add and given.out:
        organ, _, offset = given.add.partition("=")
        scores = None if given.scores is None else json.loads(given.scores.read_text(encoding="utf-8"))
        add_offset(given.model, given.out, organ, float(offset), scores)
    elif given.cases:
        compare(given.model, given.cases, given.organ)
    else:
        parser.error("give CASES to compare offsets on, or --add and --out to write a model")


if __name__ == "__main__":
    main()
