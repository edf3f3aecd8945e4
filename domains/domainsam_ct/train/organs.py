"""Training of the organ model on labelled cases."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from domainsam.config import to_table
from domainsam.errors import ConfigError
from domainsam.protocols import Foundation
from domainsam.side.ladder import load_specialist
from domainsam.train.cache import FeatureCache
from domainsam.train.loop import Run, Stage, run_stages
from domainsam.train.start import RunOptions, Trained, start_run
from domainsam.trunks import load_trunk
from domainsam_ct.identifiers import Identifiers
from domainsam_ct.labels import load_label_map
from domainsam_ct.model.network import AnyNetwork, OrganNetwork, SpecialistNetwork
from domainsam_ct.model.network import build_network as build_untrained
from domainsam_ct.model.organs import OrganModel, save_model
from domainsam_ct.train.case import Material, coarsen_case, describe_cases
from domainsam_ct.train.cases import find_pairs, gather
from domainsam_ct.train.further import begin_from
from domainsam_ct.train.recipe import TrainConfig
from domainsam_ct.train.slices import Encode, OrganObjective, SliceStream, average_dice, score_case
from domainsam_ct.train.synapse import read_synapse

log = logging.getLogger(__name__)

JUDGED_TOGETHER = 8
"""Slices predicted together in validation."""
JUDGED_EPOCHS = 5
"""Epochs between evaluations."""
RANDOM_TRUNK = (
    "the trunk began with random weights: with ImageNet weights (--trunk-weights FILE) "
    "it needs fewer cases and steps"
)


def build_network(
    config: TrainConfig,
    foundation: Foundation | None,
    classes: int,
    seed: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> AnyNetwork:
    """An untrained network; the same seed gives the same weights.

    Raises
    ------
    WeightsError
        If the specialist's weights are absent or of another network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_untrained(config.model.network, foundation, classes)
    if config.specialist_weights and isinstance(network, OrganNetwork):
        load_specialist(network.ladder, config.specialist_weights)
    if config.trunk_weights and isinstance(network, SpecialistNetwork):
        load_trunk(network.specialist.trunk, config.trunk_weights)
    return network.to(device or network.device).arrange_weights(dtype)


def learn(
    config: TrainConfig,
    material: Material,
    foundation: Foundation | None,
    run: Run,
    dtype: torch.dtype = torch.float32,
) -> tuple[AnyNetwork, dict[str, float]]:
    """Train on the material's cases; the network in evaluation mode, and its scores on the judged ones.

    ``dtype`` is what the devices compute in.

    The kept weights are those that score best on the judged cases, the last
    ones where there are none.
    """
    network = build_network(config, foundation, len(material.labels), run.seed, dtype, run.devices.device)
    if config.start_from and not begin_from(network, config.start_from, material.labels):
        log.warning("%s knows other organs: the layer that tells them apart begins anew", config.start_from)
    encode: Encode = network.encode if isinstance(network, SpecialistNetwork) else network.encode_pictures
    # The cache keeps what the foundation makes of pictures in its own way.
    usual = foundation is not None and config.model.network.encoding == "usual"
    if foundation is not None and usual and config.cache_gb and config.variants:
        encode = FeatureCache(run.folder / "features", foundation, int(config.cache_gb * 1e9)).encode
    stream = SliceStream(
        [coarsen_case(case, config.model.pixel_mm) for case in material.training],
        config.frame,
        config.augment,
        config.model.window,
        material.labels,
        config.batch_size,
        (run.seed, run.devices.rank),
        config.variants,
        config.empty_share,
        config.repeat,
    )
    options = config.optimisation
    if not options.steps:
        options = options.over_epochs(config.epochs, stream.epoch_steps, judged=JUDGED_EPOCHS)
    stream.coarse_steps = round(config.coarse_share * options.steps)
    stage = Stage(
        "organs",
        OrganObjective(network, encode, config.loss),
        network,
        stream,
        lambda: average_dice(judge(network, material, config)),
        "dice",
        options,
    )
    run_stages(run, [stage])
    network.eval()
    scores = average_dice(judge(network, material, config)) if run.devices.rank == 0 else {}
    return network, run.devices.shared(scores)


