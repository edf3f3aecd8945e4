"""Training of scene networks on labelled samples of any layout."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from domainsam.config import to_table
from domainsam.errors import ConfigError
from domainsam.metrics.overlap import Confusion
from domainsam.protocols import Foundation
from domainsam.train.loop import Run, Stage, run_stages
from domainsam.train.losses import IGNORE
from domainsam.train.start import Trained, start_run
from domainsam.trunks import STRIDES, load_trunk
from domainsam_scene.evaluate.summary import compute_mean_iou
from domainsam_scene.model.build import AnyNetwork, build_network
from domainsam_scene.model.network import NetworkConfig
from domainsam_scene.model.predict import predict
from domainsam_scene.model.scene import READING, round_side, save_network
from domainsam_scene.model.specialist import SpecialistNetwork
from domainsam_scene.read.layouts import find_layout
from domainsam_scene.read.layouts.base import Layout
from domainsam_scene.read.layouts.georaster import GeorasterLayout
from domainsam_scene.read.reading import make_reading_table
from domainsam_scene.train.crops import SceneCrops
from domainsam_scene.train.objective import SceneObjective
from domainsam_scene.train.recipe import FOUNDATION as EMBEDDED
from domainsam_scene.train.recipe import TrainConfig, TrainOptions, set_steps
from domainsam_scene.train.scenes import LabelledScenes, LayoutScenes, Part, spread_numbers
from domainsam_scene.train.survey import survey_scenes

SAMPLED = 20
"""Scenes that class frequencies are counted on."""
RANDOM_TRUNK = (
    "the trunk began with random weights: with ImageNet weights (--trunk-weights FILE) "
    "it needs fewer scenes and steps"
)


def train_model(root: Path, config: TrainConfig, options: TrainOptions) -> Trained:
    """Train a network on a folder of labelled samples and write a model file.

    Parameters
    ----------
    root
        Folder that holds the layout.
    config
        The recipe.
    options
        Where things are and how they are run.

    Raises
    ------
    DomainSamError
        If samples, foundation or recipe cannot be used, or an output cannot be written.
    """
    scenes, judged, notes = find_material(root, config, options)
    notes = (*notes, *survey_scenes(scenes, root, config.modalities))
    result = train_scenes(scenes, judged, config, options)
    return replace(result, notes=(*notes, *result.notes))


def find_material(
    root: Path, config: TrainConfig, options: TrainOptions
) -> tuple[LayoutScenes, LayoutScenes | None, tuple[str, ...]]:
    """What to learn from, what to judge on, and notes on how they were told apart.

    A plain folder without the asked-for splits is learnt from as a whole but
    for a fifth of its samples, chosen by their names, which are judged on.

    Raises
    ------
    InputError
        If the folder does not hold the layout, or no sample has labels.
    """
    layout: Layout = find_layout(options.layout)
    if options.geotiff:
        layout = GeorasterLayout(round_side(config.network.image_size), options.read.bands)
    layout.dilate = options.read.dilate

    def scenes(place: Path, split: str | None, part: Part, like: LayoutScenes | None = None) -> LayoutScenes:
        sensors = config.modalities if like is None else like.modalities
        labels = config.labels if like is None else like.labels
        return LayoutScenes(layout, place, split, sensors, labels, options.read, part)

    val_place = options.val or root
    if layout.splits:
        learnt = scenes(root, options.split, "all")
        has_val = options.val_split in layout.splits
        return learnt, scenes(val_place, options.val_split, "all", learnt) if has_val else None, ()
    split = options.split if _has_split(root, options.split) else None
    val_split = options.val_split if _has_split(val_place, options.val_split) else None
    if options.val is not None or val_split is not None:
        learnt = scenes(root, split, "all")
        return learnt, scenes(val_place, val_split, "all", learnt), ()
    learnt = scenes(root, split, "learnt")
    judged = scenes(root, split, "held back", learnt)
    note = f"no validation split: {len(judged)} of {len(learnt) + len(judged)} samples were held back"
    return learnt, judged, (note,)


def _has_split(root: Path, split: str | None) -> bool:
    return split is not None and ((root / split).is_dir() or (root / f"{split}.txt").is_file())


def train_scenes(
    scenes: LabelledScenes, judged: LabelledScenes | None, config: TrainConfig, options: TrainOptions
) -> Trained:
    """Train on scenes from anywhere; otherwise as :func:`train_model`."""
    with start_run(options) as training:
        config = set_steps(config, len(scenes), options.devices)
        foundation = None
        if config.alone:
            check_norms(config)
        else:
            foundation = training.load_foundation(config.foundation, torch.float32)
            check_gate(config, foundation)
        network_config = NetworkConfig(
            labels=scenes.labels, modalities=scenes.modalities, **_shallow(config.network)
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            network = build_network(network_config, foundation)
        if config.trunk_weights and isinstance(network, SpecialistNetwork):
            load_trunk(network.trunk, config.trunk_weights)
        reading = make_reading_table(options.read, options.geotiff)
        material = [scenes.labels, scenes.modalities, len(scenes), options.layout, reading]
        digest = "" if foundation is None else foundation.sha256
        with training.run([to_table(config), digest, *material]) as run:
            metrics = _learn(network, scenes, judged, config, run, options.devices)
        if training.writes:
            recipe = {"recipe": to_table(replace(config, labels=(), modalities=())), READING: reading}
            save_network(options.out, network, foundation, metrics, recipe)
    notes = [] if judged is not None else ["no samples to validate on: the last weights were kept"]
    if config.alone and not config.trunk_weights:
        notes.append(RANDOM_TRUNK)
    return training.made(metrics, tuple(notes))


def check_norms(config: TrainConfig) -> None:
    """Refuse batches that hold one value at the coarsest stride: batch norms cannot learn from them.

    Raises
    ------
    ConfigError
        If the recipe asks for such batches.
    """
    if config.batch_size == 1 and config.crops.size == STRIDES[-1]:
        raise ConfigError(
            f"batches of one crop of {config.crops.size} pixels are one value at stride {STRIDES[-1]}, "
            f"too few for a specialist's batch norms: give --batch-size 2 or --crop {2 * STRIDES[-1]}"
        )


def check_gate(config: TrainConfig, foundation: Foundation) -> None:
    """Refuse MemorySAM's object gate on a foundation whose object score was never trained.

    It would blank every class of every scene, and nothing could be learnt.

    Raises
    ------
    ConfigError
        If that is asked for.
    """
    gated = config.network.method in ("memorysam", "both") and config.network.sequence.object_gate
    if gated and foundation.name == EMBEDDED:
        raise ConfigError(
            f"the published recipe blanks what the foundation's object score calls absent, and that score of "
            f"{EMBEDDED} is untrained: every class would be blank; give --foundation sam2_hiera_base_plus "
            "(domainsam weights fetch sam2_hiera_base_plus) or the path of a SAM 2 checkpoint"
        )


def _shallow(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass, nested ones as they are."""
    return {name: getattr(settings, name) for name in asdict(settings)}


