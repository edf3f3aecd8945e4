"""Training of the settlement model on a user's own scenes and labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from domainsam.config import to_table
from domainsam.errors import ConfigError
from domainsam.familiar import learn_known
from domainsam.io.pairing import find_scenes
from domainsam.prompter.segformer import SegFormerPrompter
from domainsam.prompter.segformer_parts import load_pretrained
from domainsam.prompter.trained import begin_from, save_prompter
from domainsam.protocols import Foundation
from domainsam.train.cache import FeatureCache
from domainsam.train.crops import Batch, RandomCrops
from domainsam.train.loop import Run, Stage, run_stages
from domainsam.train.objectives import CoarseObjective, Encode, JointObjective, judge
from domainsam.train.start import Trained, start_run
from domainsam.trunks import Trunk, load_trunk
from domainsam_urban.model.config import PACK, SceneConfig, UrbanConfig
from domainsam_urban.read.looks import BANDS, sample_scene
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.train.labelled import CELL
from domainsam_urban.train.recipe import PAPER_SIDE, TrainConfig, TrainOptions, set_epochs
from domainsam_urban.train.scenes import (
    Material,
    cut_judging_tiles,
    find_owners,
    gather_material,
    make_joint_stream,
)

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
    with start_run(options) as training:
        foundation = training.load_foundation(config.foundation)
        with ExitStack() as stack:
            scenes = find_scenes(inputs)
            material = gather_material(scenes, labels, config, options, training.scratch, stack)
            if paper:
                shown = sum(scene.weight for scene in material.training) * CELL**2
                config = set_epochs(config, max(1.0, shown / PAPER_SIDE**2))
            words = [to_table(config), foundation.sha256, material.signature]
            run = stack.enter_context(training.run(words))
            chances = material.chances(config.shares, find_owners(scenes, inputs))
            prompter, metrics = _learn(config, material, chances, foundation, run)
            known = describe_scenes([scene.source for scene in material.training]) if training.writes else {}
        if training.writes:
            _save(options.out, prompter, foundation, config, material.resolution, metrics, known)
    return training.made(metrics, material.notes)


def _learn(
    config: TrainConfig,
    material: Material,
    chances: Sequence[float] | None,
    foundation: Foundation,
    run: Run,
) -> tuple[SegFormerPrompter, dict[str, float]]:
    """Both stages; the trained prompter and its scores."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        prompter = SegFormerPrompter(config.prompter)
    if config.encoder_weights:
        load_pretrained(prompter.encoder, config.encoder_weights)
    if config.trunk_weights:
        _fill_trunk(prompter, config)
    if config.start_from:
        begin_from(prompter, Path(config.start_from), PACK, foundation)
    prompter.to(run.devices.device)
    encode = foundation.encode
    if config.cache_gb:
        cache = FeatureCache(run.folder / "features", foundation, int(config.cache_gb * 1e9))
        encode = cache.encode
    run_stages(run, _stages(config, material, chances, foundation, run, prompter, encode))
    prompter.eval()
    scores: dict[str, float] = {}
    if run.devices.rank == 0:
        # Without a joint stage nothing speaks to the foundation yet, and asking it costs most of the time.
        with_sam = foundation if config.prompter.parts.sam and config.joint.steps else None
        tiles = cut_judging_tiles(material.judged, config.val_tile)
        scores = judge(prompter, tiles, run.devices, with_sam, foundation.encode)
    scores = run.devices.shared(scores)
    return prompter, {name: value for name, value in scores.items() if value == value}


def _fill_trunk(prompter: SegFormerPrompter, config: TrainConfig) -> None:
    """Pretrained weights of the trunk, from the file that the recipe names."""
    if not isinstance(prompter.encoder, Trunk):
        raise ConfigError(
            f"trunk weights are for a network of timm, and the encoder is {config.prompter.encoder!r}: "
            "name a trunk with --encoder, or give --encoder-weights"
        )
    load_trunk(prompter.encoder, config.trunk_weights or "", config.trunk_unused)


def _stages(
    config: TrainConfig,
    material: Material,
    chances: Sequence[float] | None,
    foundation: Foundation,
    run: Run,
    prompter: SegFormerPrompter,
    encode: Encode,
) -> list[Stage]:
    """The stages that the recipe asks for, in order."""
    devices = run.devices

    def tiles() -> Iterator[Batch]:
        return cut_judging_tiles(material.judged, config.val_tile)

    stages = []
    if config.coarse.steps:
        stages.append(
            Stage(
                "coarse",
                CoarseObjective(prompter, config.loss),
                prompter,
                RandomCrops(
                    material.training,
                    config.crops,
                    config.batch_size,
                    (run.seed, devices.rank, 0),
                    chances,
                ),
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
                make_joint_stream(config, material, (run.seed, devices.rank, 1)),
                lambda: judge(prompter, tiles(), devices, foundation),
                "full_iou",
                config.joint,
                prepare=prompter.freeze_segformer if config.joint_trains == "steering" else None,
            )
        )
    if not stages:
        raise ConfigError("both stages have 0 steps: nothing would be trained")
    return stages


def describe_scenes(sources: Sequence[RasterSource]) -> dict[str, Any]:
    """What scenes have in common, for the header of the model that learnt from them."""
    grounds = (source.profile_info.ground_pixel for source in sources)
    pixels = [math.sqrt(ground[0] * ground[1]) for ground in grounds if ground is not None]
    samples = (sample_scene(source) for source in sources)
    return learn_known(samples, BANDS, resolutions=pixels, sensor="optical, red green blue").table()


def choose_method(config: TrainConfig, metrics: dict[str, float]) -> str:
    """How the model maps unless told otherwise: the stage that scored better, the cheaper one if none did.

    Without scores it is the last stage that was trained.
    """
    if not config.prompter.parts.sam or not config.joint.steps:
        return "coarse"
    full, coarse = metrics.get("full_iou"), metrics.get("coarse_iou")
    return "coarse" if full is not None and coarse is not None and full <= coarse else "full"


def _save(
    out: Path,
    prompter: SegFormerPrompter,
    foundation: Foundation,
    config: TrainConfig,
    resolution: float | None,
    metrics: dict[str, float],
    known: dict[str, Any],
) -> None:
    """Write the model file, with the tables that mapping reads and the recipe they came from."""
    pixel = SceneConfig().resolution if resolution is None else resolution
    scene = SceneConfig(resolution=pixel)
    method = choose_method(config, metrics)
    tables = to_table(UrbanConfig(foundation.name, method, scene, config.shape, config.prompter))
    config_tables = {**tables, "training": to_table(config)}
    save_prompter(out, prompter, foundation, PACK, LABELS, config_tables, metrics, knows=known)
