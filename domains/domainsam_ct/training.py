"""Training of the organ model on labelled cases."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from domainsam.protocols import Foundation
from domainsam.side.ladder import load_specialist
from domainsam.train.cache import FeatureCache
from domainsam.train.history import History
from domainsam.train.loop import Run, Stage
from domainsam_ct.cases import Case, no_finer
from domainsam_ct.model import OrganModel
from domainsam_ct.network import OrganNetwork
from domainsam_ct.objective import Encode, OrganObjective, SliceStream, case_dice, mean_dice
from domainsam_ct.recipe import TrainConfig

JUDGED_TOGETHER = 8
"""Slices predicted together in validation."""


@dataclass(frozen=True)
class Material:
    """The cases of a run: ``training`` are learned from, ``judged`` are not."""

    labels: tuple[str, ...]
    training: Sequence[Case]
    judged: Sequence[Case] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def signature(self) -> str:
        """Digest of labels, names, shapes and all voxels."""
        digest = hashlib.sha256(json.dumps(self.labels).encode())
        for case in (*self.training, *self.judged):
            digest.update(f"{case.name} {case.slices.shape} {case.spacing_mm}".encode())
            for part in (*case.slices, *case.labels):
                digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def build_network(
    config: TrainConfig,
    foundation: Foundation,
    classes: int,
    seed: int,
    dtype: torch.dtype = torch.float32,
) -> OrganNetwork:
    """An untrained network; the same seed gives the same weights.

    Raises
    ------
    WeightsError
        If the specialist's weights are absent or of another network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = OrganNetwork(config.model.network, foundation, classes)
    if config.specialist_weights:
        load_specialist(network.ladder, config.specialist_weights)
    return network.to(foundation.device).arranged(dtype)


def learn(
    config: TrainConfig,
    material: Material,
    foundation: Foundation,
    run: Run,
    dtype: torch.dtype = torch.float32,
) -> tuple[OrganNetwork, dict[str, float]]:
    """Train on the material's cases; the network in evaluation mode, and its scores on the judged ones.

    ``dtype`` is what the devices compute in.

    The kept weights are those that score best on the judged cases, the last
    ones where there are none.
    """
    network = build_network(config, foundation, len(material.labels), run.seed, dtype)
    encode: Encode = foundation.encode
    if config.cache_gb and config.variants:
        encode = FeatureCache(run.folder / "features", foundation, int(config.cache_gb * 1e9)).encode
    stream = SliceStream(
        [no_finer(case, config.model.pixel_mm) for case in material.training],
        config.frame,
        config.augment,
        config.model.window,
        material.labels,
        config.batch_size,
        (run.seed, run.devices.rank),
        config.variants,
        config.empty_share,
    )
    options = config.optimisation
    if not options.steps:
        options = replace(
            options, steps=config.epochs * stream.epoch_steps, eval_every=5 * stream.epoch_steps
        )
    stage = Stage(
        "organs",
        OrganObjective(network, encode, config.loss),
        network,
        stream,
        lambda: mean_dice(judge(network, material, config)),
        "dice",
        options,
    )
    history = History(run.folder, enabled=run.devices.rank == 0)
    stage.run(run, run.start(), history)
    history.close()
    network.eval()
    scores = mean_dice(judge(network, material, config)) if run.devices.rank == 0 else {}
    return network, run.devices.shared(scores)


def judge(network: OrganNetwork, material: Material, config: TrainConfig) -> list[Mapping[str, float]]:
    """Dice of every organ on every judged case, at the case's own pixels."""
    model = OrganModel("training", material.labels, config.model, network, batch=JUDGED_TOGETHER)
    scores: list[Mapping[str, float]] = []
    for case in material.judged:
        found = model.predict(np.asarray(case.slices, np.float32), case.spacing_mm[1:])
        scores.append(case_dice(case.labels, found.labels, material.labels))
    return scores