def _learn(
    network: AnyNetwork,
    scenes: LabelledScenes,
    judged: LabelledScenes | None,
    config: TrainConfig,
    run: Run,
    ranks: int,
) -> dict[str, float]:
    """The one stage; the scores of what is kept."""
    frequency = measure_class_frequency(scenes) if config.learning.balance else None
    objective = SceneObjective(network, config.learning, frequency).to(run.devices.device)
    side = config.network.image_size
    # The core's batches are of single images; only this objective ever looks into a batch.
    stream: Any = SceneCrops(
        scenes, config.crops, side, config.batch_size, (run.seed,), run.devices.rank, ranks
    )

    def evaluate() -> Mapping[str, float]:
        return {} if judged is None else judge(network, judged, config.judged, run.devices.device)

    stage = Stage(
        *("scene", objective, network, stream, evaluate, "mean_iou", config.stage),
        remembers=objective.prototypes,
    )
    run_stages(run, [stage])
    network.eval()
    return dict(evaluate())


def measure_class_frequency(scenes: LabelledScenes) -> torch.Tensor:
    """Share of each class, on some scenes."""
    counts = np.zeros(len(scenes.labels))
    for number in spread_numbers(len(scenes), SAMPLED):
        _, labels = scenes.read(number)
        counts += np.bincount(labels[labels != IGNORE].ravel(), minlength=len(counts))
    return torch.from_numpy(counts / max(1.0, counts.sum())).float()


def judge(network: AnyNetwork, scenes: LabelledScenes, most: int, device: torch.device) -> dict[str, float]:
    """``"mean_iou"`` with all sensors, over classes that occur; ``"worst_iou"``: with one missing."""
    network.eval()
    sensors = network.config.modalities
    without = list(itertools.combinations(sensors, len(sensors) - 1)) if len(sensors) > 1 else []
    subsets = [sensors, *without]
    counts = {subset: Confusion(len(scenes.labels), IGNORE) for subset in subsets}
    for number in spread_numbers(len(scenes), most or len(scenes)):
        sample, labels = scenes.read(number)
        for subset in subsets:
            there = {name: sample.images[name] for name in subset if name in sample.images}
            if there:
                valid = {name: sample.valid[name] for name in there}
                answer = predict(network, there, valid, device, torch.float32)
                counts[subset].add(labels, answer.labels)
    scores = {
        subset: float(compute_mean_iou(part.matrix[None].astype(np.float64), None)[0])
        for subset, part in counts.items()
    }
    found = {"mean_iou": scores[sensors]}
    if without:
        known = [scores[subset] for subset in without if not np.isnan(scores[subset])]
        found["worst_iou"] = min(known, default=float("nan"))
    return found
