"""Load, save and run the scene model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domainsam.checkpoint import (
    NO_FOUNDATION,
    CheckpointHeader,
    collect_tensors,
    load,
    model_file,
    read_header,
    save,
)
from domainsam.config import from_table, to_table
from domainsam.errors import ConfigError
from domainsam.foundation import load_foundation
from domainsam.infer.sweep import BlockPrediction
from domainsam.licences import read_provenance, tell_use
from domainsam.machine import choose_device, choose_dtype
from domainsam.protocols import Block, Foundation
from domainsam.side.lora import PUBLISHED_NAMES
from domainsam_scene.model.build import AnyNetwork, build_network
from domainsam_scene.model.network import NetworkConfig, SceneNetwork
from domainsam_scene.model.predict import MULTIPLE, NODATA, ScenePrediction, predict
from domainsam_scene.read.modalities import Plane, SensorBlock
from domainsam_scene.read.reading import parse_reading_table
from domainsam_scene.settings import Reading

SHIPPED = Path(__file__).parents[1] / "weights" / "generated.safetensors"
"""The model inside the package."""


@dataclass(frozen=True)
class SceneModel:
    """A network and where it computes.

    ``name`` is what reports call it, ``foundation_name`` the frozen generalist below it,
    ``"none"`` where there is none.
    """

    name: str
    network: AnyNetwork
    foundation_name: str
    device: torch.device
    dtype: torch.dtype
    reading: Reading = field(default_factory=Reading)
    """How its material was read, as far as its file tells."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of their numbers."""
        return self.network.config.labels

    @property
    def modalities(self) -> tuple[str, ...]:
        """Sensors that it was trained on."""
        return self.network.config.modalities

    @property
    def image_size(self) -> int:
        """Longest side in pixels that scenes are scaled to, as the multiple of 32 that tiles need."""
        return round_side(self.network.config.image_size)

    def predict(self, block: Block, sensor: str | None = None) -> BlockPrediction:
        """Classes of one block.

        Parameters
        ----------
        block
            A :class:`~domainsam_scene.read.modalities.SensorBlock` with what every sensor saw, or the
            picture of one.
        sensor
            Which one that is; by default the first that the model was trained on.

        Raises
        ------
        InputError
            If the model was not trained on the sensor.
        """
        seen = {sensor or self.modalities[0]: Plane(block.image, block.valid)}
        if isinstance(block, SensorBlock):
            seen = block.sensors
        found = self.predict_sensors(
            {name: plane.image for name, plane in seen.items()},
            {name: plane.valid for name, plane in seen.items()},
        )
        probability = found.probability.astype(np.float32)
        return BlockPrediction(self.labels, found.labels, probability, found.labels != NODATA)

    def predict_sensors(
        self,
        images: Mapping[str, NDArray[np.float32]],
        valid: Mapping[str, NDArray[np.bool_]] | None = None,
    ) -> ScenePrediction:
        """The answer for one scene; see :func:`domainsam_scene.model.predict.predict`."""
        return predict(self.network, images, valid, self.device, self.dtype)


