"""Released checkpoints of MemorySAM as model files."""

from __future__ import annotations

from domainsam.errors import ConfigError
from domainsam.foundation import load_foundation
from domainsam.memory import memorysam
from domainsam.released import Converted, ConvertOptions, Ledger, list_frozen
from domainsam_scene.model.network import NetworkConfig, NetworkOptions, SceneNetwork
from domainsam_scene.model.scene import PACK, PUBLISHED_PREFIX, READING, UPDATE, match_published, save_network
from domainsam_scene.read.layouts import LAYOUTS
from domainsam_scene.read.reading import make_reading_table
from domainsam_scene.settings import ReadOptions

SYSTEM = "MemorySAM"
PAPER_SIDE = 1024
PAPER_FOUNDATION = "sam2_hiera_base_plus"
"""SAM 2.0's, not 2.1's."""
WRAPPED = "attn.qkv.qkv."
"""Where checkpoints keep the frozen layer that updates were put around."""
SHARED = "decoder._position."
"""The code of positions, which the network shares with the foundation; a checkpoint's must be equal."""
UNUSED = {
    "mask_downsample.": "prompts by a mask",
    "prototypes": "prototypes, which only training needs",
    "global_prototype": "prototypes, which only training needs",
}
"""Beginnings of names of tensors that a map of classes does not need, and what they are for."""


def make_published_options(method: str, rank: int | None = None) -> NetworkOptions:
    """The network as published: of MemorySAM, or of MLE-SAM with our reading of what it leaves open."""
    experts = method == "mlesam"
    return NetworkOptions(
        method="mlesam" if experts else "memorysam",
        image_size=PAPER_SIDE,
        rank=rank or (32 if experts else 4),
        lora_width="full" if experts else "published",
        sequence=memorysam.PUBLISHED,
        head_width=256,
        normalise="camera",
    )


def convert(ledger: Ledger, options: ConvertOptions) -> Converted | None:
    """Make a model file of a checkpoint of MemorySAM; None if it is of another system.

    Raises
    ------
    ConfigError
        If classes or sensors have to be named.
    WeightsError, CheckpointError
        If the foundation is absent, or a tensor cannot be accounted for.
    """
    names = {key: key.removeprefix(PUBLISHED_PREFIX) for key in ledger.tensors}
    updates = [key for key, name in names.items() if UPDATE.fullmatch(name)]
    tokens = next((key for key, name in names.items() if name == "sam_mask_decoder.mask_tokens.weight"), None)
    if not updates or tokens is None:
        return None
    foundation = load_foundation(options.foundation or PAPER_FOUNDATION)
    rank = next(len(ledger.tensors[key]) for key in updates if ".linear_a_" in key)
    labels, modalities = _name_classes(len(ledger.tensors[tokens]) - 1, options)
    config = NetworkConfig(
        **vars(make_published_options("memorysam", rank)), labels=labels, modalities=modalities
    )
    network = SceneNetwork(config, foundation)
    own = network.state_dict()
    fits = {key: ours for key, ours in match_published(ledger.tensors).items() if ours in own}
    # Here there are as many sets of updates as experts, there it is one.
    ledger.tensors = {**ledger.tensors, **{key: ledger.tensors[key][None] for key in updates}}
    found = {name: value for name, value in own.items() if name.startswith(SHARED)}
    found |= ledger.take(fits, own)
    frozen = list_frozen(foundation)
    theirs = {key: names[key].replace(WRAPPED, "attn.qkv.") for key in ledger.left()}
    ledger.compare({key: frozen[name] for key, name in theirs.items() if name in frozen})
    for start, reason in UNUSED.items():
        ledger.leave(reason, [key for key in ledger.left() if names[key].startswith(start)])
    ledger.close(foundation.name, sorted(set(own) - set(found)))
    network.load_state_dict(found)
    table = {READING: make_reading_table(ReadOptions())}
    save_network(options.out, network, foundation, {}, {"converted": ledger.name, **table}, half=False)
    return ledger.summary(SYSTEM, options.out, PACK, foundation.name, ())


def _name_classes(count: int, options: ConvertOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Classes and sensors: as named, else those of the data set that has so many classes."""
    known = next((layout for make in LAYOUTS.values() if len((layout := make()).labels) == count), None)
    labels = options.labels or (known.labels if known is not None else ())
    modalities = options.modalities or (known.modalities if known is not None else ())
    if len(labels) != count:
        raise ConfigError(
            f"the checkpoint has {count} classes, --labels names {len(labels)}: name all of them"
        )
    if not modalities:
        raise ConfigError("the checkpoint does not say its sensors: give --modality for each, in their order")
    return labels, modalities
