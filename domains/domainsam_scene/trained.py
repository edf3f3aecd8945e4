"""Scene networks in model files: what training has changed, and on which foundation it fits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from domainsam.checkpoint import CheckpointHeader, load, module_tensors, save
from domainsam.config import from_table, to_table
from domainsam.protocols import Foundation
from domainsam.side.lora import from_published
from domainsam_scene.network import NetworkConfig, SceneNetwork

PACK = "scene"
PREFIX = "network"
TABLE = "network"
"""Table of a file's configuration that says what was built."""


def save_network(
    path: Path,
    network: SceneNetwork,
    foundation: Foundation,
    metrics: Mapping[str, float],
    recipe: Mapping[str, object],
    half: bool = True,
) -> None:
    """Write a model file; it appears only when complete.

    Raises
    ------
    CheckpointError
        If a value does not fit float16, where ``half``.
    OutputError
        If it cannot be written.
    """
    header = CheckpointHeader(
        PACK,
        foundation.name,
        foundation.sha256,
        network.config.labels,
        {**recipe, TABLE: to_table(network.config)},
        dict(metrics),
    )
    save(path, module_tensors(network, PREFIX), header, half)


def load_network(path: Path, foundation: Foundation) -> tuple[SceneNetwork, CheckpointHeader]:
    """The network of a model file on its foundation.

    Raises
    ------
    CheckpointError
        If the file is absent, damaged, of another pack, or fits another foundation.
    """
    checkpoint = load(path, PACK, foundation)
    config = from_table(NetworkConfig, checkpoint.header.config.get(TABLE, {}), str(path))
    network = SceneNetwork(config, foundation)
    checkpoint.restore(network, PREFIX)
    return network.eval(), checkpoint.header


PUBLISHED_PREFIX = "sam."
"""Before the names of SAM 2's parts in MemorySAM's checkpoints."""


def load_published(network: SceneNetwork, tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Take a MemorySAM state dict in its published names into a network; the names that were not taken.

    Its frozen encoder is skipped: the foundation has it. The trained parts
    (low-rank updates, mask decoder, memory attention and encoder, pointers'
    projection) are taken where their shapes fit.

    No command calls this: it is for programs that turn such a checkpoint into
    a model file, which every ``--model`` then takes::

        foundation = load_foundation("sam2.1_hiera_base_plus")
        options = paper_recipe(TrainConfig(), "deliver").network
        config = NetworkConfig(**vars(options), labels=labels, modalities=modalities)
        network = SceneNetwork(config, foundation)
        left = load_published(network, read_tensors("memorysam.pth"))
        save_network(Path("memorysam.safetensors"), network, foundation, {}, {})

    Parameters
    ----------
    network
        Built as published; filled in place.
    tensors
        As :func:`domainsam.foundation.loading.read_tensors` gives them.
    """
    places = {
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
    blocks = f"{PUBLISHED_PREFIX}image_encoder.trunk.blocks."
    updates = {f"updates.{name}": value for name, value in from_published(tensors, blocks).items()}
    own, found, skipped = network.state_dict(), {}, []
    for key, value in tensors.items():
        name = key.removeprefix(PUBLISHED_PREFIX)
        start = next((start for start in places if name.startswith(start)), None)
        ours = None if start is None else places[start] + name.removeprefix(start)
        if ours in own and own[ours].shape == value.shape:
            found[ours] = value
        elif ".attn.qkv.linear_" not in key:
            skipped.append(key)
    unfit = [name for name, value in updates.items() if name not in own or own[name].shape != value.shape]
    found |= {name: value for name, value in updates.items() if name not in unfit}
    network.load_state_dict({**own, **found})
    return tuple(sorted([*skipped, *unfit]))
