"""Training of the classifier of cells on a user's own scenes and labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.config import to_table
from domainsam.errors import ConfigError, InputError
from domainsam.grid import Float64
from domainsam.io.pairing import find_scenes
from domainsam.train.crops import Batch, CropOptions, RandomCrops
from domainsam.train.devices import Devices
from domainsam.train.loop import Run, Stage, StageOptions, run_stages
from domainsam.train.losses import IGNORE
from domainsam.train.split import BlockOptions
from domainsam.train.start import Trained, start_run
from domainsam_urban.model.classifier import CellClassifier, ClassifierConfig, save_classifier
from domainsam_urban.train.recipe import TrainConfig, TrainOptions
from domainsam_urban.train.scenes import Material, cut_judging_tiles, gather_material

LEAST_SHARE = 0.01
"""A cell with at least this share of settlement is one that has to be mapped."""
LEAST_KNOWN = 0.25
"""A cell says nothing where less of it is labelled."""
AREA_KEPT = 0.99
"""The threshold leaves so much of the validation ground's settlement in cells that are mapped."""


@dataclass(frozen=True)
class ClassifierRecipe:
    """How a classifier learns.

    Parameters
    ----------
    model
        The network; its resolution, if not given, becomes that of the scenes.
    scale
        Least and greatest magnification of cells.
    """

    model: ClassifierConfig = field(default_factory=ClassifierConfig)
    batch_size: int = 16
    scale: tuple[float, float] = (0.7, 1.4)
    split: BlockOptions = field(default_factory=BlockOptions)
    learning: StageOptions = field(
        default_factory=lambda: StageOptions(1000, lr=1e-3, weight_decay=0.05, eval_every=100)
    )

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError("batch size must be 1 or more")
        if self.learning.steps < 1:
            raise ConfigError("0 steps: nothing would be trained")

    @property
    def material(self) -> TrainConfig:
        """What gathering scenes and labels has to know."""
        crops = CropOptions(self.model.side, self.scale, positive_share=0.0)
        return TrainConfig(resolution=self.model.resolution, crops=crops, split=self.split)


class CellObjective(nn.Module):
    """Cross entropy of whether cells hold settlement."""

    def __init__(self, classifier: CellClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``"loss"`` of the cells that are labelled."""
        share, known = compute_shares(batch)
        logits = self.classifier(batch.images).float()
        truth = (share >= LEAST_SHARE).float()
        loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return {"loss": (loss * known).sum() / known.sum().clamp(min=1)}


def compute_shares(batch: Batch) -> tuple[Tensor, Tensor]:
    """Share of settlement in each cell's labelled ground, and whether enough of it is labelled; ``(B,)``."""
    known = batch.labels != IGNORE
    count = known.flatten(1).sum(dim=1)
    settled = (batch.labels == 1).flatten(1).sum(dim=1)
    return settled / count.clamp(min=1), count >= LEAST_KNOWN * known[0].numel()


@torch.no_grad()
def judge(classifier: CellClassifier, cells: Iterable[Batch], devices: Devices) -> dict[str, float]:
    """Scores on cells of validation ground.

    ``likelihood`` is the geometric mean of the probabilities given to the
    truth, ``auc`` the chance that a settled cell is ranked above an empty one
    (NaN without either), ``threshold`` one that keeps :data:`AREA_KEPT` of the
    settlement and no more than it must, halfway to the first cell below it,
    ``area_kept`` what it does keep, ``empty_found`` the share of truly empty
    cells that it passes over.
    """
    classifier.eval()
    probabilities, truths = [], []
    for cell in cells:
        batch = cell.to(devices.device)
        share, known = compute_shares(batch)
        with devices.autocast():
            odds = classifier(batch.images)
        probabilities += torch.sigmoid(odds.float())[known].tolist()
        truths += share[known].tolist()
    if not truths:
        return {}
    return compute_scores(np.array(probabilities), np.array(truths))


def compute_scores(probability: Float64, share: Float64) -> dict[str, float]:
    """See :func:`judge`; ``(N,)`` probabilities and true shares of settlement."""
    settled = share >= LEAST_SHARE
    given = np.clip(np.where(settled, probability, 1 - probability), 1e-6, 1)
    threshold = 0.5
    if settled.any():
        order = np.argsort(-probability, kind="stable")
        ranked = probability[order]
        least = ranked[np.argmax(np.cumsum(share[order]) >= AREA_KEPT * share.sum())]
        threshold = float(least + ranked[ranked < least].max(initial=0.0)) / 2
    passed = probability < threshold
    return {
        "likelihood": float(np.exp(np.log(given).mean())),
        "auc": _auc(probability, settled),
        "threshold": threshold,
        "area_kept": float(share[~passed].sum() / share.sum()) if settled.any() else float("nan"),
        "empty_found": float(passed[~settled].mean()) if not settled.all() else float("nan"),
        "cells": float(len(share)),
    }


def _auc(probability: Float64, settled: np.ndarray) -> float:
    """From the sum of ranks (Mann and Whitney 1947)."""
    positive, negative = int(settled.sum()), int((~settled).sum())
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(probability)[settled].sum()
    return float((ranks - positive * (positive + 1) / 2) / (positive * negative))


def train_classifier(
    inputs: Sequence[str | Path], labels: Path, recipe: ClassifierRecipe, options: TrainOptions
) -> Trained:
    """Train a classifier and write its file, with the threshold that validation ground asks for.

    Parameters
    ----------
    inputs
        Scenes, or folders of scenes.
    labels
        Polygons, a mask raster, or a folder of either.

    Raises
    ------
    DomainSamError
        If scenes, labels or recipe cannot be used, or an output cannot be written.
    """
    with start_run(options) as training:
        with ExitStack() as stack:
            scenes, config = find_scenes(inputs), recipe.material
            material = gather_material(scenes, labels, config, options, training.scratch, stack)
            _require_both(material)
            run = stack.enter_context(training.run([to_table(recipe), material.signature]))
            classifier, metrics = _learn(recipe, material, config.crops, run)
        if training.writes:
            threshold = metrics.get("threshold", 0.5)
            classifier.config = replace(recipe.model, resolution=material.resolution, threshold=threshold)
            save_classifier(options.out, classifier, metrics)
    return training.made(metrics, material.notes)


def _require_both(material: Material) -> None:
    """Refuse labels from which nothing can be told apart."""
    shown = [np.asarray(scene.truth[::8, ::8]) for scene in material.training]
    for value, name in ((1, "settlement"), (0, "ground without settlement")):
        if not any((truth == value).any() for truth in shown):
            raise InputError(
                f"the labels show no {name}: a classifier learns from scenes that hold both, add some"
            )


def _learn(
    recipe: ClassifierRecipe, material: Material, crops: CropOptions, run: Run
) -> tuple[CellClassifier, dict[str, float]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        classifier = CellClassifier(recipe.model).to(run.devices.device)

    def cells() -> Iterable[Batch]:
        return cut_judging_tiles(material.judged, recipe.model.side)

    stage = Stage(
        "cells",
        CellObjective(classifier),
        classifier,
        RandomCrops(material.training, crops, recipe.batch_size, (run.seed, run.devices.rank)),
        lambda: judge(classifier, cells(), run.devices),
        "likelihood",
        recipe.learning,
    )
    run_stages(run, [stage])
    metrics = judge(classifier, cells(), run.devices) if run.devices.rank == 0 else {}
    return classifier.cpu(), metrics