def judge(network: AnyNetwork, material: Material, config: TrainConfig) -> list[Mapping[str, float]]:
    """Dice of every organ on every judged case, at the case's own pixels."""
    model = OrganModel("training", material.labels, config.model, network, batch=JUDGED_TOGETHER)
    scores: list[Mapping[str, float]] = []
    for case in material.judged:
        found = model.predict_slices(np.asarray(case.slices, np.float32), case.spacing_mm[1:])
        scores.append(score_case(case.labels, found.labels, material.labels))
    return scores


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """One call, beside its recipe.

    Parameters
    ----------
    labels
        Label file or folder of label files; not used with ``train_list``.
    label_map
        Name of a shipped label map, or a TOML file.
    train_list, test_list
        Given, the input is the published Synapse layout and these are its lists.
    identifiers
        What of patients may be told.
    """

    labels: Path | None = None
    label_map: str = "synapse"
    ignore_unknown: bool = False
    train_list: Path | None = None
    test_list: Path | None = None
    identifiers: Identifiers = field(default_factory=Identifiers)


@dataclass(frozen=True)
class TrainedOrgans(Trained):
    """What a run has made; ``gates`` is the foundation's share by stride, of a ladder."""

    gates: dict[int, float] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The same as values that JSON can hold."""
        gates = {str(stride): share for stride, share in self.gates.items()}
        return {**super().document(), "gates": gates}


def train_model(inputs: Sequence[Path], config: TrainConfig, options: TrainOptions) -> TrainedOrgans:
    """Train an organ model and write its file.

    Raises
    ------
    DomainSamError
        If cases, labels, foundation or recipe cannot be used, or an output cannot be written.
    """
    with start_run(options) as training:
        alone = config.model.network.method == "specialist"
        foundation = None if alone else training.load_foundation(config.foundation)
        material = read_material(inputs, config, options, training.scratch)
        digest = "" if foundation is None else foundation.sha256
        with training.run([to_table(config), digest, material.signature]) as run:
            network, metrics = learn(config, material, foundation, run, training.dtype)
        if training.writes:
            known = describe_cases(material.training, config.model.window)
            save_model(
                options.out, network, material.labels, config.model, to_table(config), metrics, knows=known
            )
    notes = material.notes
    if alone and not (config.trunk_weights or config.start_from):
        notes = (*notes, RANDOM_TRUNK)
    gates = network.ladder.shares() if isinstance(network, OrganNetwork) else {}
    return TrainedOrgans(**vars(training.made(metrics, notes)), gates=gates)


def read_material(
    inputs: Sequence[Path], config: TrainConfig, options: TrainOptions, folder: Path
) -> Material:
    """The cases that inputs and labels, or the published lists, name.

    Raises
    ------
    ConfigError
        If neither labels nor lists are given, or the recipe needs a spacing that the layout lacks.
    InputError
        If a case cannot be used.
    """
    if options.train_list is not None:
        if config.model.pixel_mm:
            raise ConfigError(
                "the published Synapse layout holds no spacing: use --paper, or pixel_mm = 0 in the recipe"
            )
        if len(inputs) != 1:
            raise ConfigError("with --train-list give one folder, which holds train_npz and test_vol_h5")
        return read_synapse(inputs[0], options.train_list, options.test_list)
    if options.labels is None:
        raise ConfigError("give --labels, or --train-list for the published Synapse layout")
    pairs = find_pairs(inputs, options.labels)
    for pair in pairs:
        options.identifiers.hide(pair.name, (pair.image, pair.labels))
    return gather(
        pairs,
        load_label_map(options.label_map),
        config.split,
        config.model.pixel_mm,
        folder,
        options.seed,
        options.ignore_unknown,
    )
