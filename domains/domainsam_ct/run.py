"""One call of ``domainsam ct train``: material, network, model file."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from domainsam.config import to_table
from domainsam.errors import ConfigError
from domainsam.foundation import load_foundation
from domainsam.train.devices import Devices, choose_devices, training_precision
from domainsam.train.loop import Run
from domainsam.train.options import RunOptions
from domainsam.train.outcome import Trained
from domainsam.train.state import prepare_run
from domainsam_cli.options import choose_device
from domainsam_cli.progress import pixel_progress
from domainsam_ct.labels import load_label_map
from domainsam_ct.material import find_pairs, gather
from domainsam_ct.model import save_model
from domainsam_ct.network import OrganNetwork
from domainsam_ct.recipe import TrainConfig
from domainsam_ct.synapse import read_synapse
from domainsam_ct.training import Material, learn


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
    """

    labels: Path | None = None
    label_map: str = "synapse"
    ignore_unknown: bool = False
    train_list: Path | None = None
    test_list: Path | None = None


@dataclass(frozen=True)
class TrainedOrgans(Trained):
    """What a run has made; ``gates`` is the foundation's share by stride."""

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
    prepare_run(options.out, options.workroom, options.overwrite or options.resume)
    device = choose_device(options.device)
    precision = training_precision(options.precision, device)
    devices = choose_devices(device, options.devices, precision)
    foundation = load_foundation(config.foundation, devices.device, getattr(torch, precision))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.workroom, prefix="cases-")))
        material = read_material(inputs, config, options, folder)
        words = [to_table(config), foundation.sha256, material.signature, options.seed, precision]
        run = Run(
            options.workroom,
            hashlib.sha256(json.dumps(words).encode()).hexdigest(),
            devices,
            options.seed,
            options.resume,
            options.workers,
            stack.enter_context(pixel_progress("train", options.quiet or devices.rank > 0)),
        )
        network, metrics = learn(config, material, foundation, run, getattr(torch, precision))
    _finish(options, network, material, config, metrics, devices)
    return TrainedOrgans(
        options.out, options.workroom, metrics, material.notes, devices.rank, network.ladder.shares()
    )


def _finish(
    options: TrainOptions,
    network: OrganNetwork,
    material: Material,
    config: TrainConfig,
    metrics: dict[str, float],
    devices: Devices,
) -> None:
    if devices.rank == 0:
        save_model(options.out, network, material.labels, config.model, to_table(config), metrics)
    devices.close()


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
    return gather(
        find_pairs(inputs, options.labels),
        load_label_map(options.label_map),
        config.split,
        config.model.pixel_mm,
        folder,
        options.seed,
        options.ignore_unknown,
    )