def load_model(
    path: Path | None = None,
    foundation: str | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> SceneModel:
    """A model from a file, or the one inside the package.

    Parameters
    ----------
    path
        A file that training wrote; None for the model inside the package.
    foundation
        Name or checkpoint of the frozen generalist; None for the one that the file names.
    device, precision
        As ``--device`` and ``--precision`` say it.

    Raises
    ------
    CheckpointError
        If the file is absent, damaged, of another pack, or fits another foundation.
    WeightsError
        If the foundation's weights are absent.
    ConfigError
        If the device is unknown or absent, or a foundation is named for a model that has none.
    """
    where = choose_device(device)
    file = model_file(path, SHIPPED, PACK, "scene")
    header = read_header(file)
    dtype = choose_dtype(precision, where)
    alone = header.foundation == NO_FOUNDATION
    if alone and foundation is not None:
        raise ConfigError(
            f"model {file.stem} is a specialist without a foundation, so --foundation {foundation} is of no "
            "use: leave it out, or name a model that has one"
        )
    base = None if alone else load_foundation(foundation or header.foundation, where)
    network, _ = load_network(file, base)
    # Whatever moves a network lays its weights out anew, so norms are merged last.
    network = network.to(where).merge_norms()
    reading = parse_reading_table(header.config.get(READING), str(file))
    name = NO_FOUNDATION if base is None else base.name
    return SceneModel(file.stem, network, name, torch.device(where), dtype, reading)


def round_side(longest: int) -> int:
    """Side in pixels of tiles for a network that sees scenes with that longest side."""
    return max(MULTIPLE, longest // MULTIPLE * MULTIPLE)


PACK = "scene"
PREFIX = "network"
TABLE = "network"
"""Table of a file's configuration that says what was built."""
READING = "reading"
"""Table that says how the material was read."""


def save_network(
    path: Path,
    network: AnyNetwork,
    foundation: Foundation | None,
    metrics: Mapping[str, float],
    recipe: Mapping[str, object],
    half: bool = True,
) -> None:
    """Write a model file; it appears only when complete.

    Parameters
    ----------
    foundation
        That the network stands on; None for a specialist, whose weights are never halved: the variances
        of its batch norms may lie beyond float16.
    half
        Store float16.

    Raises
    ------
    CheckpointError
        If a value does not fit float16, where ``half``.
    OutputError
        If it cannot be written.
    """
    header = CheckpointHeader(
        PACK,
        NO_FOUNDATION if foundation is None else foundation.name,
        "" if foundation is None else foundation.sha256,
        network.config.labels,
        {**recipe, TABLE: to_table(network.config)},
        dict(metrics),
    )
    save(path, collect_tensors(network, PREFIX), header, half and foundation is not None)


def load_network(path: Path, foundation: Foundation | None) -> tuple[AnyNetwork, CheckpointHeader]:
    """The network of a model file, on its foundation where it has one.

    Raises
    ------
    CheckpointError
        If the file is absent, damaged, of another pack, or fits another foundation.
    ConfigError
        If its foundation is not given.
    """
    checkpoint = load(path, PACK, foundation)
    config = from_table(NetworkConfig, checkpoint.header.config.get(TABLE, {}), str(path))
    network = build_network(config, foundation)
    checkpoint.restore(network, PREFIX)
    tell_use(path.stem, read_provenance(checkpoint.header.config))
    return network.eval(), checkpoint.header


PUBLISHED_PREFIX = "sam."
"""Before the names of SAM 2's parts in MemorySAM's checkpoints."""
PLACES = {
    "sam_mask_decoder.": "decoder.decoder.",
    "memory_attention.": "memory.attention.",
    "memory_encoder.": "memory.encoder.",
    "obj_ptr_proj.": "memory.pointer.",
    "obj_ptr_tpos_proj.": "memory.pointer_time.",
    "maskmem_tpos_enc": "memory.time",
    "no_mem_embed": "memory.nothing",
    "no_obj_ptr": "memory.absent",
    "no_obj_embed_spatial": "memory.absent_spatial",
}
"""Beginnings of names there and here."""
UPDATE = re.compile(r"image_encoder\.trunk\.blocks\.(\d+)\.attn\.qkv\.(linear_[ab]_[qv])\.weight")
UPDATE_NAMES = {theirs: ours for ours, theirs in PUBLISHED_NAMES.items()}


def load_published(network: SceneNetwork, tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Take a MemorySAM state dict in its published names into a network; the names that were not taken.

    Its frozen encoder is skipped: the foundation has it. The trained parts
    (low-rank updates, mask decoder, memory attention and encoder, pointers'
    projection) are taken where their shapes fit.

    ``domainsam weights convert`` makes a model file of such a checkpoint, and
    refuses one of which a tensor is left over; this is for networks of other builds.

    Parameters
    ----------
    network
        Built as published; filled in place.
    tensors
        As :func:`domainsam.foundation.loading.read_tensors` gives them.
    """
    own = network.state_dict()
    names = match_published(tensors)
    fits = {
        key: ours for key, ours in names.items() if ours in own and own[ours].numel() == tensors[key].numel()
    }
    found = {ours: tensors[key].reshape(own[ours].shape) for key, ours in fits.items()}
    network.load_state_dict({**own, **found})
    return tuple(sorted(set(tensors) - set(fits)))


def match_published(tensors: Iterable[str]) -> dict[str, str]:
    """What :class:`SceneNetwork` calls trained tensors of MemorySAM's checkpoints, by their name there."""
    found: dict[str, str] = {}
    for key in tensors:
        name = key.removeprefix(PUBLISHED_PREFIX)
        update = UPDATE.fullmatch(name)
        if update is not None:
            found[key] = f"updates.{update[1]}.{UPDATE_NAMES[update[2]]}"
            continue
        start = next((start for start in PLACES if name.startswith(start)), None)
        if start is not None:
            found[key] = PLACES[start] + name.removeprefix(start)
    return found
