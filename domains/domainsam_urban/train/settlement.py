"""Training of the settlement model on a user's own scenes and labels."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from domainsam.config import to_table
from domainsam.errors import ConfigError
from domainsam.foundation import load_foundation
from domainsam.io.pairing import find_scenes
from domainsam.machine import choose_device
from domainsam.progress import reporting
from domainsam.prompter.segformer import SegFormerPrompter
from domainsam.prompter.segformer_parts import load_pretrained
from domainsam.prompter.trained import begin_from, save_prompter
from domainsam.protocols import Foundation
from domainsam.train.cache import FeatureCache
from domainsam.train.crops import Batch, RandomCrops
from domainsam.train.devices import choose_devices, training_precision
from domainsam.train.history import History
from domainsam.train.loop import Run, Stage
from domainsam.train.objectives import CoarseObjective, Encode, JointObjective, judge
from domainsam.train.start import Trained
from domainsam.train.state import prepare_run
from domainsam_urban.model.config import PACK, SceneConfig, UrbanConfig
from domainsam_urban.train.labelled import CELL
from domainsam_urban.train.recipe import PAPER_SIDE, TrainConfig, TrainOptions, with_epochs
from domainsam_urban.train.scenes import Material, gather_material, joint_stream, judging_tiles

LABELS = ("background", "settlement")


def train_model(
    inputs: Sequence[str | Path],
    labels: Path,
    config: TrainConfig,
    options: TrainOptions,
    paper: bool = False,
) -> Trained:
    """Train a prompter in two stages and write a model file.

    Parameters
    ----------
    inputs
        Scenes, or folders of scenes.
    labels
        Polygons, a mask raster, or a folder of either.
    config
        The recipe.
    options
        Where things are and how they are run.
    paper
        Stretch the joint stage to the published number of epochs.

    Raises
    ------
    DomainSamError
        If scenes, labels, foundation or recipe cannot be used, or an output cannot be written.
    """
    prepare_run(options.out, options.workroom, options.overwrite or options.resume)
    device = choose_device(options.device)
    precision = training_precision(options.precision, device)
    devices = choose_devices(device, options.devices, precision)
    foundation = load_foundation(config.foundation, devices.device, getattr(torch, precision))
    with ExitStack() as stack:
        staged = Path(
            stack.enter_context(tempfile.TemporaryDirectory(dir=options.workroom, prefix="labels-"))
        )
        material = gather_material(find_scenes(inputs), labels, config, options, staged, stack)
        if paper:
            shown = sum(scene.weight for scene in material.training) * CELL**2
            config = with_epochs(config, max(1.0, shown / PAPER_SIDE**2))
        words = json.dumps([to_table(config), foundation.sha256, material.signature, options.seed, precision])
        run = Run(
            options.workroom,
            hashlib.sha256(words.encode()).hexdigest(),
            devices,
            options.seed,
            options.resume,
            options.workers,
            stack.enter_context(reporting("train", options.quiet or devices.rank > 0)),
        )
        prompter, metrics = _learn(config, material, foundation, run)
    if devices.rank == 0:
        _save(options.out, prompter, foundation, config, material.resolution, metrics)
    devices.close()
    return Trained(options.out, options.workroom, metrics, material.notes, devices.rank)


def _learn(
    config: TrainConfig, material: Material, foundation: Foundation, run: Run
) -> tuple[SegFormerPrompter, dict[str, float]]:
    """Both stages; the trained prompter and its scores."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        prompter = SegFormerPrompter(config.prompter)
    if config.encoder_weights:
        load_pretrained(prompter.encoder, config.encoder_weights)
    if config.start_from:
        begin_from(prompter, Path(config.start_from), PACK, foundation)
    prompter.to(run.devices.device)
    encode = foundation.encode
    if config.cache_gb:
        cache = FeatureCache(run.folder / "features", foundation, int(config.cache_gb * 1e9))
        encode = cache.encode
    history = History(run.folder, enabled=run.devices.rank == 0)
    state = run.start()
    stages = _stages(config, material, foundation, run, prompter, encode)
    names = [stage.name for stage in stages]
    if state.stage in names:
        stages = stages[names.index(state.stage) :]
    for stage in stages:
        state = stage.run(run, state, history)
    history.close()
    prompter.eval()
    scores: dict[str, float] = {}
    if run.devices.rank == 0:
        with_sam = foundation if config.prompter.parts.sam else None
        tiles = judging_tiles(material.judged, config.val_tile)
        scores = judge(prompter, tiles, run.devices, with_sam, foundation.encode)
    scores = run.devices.shared(scores)
    return prompter, {name: value for name, value in scores.items() if value == value}


def _stages(
    config: TrainConfig,
    material: Material,
    foundation: Foundation,
    run: Run,
    prompter: SegFormerPrompter,
    encode: Encode,
) -> list[Stage]:
    """The stages that the recipe asks for, in order."""
    devices = run.devices

    def tiles() -> Iterator[Batch]:
        return judging_tiles(material.judged, config.val_tile)

    stages = []
    if config.coarse.steps:
        stages.append(
            Stage(
                "coarse",
                CoarseObjective(prompter, config.loss),
                prompter,
                RandomCrops(material.training, config.crops, config.batch_size, (run.seed, devices.rank, 0)),
                lambda: judge(prompter, tiles(), devices),
                "coarse_iou",
                config.coarse,
            )
        )
    if config.joint.steps and config.prompter.parts.sam:
        stages.append(
            Stage(
                "joint",
                JointObjective(prompter, foundation, config.loss, config.prompting, encode),
                prompter,
                joint_stream(config, material, (run.seed, devices.rank, 1)),
                lambda: judge(prompter, tiles(), devices, foundation),
                "full_iou",
                config.joint,
                prepare=prompter.freeze_segformer if config.joint_trains == "steering" else None,
            )
        )
    if not stages:
        raise ConfigError("both stages have 0 steps: nothing would be trained")
    return stages


def _save(
    out: Path,
    prompter: SegFormerPrompter,
    foundation: Foundation,
    config: TrainConfig,
    resolution: float | None,
    metrics: dict[str, float],
) -> None:
    """Write the model file, with the tables that mapping reads and the recipe they came from."""
    pixel = SceneConfig().resolution if resolution is None else resolution
    scene = SceneConfig(resolution=pixel)
    tables = to_table(UrbanConfig(foundation.name, scene, config.shape, config.prompter))
    save_prompter(out, prompter, foundation, PACK, LABELS, {**tables, "training": to_table(config)}, metrics)
